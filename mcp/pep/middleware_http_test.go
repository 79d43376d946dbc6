package pep_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// serve puts an enforced server behind HTTP.
func serve(t *testing.T, e *pep.Enforcer, s *mcp.Server, w way) *httptest.Server {
	t.Helper()
	front := httptest.NewServer(e.HTTPHandler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: w.stateless, JSONResponse: w.plain})))
	t.Cleanup(front.Close)
	return front
}

type response struct {
	status int
	header http.Header
	body   string
}

// post sends one message as a client of that version does.
func post(t *testing.T, front *httptest.Server, token, version, body string, header http.Header) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {version},
	}
	if version == "2026-07-28" {
		var m struct {
			Method string
			Params struct{ Name, URI string }
		}
		_ = json.Unmarshal([]byte(body), &m) // a test may send anything
		r.Header.Set("Mcp-Method", m.Method)
		if name := m.Params.Name + m.Params.URI; name != "" {
			r.Header.Set("Mcp-Name", name)
		}
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(text)}
}

const aboutClient = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// callOf is a tools/call as a client of that version sends it.
func callOf(version, id, arguments string) string {
	params := `"name":"echo","arguments":` + arguments
	if version == "2026-07-28" {
		params += "," + aboutClient
	}
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{` + params + `}}`
}

// begin makes a session, where the server has them, and gives the headers that
// name it.
func begin(t *testing.T, front *httptest.Server, w way) http.Header {
	t.Helper()
	if w.stateless {
		return nil
	}
	got := post(t, front, "alice", w.version, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+w.version+
		`","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`, nil)
	id := got.header.Get("Mcp-Session-Id")
	if got.status != http.StatusOK || id == "" {
		t.Fatalf("initialize: %+v", got)
	}
	header := http.Header{"Mcp-Session-Id": {id}}
	if got = post(t, front, "alice", w.version, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, header); got.status != http.StatusAccepted {
		t.Fatalf("initialized: %+v", got)
	}
	return header
}

func challenged(status int32, body string) func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return func(q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		if q.GetMcp().GetMethod() == "initialize" {
			return allowed(nil), nil
		}
		d := &authzdv1.Denial{Http: &authzdv1.HTTPDenial{
			Status: status, Headers: map[string]string{"WWW-Authenticate": `Bearer error="insufficient_scope"`, "Cache-Control": "no-store"},
		}}
		if body != "" {
			d.McpError = []byte(body)
		}
		return &authzdv1.CheckResponse{Decision: authzdv1.Decision_DECISION_DENY, Denial: d}, nil
	}
}

// A denial is sent with the service's status, headers and body, the same in every
// form that the SDK has for responses.
func TestHTTPHandlerSendsDenials(t *testing.T) {
	t.Parallel()
	const rpc = `{"code":-31403,"message":"no","data":{"_meta":{"x":[1]}}}`
	for _, w := range ways() {
		if !w.http {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct {
				status      int32
				body        string
				want        int
				plain, none bool
			}{
				{status: 401, want: 401, none: true},
				{status: 403, want: 403, none: true},
				{status: 401, body: rpc, want: 401},
				{status: 403, body: rpc, want: 403},
				// A status that would not refuse is not sent.
				{status: 0, want: 200, plain: true},
				{status: 200, want: 200, plain: true},
				{status: 302, want: 200, plain: true},
				{status: 600, want: 200, plain: true},
				{status: -1, want: 200, plain: true},
				{status: 204, body: rpc, want: 403},
				{status: 302, body: rpc, want: 403},
			} {
				j := &journal{}
				s, e := fullServer(j), enforcer(t, &pdp{answer: challenged(c.status, c.body)})
				e.Attach(s, pep.MiddlewareOptions{})
				front := serve(t, e, s, w)
				header := begin(t, front, w)
				got := post(t, front, "alice", w.version, callOf(w.version, `"id-7"`, `{"text":"x"}`), header)
				if got.status != c.want || len(j.ran()) != 0 {
					t.Errorf("status %d with %q: %+v, ran %v", c.status, c.body, got, j.ran())
				}
				switch {
				case c.none:
					if got.body != "" || got.header.Get("Content-Type") != "" {
						t.Errorf("status %d: body %q of type %q, want none", c.status, got.body, got.header.Get("Content-Type"))
					}
				case c.plain:
					if !strings.Contains(got.body, "gave no decision") || !strings.Contains(got.body, `"id":"id-7"`) {
						t.Errorf("status %d: body %q", c.status, got.body)
					}
					continue
				default:
					if want := `{"jsonrpc":"2.0","id":"id-7","error":` + rpc + `}`; got.body != want || got.header.Get("Content-Type") != "application/json" {
						t.Errorf("status %d: %q of type %q", c.status, got.body, got.header.Get("Content-Type"))
					}
				}
				if got.header.Get("WWW-Authenticate") != `Bearer error="insufficient_scope"` || got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("status %d: headers %v", c.status, got.header)
				}
			}
		})
	}
}

// A denial that is a tool result is the SDK's to send, with the headers of the
// service.
func TestHTTPHandlerResult(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		if !w.http {
			continue
		}
		s, e := fullServer(&journal{}), enforcer(t, &pdp{answer: func(q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
			if q.GetMcp().GetMethod() == "initialize" {
				return allowed(nil), nil
			}
			r := denied(`{"content":[{"type":"text","text":"blocked"}],"isError":true}`, nil)
			r.Denial.Http = &authzdv1.HTTPDenial{Status: 200, Headers: map[string]string{"Cache-Control": "no-store"}}
			return r, nil
		}})
		e.Attach(s, pep.MiddlewareOptions{})
		front := serve(t, e, s, w)
		got := post(t, front, "alice", w.version, callOf(w.version, "7", `{"text":"x"}`), begin(t, front, w))
		if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" || !strings.Contains(got.body, `"text":"blocked"`) || !strings.Contains(got.body, `"id":7`) {
			t.Errorf("%v: %+v", w, got)
		}
	}
}

// A challenge with a body does not end the session of the SDK's client.
func TestHTTPHandlerSessionLivesOn(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		if !w.http {
			continue
		}
		service := &pdp{}
		session, _ := w.enforced(t, service)
		for _, status := range []int32{http.StatusUnauthorized, http.StatusForbidden} {
			service.set(func(p *pdp) { p.answer = challenged(status, `{"code":-31403,"message":"not yet"}`) })
			var rpc *jsonrpc.Error
			if err := refusedResult(session.CallTool(t.Context(), echo())); !errors.As(err, &rpc) || rpc.Code != -31403 || rpc.Message != "not yet" {
				t.Errorf("%v: %v", w, err)
			}
			service.set(func(p *pdp) { p.answer = nil })
			if err := refusedResult(session.CallTool(t.Context(), echo())); err != nil {
				t.Errorf("%v: after %d: %v", w, status, err)
			}
		}
	}
}

// With a store of events the SDK begins its response before anything is decided:
// a denial refuses all the same.
func TestHTTPHandlerResponseBegun(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", `{"code":-31403,"message":"no"}`} {
		j := &journal{}
		s, e := fullServer(j), enforcer(t, &pdp{answer: challenged(401, body)})
		e.Attach(s, pep.MiddlewareOptions{})
		front := httptest.NewServer(e.HTTPHandler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
			&mcp.StreamableHTTPOptions{EventStore: mcp.NewMemoryEventStore(nil)})))
		t.Cleanup(front.Close)
		w := way{version: "2025-11-25", http: true}
		got := post(t, front, "alice", w.version, callOf(w.version, "7", `{"text":"x"}`), begin(t, front, w))
		if !strings.Contains(got.body, `"error":{`) || len(j.ran()) != 0 {
			t.Errorf("%+v, ran %v", got, j.ran())
		}
	}
}

// What a client sends under the name of the slot reaches nobody.
func TestHTTPHandlerSlotIsOurs(t *testing.T) {
	t.Parallel()
	const name = "Authzd-Internal-Slot"
	j := &journal{}
	s, e := fullServer(j), enforcer(t, &pdp{answer: challenged(401, "")})
	seen := make(chan []string, 1)
	e.Attach(s, pep.MiddlewareOptions{Identify: func(ctx context.Context, r mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		if x, ok := r.(*mcp.CallToolRequest); ok {
			seen <- x.Extra.Header.Values(name)
		}
		return pep.BearerToken(ctx, r)
	}})
	w := way{version: "2026-07-28", http: true, stateless: true, plain: true}
	front := serve(t, e, s, w)
	got := post(t, front, "alice", w.version, callOf(w.version, "7", `{"text":"x"}`), http.Header{name: {"mine", "mine too"}})
	if values := <-seen; len(values) != 1 || strings.Contains(values[0], "mine") {
		t.Errorf("the slot is %q", values)
	}
	if got.status != http.StatusUnauthorized || got.header.Get(name) != "" {
		t.Errorf("%+v", got)
	}
}

func TestHTTPHandlerRefusesBeforehand(t *testing.T) {
	t.Parallel()
	one := callOf("2025-11-25", "7", `{"text":"x"}`)
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"a batch":              {"[" + one + "]", http.StatusBadRequest},
		"a batch after blanks": {" \r\n\t[" + one + "]", http.StatusBadRequest},
		"an empty batch":       {"[]", http.StatusBadRequest},
		"too long":             {`{"x":"` + strings.Repeat("a", 1<<16) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		j, service := &journal{}, &pdp{}
		s, e := fullServer(j), enforcer(t, service, func(o *pep.Options) { o.MaxMessage = 1 << 16 })
		e.Attach(s, pep.MiddlewareOptions{})
		for _, version := range []string{"2025-03-26", "2025-11-25"} {
			got := post(t, serve(t, e, s, way{stateless: true}), "alice", version, c.body, nil)
			if got.status != c.want || len(service.asked) != 0 || len(j.methods) != 0 {
				t.Errorf("%s: %+v, asked %v", name, got, service.asked)
			}
		}
	}
}

