package engine_test

import (
	"errors"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestWithheldDetailsGrantNothing: what an issuer may not grant covers no need
// and is reported, and no hint sends the client for the same object again.
func TestWithheldDetailsGrantNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	arguments := `{"amount": "80.50", "payee": "bob"}`
	granted := credential(t, "c", claims(`"scope": "payments", `+details8050))
	if d := decide(t, e, call(t, "pay", arguments, granted)); !d.Allow {
		t.Fatalf("the neighbour is denied: %+v", d.Reasons)
	}
	withheld := granted
	withheld.Withheld = []rar.Skipped{{
		Index: 0, Type: "payment", Value: granted.Details.Index(0),
		Err: &rar.Error{Code: rar.CodeUnknownType, Path: "/0", Err: errors.New("this issuer may not grant this type")},
	}}
	for name, rest := range map[string]rar.Value{"nothing else": {}, "an empty claim": rar.ArrayValue()} {
		withheld.Details = rest
		d := decide(t, e, call(t, "pay", arguments, withheld))
		wantReason(t, d, engine.CodeTokenDetails)
		if d.Allow || d.Remediation.Status != engine.Undisclosed || !hasReason(d, engine.CodeHintDropped) {
			t.Errorf("%s: allow %v, %s, %+v", name, d.Allow, d.Remediation.Status, d.Reasons)
		}
	}
}

// TestPolicySeesExposedClaims, and only by their configured names.
func TestPolicySeesExposedClaims(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
permit["admin"] := {} if {
	input.resource.id == "pay"
	some c in input.credentials
	"admin" in c.claims.roles
}`, paymentsData))
	arguments := `{"amount": "80.50", "payee": "bob"}`
	c := credential(t, "c", claims(`"roles": ["admin"]`))
	if d := decide(t, e, call(t, "pay", arguments, c)); d.Allow {
		t.Error("a claim that is not exposed is seen")
	}
	c.Claims = decode(t, `{"roles": ["admin"]}`)
	if d := decide(t, e, call(t, "pay", arguments, c)); !d.Allow {
		t.Errorf("an exposed claim is not seen: %+v", d.Reasons)
	}
	c.Claims = decode(t, `{"roles": ["user"]}`)
	if d := decide(t, e, call(t, "pay", arguments, c)); d.Allow {
		t.Error("another role will do")
	}
}

// TestTokenIDs: an id names the token and its issuer, and nothing names it that has none.
func TestTokenIDs(t *testing.T) {
	t.Parallel()
	id := func(claims string) string {
		t.Helper()
		c, rejected := engine.CredentialFromClaims("c", "test", "", decode(t, claims))
		if rejected != nil {
			t.Fatalf("%s: %s", claims, rejected.Code)
		}
		return c.TokenID
	}
	const rest = `"sub": "alice", "aud": "srv", "exp": 4102444800}`
	own := id(`{"iss": "https://a.example", "jti": "1", ` + rest)
	if own == "" || own == "1" || own != id(`{"iss": "https://a.example", "jti": "1", `+rest) {
		t.Errorf("the id %q is none, or not the same for the same token", own)
	}
	if own == id(`{"iss": "https://a.example", "jti": "2", `+rest) || own == id(`{"iss": "https://b.example", "jti": "1", `+rest) {
		t.Error("another token has the same id")
	}
	for _, without := range []string{``, `"jti": "", `} {
		if got := id(`{"iss": "https://a.example", ` + without + rest); got != "" {
			t.Errorf("a token without jti has the id %q", got)
		}
	}
	c, _ := engine.CredentialFromClaims("c", "test", "", decode(t, `{"iss": "https://a.example", "may_act": {"sub": "agent"}, `+rest))
	if string(c.MayAct.AppendJSON(nil)) != `{"sub":"agent"}` {
		t.Errorf("may_act is %s", c.MayAct.AppendJSON(nil))
	}
	if c, _ := engine.CredentialFromClaims("c", "test", "", decode(t, `{"iss": "https://a.example", `+rest)); c.MayAct.Kind() != rar.Absent {
		t.Errorf("may_act is %s", c.MayAct.AppendJSON(nil))
	}
}
