package pep_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// pages lists page by page, as names.
func pages(t *testing.T, page func(cursor string) (names []string, next string, scope string, err error)) [][]string {
	t.Helper()
	var out [][]string
	cursor := ""
	for {
		names, next, scope, err := page(cursor)
		if err != nil {
			t.Fatal(err)
		}
		if scope != "private" {
			t.Errorf("cacheScope %q, want private", scope)
		}
		out = append(out, names)
		if cursor = next; cursor == "" {
			return out
		}
	}
}

// listed is everything that a session is listed.
func listed(t *testing.T, s *mcp.ClientSession) map[string][][]string {
	t.Helper()
	out := map[string][][]string{}
	out["tools"] = pages(t, func(cursor string) ([]string, string, string, error) {
		r, err := s.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return nil, "", "", err
		}
		var names []string
		for _, one := range r.Tools {
			name := one.Name
			if note, ok := one.Meta[pep.NeedsKey]; ok {
				text, _ := json.Marshal(note)
				name += string(text)
			}
			names = append(names, name)
		}
		return names, r.NextCursor, r.CacheScope, nil
	})
	out["resources"] = pages(t, func(cursor string) ([]string, string, string, error) {
		r, err := s.ListResources(t.Context(), &mcp.ListResourcesParams{Cursor: cursor})
		if err != nil {
			return nil, "", "", err
		}
		var names []string
		for _, one := range r.Resources {
			names = append(names, one.Name)
		}
		return names, r.NextCursor, r.CacheScope, nil
	})
	out["templates"] = pages(t, func(cursor string) ([]string, string, string, error) {
		r, err := s.ListResourceTemplates(t.Context(), &mcp.ListResourceTemplatesParams{Cursor: cursor})
		if err != nil {
			return nil, "", "", err
		}
		var names []string
		for _, one := range r.ResourceTemplates {
			names = append(names, one.Name)
		}
		return names, r.NextCursor, r.CacheScope, nil
	})
	out["prompts"] = pages(t, func(cursor string) ([]string, string, string, error) {
		r, err := s.ListPrompts(t.Context(), &mcp.ListPromptsParams{Cursor: cursor})
		if err != nil {
			return nil, "", "", err
		}
		var names []string
		for _, one := range r.Prompts {
			names = append(names, one.Name)
		}
		return names, r.NextCursor, r.CacheScope, nil
	})
	return out
}

func TestMiddlewareShortensLists(t *testing.T) {
	t.Parallel()
	all := map[string][][]string{
		"tools": {{"echo", "pay"}, {"rm", "view"}}, "resources": {{"a", "b"}, {"c"}},
		"templates": {{"a", "b"}, {"c"}}, "prompts": {{"a", "b"}, {"c"}},
	}
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			service := &pdp{deny: []string{"rm", "view", "file:///b", "ta:///{x}", "c"}, needs: map[string]string{"pay": "payments"}}
			session, _ := w.enforced(t, service)
			want := map[string][][]string{
				"tools": {{"echo", `pay{"access":"after_remediation","scopes":["payments"]}`}, nil}, "resources": {{"a"}, {"c"}},
				"templates": {{"b"}, {"c"}}, "prompts": {{"a", "b"}, nil},
			}
			if diff := cmp.Diff(want, listed(t, session)); diff != "" {
				t.Errorf("listed (-want +got):\n%s", diff)
			}
			// Whoever asks next, with other rights, sees all: nothing stuck to the
			// server's own values.
			service.set(func(p *pdp) { p.deny, p.needs = nil, nil })
			if diff := cmp.Diff(all, listed(t, session)); diff != "" {
				t.Errorf("listed to another (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMiddlewareListsFail(t *testing.T) {
	t.Parallel()
	for _, w := range []way{{version: "2025-11-25"}, {version: "2026-07-28", http: true, stateless: true}} {
		service := &pdp{}
		j := &journal{}
		s := fullServer(j)
		e, err := pep.New(pep.Options{Decider: silentLists{service}, Server: server})
		if err != nil {
			t.Fatal(err)
		}
		e.Attach(s, w.options())
		session, err := w.join(t, e, s, "alice")
		if err != nil {
			t.Fatal(err)
		}
		for method, ask := range operations(w) {
			if !strings.HasSuffix(method, "/list") {
				continue
			}
			if err := ask(t.Context(), session); err == nil || !strings.Contains(err.Error(), "The list could not be authorized") {
				t.Errorf("%v, %s: %v, want a refusal", w, method, err)
			}
		}
	}
}

// silentLists answers questions about lists with an answer that is about nothing.
type silentLists struct{ *pdp }

func (silentLists) CheckBatch(context.Context, *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	return &authzdv1.CheckBatchResponse{}, nil
}

func (silentLists) FilterTools(context.Context, *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	return &authzdv1.FilterToolsResponse{}, nil
}

// A server's own tool stays as it is, also what it says in _meta.
func TestMiddlewareLeavesToolsAlone(t *testing.T) {
	t.Parallel()
	own := &mcp.Tool{Name: "own", Meta: mcp.Meta{"k": "v"}, InputSchema: &jsonschema.Schema{Type: "object"}}
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	s.AddTool(own, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{}, nil
	})
	for plain, want := range map[bool]int{false: 2, true: 1} {
		e := enforcer(t, &pdp{needs: map[string]string{"own": "a"}}, func(o *pep.Options) { o.PlainLists = plain })
		e.Attach(s, pep.MiddlewareOptions{Identify: alice})
		session, err := way{version: "2025-11-25"}.join(t, e, s, "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := session.ListTools(t.Context(), nil)
		if err != nil || len(r.Tools) != 1 || r.Tools[0].Meta["k"] != "v" {
			t.Fatalf("%v, %v", r, err)
		}
		if !plain && len(r.Tools[0].Meta) != want {
			t.Errorf("listed with %v", r.Tools[0].Meta)
		}
		if len(own.Meta) != 1 {
			t.Errorf("the server's tool has %v", own.Meta)
		}
	}
}

// A list that the server keeps, and gives to everybody, stays whole.
func TestMiddlewareLeavesListsAlone(t *testing.T) {
	t.Parallel()
	kept := &mcp.ListToolsResult{}
	for _, name := range []string{"a", "b", "c"} {
		kept.Tools = append(kept.Tools, &mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)})
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method == "tools/list" {
				return kept, nil
			}
			return next(ctx, method, req)
		}
	})
	service := &pdp{deny: []string{"a"}, needs: map[string]string{"b": "x"}}
	enforcer(t, service).Attach(s, pep.MiddlewareOptions{Identify: alice})
	session, err := way{version: "2025-11-25"}.join(t, nil, s, "")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := session.ListTools(t.Context(), nil); err != nil || len(r.Tools) != 2 {
		t.Errorf("%v, %v", r, err)
	}
	if kept.CacheScope != "" || len(kept.Tools) != 3 || kept.Tools[0].Name != "a" || kept.Tools[1].Name != "b" || kept.Tools[1].Meta != nil {
		t.Errorf("the server's list is %+v", kept)
	}
}

