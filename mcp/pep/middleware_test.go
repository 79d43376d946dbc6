package pep_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// way is how a client reaches a server.
type way struct {
	version                string
	http, stateless, plain bool
}

func (w way) String() string {
	name := w.version + " in memory"
	if w.http {
		name = fmt.Sprintf("%s http stateless=%t json=%t", w.version, w.stateless, w.plain)
	}
	return name
}

// ways are all of them. Over HTTP, 2026-07-28 is spoken without sessions only.
func ways() []way {
	var out []way
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		out = append(out, way{version: version})
		for _, plain := range []bool{false, true} {
			out = append(out, way{version: version, http: true, stateless: true, plain: plain})
			if version != "2026-07-28" {
				out = append(out, way{version: version, http: true, plain: plain})
			}
		}
	}
	return out
}

// journal is what got through to a server.
type journal struct {
	mu      sync.Mutex
	methods []string
	calls   []string
}

func (j *journal) add(list *[]string, s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*list = append(*list, s)
}

// reached tells how often a method did.
func (j *journal) reached(method string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, m := range j.methods {
		if m == method {
			n++
		}
	}
	return n
}

// ran are the arguments of the calls that ran.
func (j *journal) ran() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}

// fullServer offers everything that the middleware enforces.
func fullServer(j *journal) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{
		PageSize: 2, Logger: slog.New(slog.DiscardHandler),
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		CompletionHandler: func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{"v"}}}, nil
		},
	})
	type in struct {
		Text string `json:"text"`
	}
	for _, name := range []string{"echo", "pay", "rm", "view"} {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(_ context.Context, r *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
			j.add(&j.calls, string(r.Params.Arguments))
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + ": " + a.Text}}}, nil, nil
		})
	}
	for _, name := range []string{"a", "b", "c"} {
		s.AddResource(&mcp.Resource{URI: "file:///" + name, Name: name}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "file:///" + name, Text: name}}}, nil
		})
		s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "t" + name + ":///{x}", Name: name}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{}, nil
		})
		s.AddPrompt(&mcp.Prompt{Name: name}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{}, nil
		})
	}
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			j.add(&j.methods, method)
			return next(ctx, method, req)
		}
	})
	return s
}

// alice is who calls where there is no token.
func alice(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return nil, &authzdv1.Subject{Id: "alice"}, nil
}

// join connects a client to a server that is enforced already.
func (w way) join(t *testing.T, e *pep.Enforcer, s *mcp.Server, token string) (*mcp.ClientSession, error) {
	t.Helper()
	var near mcp.Transport
	if w.http {
		front := httptest.NewServer(e.HTTPHandler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
			&mcp.StreamableHTTPOptions{Stateless: w.stateless, JSONResponse: w.plain})))
		t.Cleanup(front.Close)
		near = &mcp.StreamableClientTransport{Endpoint: front.URL, HTTPClient: &http.Client{Transport: as{token}}, MaxRetries: -1}
	} else {
		var far mcp.Transport
		near, far = mcp.NewInMemoryTransports()
		over, err := s.Connect(t.Context(), far, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = over.Close() })
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(), near, &mcp.ClientSessionOptions{ProtocolVersion: w.version})
	if err == nil {
		t.Cleanup(func() { _ = session.Close() })
	}
	return session, err
}

// options: over HTTP the token of the request, else alice.
func (w way) options() pep.MiddlewareOptions {
	if w.http {
		return pep.MiddlewareOptions{}
	}
	return pep.MiddlewareOptions{Identify: alice}
}

// enforced connects alice to a full server.
func (w way) enforced(t *testing.T, service *pdp, change ...func(*pep.Options)) (*mcp.ClientSession, *journal) {
	t.Helper()
	j := &journal{}
	s, e := fullServer(j), enforcer(t, service, change...)
	e.Attach(s, w.options())
	session, err := w.join(t, e, s, "alice")
	if err != nil {
		t.Fatal(err)
	}
	return session, j
}

func echo() *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "x"}}
}

