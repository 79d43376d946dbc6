package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const (
	testServer = "https://mcp.example.com"
	testIssuer = "https://as.example.com"
	alice      = "alice@example.com"
)

func testNow() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

func decode(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("test JSON: %v", err)
	}
	return v
}

// payments is a small bundle: scope and details for one tool, a block list.
const paymentsPolicy = `package authz

import data.authzd.v1 as authzd

permit["initiate"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details([{
		"type": "payment",
		"amount": authzd.decimal(args.amount),
		"payee": args.payee,
	}]),
]} if {
	input.action.name == "tools/call"
	input.resource.id == "pay"
	args := input.mcp.params.arguments
}

forbid["blocked"] := {"message": "Payee {/mcp/params/arguments/payee} is blocked.", "message_admin": "by {/subject/id}"} if {
	input.mcp.params.arguments.payee in data.blocked
}
`

const paymentsData = `{
	"blocked": ["mallory"],
	"authzd_tools": {"pay": {"arguments": {
		"type": "object",
		"properties": {"amount": {"type": ["string", "number"]}, "payee": {"type": "string"}},
		"required": ["amount", "payee"]}}},
	"authzd_types": {"payment": {
		"type": "payment",
		"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "payment"}, "amount": {"type": "string", "pattern": "^(0|[1-9][0-9]*)(\\.[0-9]+)?$"}, "payee": {"type": "string"}},
			"required": ["type", "amount", "payee"], "additionalProperties": false},
		"compare": {"/amount": "max", "/payee": "equal"}}}
}`

func bundle(t testing.TB, policy, data, metadata string) engine.Bundle {
	t.Helper()
	return engine.Bundle{
		Name: "test", Revision: "r1", Roots: []string{""},
		Metadata: decode(t, metadata),
		Modules:  []engine.Module{{Path: "policy.rego", Text: policy}},
		Data:     decode(t, data),
	}
}

func compile(t testing.TB, policy, data string) *engine.Snapshot {
	t.Helper()
	return compileWith(t, policy, data, `{"contract": 1}`)
}

func compileWith(t testing.TB, policy, data, metadata string) *engine.Snapshot {
	t.Helper()
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{bundle(t, policy, data, metadata)})
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return s
}

func newEngine(s *engine.Snapshot) *engine.Engine {
	e := engine.New(engine.Options{Now: testNow, Budget: 5 * time.Second, Compiled: true, VerifySample: 1})
	if s != nil {
		e.Prepare(s)
	}
	e.Swap(s)
	return e
}

// claims of a good token; more members may be given as JSON without braces.
func claims(more string) string {
	c := `"iss": "` + testIssuer + `", "sub": "` + alice + `", "aud": "` + testServer + `", "exp": 1795380000, "client_id": "agent"`
	if more != "" {
		c += ", " + more
	}
	return "{" + c + "}"
}

func credential(t testing.TB, id, claimsJSON string) engine.Credential {
	t.Helper()
	c, rejected := engine.CredentialFromClaims(id, "pep", "", decode(t, claimsJSON))
	if rejected != nil {
		t.Fatalf("credential %s: %s", id, rejected.Code)
	}
	return c
}

func allKinds() engine.KindSet {
	return engine.NewKindSet(engine.KindScopes, engine.KindAuthorizationDetails, engine.KindAuthentication, engine.KindProofOfPossession, engine.KindToken)
}

func call(t testing.TB, tool, arguments string, creds ...engine.Credential) *engine.Query {
	t.Helper()
	params := `{"name": "` + tool + `"}`
	if arguments != "" {
		params = `{"name": "` + tool + `", "arguments": ` + arguments + `}`
	}
	return &engine.Query{
		Action:   engine.Action{Name: "tools/call"},
		Resource: engine.Resource{Type: "tool", ID: tool},
		MCP: &engine.MCP{
			Method: "tools/call", Params: decode(t, params), Server: testServer, Transport: "http", ProtocolVersion: "2026-07-28",
		},
		Credentials: creds, Actionable: allKinds(), CarriesObligations: true,
	}
}

func decide(t testing.TB, e *engine.Engine, q *engine.Query) engine.Decision {
	t.Helper()
	d, err := e.Decide(t.Context(), q)
	if err != nil {
		t.Fatalf("decide: %v", err)
	}
	if d.Allow && (d.Error != nil || d.Remediation != nil) {
		t.Fatalf("an allow with error %v or remediation %v", d.Error, d.Remediation)
	}
	if n := engine.VerifyPending(t.Context(), e); n > 0 {
		t.Fatalf("the compiled policy has answered otherwise than topdown: %+v", d)
	}
	wantExplained(t, e, q, &d)
	return d
}

