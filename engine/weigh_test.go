package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
)

// TestBestOfMetPermits: of several permits that are met the one of the lowest priority
// allows, then that with the fewest obligations, then the first by name.
func TestBestOfMetPermits(t *testing.T) {
	t.Parallel()
	cred := credential(t, "c", claims(""))
	for _, tt := range []struct{ name, policy, want string }{
		{"by name", `permit["b"] := {}` + "\n" + `permit["a"] := {}`, "a"},
		{"priority before name", `permit["a"] := {"priority": 20}` + "\n" + `permit["b"] := {"priority": 10}`, "b"},
		{"the lowest may come first", `permit["a"] := {"priority": 10}` + "\n" + `permit["b"] := {"priority": 20}`, "a"},
		{"obligations before name", `permit["a"] := {"obligations": [{"id": "log"}]}` + "\n" + `permit["b"] := {}`, "b"},
		{"priority before obligations", `permit["a"] := {"priority": 10, "obligations": [{"id": "log"}]}` + "\n" + `permit["b"] := {"priority": 11}`, "a"},
		{"what is unmet does not count", `permit["a"] := {"priority": 1, "require": [{"kind": "scopes", "scopes": ["no"]}]}` + "\n" + `permit["b"] := {}`, "b"},
	} {
		e := newEngine(compile(t, "package authz\n"+tt.policy, anyTool))
		if d := decide(t, e, call(t, "t", `{}`, cred)); !d.Allow || d.Rule != tt.want {
			t.Errorf("%s: allow %v by %q, want %q", tt.name, d.Allow, d.Rule, tt.want)
		}
	}
}

// TestObligationsNeedADoor: a permit with obligations is unmet where nobody carries
// them, and no hint could help.
func TestObligationsNeedADoor(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\npermit[\"a\"] := {\"obligations\": [{\"id\": \"log\"}]}", anyTool))
	q := call(t, "t", `{}`, credential(t, "c", claims("")))
	if d := decide(t, e, q); !d.Allow || len(d.Obligations) != 1 {
		t.Fatalf("the neighbour: allow %v, obligations %v", d.Allow, d.Obligations)
	}
	q.CarriesObligations = false
	d := decide(t, e, q)
	wantReason(t, d, engine.CodeUnmet)
	if d.Allow || d.Remediation.Status != engine.Undisclosed || d.Remediation.InWords || len(d.Obligations) > 0 {
		t.Errorf("allow %v, %+v", d.Allow, d.Remediation)
	}
}

// TestOneStuckRequirementHidesTheRest: of a permit with a requirement that this call can
// not meet whatever the client obtains, nothing is offered.
func TestOneStuckRequirementHidesTheRest(t *testing.T) {
	t.Parallel()
	const details = `{"kind": "authorization_details", "authorization_details": [{"type": "payment", "amount": "80.50", "payee": "bob"}]`
	for name, require := range map[string]string{
		"alone":       details + `, "single_use": true}`,
		"before more": details + `, "single_use": true}, {"kind": "scopes", "scopes": ["more"]}`,
		"after more":  `{"kind": "scopes", "scopes": ["more"]}, ` + details + `, "single_use": true}`,
	} {
		policy := "package authz\npermit[\"a\"] := {\"require\": [" + require + "]}"
		e := newEngine(compile(t, policy, paymentsData))
		q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", claims(`"jti": "1", `+details8050)))
		d := decide(t, e, q)
		wantReason(t, d, engine.CodeCommitRequired)
		if d.Allow || d.Remediation.Status != engine.Undisclosed || d.Remediation.InWords {
			t.Errorf("%s: allow %v, %+v", name, d.Allow, d.Remediation)
		}
	}
}

func TestRequireIsTheRules(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\n"+
		`permit["a"] := {"require": [{"kind": "scopes", "scopes": ["x", "y"]}]} if input.action.name == "tools/call"`+"\n"+
		`forbid["f"] := {} if input.mcp.params.arguments.f == true`,
		`{"authzd_tools": {"t": {"arguments": {"type": "object", "properties": {"f": {"type": "boolean"}}, "required": ["f"]}}}}`))
	const want = `[{"kind":"scopes","scopes":["x","y"]}]`
	for _, tt := range []struct{ arguments, scopes, want string }{
		{`{"f": false}`, "x y", want}, // met
		{`{"f": false}`, "x", want},   // unmet
		{`{"f": true}`, "x y", ""},    // forbidden
	} {
		d := decide(t, e, call(t, "t", tt.arguments, credential(t, "c", claims(`"scope": "`+tt.scopes+`"`))))
		if got := string(d.Require.AppendCanonical(nil)); got != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.arguments, tt.scopes, got, tt.want)
		}
		if d.Reasons[0].Rule != d.Rule {
			t.Errorf("%s with %s: the reason is of %q, the decision by %q", tt.arguments, tt.scopes, d.Reasons[0].Rule, d.Rule)
		}
	}
}

