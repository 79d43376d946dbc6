package loop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// introspect asks the authorization server about a token (RFC 7662).
func introspect(t *testing.T, as *authServer, bearer string) json.RawMessage {
	t.Helper()
	return asResourceServer(t, as.Introspection, url.Values{"token": {bearer}})
}

// asResourceServer sends a form under the account of the resource servers.
func asResourceServer(t *testing.T, at string, form url.Values) json.RawMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("resource-server", url.QueryEscape("only for tests"))
	return send(t, http.DefaultClient, req, http.StatusOK, http.StatusBadRequest).Body
}

// member returns a member of an object as its text stands, or "absent".
func member(t *testing.T, object json.RawMessage, name string) string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	text, ok := members[name]
	if !ok {
		return "absent"
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fact is what becomes of the text of authorization_details on its way through
// an authorization server that keeps JSON as JavaScript does.
type fact struct {
	name, asked string
	// granted is the text in the token; empty means as asked.
	granted string
	// refused is the error at the pushed authorization request.
	refused string
}

// TestFacts holds what this server does with details of a type without rules.
// The table of ../README.md says what follows from each.
func TestFacts(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	as := startAuthServer(t, "--types", "testdata/probe.json",
		"--types", "../../../policies/examples/payments/authzd_types/payment_initiation/data.json")
	long := strings.Repeat("x", 40_000)
	for _, f := range []fact{
		// Kept.
		{name: "member order", asked: `[{"z":1,"type":"probe","a":2}]`},
		{name: "object order and duplicates", asked: `[{"type":"probe","n":2},{"type":"probe","n":1},{"type":"probe","n":2}]`},
		{name: "null and empty", asked: `[{"type":"probe","a":null,"b":[],"c":{},"d":""}]`},
		{name: "duplicates in an array", asked: `[{"type":"probe","actions":["b","a","b"]}]`},
		{name: "decimal strings", asked: `[{"type":"probe","amount":"12000.50","big":"9007199254740993"}]`},
		{name: "characters", asked: "[{\"type\":\"probe\",\"s\":\"\u00e9 e\u0301 \U0001d11e \u202e \\u0000\\u001f \u007f\",\"\u03c0\":1}]"},
		{name: "15 digits", asked: `[{"type":"probe","n":999999999999999,"d":0.1}]`},
		// Respelled, the value kept.
		{name: "zeros", asked: `[{"type":"probe","a":1.0,"b":12000.50,"c":1e2,"d":1E-2}]`, granted: `[{"type":"probe","a":1,"b":12000.5,"c":100,"d":0.01}]`},
		{name: "a large exponent", asked: `[{"type":"probe","n":100000000000000000000000}]`, granted: `[{"type":"probe","n":1e+23}]`},
		{name: "escapes", asked: `[{"type":"probe","s":"\u0061\/\u00e9"}]`, granted: `[{"type":"probe","s":"a/é"}]`},
		{name: "members that look like numbers", asked: `[{"type":"probe","10":1,"2":2}]`, granted: `[{"2":2,"10":1,"type":"probe"}]`},
		// Changed.
		{name: "beyond a double's digits", asked: `[{"type":"probe","n":9007199254740993,"m":9007199254740995}]`, granted: `[{"type":"probe","n":9007199254740992,"m":9007199254740996}]`},
		{name: "a long fraction", asked: `[{"type":"probe","n":0.1000000000000000055}]`, granted: `[{"type":"probe","n":0.1}]`},
		{name: "beyond a double's range", asked: `[{"type":"probe","n":1e400}]`, granted: `[{"type":"probe","n":null}]`},
		{name: "minus zero", asked: `[{"type":"probe","n":-0.0}]`, granted: `[{"type":"probe","n":0}]`},
		{name: "a member twice", asked: `[{"type":"probe","n":1,"n":2}]`, granted: `[{"type":"probe","n":2}]`},
		{name: "a lone surrogate", asked: `[{"type":"probe","s":"\ud800"}]`},
		{name: "a member called __proto__", asked: `[{"type":"probe","__proto__":{"a":1}}]`},
		// Refused.
		{name: "not JSON", asked: `[{`, refused: "invalid_authorization_details"},
		{name: "an object", asked: `{"type":"probe"}`, refused: "invalid_authorization_details"},
		{name: "no type", asked: `[{"n":1}]`, refused: "invalid_authorization_details"},
		{name: "unknown type", asked: `[{"type":"other"}]`, refused: "invalid_authorization_details"},
		{name: "one of two unknown", asked: `[{"type":"probe"},{"type":"other"}]`, refused: "invalid_authorization_details"},
		{name: "unknown field", asked: `[{"type":"payment_initiation","actions":["initiate"],"instructedAmount":{"currency":"EUR","amount":"1"},"creditorAccount":{"iban":"DE89370400440532013000"},"x":1}]`, refused: "invalid_authorization_details"},
		{name: "wrong kind", asked: `[{"type":"payment_initiation","actions":["initiate"],"instructedAmount":{"currency":"EUR","amount":1},"creditorAccount":{"iban":"DE89370400440532013000"}}]`, refused: "invalid_authorization_details"},
		{name: "missing field", asked: `[{"type":"payment_initiation","actions":["initiate"],"instructedAmount":{"currency":"EUR","amount":"1"}}]`, refused: "invalid_authorization_details"},
		{name: "a common field of another kind", asked: `[{"type":"probe","actions":"read"}]`, refused: "invalid_authorization_details"},
		{name: "an empty action", asked: `[{"type":"probe","actions":[""]}]`, refused: "invalid_authorization_details"},
		// Large.
		{name: "40 KB", asked: `[{"type":"probe","s":"` + long + `"}]`},
		{name: "80 KB", asked: `[{"type":"probe","s":"` + long + long + `"}]`, refused: "invalid_request"},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.hold(t, newClient(t, as, agent, user))
		})
	}
}

