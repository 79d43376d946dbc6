package loop_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// presented is a credential as an enforcement point passes it on unverified.
type presented struct {
	ID     string `json:"id"`
	Token  string `json:"access_token"`
	Scheme string `json:"scheme,omitempty"`
	Proof  string `json:"dpop_proof,omitempty"`
	Method string `json:"http_method,omitempty"`
	URL    string `json:"http_url,omitempty"`
}

// rawPayments is the world of payments with an authzd that verifies tokens
// itself. More are the members of the issuer's entry beside issuer and types.
func rawPayments(t *testing.T, resource string, more func(*authServer) string) *world {
	t.Helper()
	as := startAuthServer(t, "--types", "../../../policies/examples/payments/authzd_types/payment_initiation/data.json")
	file := filepath.Join(t.TempDir(), "issuers.yaml")
	text := fmt.Sprintf("issuers:\n- issuer: %s\n  details_types: [payment_initiation]\n  %s\n", as.Issuer, more(as))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &world{
		as: as,
		rs: &resourceServer{
			id: resource, as: as,
			pdp: startAuthzd(t, "payments=../../../policies/examples/payments", "--issuers", file),
		},
		call:  payment("123.50", "EUR", "DE89370400440532013000"),
		first: "payments:read",
	}
}

func fromJWKS(as *authServer) string {
	return fmt.Sprintf("keys: {jwks_url: %q, min_interval: 1s}", as.JWKS)
}

func discovered(*authServer) string { return "keys: {discover: true}" }

// introspected has the secret in a file of its own, as a deployment would.
func introspected(t *testing.T) func(*authServer) string {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("only for tests\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(as *authServer) string {
		return fmt.Sprintf("introspection: {endpoint: %q, client_id: resource-server, client_secret_file: %q, opaque: true, cache_for: 1s}",
			as.Introspection, secret)
	}
}

// present asks about w's call with one credential.
func (w *world) present(t *testing.T, p presented) answer {
	t.Helper()
	p.ID = "primary"
	text, err := json.Marshal([]presented{p}) //nolint:gosec // a token is sent to where it is verified
	if err != nil {
		t.Fatal(err)
	}
	return w.rs.query(t, w.call, string(text), "")
}

// passes fails the test unless the credential allows w's call.
func (w *world) passes(t *testing.T, p presented) {
	t.Helper()
	if d := w.present(t, p).Decision; d.Decision != "ALLOW" || len(d.Rejected) != 0 {
		t.Errorf("want ALLOW: %+v", d)
	}
}

// rejects fails the test unless the credential counts for nothing, for this
// reason, and the client is told of no remedy but another token.
func (w *world) rejects(t *testing.T, p presented, code string) {
	t.Helper()
	a := w.present(t, p)
	d := a.Decision
	if d.Decision != "DENY" || len(d.Rejected) != 1 || d.Rejected[0].ID != "primary" || d.Rejected[0].Code != code {
		t.Errorf("want DENY and %s: %+v", code, d)
	}
	challenge := a.Header.Get("WWW-Authenticate")
	if a.Status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) ||
		strings.Contains(challenge, "authorization_remediation") {
		t.Errorf("a token that does not count is answered by %d %q", a.Status, challenge)
	}
}

// hinted is what a client asks for after its first, raw token was not enough.
func (w *world) hinted(t *testing.T, c *client) ask {
	t.Helper()
	first := c.obtain(t, ask{Scope: w.first, Resource: w.rs.id}, approve)
	refused := w.present(t, presented{Token: first.Access})
	if d := refused.Decision; d.Decision != "DENY" || len(d.Rejected) != 0 || d.Remediation.Status != "available" {
		t.Fatalf("a token with scopes only: %+v", d)
	}
	r, scope := refused.challenge(t)
	return ask{Details: string(r.Details), Scope: scope, Resource: w.rs.id}
}

// resigned is the token with another first byte of its signature.
func resigned(jwt string) string {
	at := strings.LastIndexByte(jwt, '.') + 1
	other := "A"
	if jwt[at] == 'A' {
		other = "B"
	}
	return jwt[:at] + other + jwt[at+1:]
}

// TestRawJWT: authzd reads the issuer's keys and verifies what it is sent.
func TestRawJWT(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	for name, keys := range map[string]func(*authServer) string{"jwks_url": fromJWKS, "discover": discovered} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rawPayments(t, mcpServer, keys)
			c := newClient(t, w.as, agent, user)
			wanted := w.hinted(t, c)
			wanted.Scope = "openid " + wanted.Scope
			tok := c.obtain(t, wanted, approve)
			w.passes(t, presented{Token: tok.Access})
			w.passes(t, presented{Token: tok.Access, Scheme: "Bearer"})
			w.rejects(t, presented{Token: resigned(tok.Access)}, "token.signature")

			wanted.Resource = otherServer
			w.rejects(t, presented{Token: c.obtain(t, wanted, approve).Access}, "token.audience")

			// Of the same issuer and for the same client, but no access tokens.
			w.rejects(t, presented{Token: tok.ID}, "token.wrong_kind")
			// Refresh tokens are opaque here, and nobody is asked about those.
			w.rejects(t, presented{Token: tok.Refresh}, "token.malformed")
		})
	}
}

