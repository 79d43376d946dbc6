package pep_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/mcp/pep"
)

// behind puts a proxy in front of a handler.
func behind(t *testing.T, upstream http.Handler, service *pdp, change ...func(*pep.ProxyOptions)) (*httptest.Server, *pep.Proxy) {
	t.Helper()
	back := httptest.NewServer(upstream)
	t.Cleanup(back.Close)
	u, err := url.Parse(back.URL + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	o := pep.ProxyOptions{Enforcer: enforcer(t, service), Upstream: u}
	for _, f := range change {
		f(&o)
	}
	p, err := pep.NewProxy(o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	return front, p
}

// sdkServer is a real server with sessions.
func sdkServer(t *testing.T, stateless, asJSON bool) http.Handler {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		PageSize:           2,
	})
	type in struct {
		Text string `json:"text"`
	}
	for _, name := range []string{"echo", "pay", "rm", "slow"} {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(ctx context.Context, r *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
			if token := r.Params.GetProgressToken(); token != nil {
				for i := range 3 {
					if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Total: 3}); err != nil {
						return nil, nil, err
					}
				}
			}
			if name == "slow" {
				<-ctx.Done()
				return nil, nil, ctx.Err()
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: name + ": " + a.Text}}}, nil, nil
		})
	}
	s.AddResource(&mcp.Resource{URI: "file:///a", Name: "a"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "file:///a", Text: "A"}}}, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: stateless, JSONResponse: asJSON})
	mux := http.NewServeMux()
	mux.Handle("/mcp", h)
	return mux
}

// as sends a token with every request.
type as struct{ token string }

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+a.token)
	return ownTransport().RoundTrip(r)
}

// ownTransport is not the default one, whose idle connections each end of an
// httptest.Server closes, also those of other tests that are about to be used.
var ownTransport = sync.OnceValue(func() *http.Transport { return &http.Transport{MaxIdleConnsPerHost: 8} })

func connect(t *testing.T, front *httptest.Server, token, version string, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, o)
	session, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: front.URL + "/mcp", HTTPClient: &http.Client{Transport: as{token}}, MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func TestProxyInFrontOfTheSDK(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
		for _, asJSON := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s json=%t", version, asJSON), func(t *testing.T) {
				t.Parallel()
				service := &pdp{deny: []string{"rm"}, needs: map[string]string{"pay": "payments"}}
				h := sdkServer(t, version == "2026-07-28", asJSON)
				front, p := behind(t, h, service)
				progress := make(chan float64, 10)
				session := connect(t, front, "alice", version, &mcp.ClientOptions{
					ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Progress },
				})
				var names []string
				for tool, err := range session.Tools(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, tool.Name)
					if note := tool.Meta[pep.NeedsKey]; (tool.Name == "pay") != (note != nil) {
						t.Errorf("%s is noted as %v", tool.Name, note)
					}
				}
				if slices.Sort(names); !slices.Equal(names, []string{"echo", "pay", "slow"}) {
					t.Errorf("listed %v", names)
				}
				params := &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}}
				if !asJSON {
					params.SetProgressToken("p")
				}
				result, err := session.CallTool(t.Context(), params)
				if err != nil || result.IsError || textOf(result) != "echo: hi" {
					t.Fatalf("echo: %v, %v", result, err)
				}
				for i := range 3 {
					if asJSON {
						break
					}
					select {
					case got := <-progress:
						if got != float64(i) {
							t.Errorf("progress %v, want %d", got, i)
						}
					case <-time.After(10 * time.Second):
						t.Fatal("no progress")
					}
				}
				result, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "rm", Arguments: map[string]any{"text": "hi"}})
				if err != nil || !result.IsError || textOf(result) != "no" {
					t.Errorf("rm: %v, %v", result, err)
				}
				if read, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "file:///a"}); err != nil || read.Contents[0].Text != "A" {
					t.Errorf("read: %v, %v", read, err)
				}
				if version != "2026-07-28" {
					if got := p.Sessions(); got != 1 {
						t.Errorf("%d sessions, want 1", got)
					}
				}
				if err := session.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				if got := p.Sessions(); got != 0 {
					t.Errorf("%d sessions are left", got)
				}
				for _, q := range service.asked {
					if q.GetMcp().GetTransport() != "http" || q.GetCredentials()[0].GetAccessToken() != "alice" || q.GetMcp().GetProtocolVersion() == "" {
						t.Errorf("asked %v", q)
					}
				}
			})
		}
	}
}