type nested struct {
	Depth int     `json:"depth"`
	Unit  string  `json:"unit"`
	Rate  float64 `json:"rate"`
}

type order struct {
	Text  string  `json:"text"`
	Count int     `json:"count"`
	Opts  *nested `json:"opts,omitempty"`
	More  nested  `json:"more"`
}

const orderSchema = `{"type":"object","required":["text"],"properties":{
	"text":{"type":"string","default":"never: it is required"},
	"count":{"type":"integer","default":3},
	"opts":{"type":"object","default":{"depth":1},"properties":{"depth":{"type":"integer"},"unit":{"type":"string","default":"m"},"rate":{"type":"number","default":0.25}}},
	"more":{"type":"object","properties":{"depth":{"type":"integer","default":7},"unit":{"type":"string","default":"<k&m>"},"rate":{"type":"number"}}}}}`

// typed is a server with one typed tool of that schema, and what the tool got.
func typed(t *testing.T, schema string) (*mcp.Server, *[]order) {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	got := &[]order{}
	addTyped(t, s, schema, got)
	return s, got
}

func addTyped(t *testing.T, s *mcp.Server, schema string, got *[]order) {
	t.Helper()
	mcp.AddTool(s, &mcp.Tool{Name: "order", InputSchema: json.RawMessage(schema)}, func(_ context.Context, _ *mcp.CallToolRequest, in order) (*mcp.CallToolResult, any, error) {
		*got = append(*got, in)
		return &mcp.CallToolResult{}, nil, nil
	})
}