// refusedResult makes an error of a tool result that refuses.
func refusedResult(r *mcp.CallToolResult, err error) error {
	if err != nil || !r.IsError {
		return err
	}
	for _, c := range r.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			return errors.New(text.Text)
		}
	}
	return errors.New("a result without text")
}

// operations are what a client can ask of a server, by method.
func operations(w way) map[string]func(context.Context, *mcp.ClientSession) error {
	out := map[string]func(context.Context, *mcp.ClientSession) error{
		"tools/call": func(ctx context.Context, s *mcp.ClientSession) error {
			return refusedResult(s.CallTool(ctx, echo()))
		},
		"tools/list": func(ctx context.Context, s *mcp.ClientSession) error { _, err := s.ListTools(ctx, nil); return err },
		"resources/list": func(ctx context.Context, s *mcp.ClientSession) error {
			_, err := s.ListResources(ctx, nil)
			return err
		},
		"resources/templates/list": func(ctx context.Context, s *mcp.ClientSession) error {
			_, err := s.ListResourceTemplates(ctx, nil)
			return err
		},
		"resources/read": func(ctx context.Context, s *mcp.ClientSession) error {
			_, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: "file:///a"})
			return err
		},
		"prompts/list": func(ctx context.Context, s *mcp.ClientSession) error { _, err := s.ListPrompts(ctx, nil); return err },
		"prompts/get": func(ctx context.Context, s *mcp.ClientSession) error {
			_, err := s.GetPrompt(ctx, &mcp.GetPromptParams{Name: "a"})
			return err
		},
		"completion/complete": func(ctx context.Context, s *mcp.ClientSession) error {
			_, err := s.Complete(ctx, &mcp.CompleteParams{Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "a"}, Argument: mcp.CompleteParamsArgument{Name: "x", Value: "<v"}})
			return err
		},
	}
	if w.version != "2026-07-28" {
		out["logging/setLevel"] = func(ctx context.Context, s *mcp.ClientSession) error {
			return s.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "error"}) //nolint:staticcheck // older clients send it
		}
		out["resources/subscribe"] = func(ctx context.Context, s *mcp.ClientSession) error {
			return s.Subscribe(ctx, &mcp.SubscribeParams{URI: "file:///a"})
		}
		out["resources/unsubscribe"] = func(ctx context.Context, s *mcp.ClientSession) error {
			return s.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: "file:///a"})
		}
	}
	return out
}

func refusing(method string) func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return func(q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		if q.GetMcp().GetMethod() == method {
			return &authzdv1.CheckResponse{
				Decision: authzdv1.Decision_DECISION_DENY,
				Denial:   &authzdv1.Denial{McpError: []byte(`{"code":-31403,"message":"denied by policy"}`)},
			}, nil
		}
		return allowed(&authzdv1.Identity{Id: "alice"}), nil
	}
}

// Each method is asked about, reaches the server after an allow, and does not
// after a deny.
func TestMiddlewareEnforcesEveryMethod(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			service := &pdp{}
			session, j := w.enforced(t, service)
			for method, ask := range operations(w) {
				if err := ask(t.Context(), session); err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				// A call has the server list its tools.
				lists := j.reached("tools/list")
				service.set(func(p *pdp) { p.answer = refusing(method) })
				before := j.reached(method)
				err := ask(t.Context(), session)
				if err == nil || !strings.Contains(err.Error(), "denied by policy") {
					t.Errorf("%s: %v, want the denial", method, err)
				}
				if after := j.reached(method); after != before || before == 0 {
					t.Errorf("%s reached the server %d times, then %d", method, before, after)
				}
				if method == "tools/list" && j.reached("tools/list") != lists {
					t.Error("a denied list reached the server")
				}
				service.set(func(p *pdp) { p.answer = nil })
			}
			if got := len(j.ran()); got != 1 {
				t.Errorf("the tool ran %d times, want once", got)
			}
			transport := "stdio"
			if w.http {
				transport = "http"
			}
			// A client of an older version has no capabilities where nothing
			// remembers the session.
			remembers := w.version == "2026-07-28" || !w.stateless
			for _, q := range service.asked {
				m := q.GetMcp()
				if m.GetTransport() != transport || m.GetServer() != server || m.GetProtocolVersion() != w.version {
					t.Errorf("asked %v", m)
				}
				if (len(m.GetClientCapabilities()) > 0) != remembers && m.GetMethod() != "initialize" {
					t.Errorf("%s: capabilities %q", m.GetMethod(), m.GetClientCapabilities())
				}
				if w.http && q.GetCredentials()[0].GetAccessToken() != "alice" || !w.http && q.GetSubject().GetId() != "alice" {
					t.Errorf("asked about %v, %v", q.GetSubject(), q.GetCredentials())
				}
			}
		})
	}
}