func textOf(r *mcp.CallToolResult) string {
	if len(r.Content) == 1 {
		if c, ok := r.Content[0].(*mcp.TextContent); ok {
			return c.Text
		}
	}
	return ""
}

// A cancelled call ends at the server.
func TestProxyPassesCancellation(t *testing.T) {
	t.Parallel()
	h := sdkServer(t, false, false)
	front, _ := behind(t, h, &pdp{})
	session := connect(t, front, "alice", "2025-11-25", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"text": ""}}); err == nil {
		t.Error("the call was not cancelled")
	}
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "x"}}); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// raw is a server that keeps what it was sent, and answers what a test says.
type raw struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	answer   func(w http.ResponseWriter, r *http.Request, body string)
}

func (s *raw) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
	answer := s.answer
	s.mu.Unlock()
	if strings.Contains(string(body), `"authzd-`) { // the proxy's own tools/list
		id := string(body)[strings.Index(string(body), `"authzd-`):]
		id = id[:strings.Index(id[1:], `"`)+2]
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}}`, id)
		return
	}
	if answer != nil {
		answer(w, r, string(body))
		return
	}
	if strings.Contains(string(body), `"initialize"`) {
		w.Header().Set("Mcp-Session-Id", "session-of-"+r.Header.Get("X-Who"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
}

// from now on the server answers so.
func (s *raw) from(answer func(w http.ResponseWriter, r *http.Request, body string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *raw) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

const initializing = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`

// answer is what a test looks at of a response.
type answer struct {
	StatusCode int
	Header     http.Header
}

