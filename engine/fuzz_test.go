package engine_test

import (
	"errors"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// FuzzDecide feeds arbitrary JSON to every free member of a query. Whatever
// comes, an error has a code and no decision, and an allow is one that the
// claims and arguments themselves justify.
func FuzzDecide(f *testing.F) {
	e := newEngine(compile(f, paymentsPolicy, paymentsData))
	f.Add([]byte(`{"amount": "80.50", "payee": "bob"}`), []byte(claims(`"scope": "payments", `+details8050)), []byte(`{}`))
	f.Add([]byte(`{"amount": 9007199254740993, "payee": "bob"}`), []byte(claims(`"scope": "payments x"`)), []byte(`{"agent": "agent"}`))
	f.Add([]byte(`{"amount": 1e2, "payee": "mallory"}`), []byte(claims(`"act": {"sub": "a"}`)), []byte(`null`))
	f.Add([]byte(`[]`), []byte(`{}`), []byte(`{"agent": 1}`))
	f.Fuzz(func(t *testing.T, arguments, claimsJSON, contextJSON []byte) {
		var limits rar.Limits
		args, err := rar.DecodeStrict(arguments, limits)
		if err != nil {
			return
		}
		claimSet, err := rar.DecodeStrict(claimsJSON, limits)
		if err != nil {
			return
		}
		cx, err := rar.DecodeStrict(contextJSON, limits)
		if err != nil {
			return
		}
		q := call(t, "pay", "")
		q.MCP.Params = rar.ObjectValue(rar.Member{Name: "name", Value: rar.StringValue("pay")}, rar.Member{Name: "arguments", Value: args})
		q.Context = cx
		c, rejected := engine.CredentialFromClaims("c", "pep", "", claimSet)
		if rejected != nil {
			q.Rejected = append(q.Rejected, *rejected)
		} else {
			q.Credentials = append(q.Credentials, c)
		}
		d, err := e.Decide(t.Context(), q)
		if err != nil {
			var coded *engine.Error
			if !errors.As(err, &coded) || coded.Code == "" || d.Allow {
				t.Fatalf("decision %+v with error %v", d, err)
			}
			return
		}
		if !d.Allow {
			if d.Remediation == nil || len(d.Reasons) == 0 {
				t.Fatalf("a deny without remediation or reason: %+v", d)
			}
			return
		}
		if d.Error != nil || rejected != nil || !justified(args, c) {
			t.Fatalf("wrong allow: arguments %s, claims %s", arguments, claimsJSON)
		}
	})
}

// justified is the policy said again: the scope is held, the payee is not
// blocked, and one granted object names the payee.
func justified(args rar.Value, c engine.Credential) bool {
	scope := false
	for _, s := range c.Scopes {
		scope = scope || s == "payments"
	}
	payee, _ := args.Get("payee")
	if !scope || payee.Kind() != rar.String || payee.Text() == "mallory" || c.Issuer != testIssuer && c.Issuer == "" {
		return false
	}
	for i := range c.Details.Len() {
		if p, _ := c.Details.Index(i).Get("payee"); rar.Equal(p, payee) {
			return true
		}
	}
	return false
}