// TestGrantedScopes are those of all usable credentials, each once, in order.
func TestGrantedScopes(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\npermit[\"a\"] := {}", anyTool))
	d := decide(t, e, call(t, "t", `{}`, credential(t, "c", claims(`"scope": "z  b"`)), credential(t, "d", claims(`"scope": "b a"`))))
	if diff := cmp.Diff([]string{"a", "b", "z"}, d.GrantedScopes); diff != "" {
		t.Error(diff)
	}
}

// TestIssuerAway: who could tell whether a token is good is away, so another token
// would not help, and no remedy is offered.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\npermit[\"a\"] := {}", anyTool))
	away := engine.RejectedCredential{ID: "x", Code: engine.CodeIssuerUnavailable}
	bad := engine.RejectedCredential{ID: "y", Code: engine.CodeTokenClaims}
	for name, rejected := range map[string][]engine.RejectedCredential{"alone": {away}, "before another": {away, bad}, "after another": {bad, away}} {
		q := call(t, "t", `{}`)
		q.Rejected = rejected
		d := decide(t, e, q)
		wantReason(t, d, engine.CodeNoUsableCredential)
		wantReason(t, d, engine.CodeIssuerUnavailable)
		if d.Allow || d.Error == nil || d.Error.Code != engine.CodeIssuerUnavailable || d.Remediation.Status != engine.Undisclosed || len(d.Remediation.Remedies) > 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	q := call(t, "t", `{}`)
	q.Rejected = []engine.RejectedCredential{bad}
	if d := decide(t, e, q); d.Allow || d.Error != nil || d.Remediation.Status != engine.Available || !d.Remediation.Remedies[0].TokenPresented {
		t.Errorf("a bad token only: %+v", d)
	}
}

// TestRequirementsOfWhoHasNoToken are unmet, and the reason says why.
func TestRequirementsOfWhoHasNoToken(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\npermit[\"a\"] := {\"require\": [{\"kind\": \"scopes\", \"scopes\": [\"x\"]}]}", anyTool))
	q := call(t, "t", `{}`)
	q.Subject = &engine.Subject{Type: "identity", ID: alice}
	d := decide(t, e, q)
	if d.Allow || len(d.Reasons) != 1 || d.Reasons[0].Code != engine.CodeUnmet || d.Reasons[0].Rule != "a" || d.Reasons[0].Kind != engine.KindScopes {
		t.Errorf("allow %v, reasons %+v", d.Allow, d.Reasons)
	}
}

// TestCredentialOfALibrary: what an embedder fills in itself is checked like claims.
func TestCredentialOfALibrary(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	for _, tt := range []struct {
		name   string
		change func(c *engine.Credential, q *engine.Query)
		code   engine.Code
	}{
		{"unchanged", func(*engine.Credential, *engine.Query) {}, ""},
		{"no issuer", func(c *engine.Credential, _ *engine.Query) { c.Issuer = "" }, engine.CodeTokenIssuer},
		{"no subject", func(c *engine.Credential, _ *engine.Query) { c.Subject = "" }, engine.CodeTokenClaims},
		{"no end", func(c *engine.Credential, _ *engine.Query) { c.ExpiresAt = time.Time{} }, engine.CodeTokenClaims},
		{"verified by nobody", func(c *engine.Credential, _ *engine.Query) { c.VerifiedBy = "" }, engine.CodeTokenClaims},
		{"an empty audience for a server without name", func(c *engine.Credential, q *engine.Query) { c.Audience, q.MCP.Server = []string{""}, "" }, engine.CodeTokenAudience},
	} {
		c := credential(t, "c", claims(""))
		q := call(t, "t", `{}`)
		tt.change(&c, q)
		q.Credentials = []engine.Credential{c}
		d := decide(t, e, q)
		if tt.code == "" {
			if !d.Allow {
				t.Errorf("%s: denied, %+v", tt.name, d.Reasons)
			}
			continue
		}
		if d.Allow || len(d.Rejected) != 1 || d.Rejected[0].Code != tt.code {
			t.Errorf("%s: allow %v, %+v, want %s", tt.name, d.Allow, d.Rejected, tt.code)
		}
	}
}

// TestAgentOfTheContext: the caller may say which agent calls if it is the one that the
// credential was issued to.
func TestAgentOfTheContext(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow if input.context.agent == \"agent\"", anyTool))
	q := call(t, "t", `{}`, credential(t, "c", claims("")))
	q.Context = decode(t, `{"agent": "agent"}`)
	if d := decide(t, e, q); !d.Allow {
		t.Errorf("the same agent: %+v", d.Reasons)
	}
	q.Context = decode(t, `{"agent": "other"}`)
	d, err := e.Decide(t.Context(), q)
	wantError(t, d, err, engine.CodeAgentMismatch, "/context/agent")
}