func send(t *testing.T, front *httptest.Server, method, body string, headers ...string) (answer, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, front.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for pair := range slices.Chunk(headers, 2) {
		if pair[0] == "Host" {
			r.Host = pair[1]
			continue
		}
		r.Header.Add(pair[0], pair[1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header}, string(text)
}

func TestProxyForwardsTheBytesAndNoToken(t *testing.T) {
	t.Parallel()
	back := &raw{}
	front, _ := behind(t, back, &pdp{})
	const body = `{"jsonrpc":"2.0",  "id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":9007199254740993}}}`
	headers := []string{"Authorization", "Bearer alice", "Cookie", "c=1", "DPoP", "proof", "Mcp-Protocol-Version", "2025-11-25", "X-Other", "kept"}
	// The first proof is for the question whether this caller may have the tools
	// asked for at all.
	if _, text := send(t, front, "POST", body, headers...); !strings.Contains(text, "Try again") || back.count() != 0 {
		t.Fatalf("%s; the server was asked %d times", text, back.count())
	}
	resp, text := send(t, front, "POST", body, headers...)
	if resp.StatusCode != 200 || text != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	last := len(back.requests) - 1
	if back.bodies[last] != body {
		t.Errorf("the server gets %s", back.bodies[last])
	}
	for i, r := range back.requests {
		for _, name := range []string{"Authorization", "Cookie", "DPoP"} {
			if r.Header.Get(name) != "" {
				t.Errorf("request %d has the header %s", i, name)
			}
		}
	}
	if back.requests[last].Header.Get("X-Other") != "kept" {
		t.Error("another header is lost")
	}
}

func TestProxyUpstreamCredentials(t *testing.T) {
	t.Parallel()
	for way, want := range map[pep.UpstreamAuth]string{pep.AuthNone: "", pep.AuthHeader: "Bearer own", pep.AuthPassthrough: "Bearer alice"} {
		back := &raw{}
		front, _ := behind(t, back, &pdp{}, func(o *pep.ProxyOptions) {
			o.UpstreamAuth, o.UpstreamHeader = way, [2]string{"Authorization", "Bearer own"}
		})
		send(t, front, "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`, "Authorization", "Bearer alice")
		if n := back.count(); n != 2 {
			t.Fatalf("%s: the server got %d requests, want the list of tools and the call", way, n)
		}
		for _, r := range back.requests {
			if got := r.Header.Get("Authorization"); got != want {
				t.Errorf("%s: the server gets %q, want %q", way, got, want)
			}
		}
	}
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	const call = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`
	const modern = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	alice := []string{"Authorization", "Bearer alice"}
	for name, tt := range map[string]struct {
		method, body string
		headers      []string
		status       int
		want         string
	}{
		"no token":                     {"POST", call, nil, 401, ""},
		"another scheme":               {"POST", call, []string{"Authorization", "Basic YTpi"}, 400, "neither Bearer nor DPoP"},
		"two tokens":                   {"POST", call, []string{"Authorization", "Bearer alice", "Authorization", "Bearer bob"}, 400, ""},
		"another host":                 {"POST", call, append([]string{"Host", "evil.example"}, alice...), 421, ""},
		"another origin":               {"POST", call, append([]string{"Origin", "https://evil.example"}, alice...), 403, ""},
		"an upgrade":                   {"POST", call, append([]string{"Connection", "Upgrade", "Upgrade", "websocket"}, alice...), 400, ""},
		"two types":                    {"POST", call, append([]string{"Content-Type", "application/json"}, alice...), 415, ""},
		"no JSON type":                 {"POST", call, append([]string{"Content-Type", "text/plain"}, alice...), 415, ""},
		"an encoded body":              {"POST", call, append([]string{"Content-Encoding", "gzip"}, alice...), 415, ""},
		"an unknown session":           {"POST", call, append([]string{"Mcp-Session-Id", "nobody's"}, alice...), 404, ""},
		"a batch of a later revision":  {"POST", "[" + call + "]", append([]string{"Mcp-Protocol-Version", "2025-06-18"}, alice...), 400, "no JSON-RPC batches"},
		"a batch of no revision":       {"POST", "[" + call + "]", alice, 400, "no JSON-RPC batches"},
		"another method in the header": {"POST", modern, append([]string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "ping", "Mcp-Name", "p"}, alice...), 400, "-32020"},
		"another name in the header":   {"POST", modern, append([]string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "prompts/get", "Mcp-Name", "q"}, alice...), 400, "-32020"},
		"a revision in the body only":  {"POST", modern, alice, 400, "-32020"},
		"a method of no kind":          {"PUT", call, alice, 405, ""},
		"a stream without a token":     {"GET", "", nil, 401, ""},
		"a notification without one":   {"POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 401, ""},
		"the end of a foreign session": {"DELETE", "", append([]string{"Mcp-Session-Id", "nobody's"}, alice...), 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := &raw{}
			front, _ := behind(t, back, &pdp{})
			if name == "no JSON type" {
				r, _ := http.NewRequestWithContext(t.Context(), tt.method, front.URL+"/mcp", strings.NewReader(tt.body))
				r.Header.Set("Content-Type", "text/plain")
				r.Header.Set("Authorization", "Bearer alice")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != tt.status {
					t.Errorf("%d, want %d", resp.StatusCode, tt.status)
				}
			} else if resp, text := send(t, front, tt.method, tt.body, tt.headers...); resp.StatusCode != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, text, tt.status, tt.want)
			}
			if n := back.count(); n != 0 {
				t.Errorf("the server was asked: %s", back.bodies)
			}
		})
	}
}

// Nobody uses another's session, with whatever message.
func TestProxyKeepsSessionsApart(t *testing.T) {
	t.Parallel()
	back := &raw{}
	front, p := behind(t, back, &pdp{})
	resp, _ := send(t, front, "POST", initializing, "Authorization", "Bearer alice", "X-Who", "alice")
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" || p.Sessions() != 1 {
		t.Fatalf("session %q, %d sessions", id, p.Sessions())
	}
	before := back.count()
	for _, tt := range []struct{ method, body string }{
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`},
		{"POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`},
		{"POST", `{"jsonrpc":"2.0","id":5,"result":{}}`},
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`},
		{"GET", ""},
		{"DELETE", ""},
	} {
		if resp, text := send(t, front, tt.method, tt.body, "Authorization", "Bearer mallory", "Mcp-Session-Id", id); resp.StatusCode != 404 {
			t.Errorf("%s %s: %d %s", tt.method, tt.body, resp.StatusCode, text)
		}
	}
	if back.count() != before || p.Sessions() != 1 {
		t.Fatalf("the server was asked %d times", back.count()-before)
	}
	// The owner with another token is still the owner.
	for _, tt := range []struct{ method, body string }{
		{"POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`},
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`},
		{"GET", ""},
		{"DELETE", ""},
	} {
		if resp, text := send(t, front, tt.method, tt.body, "Authorization", "Bearer alice/2", "Mcp-Session-Id", id); resp.StatusCode != 200 {
			t.Errorf("%s %s: %d %s", tt.method, tt.body, resp.StatusCode, text)
		}
	}
	if p.Sessions() != 0 {
		t.Error("the session has not ended")
	}
	// A server that gives out an id twice does not hand over the session.
	for _, who := range []string{"alice", "mallory"} {
		send(t, front, "POST", initializing, "Authorization", "Bearer "+who, "X-Who", "same")
	}
	if resp, _ := send(t, front, "POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Authorization", "Bearer mallory", "Mcp-Session-Id", "session-of-same"); resp.StatusCode != 404 {
		t.Errorf("mallory has alice's session: %d", resp.StatusCode)
	}
}

// What the server answers is passed on or is an error, and never a list that was
// not looked at.
func TestProxyAnswersOfTheServer(t *testing.T) {
	t.Parallel()
	const ask = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	list := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"rm"},{"name":"echo"}]}}`
	shorter := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}]}}`
	for name, tt := range map[string]struct {
		kind, body string
		status     int
		want       string
		but        string
	}{
		"JSON":                     {"application/json; charset=utf-8", list, 200, shorter, "rm"},
		"events":                   {"text/event-stream", "id: 1\nevent: message\ndata: " + list + "\n\n", 200, "id: 1\nevent: message\ndata: " + shorter + "\n\n", "rm"},
		"events with CR LF":        {"text/event-stream", "data: " + list + "\r\n\r\n", 200, "data: " + shorter + "\n\r\n", "rm"},
		"data in two lines":        {"text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"tools\":[{\"name\":\"rm\"}]}}\n\n", 200, `"tools":[]`, `"rm"`},
		"a comment and another":    {"text/event-stream", ": hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\ndata:" + list + "\n\n", 200, ": hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\ndata: " + shorter + "\n\n", "rm"},
		"events that break off":    {"text/event-stream", "data: " + list + "\n", 200, "", "rm"},
		"an event that is no JSON": {"text/event-stream", "data: {\"tools\":[\"rm\"\n\n", 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603`, "rm"},
		"no JSON, and the list":    {"text/event-stream", "data: {\n\ndata: " + list + "\n\n", 200, shorter, "error"},
		"no JSON, and an error":    {"text/event-stream", "data: {\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"x\"}}\n\n", 200, `"code":-1`, "-32603"},
		"a stream without answer":  {"text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n", 200, "notifications/x", "error"},
		"no JSON":                  {"application/json", `{"tools":["rm"`, 502, "-32603", "rm"},
		"another type":             {"text/plain", list, 502, "-32603", "rm"},
		"an error":                 {"application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}`, 200, `"code":-1`, "rm"},
		"a batch":                  {"application/json", "[" + list + "]", 200, "[" + shorter + "]", "rm"},
		"too long":                 {"application/json", `{"x":"` + strings.Repeat("x", 5000) + `"}`, 502, "-32603", "xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &pdp{deny: []string{"rm"}}
			back := &raw{answer: func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Content-Type", tt.kind)
				_, _ = io.WriteString(w, tt.body)
			}}
			front, _ := behind(t, back, service, func(o *pep.ProxyOptions) {
				o.Enforcer = enforcer(t, service, func(o *pep.Options) { o.MaxResult = 4000 })
			})
			resp, text := send(t, front, "POST", ask, "Authorization", "Bearer alice")
			if resp.StatusCode != tt.status || !strings.Contains(text, tt.want) || strings.Contains(text, tt.but) {
				t.Errorf("%d %q, want %d with %q and without %q", resp.StatusCode, text, tt.status, tt.want, tt.but)
			}
		})
	}
}

