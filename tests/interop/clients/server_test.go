package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goodToken is valid all the time: it lacks what the denied call needs, and
// nothing else. A client that stops using it has thrown it away.
const goodToken = "good"

const (
	heldScopes   = "payments:read"
	neededScopes = "payments:write"
)

// world is one MCP server with one tool behind one form of denial, and the
// authorization server of its resource metadata, on one loopback origin. Both
// write down what the client does.
type world struct {
	URL  string
	form form

	mu     sync.Mutex
	log    record
	tokens map[string]grant // by access token
	codes  map[string]grant
	fresh  int
}

// grant is what a token stands for. Details is RFC 9396's parameter as asked.
type grant struct{ Scope, Details string }

// record is what the servers saw of one client.
type record struct {
	// Calls are the access tokens of the tools/call requests, in order.
	Calls []string
	// Last is the access token of the last MCP request of any kind.
	Last string
	// Sessions counts initialize and server/discover, Closed the DELETEs.
	Sessions, Closed int
	// Authorize are the queries of the authorization requests.
	Authorize []url.Values
	// Grants are the grant types used at the token endpoint, with the scope
	// asked for, if any.
	Grants []string
	// Unknown are paths that do not exist.
	Unknown []string
}

func newWorld(t *testing.T, f form) *world {
	t.Helper()
	w := &world{form: f, tokens: map[string]grant{goodToken: {Scope: heldScopes}}, codes: map[string]grant{}}
	// Stateless, or the server would not speak MCP 2026-07-28.
	server := mcp.NewServer(&mcp.Implementation{Name: "payments", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "pay"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "paid"}}}, nil, nil
	})
	inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true})
	mux := http.NewServeMux()
	mux.Handle("/mcp", w.guard(inner))
	mux.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", w.resourceMetadata)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", w.serverMetadata)
	mux.HandleFunc("GET /authorize", w.authorize)
	mux.HandleFunc("POST /token", w.token)
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		w.note(func(l *record) { l.Unknown = append(l.Unknown, r.Method+" "+r.URL.Path) })
		http.NotFound(rw, r)
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	w.URL = ts.URL
	return w
}

func (w *world) note(f func(*record)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.log)
}

// forget what was written down.
func (w *world) forget() { w.note(func(l *record) { *l = record{} }) }

// seen gives what was written down so far.
func (w *world) seen() record {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.log
	l.Calls, l.Grants = slices.Clone(l.Calls), slices.Clone(l.Grants)
	l.Authorize, l.Unknown = slices.Clone(l.Authorize), slices.Clone(l.Unknown)
	return l
}

// guard admits every request with a token that is known, and denies calls of
// the tool in the form under test until a token satisfies it.
func (w *world) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.mu.Lock()
		held, known := w.tokens[bearer]
		w.mu.Unlock()
		if !known {
			rw.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer resource_metadata=%q, scope=%q",
				w.URL+"/.well-known/oauth-protected-resource/mcp", heldScopes))
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(rw, "unreadable", http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var msg struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		_ = json.Unmarshal(body, &msg)
		calls := 0
		w.note(func(l *record) {
			defer func() { calls = len(l.Calls) }()
			l.Last = bearer
			switch {
			case msg.Method == "tools/call":
				l.Calls = append(l.Calls, bearer)
			case msg.Method == "initialize" || msg.Method == "server/discover":
				l.Sessions++
			case r.Method == http.MethodDelete:
				l.Closed++
			}
		})
		if msg.Method == "tools/call" && !w.form.satisfied(held, calls) {
			w.form.write(rw, w.URL, msg.ID, calls)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

func (w *world) resourceMetadata(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, http.StatusOK, map[string]any{
		"resource":              w.URL + "/mcp",
		"authorization_servers": []string{w.URL},
		"scopes_supported":      []string{"payments:read", "payments:write", "payments:admin"},
	})
}

func (w *world) serverMetadata(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, http.StatusOK, map[string]any{
		"issuer":                                w.URL,
		"authorization_endpoint":                w.URL + "/authorize",
		"token_endpoint":                        w.URL + "/token",
		"response_types_supported":              []string{"code"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token", "client_credentials"},
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_post", "client_secret_basic"},
		"authorization_details_types_supported": []string{"payment_initiation"},
	})
}

// authorize grants what is asked without asking anybody.
func (w *world) authorize(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.mu.Lock()
	w.fresh++
	code := fmt.Sprintf("code-%d", w.fresh)
	w.codes[code] = grant{Scope: q.Get("scope"), Details: q.Get("authorization_details")}
	w.log.Authorize = append(w.log.Authorize, q)
	w.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}}
	http.Redirect(rw, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound) //nolint:gosec // it goes where the test client said
}

func (w *world) token(rw http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	kind, scope := r.PostForm.Get("grant_type"), r.PostForm.Get("scope")
	w.mu.Lock()
	defer w.mu.Unlock()
	given := grant{Scope: scope}
	switch kind {
	case "authorization_code":
		given = w.codes[r.PostForm.Get("code")]
	case "refresh_token":
		// RFC 6749 section 6: never more than was granted.
		given = grant{Scope: heldScopes}
	}
	w.fresh++
	access := fmt.Sprintf("token-%d", w.fresh)
	w.tokens[access] = given
	w.log.Grants = append(w.log.Grants, strings.TrimSpace(kind+" "+scope))
	writeJSON(rw, http.StatusOK, map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 3600, "scope": given.Scope,
	})
}

func writeJSON(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}