// TestRawOpaque: what an opaque token is worth is the issuer's word, and no
// longer than the answer is kept.
func TestRawOpaque(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := rawPayments(t, opaqueServer, introspected(t))
	c := newClient(t, w.as, agent, user)
	wanted := w.hinted(t, c)
	tok := c.obtain(t, wanted, approve)
	w.passes(t, presented{Token: tok.Access})
	w.rejects(t, presented{Token: strings.Repeat("x", 43)}, "token.revoked")
	// Active for the issuer, which says no audience of it.
	w.rejects(t, presented{Token: tok.Refresh}, "token.audience")

	// This server ends a session's grant with the next consent.
	next := c.obtain(t, wanted, approve)
	w.passes(t, presented{Token: next.Access})
	w.turns(t, presented{Token: tok.Access}, "ALLOW", "token.revoked")

	c.revoke(t, next.Access)
	w.turns(t, presented{Token: next.Access}, "ALLOW", "token.revoked")
}

// revoke takes a token back (RFC 7009).
func (c *client) revoke(t *testing.T, tok string) {
	t.Helper()
	if got := c.submit(t, c.as.Revocation, url.Values{"token": {tok}, "client_id": {c.id}}); got.Status != http.StatusOK {
		t.Fatalf("revocation: %d %s", got.Status, got.Body)
	}
}

// turns waits until the outcome of a credential is after instead of before.
// Each is ALLOW, or the code under which the credential is rejected.
func (w *world) turns(t *testing.T, p presented, before, after string) {
	t.Helper()
	const most = 20 * time.Second
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		d := w.present(t, p).Decision
		outcome := d.Decision
		if len(d.Rejected) == 1 {
			outcome = d.Rejected[0].Code
		}
		switch outcome {
		case after:
			return
		case before:
		default:
			t.Fatalf("%s, want %s until it is %s: %+v", outcome, before, after, d)
		}
	}
	t.Fatalf("still %s after %v, want %s", before, most, after)
}

// TestRawRotation: a key that the server took up is learnt from the first token
// under it, and one that it took back counts for nothing from then on.
func TestRawRotation(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	for name, keys := range map[string]func(*authServer) string{
		"jwks_url": fromJWKS,
		"discover": func(*authServer) string { return "keys: {discover: true, min_interval: 1s}" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rawPayments(t, mcpServer, keys)
			c := newClient(t, w.as, agent, user)
			wanted := w.hinted(t, c)
			before := c.obtain(t, wanted, approve)
			w.passes(t, presented{Token: before.Access})

			w.as.rotate(t)
			after := newClient(t, w.as, agent, user).obtain(t, wanted, approve)
			w.turns(t, presented{Token: after.Access}, "token.signature", "ALLOW")
			w.rejects(t, presented{Token: before.Access}, "token.signature")
		})
	}
}

// swap is a server that exchanges a token it was called with (RFC 8693).
func swap(t *testing.T, as *authServer, subject, resource string) string {
	t.Helper()
	var out token
	body := asResourceServer(t, as.Token, url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {subject},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"resource":           {resource},
	})
	if err := json.Unmarshal(body, &out); err != nil || out.Access == "" {
		t.Fatalf("token exchange: %v\n%s", err, body)
	}
	return out.Access
}

// TestRawExchanged: a token that a server got on behalf of its user is good for
// what the user granted, and the agent is then the server that acts.
func TestRawExchanged(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := rawPayments(t, mcpServer, fromJWKS)
	c := newClient(t, w.as, agent, user)
	wanted := w.hinted(t, c)
	// The user grants what both servers may do, because a token holds only what
	// is located at its audience.
	here := fmt.Sprintf(`["%s"]`, mcpServer)
	if !strings.Contains(wanted.Details, here) {
		t.Fatalf("no locations in %s", wanted.Details)
	}
	wanted.Details = strings.Replace(wanted.Details, here, fmt.Sprintf(`["%s","%s"]`, mcpServer, opaqueServer), 1)
	wanted.Resource = opaqueServer
	called := c.obtain(t, wanted, approve).Access
	exchanged := swap(t, w.as, called, mcpServer)
	w.passes(t, presented{Token: exchanged})

	credential := fmt.Sprintf(`[{"id":"primary","access_token":%q}]`, exchanged)
	asked := func(more string) decision { return w.rs.query(t, w.call, credential, more).Decision }
	allowed.judge(t, asked(fmt.Sprintf(`"subject":{"type":"identity","id":%q},"context":{"agent":"resource-server"}`, user)))
	if d := asked(fmt.Sprintf(`"context":{"agent":%q}`, agent)); d.Code != "request.agent_mismatch" {
		t.Errorf("the first agent is taken for the one that acts: %+v", d)
	}
	if act := member(t, claimsOf(t, exchanged), "act"); act != `{"sub":"resource-server"}` {
		t.Errorf("act %s", act)
	}

	// Nobody acts on behalf of themselves.
	again := swap(t, w.as, swap(t, w.as, called, opaqueServer), mcpServer)
	w.rejects(t, presented{Token: again}, "token.actors")

	scopesOnly := c.obtain(t, ask{Scope: w.first, Resource: opaqueServer}, approve).Access
	unmet("/0: rar.no_granted_type").judge(t, w.present(t, presented{Token: swap(t, w.as, scopesOnly, mcpServer)}).Decision)
}