func TestClaimsOfCredentials(t *testing.T) {
	t.Parallel()
	const least = `"iss": "https://a.example", "sub": "alice", "exp": 4102444800`
	for _, tt := range []struct {
		name, claims string
		code         engine.Code
	}{
		{"no object", `[]`, engine.CodeTokenClaims},
		{"an empty subject", `{"iss": "https://a.example", "sub": "", "exp": 4102444800}`, engine.CodeTokenClaims},
		{"an end with an exponent", `{"iss": "https://a.example", "sub": "alice", "exp": 41024448e2}`, ""},
		{"one audience", `{` + least + `, "aud": "s"}`, ""},
		{"amr as one text", `{` + least + `, "amr": "pwd"}`, engine.CodeTokenClaims},
		{"amr with a number", `{` + least + `, "amr": ["pwd", 1]}`, engine.CodeTokenClaims},
		{"an actor", `{` + least + `, "act": {"sub": "agent"}}`, ""},
		{"an actor whose issuer is a number", `{` + least + `, "act": {"sub": "agent", "iss": 1}}`, engine.CodeTokenActors},
		{"an actor of an actor without subject", `{` + least + `, "act": {"sub": "agent", "act": {}}}`, engine.CodeTokenActors},
	} {
		code := engine.Code("")
		if _, rejected := engine.CredentialFromClaims("c", "test", "", decode(t, tt.claims)); rejected != nil {
			code = rejected.Code
		}
		if code != tt.code {
			t.Errorf("%s: %q, want %q", tt.name, code, tt.code)
		}
	}
	c := credential(t, "c", `{`+least+`, "client_id": "agent", "amr": ["pwd", "otp"], "aud": ["s", "t"]}`)
	if c.SubjectIsClient || !cmp.Equal(c.AMR, []string{"pwd", "otp"}) || !cmp.Equal(c.Audience, []string{"s", "t"}) {
		t.Errorf("%+v", c)
	}
	if c := credential(t, "c", `{`+least+`, "client_id": "alice"}`); !c.SubjectIsClient {
		t.Error("alice is the client, and a subject")
	}
	if c := credential(t, "c", `{`+least+`, "act": {"sub": "x", "act": {"sub": "y", "iss": "https://b.example"}}}`); !cmp.Equal(c.Actors, []engine.Actor{
		{Issuer: "https://a.example", Subject: "x"}, {Issuer: "https://b.example", Subject: "y"},
	}) {
		t.Errorf("actors %+v", c.Actors)
	}
}

// TestOnlyWhatIsUnmetIsAsked: a requirement that is met is no remedy, but for scopes,
// which the next token must hold, too.
func TestOnlyWhatIsUnmetIsAsked(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
permit["a"] := {"require": [
	{"kind": "scopes", "scopes": ["s"]},
	{"kind": "authentication", "acr_values": ["x"]},
	{"kind": "proof_of_possession"},
]}`, anyTool))
	d := decide(t, e, call(t, "t", "", credential(t, "c", claims(`"scope": "s", "acr": "x"`))))
	var got []string
	for _, r := range d.Remediation.Remedies {
		got = append(got, fmt.Sprintf("%s %v", r.Kind, r.Held))
	}
	if want := []string{"scopes true", "proof_of_possession false"}; !cmp.Equal(got, want) {
		t.Errorf("asks for %q, want %q", got, want)
	}
}

// TestApprovalIsToldWhole: a permit that waits for an approval is not offered in words,
// as no credential would do, and says whose approval of what.
func TestApprovalIsToldWhole(t *testing.T) {
	t.Parallel()
	for approver, bySubject := range map[string]bool{"subject": true, "boss": false} {
		e := newEngine(compile(t, `package authz
permit["a"] := {"require": [{"kind": "approval", "workflow": "w", "approver": "`+approver+`", "title": "T"}]}`, anyTool))
		d := decide(t, e, call(t, "t", "", credential(t, "c", claims(""))))
		if d.Allow || d.Remediation.InWords || len(d.Remediation.Remedies) != 1 {
			t.Fatalf("%s: allow %v, %+v", approver, d.Allow, d.Remediation)
		}
		want := engine.ApprovalRemedy{Workflow: "w", BySubject: bySubject, Title: "T"}
		if got := d.Remediation.Remedies[0].Approval; got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", approver, got, want)
		}
		// Nor where a token would come first, which is of no use for it.
		q := call(t, "t", "")
		q.Subject, q.Actionable = &engine.Subject{Type: "identity", ID: "alice"}, 0
		if d := decide(t, e, q); d.Allow || d.Remediation.InWords {
			t.Errorf("%s, without a credential: allow %v, %+v", approver, d.Allow, d.Remediation)
		}
	}
}

// TestUncoveredDetailsAreNamed: the reason names each place that the grant leaves open.
func TestUncoveredDetailsAreNamed(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	held := claims(`"scope": "payments", "authorization_details": [{"type": "payment", "amount": "80", "payee": "bob"}]`)
	d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", held)))
	var got []string
	for _, r := range d.Reasons {
		got = append(got, r.Detail...)
	}
	if want := []string{"/0/amount: rar.above_max"}; !cmp.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