// decided are the arguments of the last question, as the tool would read them.
func (p *pdp) decided(t *testing.T) (order, string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var params struct{ Arguments json.RawMessage }
	if err := json.Unmarshal(p.asked[len(p.asked)-1].GetMcp().GetParams(), &params); err != nil {
		t.Fatal(err)
	}
	var out order
	if len(params.Arguments) > 0 {
		if err := json.Unmarshal(params.Arguments, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out, string(params.Arguments)
}

// What the SDK fills in is filled in before it is decided.
func TestMiddlewareDecidesDefaults(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]order{
		`{"text":"x"}`:           {Text: "x", Count: 3, Opts: &nested{1, "m", 0.25}, More: nested{7, "<k&m>", 0}},
		`{"text":"x","count":0}`: {Text: "x", Opts: &nested{1, "m", 0.25}, More: nested{7, "<k&m>", 0}},
		`{"text":"x","opts":{},"more":{"depth":1,"rate":1.5}}`:         {Text: "x", Count: 3, Opts: &nested{0, "m", 0.25}, More: nested{1, "<k&m>", 1.5}},
		`{"text":"x","opts":{"depth":9,"unit":"","rate":1e2}}`:         {Text: "x", Count: 3, Opts: &nested{9, "", 100}, More: nested{7, "<k&m>", 0}},
		`{"text":"x","count":4,"more":{"unit":"u","depth":2}, "a":1 }`: {Text: "x", Count: 4, Opts: &nested{1, "m", 0.25}, More: nested{2, "u", 0}},
	} {
		service := &pdp{}
		s, got := typed(t, orderSchema)
		enforcer(t, service).Attach(s, pep.MiddlewareOptions{Identify: alice})
		session, err := way{version: "2026-07-28"}.join(t, nil, s, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "order", Arguments: json.RawMessage(arguments)})); err != nil {
			t.Fatalf("%s: %v", arguments, err)
		}
		decided, text := service.decided(t)
		if diff := cmp.Diff([]order{want}, *got); diff != "" {
			t.Errorf("%s: the tool got (-want +got):\n%s", arguments, diff)
		}
		if diff := cmp.Diff(want, decided); diff != "" {
			t.Errorf("%s: decided %s (-want +got):\n%s", arguments, text, diff)
		}
		// The service is told the schema, too.
		if tool := string(service.asked[len(service.asked)-1].GetMcp().GetTool()); !strings.Contains(tool, `"default":{"depth":1}`) {
			t.Errorf("asked with the tool %s", tool)
		}
	}
}

func TestMiddlewareNoArguments(t *testing.T) {
	t.Parallel()
	schema := strings.Replace(orderSchema, `"required":["text"],`, "", 1)
	for _, arguments := range []any{nil, json.RawMessage(`null`), json.RawMessage(`{}`)} {
		service := &pdp{}
		s, got := typed(t, schema)
		enforcer(t, service).Attach(s, pep.MiddlewareOptions{Identify: alice})
		session, err := way{version: "2025-11-25"}.join(t, nil, s, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "order", Arguments: arguments})); err != nil {
			t.Fatalf("%s: %v", arguments, err)
		}
		decided, text := service.decided(t)
		if len(*got) != 1 || !cmp.Equal((*got)[0], decided) || decided.Count != 3 {
			t.Errorf("%s: decided %s, the tool got %+v", arguments, text, *got)
		}
		// Where there are no defaults, what is left out stays so.
		addTyped(t, s, `{"type":"object"}`, got)
		if err := refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "order", Arguments: arguments})); err != nil {
			t.Fatalf("%s: %v", arguments, err)
		}
		want := "{}" // what the client makes of nil
		if raw, ok := arguments.(json.RawMessage); ok && string(raw) == "null" {
			want = ""
		}
		if _, text = service.decided(t); text != want {
			t.Errorf("%s: decided %s", arguments, text)
		}
	}
}

// Arguments that a reader could take for others are refused without a question.
func TestMiddlewareRefusesArguments(t *testing.T) {
	t.Parallel()
	for arguments, anyNumber := range map[string]bool{
		`{"text":"x","count":9007199254740993}`:                             true,
		`{"text":"x","opts":{"rate":[1e400]}}`:                              true,
		`{"text":"x","opts":{"rate":0.1000000000000000055511151231257827}}`: true,
		`{"text":"x","opts":{"rate":1e-400}}`:                               true,
		`{"text":"x","text":"y"}`:                                           false,
		`{"text":"x","Text":"y"}`:                                           false,
		`["x"]`:                                                             false,
		`"x"`:                                                               false,
		`1`:                                                                 false,
		`{"text":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`: false,
	} {
		for _, w := range []way{{version: "2025-11-25"}, {version: "2025-11-25", http: true, stateless: true, plain: true}} {
			for _, anything := range []bool{false, true} {
				service := &pdp{}
				ran := ""
				s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
				s.AddTool(&mcp.Tool{Name: "echo", InputSchema: json.RawMessage(`{"type":"object"}`)}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					ran = string(r.Params.Arguments)
					return &mcp.CallToolResult{}, nil
				})
				e, o := enforcer(t, service), w.options()
				o.AnyNumber = anything
				e.Attach(s, o)
				body := callOf(w.version, "1", arguments)
				var told string
				if w.http {
					told = post(t, serve(t, e, s, w), "alice", w.version, body, nil).body
				} else {
					session, err := w.join(t, e, s, "")
					if err != nil {
						t.Fatal(err)
					}
					service.asked = nil
					err = refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: json.RawMessage(arguments)}))
					told = fmt.Sprint(err)
				}
				if anything && anyNumber {
					// The digits travel as they came, and are what runs.
					if len(service.asked) != 1 || !strings.Contains(string(service.asked[0].GetMcp().GetParams()), arguments) || ran != arguments {
						t.Errorf("%v %s: asked %v, ran %s, told %s", w, arguments, service.asked, ran, told)
					}
					continue
				}
				if len(service.asked) != 0 || ran != "" || !strings.Contains(told, "The arguments ") {
					t.Errorf("%v %s: asked %v, ran %s, told %s", w, arguments, service.asked, ran, told)
				}
			}
		}
	}
}