func TestMiddlewareRefusesTheBeginning(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			service := &pdp{answer: func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
				return &authzdv1.CheckResponse{Decision: authzdv1.Decision_DECISION_DENY, Denial: &authzdv1.Denial{
					McpError: []byte(`{"code":-31403,"message":"denied by policy"}`),
				}}, nil
			}}
			j := &journal{}
			s, e := fullServer(j), enforcer(t, service)
			e.Attach(s, w.options())
			if _, err := w.join(t, e, s, "alice"); err == nil {
				t.Error("a session began")
			}
			if len(j.methods) != 0 {
				t.Errorf("reached the server: %v", j.methods)
			}
			first := "initialize"
			if w.version == "2026-07-28" {
				first = "server/discover"
			}
			if got := service.questions(); len(got) == 0 || got[0] != first {
				t.Errorf("asked about %v, want %s", got, first)
			}
		})
	}
}

// ping and what the client tells pass without a question, even while there is
// nobody to ask.
func TestMiddlewarePassesUnasked(t *testing.T) {
	t.Parallel()
	for _, w := range []way{{version: "2025-11-25"}, {version: "2025-11-25", http: true}} {
		service := &pdp{}
		session, j := w.enforced(t, service)
		service.set(func(p *pdp) { p.away = true })
		before := len(service.questions())
		if err := session.Ping(t.Context(), nil); err != nil {
			t.Errorf("%v: ping: %v", w, err)
		}
		if err := session.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "p", Progress: 1}); err != nil {
			t.Errorf("%v: progress: %v", w, err)
		}
		if err := session.Ping(t.Context(), nil); err != nil { // behind the notification
			t.Errorf("%v: ping: %v", w, err)
		}
		if got := len(service.questions()); got != before {
			t.Errorf("%v: asked about %v", w, service.questions()[before:])
		}
		if j.reached("ping") != 2 || j.reached("notifications/progress") != 1 || j.reached("notifications/initialized") != 1 {
			t.Errorf("%v: reached the server: %v", w, j.methods)
		}
	}
}

type customParams struct {
	mcp.ParamsBase
	Q string `json:"q"`
}

type customResult struct {
	mcp.ResultBase
	Hit string `json:"hit"`
}

// A request of the server's own is asked about, also under the name of a
// notification.
func TestMiddlewareCustomMethods(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"acme/search", "notifications/acme"} {
		ran := false
		j := &journal{}
		s := fullServer(j)
		if err := mcp.AddReceivingCustomMethod(s, method, func(context.Context, *mcp.ServerSession, *customParams) (*customResult, error) {
			ran = true
			return &customResult{Hit: "x"}, nil
		}); err != nil {
			t.Fatal(err)
		}
		service := &pdp{answer: refusing(method)}
		e := enforcer(t, service)
		e.Attach(s, pep.MiddlewareOptions{})
		front := serve(t, e, s, way{version: "2025-11-25", http: true, stateless: true, plain: true})
		got := post(t, front, "alice", "2025-11-25", `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"q":"<5>"}}`, nil)
		if ran || !strings.Contains(got.body, "-31403") {
			t.Errorf("%s: ran %t, %+v", method, ran, got)
		}
		if len(service.asked) != 1 || string(service.asked[0].GetMcp().GetParams()) != `{"q":"<5>"}` {
			t.Errorf("%s: asked %v", method, service.asked)
		}
	}
}