// A list that was not answered, or by an error, may be asked for again, under the
// same id and however often.
func TestProxyForgetsListsWithoutAnswer(t *testing.T) {
	t.Parallel()
	const list = `{"jsonrpc":"2.0","id":5,"method":"tools/list"}`
	answer := func(status int, kind, body string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, string){
		"hangs up":               func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) },
		"fails":                  answer(503, "text/plain", "busy"),
		"no JSON":                answer(200, "application/json", "{"),
		"no JSON in a stream":    answer(200, "text/event-stream", "data: {\n\n"),
		"an error":               answer(200, "application/json", `{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"x"}}`),
		"no list":                answer(200, "application/json", `{"jsonrpc":"2.0","id":5,"result":{}}`),
		"refuses the proxy":      answer(401, "text/plain", ""),
		"an error in a stream":   answer(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":-1,\"message\":\"x\"}}\n\n"),
		"a list of another type": answer(200, "text/html", "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := &raw{}
			front, _ := behind(t, back, &pdp{deny: []string{"rm"}})
			send(t, front, "POST", initializing, "Authorization", "Bearer alice", "X-Who", "alice")
			back.from(fault)
			send(t, front, "POST", list, "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice")
			back.from(answer(200, "application/json", `{"jsonrpc":"2.0","id":5,"result":{"tools":[{"name":"rm"},{"name":"echo"}]}}`))
			_, text := send(t, front, "POST", list, "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice")
			if !strings.Contains(text, `"tools":[{"name":"echo"}]`) {
				t.Errorf("asked again: %s", text)
			}
		})
	}
	t.Run("streams that end", func(t *testing.T) {
		t.Parallel()
		back := &raw{}
		front, _ := behind(t, back, &pdp{deny: []string{"rm"}})
		send(t, front, "POST", initializing, "Authorization", "Bearer alice", "X-Who", "alice")
		back.from(answer(200, "text/event-stream", ": come back for it\n\n"))
		for i := range 1100 {
			_, text := send(t, front, "POST", fmt.Sprintf(`{"jsonrpc":"2.0","id":"n%d","method":"tools/list"}`, i), "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice")
			if text != ": come back for it\n\n" {
				t.Fatalf("list %d: %s", i, text)
			}
		}
		back.from(answer(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"n0\",\"result\":{\"tools\":[{\"name\":\"rm\"}]}}\n\n"))
		if _, text := send(t, front, "GET", "", "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice"); !strings.Contains(text, `"n0"`) || strings.Contains(text, "rm") {
			t.Errorf("the stream brings %q", text)
		}
	})
	t.Run("under way", func(t *testing.T) {
		t.Parallel()
		entered, leave := make(chan struct{}), make(chan struct{})
		back := &raw{}
		front, _ := behind(t, back, &pdp{})
		send(t, front, "POST", initializing, "Authorization", "Bearer alice", "X-Who", "alice")
		back.from(func(w http.ResponseWriter, r *http.Request, body string) {
			entered <- struct{}{}
			<-leave
			answer(200, "application/json", `{"jsonrpc":"2.0","id":5,"result":{"tools":[]}}`)(w, r, body)
		})
		first := make(chan struct{})
		go func() {
			defer close(first)
			send(t, front, "POST", list, "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice")
		}()
		<-entered
		for range 2 {
			if _, text := send(t, front, "POST", list, "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice"); !strings.Contains(text, "under way") {
				t.Errorf("the same id again: %s", text)
			}
		}
		close(leave)
		<-first
	})
}