// wantExplained: to explain a decision makes no other one.
func wantExplained(t testing.TB, e *engine.Engine, q *engine.Query, d *engine.Decision) {
	t.Helper()
	for i := range d.Reasons {
		if d.Reasons[i].Code == engine.CodeCommitRequired {
			return // which an explanation takes as given
		}
	}
	x, err := e.ExplainOn(t.Context(), e.Snapshot(), q, engine.ExplainOptions{})
	if err != nil {
		t.Fatalf("explain: %v", err)
	}
	said := func(d *engine.Decision) string {
		s := fmt.Sprintf("%v %s %q %q %+v %+v %v", d.Allow, d.Rule, d.Message, d.MessageAdmin, d.Reasons, d.Met, d.Rejected)
		if d.Error != nil {
			s += fmt.Sprintf(" %+v", *d.Error)
		}
		if r := d.Remediation; r != nil {
			s += fmt.Sprintf(" %s %d %v", r.Status, len(r.Remedies), r.InWords)
		}
		return s
	}
	if diff := cmp.Diff(said(d), said(&x.Decision)); diff != "" {
		t.Fatalf("explained is another decision: %s", diff)
	}
}

const details8050 = `"authorization_details": [{"type": "payment", "amount": "80.50", "payee": "bob"}]`

func TestDecidePayment(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	good := credential(t, "c", claims(`"scope": "payments", `+details8050))

	d := decide(t, e, call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, good))
	if !d.Allow || d.Rule != "initiate" {
		t.Fatalf("want allow by initiate, got %+v", d)
	}
	if len(d.Met) != 2 || d.Met[0].CredentialID != "c" {
		t.Errorf("met: %+v", d.Met)
	}
	if !strings.HasPrefix(d.CallDigest, "sha-256:") || !d.ExpiresAt.Equal(testNow().Add(engine.DefaultAllowTTL)) {
		t.Errorf("digest %q, expires %v", d.CallDigest, d.ExpiresAt)
	}

	d = decide(t, e, call(t, "pay", `{"amount": "80.51", "payee": "bob"}`, good))
	if d.Allow || d.Remediation.Status != engine.Available {
		t.Fatalf("one cent more must be an available deny: %+v", d)
	}
	r := d.Remediation.Remedies
	if len(r) != 2 || !r[0].Held || r[0].Kind != engine.KindScopes || r[1].Kind != engine.KindAuthorizationDetails || r[1].Held {
		t.Fatalf("remedies: %+v", r)
	}
	if got := string(r[1].Details[0].AppendCanonical(nil)); got != `{"amount":"80.51","payee":"bob","type":"payment"}` {
		t.Errorf("hint %s", got)
	}
	if !strings.HasPrefix(d.Remediation.ContextID, "authzctx_") {
		t.Errorf("context id %q", d.Remediation.ContextID)
	}
}

func TestForbidWins(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	good := credential(t, "c", claims(`"scope": "payments", "authorization_details": [{"type": "payment", "amount": "80.50", "payee": "mallory"}]`))
	d := decide(t, e, call(t, "pay", `{"amount": "1", "payee": "mallory"}`, good))
	if d.Allow || d.Rule != "blocked" || d.Remediation.Status != engine.Undisclosed || len(d.Remediation.Remedies) != 0 {
		t.Fatalf("got %+v", d)
	}
	if d.Message != "Payee mallory is blocked." || d.MessageAdmin != "by "+alice {
		t.Errorf("messages %q, %q", d.Message, d.MessageAdmin)
	}
}

// TestPlacesOfAMessage: what the client reads, and the reason, show of the call what its
// maker knows; the rest is the admin's.
func TestPlacesOfAMessage(t *testing.T) {
	t.Parallel()
	const text = "{/mcp/params/arguments/x} {/resource/id} {/subject/id} {/tenant} {/context/ip} {/mcp/params/name}"
	e := newEngine(compile(t, `package authz
forbid["f"] := {"message": "`+text+`", "message_admin": "`+text+`"}`, anyTool))
	q := call(t, "t", `{"x": 1}`, credential(t, "c", claims("")))
	q.Context = decode(t, `{"ip": "192.0.2.1"}`)
	d := decide(t, e, q)
	const client, admin = "1 t – – – –", "1 t " + alice + " default 192.0.2.1 t"
	if d.Allow || d.Message != client || d.Reasons[0].Message != client || d.MessageAdmin != admin {
		t.Errorf("%q, %q, %q", d.Message, d.Reasons[0].Message, d.MessageAdmin)
	}
}

func TestNumbersReachRegoExactly(t *testing.T) {
	t.Parallel()
	const policy = `package authz
permit["eq"] := {} if input.mcp.params.arguments.n == %s
`
	const tools = `{"authzd_tools": {"n": {"arguments": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}}}}`
	cred := credential(t, "c", claims(""))
	for _, c := range []struct {
		rego, arg string
		allow     bool
	}{
		{"9007199254740993", "9007199254740993", true},
		{"9007199254740992", "9007199254740993", false},
		{"12000.50", "12000.5", true},
		{"12000.50", "12000.51", false},
	} {
		e := newEngine(compile(t, strings.Replace(policy, "%s", c.rego, 1), tools))
		if d := decide(t, e, call(t, "n", `{"n": `+c.arg+`}`, cred)); d.Allow != c.allow {
			t.Errorf("rego %s, argument %s: allow %v, error %+v", c.rego, c.arg, d.Allow, d.Error)
		}
	}
}

func TestNoSnapshotIsAnError(t *testing.T) {
	t.Parallel()
	d, err := engine.New(engine.Options{}).Decide(t.Context(), call(t, "pay", `{}`))
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.CodeNotReady || d.Allow {
		t.Fatalf("got %+v, %v", d, err)
	}
}