func TestMiddlewareOnlyAnAllowRuns(t *testing.T) {
	t.Parallel()
	who := &authzdv1.Identity{Id: "alice"}
	is := func(change func(*authzdv1.CheckResponse)) func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		return func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
			r := allowed(who)
			change(r)
			return r, nil
		}
	}
	fails := func(code codes.Code) func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		return func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
			return nil, status.Error(code, "secret cause")
		}
	}
	deny := func(d *authzdv1.Denial) func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		return is(func(r *authzdv1.CheckResponse) { r.Decision, r.Denial = authzdv1.Decision_DECISION_DENY, d })
	}
	obliged := is(func(r *authzdv1.CheckResponse) { r.Obligations = [][]byte{[]byte(`{"id":"a"}`), []byte(`{"id":"b"}`)} })
	for name, c := range map[string]struct {
		answer func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error)
		fulfil func(context.Context, []byte) error
		runs   bool
		// says is in what the client is told; default the plain text.
		says string
	}{
		"allow":                   {answer: is(func(*authzdv1.CheckResponse) {}), runs: true},
		"deny":                    {answer: deny(&authzdv1.Denial{McpResult: []byte(`{"content":[{"type":"text","text":"no"}],"isError":true}`)}), says: "no"},
		"deny, an error":          {answer: deny(&authzdv1.Denial{McpError: []byte(`{"code":-31403,"message":"nope"}`)}), says: "nope"},
		"deny, no denial":         {answer: deny(nil)},
		"deny, empty denial":      {answer: deny(&authzdv1.Denial{})},
		"deny, result not JSON":   {answer: deny(&authzdv1.Denial{McpResult: []byte(`{`)})},
		"deny, result an array":   {answer: deny(&authzdv1.Denial{McpResult: []byte(`[]`)})},
		"deny, error not JSON":    {answer: deny(&authzdv1.Denial{McpError: []byte(`no`)})},
		"deny, error of no code":  {answer: deny(&authzdv1.Denial{McpError: []byte(`{"code":"x"}`)})},
		"no answer":               {answer: func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) { return nil, nil }}, //nolint:nilnil // what a broken client gives
		"unspecified":             {answer: is(func(r *authzdv1.CheckResponse) { r.Decision = authzdv1.Decision_DECISION_UNSPECIFIED })},
		"unknown decision":        {answer: is(func(r *authzdv1.CheckResponse) { r.Decision = 7 })},
		"expired":                 {answer: is(func(r *authzdv1.CheckResponse) { r.ExpiresAt = timestamppb.New(time.Now().Add(-time.Second)) })},
		"no expiry":               {answer: is(func(r *authzdv1.CheckResponse) { r.ExpiresAt = nil })},
		"expiry not a time":       {answer: is(func(r *authzdv1.CheckResponse) { r.ExpiresAt = &timestamppb.Timestamp{Seconds: 1 << 60} })},
		"no digest":               {answer: is(func(r *authzdv1.CheckResponse) { r.CallDigest = "" })},
		"obligations":             {answer: obliged},
		"obligations, fulfilled":  {answer: obliged, fulfil: func(context.Context, []byte) error { return nil }, runs: true},
		"obligations, one failed": {answer: obliged, fulfil: failOn(`{"id":"b"}`)},
		"unavailable":             {answer: fails(codes.Unavailable)},
		"invalid argument":        {answer: fails(codes.InvalidArgument)},
		"failed precondition":     {answer: fails(codes.FailedPrecondition)},
		"unauthenticated":         {answer: fails(codes.Unauthenticated)},
		"internal":                {answer: fails(codes.Internal)},
	} {
		for _, w := range []way{{version: "2026-07-28"}, {version: "2025-11-25", http: true}} {
			t.Run(name+" "+w.String(), func(t *testing.T) {
				t.Parallel()
				service := &pdp{}
				session, j := w.enforced(t, service, func(o *pep.Options) { o.Fulfil = c.fulfil })
				service.set(func(p *pdp) { p.answer = c.answer })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err := refusedResult(session.CallTool(ctx, echo()))
				if (err == nil) != c.runs || len(j.ran()) != 0 != c.runs {
					t.Fatalf("%v, ran %v", err, j.ran())
				}
				says := c.says
				if says == "" {
					says = "gave no decision. Nothing was done."
				}
				if err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("the client is told %v", err)
				}
			})
		}
	}
}

