package loop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// granted goes from the denial of w's call to a token that covers it.
func (w *world) granted(t *testing.T, c *client) token {
	t.Helper()
	_, wanted := w.denied(t, c, w.call)
	return c.obtain(t, wanted, approve)
}

// refusedToken fails the test unless the MCP server turns the token away before
// it asks, and authzd denies too if it is asked with these claims.
func (w *world) refusedToken(t *testing.T, bearer, code string) {
	t.Helper()
	a := w.rs.serve(t, w.call, bearer)
	if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("at the MCP server: %d %v", a.Status, a.Header)
	}
	a = w.rs.decide(t, w.call, claimsOf(t, bearer), "")
	if len(a.Decision.Rejected) != 1 || a.Decision.Rejected[0].Code != code || a.Decision.Decision != "DENY" {
		t.Errorf("at authzd: %+v, want %s", a.Decision, code)
	}
	if challenge := a.Header.Get("WWW-Authenticate"); a.Status != http.StatusUnauthorized ||
		!strings.HasPrefix(challenge, `Bearer error="invalid_token"`) || strings.Contains(challenge, "authorization_remediation") {
		t.Errorf("a token that does not count is answered by %d %q", a.Status, challenge)
	}
}

// TestTokensRefused: a grant of the right details is worth nothing in a token
// that is over, forged, or somebody else's.
func TestTokensRefused(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := payments(t)
	good := w.granted(t, newClient(t, w.as, agent, user))
	if d := w.rs.serve(t, w.call, good.Access).Decision; d.Decision != "ALLOW" {
		t.Fatalf("the token that the others are compared with: %+v", d)
	}

	t.Run("another resource's", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, w.as, agent, user)
		_, wanted := w.denied(t, c, w.call)
		wanted.Resource = otherServer
		tok := c.obtain(t, wanted, approve)
		w.refusedToken(t, tok.Access, "token.audience")
		// What is located at the one is not in the other's token at all (RFC 9396 section 9).
		if details := member(t, claimsOf(t, tok.Access), "authorization_details"); details != "absent" {
			t.Errorf("a token for %s holds %s", otherServer, details)
		}
	})
	t.Run("another client's", func(t *testing.T) {
		t.Parallel()
		tok := w.granted(t, newClient(t, w.as, otherAgent, user))
		a := w.rs.decide(t, w.call, claimsOf(t, tok.Access), fmt.Sprintf(`"context":{"agent":%q}`, agent))
		if a.Decision.Code != "request.agent_mismatch" || a.Status == http.StatusOK {
			t.Errorf("%+v", a.Decision)
		}
	})
	t.Run("another user's", func(t *testing.T) {
		t.Parallel()
		tok := w.granted(t, newClient(t, w.as, agent, "mallory@example.com"))
		a := w.rs.decide(t, w.call, claimsOf(t, tok.Access), fmt.Sprintf(`"subject":{"type":"identity","id":%q}`, user))
		if len(a.Decision.Rejected) != 1 || a.Decision.Rejected[0].Code != "token.subject" || a.Status == http.StatusOK {
			t.Errorf("%+v", a.Decision)
		}
	})
	t.Run("forged", func(t *testing.T) {
		t.Parallel()
		parts := strings.Split(good.Access, ".")
		other := w.granted(t, newClient(t, w.as, agent, "mallory@example.com"))
		mixed := parts[0] + "." + strings.Split(other.Access, ".")[1] + "." + parts[2]
		if a := w.rs.serve(t, w.call, mixed); a.Status != http.StatusUnauthorized || a.Decision.Decision != "" {
			t.Errorf("%+v", a)
		}
	})
}

// TestExpired is a token replayed after its time.
func TestExpired(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := payments(t)
	w.as = startAuthServer(t, "--lifetime", "2", "--types", "../../../policies/examples/payments/authzd_types/payment_initiation/data.json")
	w.rs.as = w.as
	tok := w.granted(t, newClient(t, w.as, agent, user))
	var claims struct{ Exp int64 }
	if err := json.Unmarshal(claimsOf(t, tok.Access), &claims); err != nil {
		t.Fatal(err)
	}
	// Nothing but time makes a token expire, and its clock is the server's.
	time.Sleep(time.Until(time.Unix(claims.Exp, 0)) + 50*time.Millisecond)
	w.refusedToken(t, tok.Access, "token.expired")
}

// TestReplayed: what the server issues once is taken once.
func TestReplayed(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := payments(t)
	c := newClient(t, w.as, agent, user)
	_, wanted := w.denied(t, c, w.call)
	request := c.push(t, wanted)
	code := c.authorize(t, request, approve)
	if first := c.exchange(t, request, code); first.Code != "" {
		t.Fatalf("%+v", first.oauthError)
	}
	if second := c.exchange(t, request, code); second.Code != "invalid_grant" || second.Access != "" {
		t.Errorf("a code used twice: %+v", second)
	}
	stolen := request
	stolen.verifier = strings.Repeat("x", 50)
	other := c.push(t, wanted)
	if tok := c.exchange(t, stolen, c.authorize(t, other, approve)); tok.Code != "invalid_grant" {
		t.Errorf("a code without its PKCE verifier: %+v", tok)
	}
}

