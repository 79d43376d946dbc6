package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// authority is an introspection endpoint that knows one token.
func authority(t *testing.T) *introspector {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		switch token := r.FormValue("token"); {
		case user != "payments-server" || secret != "s3cret":
			w.WriteHeader(http.StatusUnauthorized)
		case token == "good":
			_, _ = io.WriteString(w, `{"active":true,"token_type":"Bearer","iss":"https://as.example.com","sub":"alice","exp":4102444800,
				"authorization_details":[{"type":"t","n":9007199254740993}]}`)
		case token == "expired":
			_, _ = io.WriteString(w, `{"active":true,"iss":"https://as.example.com","sub":"alice","exp":1}`)
		case token == "odd":
			_, _ = io.WriteString(w, `{"active":"true"}`)
		default:
			_, _ = io.WriteString(w, `{"active":false}`)
		}
	}))
	t.Cleanup(srv.Close)
	return &introspector{url: srv.URL, secret: "s3cret", client: srv.Client()}
}

type httpServer struct {
	url string
	l   *ledger
	pdp *fakePDP
}

func serveHTTP(t *testing.T, answer *authzdv1.CheckResponse) httpServer {
	t.Helper()
	pdp := &fakePDP{answer: answer}
	e, _ := pdp.enforcer(t)
	l := &ledger{}
	srv := httptest.NewServer(httpHandler(newServer(l), e, authority(t), options{resource: "https://mcp.example.com"}))
	t.Cleanup(srv.Close)
	return httpServer{url: srv.URL + "/mcp", l: l, pdp: pdp}
}

const callBody = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"payments.initiate",` +
	`"arguments":{"amount":"1.00","currency":"EUR","creditorAccount":"DE89370400440532013000"},` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`

// post sends one POST as a client of 2026-07-28 does.
func (s httpServer) post(t *testing.T, token, body string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "payments.initiate",
	} {
		req.Header.Set(name, value)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header}, string(text)
}

type reply struct {
	StatusCode int
	Header     http.Header
}

func challenge(status int32, value string) *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY,
		Denial: &authzdv1.Denial{Http: &authzdv1.HTTPDenial{
			Status:  status,
			Headers: map[string]string{"WWW-Authenticate": value, "Cache-Control": "no-store"},
		}},
	}
}

