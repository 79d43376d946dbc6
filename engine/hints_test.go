package engine_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

func referenceKey(t *testing.T, fill byte) rar.ReferenceKey {
	t.Helper()
	key, err := rar.NewReferenceKey(bytes.Repeat([]byte{fill}, rar.MinReferenceKey))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// offered returns the details remedy of a deny that must have one.
func offered(t *testing.T, d engine.Decision) engine.Remedy {
	t.Helper()
	if d.Allow || d.Remediation == nil || d.Remediation.Status != engine.Available {
		t.Fatalf("want a deny with a hint, got %+v", d)
	}
	for _, r := range d.Remediation.Remedies {
		if r.Kind == engine.KindAuthorizationDetails {
			return r
		}
	}
	t.Fatalf("no details among %+v", d.Remediation.Remedies)
	return engine.Remedy{}
}

func unmetPayment(t *testing.T, amount string) *engine.Query {
	t.Helper()
	return call(t, "pay", `{"amount": `+amount+`, "payee": "bob"}`, credential(t, "c", claims(`"scope": "payments"`)))
}

// TestReference: the same need has the same reference on every replica, after a
// restart and under another revision; another need and another server have
// another one.
func TestReference(t *testing.T) {
	t.Parallel()
	young, old := referenceKey(t, 1), referenceKey(t, 2)
	start := func(policy string, keys ...rar.ReferenceKey) *engine.Engine {
		e := newEngine(compile(t, policy, paymentsData))
		e.SetReferenceKeys(keys)
		return e
	}
	e := start(paymentsPolicy, young)
	first := offered(t, decide(t, e, unmetPayment(t, `"80.50"`))).Reference
	if first == "" {
		t.Fatal("no reference")
	}
	// The policy returns the amount's digits; their spelling means nothing.
	if got := offered(t, decide(t, start(paymentsPolicy+"\n# another revision\n", young), unmetPayment(t, `"80.5"`))).Reference; got != first {
		t.Errorf("another replica says %q, want %q", got, first)
	}
	if got := offered(t, decide(t, e, unmetPayment(t, `"80.51"`))).Reference; got == first {
		t.Error("another amount has the same reference")
	}
	elsewhere := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`,
		credential(t, "c", strings.Replace(claims(`"scope": "payments"`), testServer, "https://other.example.com", 1)))
	elsewhere.MCP.Server = "https://other.example.com"
	if got := offered(t, decide(t, e, elsewhere)).Reference; got == first || got == "" {
		t.Errorf("another server's reference is %q", got)
	}
	e.SetReferenceKeys([]rar.ReferenceKey{old, young})
	r := offered(t, decide(t, e, unmetPayment(t, `"80.50"`)))
	if r.Reference == first || len(r.PreviousReferences) != 1 || r.PreviousReferences[0] != first {
		t.Errorf("after the rotation %q, before it %q; it was %q", r.Reference, r.PreviousReferences, first)
	}
	e.SetReferenceKeys(nil)
	if r := offered(t, decide(t, e, unmetPayment(t, `"80.50"`))); r.Reference != "" || r.PreviousReferences != nil {
		t.Errorf("without a key: %+v", r)
	}
}

// TestNoReferenceForSingleUse: a token that serves once is not to be kept.
func TestNoReferenceForSingleUse(t *testing.T) {
	t.Parallel()
	policy := strings.Replace(paymentsPolicy, "authzd.authorization_details", "authzd.single_use", 1)
	e := newEngine(compile(t, policy, paymentsData))
	e.SetReferenceKeys([]rar.ReferenceKey{referenceKey(t, 1)})
	if r := offered(t, decide(t, e, unmetPayment(t, `"80.50"`))); r.Reference != "" || !r.SingleUse {
		t.Errorf("remedy %+v", r)
	}
}

// typeWithLocations declares locations with the rule given.
func typeWithLocations(rule string) string {
	return strings.NewReplacer(
		`"payee": {"type": "string"}},
			"required": ["type"`, `"payee": {"type": "string"},
			"locations": {"type": "array", "items": {"type": "string", "maxLength": 30}}}, "required": ["type"`,
		`"/payee": "equal"`, `"/payee": "equal", "/locations": `+rule,
	).Replace(paymentsData)
}

// TestLocations: where a type has locations that a grant may leave open, a need
// that is silent about them names this server, so that a grant for this server
// covers it and a grant for another does not.
func TestLocations(t *testing.T) {
	t.Parallel()
	const anyRule = `{"rule": "subset", "absent": "any"}`
	e := newEngine(compile(t, paymentsPolicy, typeWithLocations(anyRule)))
	hint := offered(t, decide(t, e, unmetPayment(t, `"80.50"`))).Details[0]
	if got, _ := hint.Lookup("/locations/0"); got.Text() != testServer {
		t.Errorf("hint %s", hint.AppendJSON(nil))
	}
	for name, c := range map[string]struct {
		rule, locations string
		allow           bool
	}{
		"here":                 {anyRule, `, "locations": ["` + testServer + `", "https://b.example"]`, true},
		"anywhere":             {anyRule, ``, true},
		"elsewhere":            {anyRule, `, "locations": ["https://b.example"]`, false},
		"nowhere":              {anyRule, `, "locations": []`, false},
		"left open and equal":  {`"subset"`, ``, true},
		"here, not to be open": {`"subset"`, `, "locations": ["` + testServer + `"]`, false},
	} {
		e := newEngine(compile(t, paymentsPolicy, typeWithLocations(c.rule)))
		held := claims(`"scope": "payments", "authorization_details": [{"type": "payment", "amount": "80.50", "payee": "bob"` + c.locations + `}]`)
		d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", held)))
		if d.Allow != c.allow {
			t.Errorf("%s: allow %v, reasons %+v", name, d.Allow, d.Reasons)
		}
	}
}

// TestLocationsThatTheTypeRefuses are not put into a hint.
func TestLocationsThatTheTypeRefuses(t *testing.T) {
	t.Parallel()
	data := strings.Replace(typeWithLocations(`{"rule": "subset", "absent": "any"}`), `"maxLength": 30`, `"maxLength": 3`, 1)
	e := newEngine(compile(t, paymentsPolicy, data))
	hint := offered(t, decide(t, e, unmetPayment(t, `"80.50"`))).Details[0]
	if _, has := hint.Get("locations"); has {
		t.Errorf("hint %s", hint.AppendJSON(nil))
	}
}

// TestHintThatNothingCovers: an empty set covers nothing, itself neither, so that nobody
// is sent to ask for it.
func TestHintThatNothingCovers(t *testing.T) {
	t.Parallel()
	data := typeWithLocations(`{"rule": "subset", "absent": "any"}`)
	for locations, want := range map[string]engine.Status{`["a"]`: engine.Available, `[]`: engine.Undisclosed} {
		e := newEngine(compile(t, `package authz
permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": [
	{"type": "payment", "amount": "1", "payee": "bob", "locations": `+locations+`},
]}]}`, data))
		d := decide(t, e, unmetPayment(t, `"80.50"`))
		if d.Allow || d.Remediation.Status != want || hasReason(d, engine.CodeHintDropped) != (want == engine.Undisclosed) {
			t.Errorf("%s: %+v, %+v", locations, d.Remediation, d.Reasons)
		}
	}
}

// TestGrantThatItsTypeRefuses: a server that granted what the schema refuses, and what
// would have covered the need, would do so again, so it is not asked again.
func TestGrantThatItsTypeRefuses(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, typeWithLocations(`{"rule": "subset", "absent": "any"}`)))
	long := "https://" + strings.Repeat("b", 30) + ".example"
	for locations, want := range map[string]engine.Status{
		`"` + testServer + `", "` + long + `"`: engine.Undisclosed,
		`"` + long + `"`:                       engine.Available,
	} {
		held := claims(`"scope": "payments", "authorization_details": [{"type": "payment", "amount": "80.50", "payee": "bob", "locations": [` + locations + `]}]`)
		d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", held)))
		if d.Allow || d.Remediation.Status != want || hasReason(d, engine.CodeHintDropped) != (want == engine.Undisclosed) {
			t.Errorf("%s: allow %v, %+v, %+v", locations, d.Allow, d.Remediation, d.Reasons)
		}
	}
}

// TestWordsDoNotLoop: who can only be told in words is not told to obtain what was
// rejected.
func TestWordsDoNotLoop(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	expired := credential(t, "expired", strings.Replace(claims(`"scope": "payments", `+details8050), "1795380000", "1700000000", 1))
	for amount, want := range map[string]bool{`"80.50"`: false, `"80.51"`: true} {
		q := unmetPayment(t, amount)
		q.Actionable = engine.NewKindSet()
		q.Credentials = append(q.Credentials, expired)
		if d := decide(t, e, q); d.Allow || d.Remediation.Status != engine.Undisclosed || d.Remediation.InWords != want {
			t.Errorf("%s: allow %v, %+v", amount, d.Allow, d.Remediation)
		}
	}
}

// TestEnrichedGrant: a server that adds to what was asked for a member that the
// type does not have would do so again, so it is not asked again.
func TestEnrichedGrant(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	for name, c := range map[string]struct {
		granted string
		status  engine.Status
	}{
		"enriched":         {`{"type": "payment", "amount": "80.50", "payee": "bob", "identifier": "x"}`, engine.Undisclosed},
		"enriched, less":   {`{"type": "payment", "amount": "80", "payee": "bob", "identifier": "x"}`, engine.Available},
		"of a wrong kind":  {`{"type": "payment", "amount": 80.50, "payee": "bob", "identifier": "x"}`, engine.Available},
		"of another payee": {`{"type": "payment", "amount": "80.50", "payee": "eve", "identifier": "x"}`, engine.Available},
	} {
		held := claims(`"scope": "payments", "authorization_details": [` + c.granted + `]`)
		d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", held)))
		if d.Allow || d.Remediation.Status != c.status {
			t.Errorf("%s: allow %v, %+v", name, d.Allow, d.Remediation)
		}
	}
}