// The stream of what changes is asked about before it begins.
func TestMiddlewareListen(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		j, service := &journal{}, &pdp{answer: challenged(403, `{"code":-31403,"message":"no"}`)}
		s, e := fullServer(j), enforcer(t, service)
		e.Attach(s, pep.MiddlewareOptions{})
		got := post(t, serve(t, e, s, way{stateless: true, plain: plain}), "alice", "2026-07-28",
			`{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},`+aboutClient+`}}`, nil)
		if got.status != http.StatusForbidden || got.body != `{"jsonrpc":"2.0","id":"l","error":{"code":-31403,"message":"no"}}` {
			t.Errorf("%+v", got)
		}
		if questions := service.questions(); len(questions) != 1 || questions[0] != "subscriptions/listen" || len(j.methods) != 0 {
			t.Errorf("asked about %v, reached the server: %v", questions, j.methods)
		}
	}
}

// Who observes refuses nothing, not even what can not be enforced.
func TestHTTPHandlerObserves(t *testing.T) {
	t.Parallel()
	j, service := &journal{}, &pdp{away: true}
	s, e := fullServer(j), enforcer(t, service, func(o *pep.Options) { o.Observe = true })
	e.Attach(s, pep.MiddlewareOptions{})
	one := callOf("2025-03-26", "7", `{"text":"x"}`)
	got := post(t, serve(t, e, s, way{stateless: true}), "alice", "2025-03-26", "["+one+"]", nil)
	if got.status != http.StatusOK || len(j.ran()) != 1 || len(service.asked) != 1 {
		t.Errorf("%+v, ran %v, asked %v", got, j.ran(), service.asked)
	}
}