func failOn(obligation string) func(context.Context, []byte) error {
	return func(_ context.Context, o []byte) error {
		if string(o) == obligation {
			return errors.New("secret")
		}
		return nil
	}
}

// A service that does not answer is not waited for.
func TestMiddlewareTimeout(t *testing.T) {
	t.Parallel()
	j := &journal{}
	s := fullServer(j)
	e, err := pep.New(pep.Options{Decider: hanging{}, Server: server, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	session, err := way{version: "2025-11-25"}.join(t, e, s, "")
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(s, pep.MiddlewareOptions{Identify: alice})
	if err := refusedResult(session.CallTool(t.Context(), echo())); err == nil || len(j.ran()) != 0 {
		t.Errorf("%v, ran %v", err, j.ran())
	}
}

type hanging struct{ pep.Decider }

func (hanging) Check(ctx context.Context, _ *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	<-ctx.Done()
	return allowed(nil), ctx.Err()
}

// Who can not be told is not asked about.
func TestMiddlewareIdentifyFails(t *testing.T) {
	t.Parallel()
	j, service := &journal{}, &pdp{}
	s, e := fullServer(j), enforcer(t, service)
	session, err := way{version: "2025-11-25"}.join(t, e, s, "")
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(s, pep.MiddlewareOptions{Identify: func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		return nil, nil, errors.New("secret")
	}})
	err = refusedResult(session.CallTool(t.Context(), echo()))
	var rpc *jsonrpc.Error
	if !errors.As(err, &rpc) || rpc.Code != jsonrpc.CodeInternalError || strings.Contains(rpc.Message, "secret") {
		t.Errorf("told %v", err)
	}
	if len(service.asked) != 0 || len(j.ran()) != 0 {
		t.Errorf("asked %v, ran %v", service.asked, j.ran())
	}
}

// What was decided is what runs, or nothing does.
func TestMiddlewareRequestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*mcp.CallToolParamsRaw){
		"arguments": func(p *mcp.CallToolParamsRaw) { p.Arguments = json.RawMessage(`{"text":"other"}`) },
		"name":      func(p *mcp.CallToolParamsRaw) { p.Name = "rm" },
	} {
		j, service := &journal{}, &pdp{}
		s, e := fullServer(j), enforcer(t, service)
		var call *mcp.CallToolParamsRaw
		e.Attach(s, pep.MiddlewareOptions{Identify: func(_ context.Context, r mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
			call, _ = r.GetParams().(*mcp.CallToolParamsRaw)
			return nil, &authzdv1.Subject{Id: "alice"}, nil
		}})
		session, err := way{version: "2025-11-25"}.join(t, e, s, "")
		if err != nil {
			t.Fatal(err)
		}
		service.set(func(p *pdp) {
			p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
				change(call)
				return allowed(nil), nil
			}
		})
		if err := refusedResult(session.CallTool(t.Context(), echo())); err == nil || len(j.ran()) != 0 {
			t.Errorf("%s: %v, ran %v", name, err, j.ran())
		}
	}
}