func TestHTTPAllow(t *testing.T) {
	t.Parallel()
	s := serveHTTP(t, allow())
	resp, body := s.post(t, "good", callBody)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"pay-1"`) || len(s.l.payments) != 1 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	claims := string(s.pdp.asked[0].GetCredentials()[0].GetClaims())
	if !strings.Contains(claims, "9007199254740993") || strings.Contains(claims, "active") || strings.Contains(claims, "token_type") {
		t.Errorf("claims = %s", claims)
	}
	if m := s.pdp.asked[0].GetMcp(); m.GetTransport() != "http" || m.GetProtocolVersion() != "2026-07-28" || string(m.GetClientCapabilities()) != "{}" {
		t.Errorf("message = %v", m)
	}
}

func TestHTTPChallenge(t *testing.T) {
	t.Parallel()
	for status, value := range map[int32]string{
		http.StatusUnauthorized: `Bearer error="insufficient_authorization", authorization_remediation="e30"`,
		http.StatusForbidden:    `Bearer error="insufficient_scope", scope="payments"`,
	} {
		s := serveHTTP(t, challenge(status, value))
		resp, body := s.post(t, "good", callBody)
		if resp.StatusCode != int(status) || resp.Header.Get("WWW-Authenticate") != value || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v, want %d %s", resp.StatusCode, resp.Header, status, value)
		}
		if body != "" || resp.Header.Get("Content-Type") != "" {
			t.Errorf("body %q of type %q, want none", body, resp.Header.Get("Content-Type"))
		}
		if len(s.l.payments) != 0 {
			t.Error("the tool ran")
		}
	}
}

func TestHTTPTokenRefused(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "unknown", "expired", "odd"} {
		s := serveHTTP(t, allow())
		resp, _ := s.post(t, token, callBody)
		if resp.StatusCode != http.StatusUnauthorized ||
			!strings.Contains(resp.Header.Get("WWW-Authenticate"), "https://mcp.example.com/.well-known/oauth-protected-resource") {
			t.Errorf("token %q: %d %v, want a 401 that names the metadata", token, resp.StatusCode, resp.Header)
		}
		if len(s.pdp.asked) != 0 || len(s.l.payments) != 0 {
			t.Errorf("token %q: asked %d, paid %d", token, len(s.pdp.asked), len(s.l.payments))
		}
	}
}

func TestHTTPRefusedBeforeAsking(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"a batch":                    "[" + callBody + "]",
		"a batch after blanks":       " \n[" + callBody + "]",
		"a header of another tool":   strings.Replace(callBody, "payments.initiate", "payments.status", 1),
		"not JSON":                   `{`,
		"too long":                   `{"x":"` + strings.Repeat("a", maxBody) + `"}`,
		"another version in headers": strings.Replace(callBody, "2026-07-28", "2025-11-25", 1),
	} {
		s := serveHTTP(t, allow())
		resp, _ := s.post(t, "good", body)
		if resp.StatusCode < 400 || len(s.pdp.asked) != 0 || len(s.l.payments) != 0 {
			t.Errorf("%s: %d, asked %d, paid %d", name, resp.StatusCode, len(s.pdp.asked), len(s.l.payments))
		}
	}
}

// The version is that of the request; in a stateless server the capabilities
// that an older client declared in initialize are not known to later requests.
func TestHTTPVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
		s := serveHTTP(t, allow())
		c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		session, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
			Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer{}},
		}, &mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Close() })
		if result, err := session.CallTool(t.Context(), pay("1.00")); err != nil || result.IsError {
			t.Errorf("%s: %+v, %v", version, result, err)
		}
		m := s.pdp.asked[0].GetMcp()
		if m.GetProtocolVersion() != version || (len(m.GetClientCapabilities()) > 0) != (version == "2026-07-28") {
			t.Errorf("%s: message = %v", version, m)
		}
	}
}

// What the SDK's own client makes of a challenge when nobody helps it: the call
// fails and, because the response has no JSON-RPC body, so does the session. An
// [auth.OAuthHandler], or a RoundTripper that returns an error, keeps it alive.
func TestSDKClientOnChallenge(t *testing.T) {
	t.Parallel()
	for status, value := range map[int32]string{
		http.StatusUnauthorized: `Bearer error="insufficient_authorization", authorization_remediation="e30"`,
		http.StatusForbidden:    `Bearer error="insufficient_scope", scope="payments"`,
	} {
		s := serveHTTP(t, challenge(status, value))
		connect := func(tr http.RoundTripper) *mcp.ClientSession {
			c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
				Endpoint: s.url, HTTPClient: &http.Client{Transport: tr},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = session.Close() })
			return session
		}

		plain := connect(bearer{})
		if _, err := plain.CallTool(t.Context(), pay("1.00")); err == nil || !strings.Contains(err.Error(), http.StatusText(int(status))) {
			t.Errorf("%d: error = %v", status, err)
		}
		if _, err := plain.ListTools(t.Context(), nil); err == nil {
			t.Errorf("%d: the session lives; the README says that it does not", status)
		}

		caught := connect(bearer{catch: true})
		var refused *refusedError
		if _, err := caught.CallTool(t.Context(), pay("1.00")); !errors.As(err, &refused) || refused.challenge != value {
			t.Errorf("%d: error = %v", status, err)
		}
		if _, err := caught.ListTools(t.Context(), nil); err != nil {
			t.Errorf("%d: the session died: %v", status, err)
		}
	}
}

// bearer adds the token; with catch it makes an error of a challenge.
type bearer struct{ catch bool }

type refusedError struct{ challenge string }

func (e *refusedError) Error() string { return e.challenge }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer good")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && b.catch && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		_ = resp.Body.Close()
		return nil, &refusedError{resp.Header.Get("WWW-Authenticate")}
	}
	return resp, err
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	identify := authority(t).ofFile(file)
	read := func() (string, error) {
		c, _, err := identify(context.WithoutCancel(t.Context()), nil)
		if len(c) == 0 {
			return "", err
		}
		return string(c[0].GetClaims()), err
	}
	if _, err := read(); err == nil {
		t.Error("no error without the file")
	}
	for content, want := range map[string]bool{"": false, "unknown": false, "good\n": true} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(); err != nil || strings.Contains(got, "alice") != want {
			t.Errorf("content %q: claims %q, %v", content, got, err)
		}
	}
	wrong := authority(t)
	wrong.secret = "guess"
	if got, err := wrong.claims(t.Context(), "good"); err == nil || got != nil {
		t.Errorf("claims %s, %v with a wrong secret", got, err)
	}
}