// asked makes one call over HTTP and gives the question that became of it; nil if
// none did.
func asked(t *testing.T, o pep.MiddlewareOptions, wrap func(http.Handler) http.Handler, header http.Header) (*authzdv1.CheckRequest, response) {
	t.Helper()
	service := &pdp{answer: func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) { return allowed(nil), nil }}
	s, e := fullServer(&journal{}), enforcer(t, service)
	e.Attach(s, o)
	h := e.HTTPHandler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	if wrap != nil {
		h = wrap(h)
	}
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	got := post(t, front, "", "2025-11-25", callOf("2025-11-25", "1", `{"text":"x"}`), header)
	if len(service.asked) == 0 {
		return nil, got
	}
	return service.asked[0], got
}

func TestTokensOfRequests(t *testing.T) {
	t.Parallel()
	const url = "https://mcp.example.com/mcp"
	proofs := pep.MiddlewareOptions{Identify: pep.WithProofs(url)}
	for name, c := range map[string]struct {
		o      pep.MiddlewareOptions
		header http.Header
		// want is scheme, token, proof, method, url; empty: no credential.
		want [5]string
		// refused: not even asked.
		refused bool
	}{
		"none":              {},
		"bearer":            {header: http.Header{"Authorization": {"Bearer abc"}}, want: [5]string{"Bearer", "abc"}},
		"blanks":            {header: http.Header{"Authorization": {"bearer   abc "}}, want: [5]string{"bearer", "abc"}},
		"a proof not asked": {header: http.Header{"Authorization": {"DPoP abc"}, "Dpop": {"proof"}}, want: [5]string{"DPoP", "abc"}},
		"a proof":           {o: proofs, header: http.Header{"Authorization": {"DPoP abc"}, "Dpop": {"proof"}}, want: [5]string{"DPoP", "abc", "proof", "POST", url}},
		"no proof":          {o: proofs, header: http.Header{"Authorization": {"DPoP abc"}}, want: [5]string{"DPoP", "abc"}},
		"two proofs":        {o: proofs, header: http.Header{"Authorization": {"DPoP abc"}, "Dpop": {"proof", "proof"}}, refused: true},
		"two tokens":        {header: http.Header{"Authorization": {"Bearer abc", "Bearer def"}}, refused: true},
		"no token":          {header: http.Header{"Authorization": {"Bearer"}}, refused: true},
		"an empty token":    {header: http.Header{"Authorization": {"Bearer "}}, refused: true},
		"an empty header":   {header: http.Header{"Authorization": {""}}, refused: true},
	} {
		q, got := asked(t, c.o, nil, c.header)
		if (q == nil) != c.refused {
			t.Errorf("%s: asked %v, answered %+v", name, q, got)
		}
		if q == nil {
			if !strings.Contains(got.body, "gave no decision") {
				t.Errorf("%s: answered %+v", name, got)
			}
			continue
		}
		var have [5]string
		for _, one := range q.GetCredentials() {
			have = [5]string{one.GetScheme(), one.GetAccessToken(), one.GetDpopProof(), one.GetHttpMethod(), one.GetHttpUrl()}
		}
		if have != c.want {
			t.Errorf("%s: %q, want %q", name, have, c.want)
		}
	}
}