// The denial arrives as the service wrote it, with what the SDK has no field for.
func TestMiddlewareDenialIntact(t *testing.T) {
	t.Parallel()
	const key = "io.modelcontextprotocol/authorization"
	for _, w := range ways() {
		service := &pdp{}
		session, _ := w.enforced(t, service)
		service.set(func(p *pdp) {
			p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
				return denied(`{"resultType":"complete","content":[{"type":"text","text":"ask first"}],"isError":true,"_meta":{"`+key+`":{"remediation":"available"}}}`, nil), nil
			}
		})
		result, err := session.CallTool(t.Context(), echo())
		if err != nil {
			t.Errorf("%v: %v", w, err)
			continue
		}
		envelope, ok := result.Meta[key].(map[string]any)
		if !result.IsError || !ok || envelope["remediation"] != "available" {
			t.Errorf("%v: %+v", w, result)
		}
		service.set(func(p *pdp) {
			p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
				return &authzdv1.CheckResponse{
					Decision: authzdv1.Decision_DECISION_DENY,
					Denial:   &authzdv1.Denial{McpError: []byte(`{"code":-32042,"message":"open the page","data":{"elicitations":[]}}`)},
				}, nil
			}
		})
		_, err = session.CallTool(t.Context(), echo())
		var rpc *jsonrpc.Error
		if !errors.As(err, &rpc) || rpc.Code != -32042 || string(rpc.Data) != `{"elicitations":[]}` {
			t.Errorf("%v: %v", w, err)
		}
	}
}

func TestMiddlewareObserves(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*pdp){
		"a deny": func(p *pdp) { p.deny = []string{"echo", "a", "file:///a"} },
		"away":   func(p *pdp) { p.away = true },
	} {
		var log strings.Builder
		var mu sync.Mutex
		service := &pdp{}
		prepare(service)
		session, j := way{version: "2026-07-28", http: true, stateless: true}.enforced(t, service, func(o *pep.Options) {
			o.Observe, o.Log = true, slog.New(slog.NewJSONHandler(locked{&mu, &log}, nil))
		})
		if err := refusedResult(session.CallTool(t.Context(), echo())); err != nil || len(j.ran()) != 1 {
			t.Errorf("%s: %v, ran %v", name, err, j.ran())
		}
		list, err := session.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 2 || list.Tools[0].Meta != nil {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		mu.Lock()
		if text := log.String(); !strings.Contains(text, "not enforced") || name == "a deny" && !strings.Contains(text, "would_list") {
			t.Errorf("%s: logged %s", name, text)
		}
		mu.Unlock()
	}
}

// Who observes leaves the arguments as they came, also where they were decided
// with defaults.
func TestMiddlewareObservesArguments(t *testing.T) {
	t.Parallel()
	service, ran := &pdp{}, ""
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: "echo", InputSchema: json.RawMessage(orderSchema)}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		ran = string(r.Params.Arguments)
		return &mcp.CallToolResult{}, nil
	})
	e := enforcer(t, service, func(o *pep.Options) { o.Observe = true })
	e.Attach(s, pep.MiddlewareOptions{Identify: alice})
	session, err := way{version: "2025-11-25"}.join(t, e, s, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := refusedResult(session.CallTool(t.Context(), echo())); err != nil {
		t.Fatal(err)
	}
	if _, decided := service.decided(t); ran != `{"text":"x"}` || !strings.Contains(decided, `"count":3`) {
		t.Errorf("ran with %s, decided %s", ran, decided)
	}
}

// Capabilities that the SDK does not know are told to the service, too.
func TestMiddlewareUnknownCapabilities(t *testing.T) {
	t.Parallel()
	service := &pdp{}
	s, e := fullServer(&journal{}), enforcer(t, service)
	e.Attach(s, pep.MiddlewareOptions{})
	const capabilities = `{"future":{"x":["<1>"]}}`
	body := strings.Replace(callOf("2026-07-28", "1", `{"text":"x"}`), `clientCapabilities":{}`, `clientCapabilities":`+capabilities, 1)
	got := post(t, serve(t, e, s, way{stateless: true, plain: true}), "alice", "2026-07-28", body, nil)
	if got.status != http.StatusOK || len(service.asked) != 1 || string(service.asked[0].GetMcp().GetClientCapabilities()) != capabilities {
		t.Errorf("%+v, asked %v", got, service.asked)
	}
}

// locked is a writer for many.
type locked struct {
	mu *sync.Mutex
	to *strings.Builder
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