// The transport can send a body again that it has not begun to send, and sees
// that all of it is there.
func TestProxyBodyIsInMemory(t *testing.T) {
	t.Parallel()
	const body = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`
	var again []byte
	front, _ := behind(t, &raw{}, &pdp{}, func(o *pep.ProxyOptions) {
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.GetBody != nil {
				copied, err := r.GetBody()
				if err != nil {
					return nil, err
				}
				again, _ = io.ReadAll(copied)
			}
			if got, want := fmt.Sprintf("%T", r.Body), fmt.Sprintf("%T", io.NopCloser(bytes.NewReader(nil))); got != want {
				t.Errorf("the body is a %s, want a %s", got, want)
			}
			return http.DefaultTransport.RoundTrip(r)
		})
	})
	if _, text := send(t, front, "POST", body, "Authorization", "Bearer alice"); !strings.Contains(text, "result") || string(again) != body {
		t.Errorf("answered %s; sent again would be %q", text, again)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A stream that is resumed brings the answer to a request of before.
func TestProxyLooksAtResumedStreams(t *testing.T) {
	t.Parallel()
	back := &raw{}
	front, _ := behind(t, back, &pdp{deny: []string{"rm"}})
	send(t, front, "POST", initializing, "Authorization", "Bearer alice", "X-Who", "alice")
	back.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Method == "GET" && r.Header.Get("Last-Event-Id") == "7" {
			_, _ = io.WriteString(w, "id: 8\ndata: {\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{\"tools\":[{\"name\":\"rm\"}]}}\n\n")
		}
	}
	_, text := send(t, front, "GET", "", "Authorization", "Bearer alice", "Mcp-Session-Id", "session-of-alice", "Last-Event-ID", "7")
	if !strings.Contains(text, "id: 8\n") || strings.Contains(text, `"rm"`) {
		t.Errorf("the stream brings %q", text)
	}
}

// A refusal of the server is about the proxy, and no challenge to the client.
func TestProxyHidesUpstreamChallenges(t *testing.T) {
	t.Parallel()
	back := &raw{answer: func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="http://127.0.0.1:1/x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}}
	front, _ := behind(t, back, &pdp{})
	resp, _ := send(t, front, "POST", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`, "Authorization", "Bearer alice")
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// Pages of an allowed origin can call, and no others.
func TestProxyPages(t *testing.T) {
	t.Parallel()
	back := &raw{answer: func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}}
	front, _ := behind(t, back, &pdp{}, func(o *pep.ProxyOptions) { o.AllowedOrigins = []string{"https://app.example"} })
	const call = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`
	own := front.URL
	for _, tt := range []struct {
		method, origin string
		status         int
		allowed        string
	}{
		{"OPTIONS", "https://app.example", 204, "https://app.example"},
		{"POST", "https://app.example", 200, "https://app.example"},
		{"OPTIONS", "https://evil.example", 403, ""},
		{"POST", "https://evil.example", 403, ""},
		{"POST", "https://app.example.evil.example", 403, ""},
		{"POST", "null", 403, ""},
		{"POST", own, 200, ""},
		{"OPTIONS", own, 405, ""},
	} {
		resp, _ := send(t, front, tt.method, call, "Origin", tt.origin, "Authorization", "Bearer alice",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "mcp-param-region, x-evil")
		if got := resp.Header.Values("Access-Control-Allow-Origin"); resp.StatusCode != tt.status || strings.Join(got, "|") != tt.allowed {
			t.Errorf("%s from %s: %d, allowed %q", tt.method, tt.origin, resp.StatusCode, got)
		}
		if names := resp.Header.Get("Access-Control-Allow-Headers"); tt.status == 204 && (!strings.Contains(names, "mcp-param-region") || strings.Contains(names, "evil")) {
			t.Errorf("a page may send %s", names)
		}
	}
}

func TestProxyMetadata(t *testing.T) {
	t.Parallel()
	front, _ := behind(t, &raw{}, &pdp{}, func(o *pep.ProxyOptions) {
		o.AuthorizationServers = []string{"https://as.example.com"}
		o.Metadata = func(context.Context) ([]byte, error) {
			return []byte(`{"resource":"x","scopes_supported":["payments"]}`), nil
		}
	})
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", front.URL+path, nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := `{"resource":"https://mcp.example.com/mcp","authorization_servers":["https://as.example.com"],"scopes_supported":["payments"]}`
		if string(body) != want {
			t.Errorf("%s: %s", path, body)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", front.URL+"/other", nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("/other: %d", resp.StatusCode)
	}
}

// A stream comes as it is sent, not at its end.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	back := &raw{answer: func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"a\":1}\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-release
		_, _ = io.WriteString(w, "data: {\"b\":2}\n\n")
	}}
	front, _ := behind(t, back, &pdp{})
	r, _ := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/mcp", bytes.NewBufferString(`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer alice")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, len("data: {\"a\":1}\n\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "data: {\"a\":1}\n\n" {
		t.Fatalf("%q, %v", first, err)
	}
	close(release)
	rest, _ := io.ReadAll(resp.Body)
	if string(rest) != "data: {\"b\":2}\n\n" {
		t.Errorf("then %q", rest)
	}
}