func TestVerifiedToken(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour)
	const claims = `{"iss":"https://as.example.com","sub":"alice","n":9007199254740993,"s":"<&>"}`
	for name, c := range map[string]struct {
		info *auth.TokenInfo
		// want are claims as text, or parts of them; none: refused.
		want []string
	}{
		"claims as text": {&auth.TokenInfo{Expiration: end, Extra: map[string]any{"claims": json.RawMessage(claims)}}, []string{claims}},
		"claims as a map": {
			&auth.TokenInfo{Expiration: end, Extra: map[string]any{"claims": map[string]any{"sub": "alice", "n": json.Number("9007199254740993")}}},
			[]string{`{"n":9007199254740993,"sub":"alice"}`},
		},
		"claims that are no JSON": {&auth.TokenInfo{Expiration: end, Extra: map[string]any{"claims": json.RawMessage(`{`)}}, nil},
		"no claims": {
			&auth.TokenInfo{UserID: "alice", Scopes: []string{"a", "b"}, Expiration: end, Extra: map[string]any{"client_id": "c", "sub": "mallory", "iss": "elsewhere", "aud": "x", "exp": 1, "scope": "z"}},
			[]string{`"sub":"alice"`, `"iss":"https://as.example.com"`, `"aud":"` + server + `"`, `"scope":"a b"`, `"client_id":"c"`},
		},
		"no user": {&auth.TokenInfo{Expiration: end}, nil},
	} {
		wrap := auth.RequireBearerToken(func(context.Context, string, *http.Request) (*auth.TokenInfo, error) { return c.info, nil }, nil)
		q, got := asked(t, pep.MiddlewareOptions{Identify: pep.VerifiedToken("https://as.example.com", server)}, wrap, http.Header{"Authorization": {"Bearer abc"}})
		if (q == nil) != (c.want == nil) {
			t.Errorf("%s: asked %v, answered %+v", name, q, got)
			continue
		}
		for _, want := range c.want {
			if have := q.GetCredentials()[0]; !strings.Contains(string(have.GetClaims()), want) || have.GetAccessToken() != "" {
				t.Errorf("%s: %s, want %s", name, have.GetClaims(), want)
			}
		}
	}
	// Without the SDK's verification there is no credential.
	if q, _ := asked(t, pep.MiddlewareOptions{Identify: pep.VerifiedToken("i", server)}, nil, http.Header{"Authorization": {"Bearer abc"}}); len(q.GetCredentials()) != 0 {
		t.Errorf("asked %v", q)
	}
}