// A default that the SDK's tools would round is none that can be decided.
func TestMiddlewareRefusesInexactDefault(t *testing.T) {
	t.Parallel()
	s, got := typed(t, strings.Replace(orderSchema, `"default":3`, `"default":9007199254740993`, 1))
	service := &pdp{}
	enforcer(t, service).Attach(s, pep.MiddlewareOptions{Identify: alice})
	session, err := way{version: "2025-11-25"}.join(t, nil, s, "")
	if err != nil {
		t.Fatal(err)
	}
	err = refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "order", Arguments: json.RawMessage(`{"text":"x"}`)}))
	if err == nil || len(*got) != 0 || slices.Contains(service.questions(), "tools/call") {
		t.Errorf("%v, asked %v, ran %v", err, service.questions(), *got)
	}
}

// Tools that come, change and go while clients are there are seen at once,
// also where no session would hear of it.
func TestMiddlewareNoticesToolsChange(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			service := &pdp{}
			s, got := typed(t, orderSchema)
			e := enforcer(t, service)
			e.Attach(s, w.options())
			session, err := w.join(t, e, s, "alice")
			if err != nil {
				t.Fatal(err)
			}
			call := func() error {
				return refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "order", Arguments: json.RawMessage(`{"text":"x"}`)}))
			}
			for _, count := range []int{3, 4} {
				addTyped(t, s, strings.Replace(orderSchema, `"default":3`, fmt.Sprintf(`"default":%d`, count), 1), got)
				if err := call(); err != nil {
					t.Fatal(err)
				}
				decided, text := service.decided(t)
				if last := (*got)[len(*got)-1]; !cmp.Equal(last, decided) || last.Count != count {
					t.Errorf("decided %s, ran %+v, want %d", text, last, count)
				}
			}
			s.RemoveTools("order")
			if err := call(); err == nil || !strings.Contains(err.Error(), "unknown tool") {
				t.Errorf("a tool that is gone: %v", err)
			}
			addTyped(t, s, orderSchema, got)
			if err := call(); err != nil || len(*got) != 3 {
				t.Errorf("a tool that is back: %v, ran %v", err, *got)
			}
		})
	}
}

// A tool that the server does not list to the caller does not run, whatever the
// service says, and one that it can not list is not asked about.
func TestMiddlewareUnlistedTools(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list func() (mcp.Result, error)
		want string
	}{
		"hidden": {func() (mcp.Result, error) { return &mcp.ListToolsResult{Tools: []*mcp.Tool{nil}}, nil }, "unknown tool"},
		"twice": {func() (mcp.Result, error) {
			return &mcp.ListToolsResult{Tools: []*mcp.Tool{{Name: "echo"}, {Name: "echo"}}}, nil
		}, "unknown tool"},
		"failed":  {func() (mcp.Result, error) { return nil, context.DeadlineExceeded }, "gave no decision"},
		"endless": {func() (mcp.Result, error) { return &mcp.ListToolsResult{NextCursor: "more"}, nil }, "gave no decision"},
		"odd":     {func() (mcp.Result, error) { return &customResult{}, nil }, "gave no decision"},
		"unreadable": {func() (mcp.Result, error) {
			return &mcp.ListToolsResult{Tools: []*mcp.Tool{{Name: "echo", InputSchema: json.RawMessage(`{"type":"object","type":"object"}`)}}}, nil
		}, "gave no decision"},
		"no JSON": {func() (mcp.Result, error) {
			return &mcp.ListToolsResult{Tools: []*mcp.Tool{{Name: "echo", InputSchema: json.RawMessage(`{`)}}}, nil
		}, "gave no decision"},
	} {
		j := &journal{}
		s := fullServer(j)
		s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
				if method == "tools/list" {
					return c.list()
				}
				return next(ctx, method, req)
			}
		})
		enforcer(t, &pdp{}).Attach(s, pep.MiddlewareOptions{Identify: alice})
		session, err := way{version: "2025-11-25"}.join(t, nil, s, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := refusedResult(session.CallTool(t.Context(), echo())); err == nil || !strings.Contains(err.Error(), c.want) || len(j.ran()) != 0 {
			t.Errorf("%s: %v, ran %v", name, err, j.ran())
		}
	}
}