// hold asks for the details and compares what comes back by each of the three
// ways in which they travel.
func (f fact) hold(t *testing.T, c *client) {
	t.Helper()
	request := c.push(t, ask{Details: f.asked, Scope: "files", Resource: mcpServer})
	if request.Code != f.refused {
		t.Fatalf("at the request: %+v, want %q", request.oauthError, f.refused)
	}
	if f.refused != "" {
		return
	}
	want := f.granted
	if want == "" {
		want = f.asked
	}
	tok := c.exchange(t, request, c.authorize(t, request, approve))
	opaque := c.obtain(t, ask{Details: f.asked, Scope: "files", Resource: opaqueServer}, approve)
	for where, got := range map[string]string{
		"token":          member(t, claimsOf(t, tok.Access), "authorization_details"),
		"token response": compact(t, tok.Details),
		"introspection":  member(t, introspect(t, c.as, opaque.Access), "authorization_details"),
	} {
		if got != want {
			t.Errorf("%s: %.300s\nwant %.300s", where, got, want)
		}
	}
}

func compact(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b.String()
}

// TestFactsOfRequests is what this server does around the details.
func TestFactsOfRequests(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	as := startAuthServer(t, "--types", "testdata/probe.json")
	c := newClient(t, as, agent, user)
	const details = `[{"type":"probe"}]`

	t.Run("details without a resource", func(t *testing.T) {
		t.Parallel()
		if r := c.push(t, ask{Details: details, Scope: "files"}); r.Code != "invalid_target" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a resource that is not known", func(t *testing.T) {
		t.Parallel()
		if r := c.push(t, ask{Details: details, Resource: "https://unknown.example.com"}); r.Code != "invalid_target" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a resource with a slash more is another", func(t *testing.T) {
		t.Parallel()
		if r := c.push(t, ask{Details: details, Resource: mcpServer + "/"}); r.Code != "invalid_target" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("details without a scope", func(t *testing.T) {
		t.Parallel()
		tok := newClient(t, as, agent, user).obtain(t, ask{Details: details, Resource: mcpServer}, approve)
		if got := member(t, claimsOf(t, tok.Access), "scope"); got != "absent" {
			t.Errorf("scope %s", got)
		}
	})
	t.Run("an empty list is as none", func(t *testing.T) {
		t.Parallel()
		tok := newClient(t, as, agent, user).obtain(t, ask{Details: "[]", Scope: "files", Resource: mcpServer}, approve)
		if got := member(t, claimsOf(t, tok.Access), "authorization_details"); got != "absent" {
			t.Errorf("authorization_details %s", got)
		}
	})
	t.Run("no details granted is no claim", func(t *testing.T) {
		t.Parallel()
		tok := newClient(t, as, agent, user).obtain(t, ask{Details: details, Scope: "files", Resource: mcpServer}, consent{"way": "none"})
		if got := member(t, claimsOf(t, tok.Access), "authorization_details"); got != "absent" || tok.Details != nil {
			t.Errorf("authorization_details %s, %s", got, tok.Details)
		}
	})
	t.Run("a JWT is not introspected", func(t *testing.T) {
		t.Parallel()
		tok := newClient(t, as, agent, user).obtain(t, ask{Details: details, Scope: "files", Resource: mcpServer}, approve)
		if got := member(t, introspect(t, as, tok.Access), "error"); got != `"unsupported_token_type"` {
			t.Errorf("error %s", got)
		}
	})
}

// TestNumbersOutOfRange: a number that JavaScript cannot hold comes back as
// another one. The token then covers the other number and not this one.
func TestNumbersOutOfRange(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	for _, one := range []struct {
		bytes string
		want  want
	}{
		{"1000", allowed},
		{"9007199254740991", allowed},
		{"9007199254740993", unmet("/0/bytes: rar.above_max")}, // granted as …992
		{"9007199254740995", allowed},                          // granted as …996
	} {
		t.Run(one.bytes, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, w.as, agent, user)
			reserve := call{"files.reserve", `{"bytes":` + one.bytes + `}`}
			_, wanted := w.denied(t, c, reserve)
			one.want.judge(t, w.rs.serve(t, reserve, c.obtain(t, wanted, approve).Access).Decision)
		})
	}
}
