package engine_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
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
	// A scope that is held is no remedy, either.
	e = newEngine(compile(t, "package authz\npermit[\"a\"] := {\"obligations\": [{\"id\": \"log\"}], \"require\": [{\"kind\": \"scopes\", \"scopes\": [\"s\"]}]}", anyTool))
	q.Credentials = []engine.Credential{credential(t, "c", claims(`"scope": "s"`))}
	if d := decide(t, e, q); d.Allow || len(d.Remediation.Remedies) > 0 {
		t.Errorf("with a scope that is held: allow %v, %+v", d.Allow, d.Remediation)
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
		// Another credential, which covers nothing, does not free it.
		for _, other := range []string{"b", "d"} {
			q.Credentials = []engine.Credential{credential(t, "c", claims(`"jti": "1", `+details8050)), credential(t, other, claims(""))}
			if other < "c" {
				slices.Reverse(q.Credentials)
			}
			if d := decide(t, e, q); d.Allow || d.Remediation.Status != engine.Undisclosed || d.Remediation.InWords {
				t.Errorf("%s, beside %s: allow %v, %+v", name, other, d.Allow, d.Remediation)
			}
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
		var want []string
		for _, r := range rejected {
			want = append(want, r.ID+": "+string(r.Code))
		}
		if diff := cmp.Diff(want, d.Reasons[0].Detail); diff != "" {
			t.Errorf("%s: what is said of the credentials (-want +got):\n%s", name, diff)
		}
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
		{"no end", `{"iss": "https://a.example", "sub": "alice"}`, engine.CodeTokenClaims},
		{"an end that counts from 0 again in 64 bits", `{"iss": "https://a.example", "sub": "alice", "exp": 18446744077812000000}`, engine.CodeTokenClaims},
		{"a beginning that is text", `{` + least + `, "nbf": "4102444000"}`, engine.CodeTokenClaims},
		{"a time of issue that is text", `{` + least + `, "iat": "4102444000"}`, engine.CodeTokenClaims},
		{"a time of login that is text", `{` + least + `, "auth_time": "1700000000"}`, engine.CodeTokenClaims},
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
	for binding, code := range map[string]engine.Code{"dpop": "", "mtls": "", "mtls+dpop": "", "tls": engine.CodeTokenProof, "dpop ": engine.CodeTokenProof} {
		c, rejected := engine.CredentialFromClaims("c", "test", binding, decode(t, `{`+least+`}`))
		if rejected == nil && (code != "" || c.BoundBy != binding) || rejected != nil && rejected.Code != code {
			t.Errorf("bound by %q: %q, %+v, want %q", binding, c.BoundBy, rejected, code)
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

// TestAllowEndsWithItsCredentials: with the first of them, as policy may have looked at any.
func TestAllowEndsWithItsCredentials(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	cred := func(id string, left time.Duration) engine.Credential {
		c := credential(t, id, claims(""))
		c.ExpiresAt = testNow().Add(left)
		return c
	}
	const long = engine.DefaultAllowTTL + time.Hour
	for name, c := range map[string]struct {
		creds []engine.Credential
		want  time.Duration
	}{
		"none that ends before": {[]engine.Credential{cred("a", long)}, engine.DefaultAllowTTL},
		"one":                   {[]engine.Credential{cred("a", time.Second)}, time.Second},
		"the first":             {[]engine.Credential{cred("a", time.Second), cred("b", long)}, time.Second},
		"the last":              {[]engine.Credential{cred("a", long), cred("b", time.Second)}, time.Second},
		"the earlier of two":    {[]engine.Credential{cred("a", time.Second), cred("b", 2*time.Second)}, time.Second},
		"within a millisecond":  {[]engine.Credential{cred("a", time.Second+time.Microsecond)}, time.Second},
		"one that is rejected":  {[]engine.Credential{cred("a", long), cred("b", -time.Second)}, engine.DefaultAllowTTL},
	} {
		if d := decide(t, e, call(t, "t", "", c.creds...)); !d.Allow || !d.ExpiresAt.Equal(testNow().Add(c.want)) {
			t.Errorf("%s: allow %v until %v, want %v", name, d.Allow, d.ExpiresAt, testNow().Add(c.want))
		}
	}
}

// TestAgeOfALogin: a login counts up to its age, and one of the future up to what clocks
// may differ by; without auth_time nothing shows that there was one.
func TestAgeOfALogin(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
permit["a"] := {"require": [{"kind": "authentication", "max_age": 300}]}`, anyTool))
	const skew = 60
	for since, allow := range map[int64]bool{0: true, 300: true, 301: false, -skew: true, -skew - 1: false, -1_000_000_000: false} {
		d := decide(t, e, call(t, "t", "", credential(t, "c", claims(`"auth_time": `+strconv.FormatInt(testNow().Unix()-since, 10)))))
		if d.Allow != allow || hasReason(d, engine.CodeUnmet) == allow {
			t.Errorf("%d s ago: allow %v, %+v", since, d.Allow, d.Reasons)
		}
	}
	if d := decide(t, e, call(t, "t", "", credential(t, "c", claims("")))); d.Allow || !hasReason(d, engine.CodeUnmet) {
		t.Errorf("without auth_time: allow %v, %+v", d.Allow, d.Reasons)
	}
}

// TestGrantThatIsTooMuchWork: what can not be compared within its bound covers nothing,
// though it would, and no other grant is asked for.
func TestGrantThatIsTooMuchWork(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, strings.Replace(paymentsData, `"/payee": "equal"`, `"/payee": "glob"`, 1)))
	for n, allow := range map[int]bool{20: true, 20_000: false} {
		held := claims(`"scope": "payments", "authorization_details": [{"type": "payment", "amount": "1", "payee": "` + strings.Repeat("*a", n) + `"}]`)
		d := decide(t, e, call(t, "pay", `{"amount": "1", "payee": "`+strings.Repeat("a", 50_000)+`"}`, credential(t, "c", held)))
		if d.Allow != allow || hasReason(d, engine.Code(rar.CodeTooComplex)) == allow {
			t.Errorf("%d stars: allow %v, %+v", n, d.Allow, d.Reasons)
		}
		if !d.Allow && d.Remediation.Status != engine.Undisclosed {
			t.Errorf("%d stars: %+v", n, d.Remediation)
		}
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

// TestRemediesAreJoined: one token has to hold what all requirements of a kind demand.
func TestRemediesAreJoined(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, first, second string
		singleUse           bool
	}{
		{"neither for one use", ``, ``, false},
		{"the first for one use", `, "single_use": true`, ``, true},
		{"the second for one use", ``, `, "single_use": true`, true},
	} {
		e := newEngine(compile(t, `package authz
permit["a"] := {"require": [
	{"kind": "scopes", "scopes": ["a"]},
	{"kind": "authorization_details", "authorization_details": [{"type": "payment", "amount": "1", "payee": "bob"}]`+tt.first+`},
	{"kind": "scopes", "scopes": ["b", "a"]},
	{"kind": "authorization_details", "authorization_details": [{"type": "payment", "amount": "1", "payee": "bob"}, {"type": "payment", "amount": "2", "payee": "eve"}]`+tt.second+`},
]}`, paymentsData))
		d := decide(t, e, call(t, "pay", `{"amount": "1", "payee": "bob"}`, credential(t, "c", claims(""))))
		var got []string
		for _, r := range d.Remediation.Remedies {
			got = append(got, fmt.Sprintf("%s %v %s %v", r.Kind, r.Scopes, rar.ArrayValue(r.Details...).AppendCanonical(nil), r.SingleUse))
		}
		want := []string{
			"scopes [a b] [] false",
			`authorization_details [] [{"amount":"1","payee":"bob","type":"payment"},{"amount":"2","payee":"eve","type":"payment"}] ` + strconv.FormatBool(tt.singleUse),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestOneGrantForEachUse: what is to be used twice, once each, is not covered by one grant.
func TestOneGrantForEachUse(t *testing.T) {
	t.Parallel()
	const one = `{"type": "payment", "amount": "80.50", "payee": "bob"}`
	for singleUse, code := range map[string]engine.Code{"false": engine.CodePermitted, "true": engine.CodeUnmet} {
		e := newEngine(compile(t, `package authz
permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": [`+one+`, `+one+`], "single_use": `+singleUse+`}]}`, paymentsData))
		d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", claims(details8050))))
		if d.Allow != (code == engine.CodePermitted) || d.Reasons[0].Code != code {
			t.Errorf("single use %s: allow %v, %+v", singleUse, d.Allow, d.Reasons)
		}
		if !d.Allow && !cmp.Equal(d.Reasons[0].Detail, []string{"/1: " + string(rar.CodeGrantedUsedUp)}) {
			t.Errorf("single use %s: %q", singleUse, d.Reasons[0].Detail)
		}
	}
}

// TestWhatAClientCanActOn: a permit is offered to who can obtain all of what it lacks.
// Without a token the first step is to get one, which a challenge says.
func TestWhatAClientCanActOn(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	scope, both := claims(`"scope": "payments"`), claims("")
	for _, tt := range []struct {
		name, claims string // claims "": there is no token
		can          []engine.Kind
		want         engine.Status
	}{
		{"no token, can do nothing", "", nil, engine.Undisclosed},
		{"no token, can get one", "", []engine.Kind{engine.KindToken}, engine.Available},
		{"no token, can get scopes", "", []engine.Kind{engine.KindScopes}, engine.Available},
		{"no token, can get details", "", []engine.Kind{engine.KindAuthorizationDetails, engine.KindAuthentication, engine.KindProofOfPossession}, engine.Undisclosed},
		{"lacks details, can do nothing", scope, nil, engine.Undisclosed},
		{"lacks details, can get a token or scopes", scope, []engine.Kind{engine.KindToken, engine.KindScopes}, engine.Undisclosed},
		{"lacks details, can get them", scope, []engine.Kind{engine.KindAuthorizationDetails}, engine.Available},
		{"lacks both, can get details", both, []engine.Kind{engine.KindAuthorizationDetails}, engine.Undisclosed},
		{"lacks both, can get scopes", both, []engine.Kind{engine.KindScopes, engine.KindToken}, engine.Undisclosed},
		{"lacks both, can get both", both, []engine.Kind{engine.KindScopes, engine.KindAuthorizationDetails}, engine.Available},
	} {
		q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`)
		if tt.claims != "" {
			q.Credentials = []engine.Credential{credential(t, "c", tt.claims)}
		} else {
			q.Subject = &engine.Subject{Type: "identity", ID: alice}
		}
		q.Actionable = engine.NewKindSet(tt.can...)
		d := decide(t, e, q)
		if d.Allow || d.Rule != "initiate" || d.Remediation.Status != tt.want || d.Remediation.InWords != (tt.want == engine.Undisclosed) {
			t.Errorf("%s: allow %v by %q, %+v", tt.name, d.Allow, d.Rule, d.Remediation)
		}
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