// TestSingleUse: authority for one use is asked for without a reference, and is
// not taken on trust: there is no store here that records its use.
func TestSingleUse(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	w.call = file("files.export", "/projects/a")
	c := newClient(t, w.as, agent, user)
	r, wanted := w.denied(t, c, w.call)
	if r.Reference != "" {
		t.Errorf("reference %q for single use", r.Reference)
	}
	tok := c.obtain(t, wanted, approve)
	want{"DENY", "undisclosed", "engine.commit_required"}.judge(t, w.rs.serve(t, w.call, tok.Access).Decision)
	committed := w.rs.decide(t, w.call, claimsOf(t, tok.Access), `"commit":{"idempotency_key":"k-1"}`)
	want{"DENY", "undisclosed", "engine.use_not_recorded"}.judge(t, committed.Decision)
}

// TestMerged: a server that merges grants puts several objects of one type into
// one token. Each call finds its own, and none is read together with another.
func TestMerged(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	c := newClient(t, w.as, agent, user)
	merge := consent{"way": "approve", "merge": "yes"}
	_, a := w.denied(t, c, file("files.read", "/projects/a"))
	_, b := w.denied(t, c, file("files.write", "/projects/b"))
	a.Scope = "files"
	c.obtain(t, a, merge)
	tok := c.obtain(t, b, merge)
	for _, one := range []struct {
		call call
		want want
	}{
		{file("files.read", "/projects/a/x"), allowed},
		{file("files.write", "/projects/b/x"), allowed},
		{file("files.write", "/projects/a/x"), unmet("/0/actions: rar.not_subset")},
		{file("files.read", "/projects/c"), unmet("/0/paths: rar.not_prefix")},
	} {
		one.want.judge(t, w.rs.serve(t, one.call, tok.Access).Decision)
	}
}

// TestRefresh: a refresh may ask for less than was granted, never for more, and
// leaves the grant as it was (RFC 9396 section 6).
func TestRefresh(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	c := newClient(t, w.as, agent, user)
	const one = `{"type":"file_access","actions":["read"],"paths":["/projects/a"]}`
	const two = `{"type":"file_access","actions":["write"],"paths":["/projects/b"]}`
	both := c.obtain(t, ask{Details: "[" + one + "," + two + "]", Scope: "files", Resource: mcpServer}, approve)
	read, write := file("files.read", "/projects/a"), file("files.write", "/projects/b")

	less := c.refresh(t, both.Refresh, "["+one+"]")
	allowed.judge(t, w.rs.serve(t, read, less.Access).Decision)
	want{decision: "DENY"}.judge(t, w.rs.serve(t, write, less.Access).Decision)

	more := c.refresh(t, both.Refresh, `[{"type":"file_access","actions":["write"],"paths":["/"]}]`)
	if more.Code != "invalid_authorization_details" || more.Access != "" {
		t.Errorf("more than granted: %+v", more)
	}

	whole := c.refresh(t, both.Refresh, "")
	allowed.judge(t, w.rs.serve(t, read, whole.Access).Decision)
	allowed.judge(t, w.rs.serve(t, write, whole.Access).Decision)
}

// TestTypesFromMetadata: the server can as well learn its types from a type
// metadata document (draft-zehavi-oauth-rar-metadata), and refuses by its schemas.
func TestTypesFromMetadata(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	declared, err := os.ReadFile("testdata/files/authzd_types/file_access/data.json")
	if err != nil {
		t.Fatal(err)
	}
	document := `{"file_access":{"schema":` + member(t, declared, "schema") + `}}`
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, document)
	}))
	t.Cleanup(endpoint.Close)
	c := newClient(t, startAuthServer(t, "--types", endpoint.URL), agent, user)
	good := c.push(t, ask{Details: `[{"type":"file_access","actions":["read"],"paths":["/a"]}]`, Resource: mcpServer})
	if good.URI == "" {
		t.Errorf("%+v", good.oauthError)
	}
	bad := c.push(t, ask{Details: `[{"type":"file_access","actions":["delete"],"paths":["/a"]}]`, Resource: mcpServer})
	if bad.Code != "invalid_authorization_details" || !strings.Contains(bad.Description, "/actions/0") {
		t.Errorf("%+v", bad.oauthError)
	}
}

// TestAuthServer: the server is one that a deployment could have.
func TestAuthServer(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	slices.Sort(w.as.TypesKnown)
	slices.Sort(w.as.Types)
	if !slices.Equal(w.as.TypesKnown, []string{"file_access", "storage_quota"}) || !slices.Equal(w.as.TypesKnown, w.as.Types) {
		t.Errorf("authorization_details_types_supported %q, declared %q", w.as.TypesKnown, w.as.Types)
	}
	if !w.as.PARRequired {
		t.Error("pushed authorization requests are not required")
	}
	c := newClient(t, w.as, agent, user)
	query := url.Values{
		"client_id": {agent}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"files"},
		"resource": {mcpServer}, "code_challenge": {strings.Repeat("x", 43)}, "code_challenge_method": {"S256"},
	}
	back, err := url.Parse(c.get(t, w.as.Authorization+"?"+query.Encode()).Location)
	if err != nil || back.Query().Get("error") == "" || back.Query().Get("code") != "" {
		t.Errorf("a request that was not pushed: %v, %v", back, err)
	}
}
