package engine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/authzd/authzd/rar"
)

// oracleData is what the policies of the grammar look at.
const oracleData = `{
	"list": ["a", "c", "t1"], "limits": {"t1": 4, "t2": 0}, "flags": {"on": true, "off": false, "t1": true, "a": true, "b": false},
	"names": {"t1": "a", "t2": "alice", "a": "b", "b": "bob"}, "kinds": {"t1": "pay", "t2": "ask", "a": "pay"},
	"authzd_types": {
		"pay": {"type": "pay", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "pay"}, "s": {"type": "string"}, "locations": {"type": "array", "items": {"type": "string"}}},
			"required": ["type"], "additionalProperties": false}, "compare": {"/locations": {"rule": "subset", "absent": "any"}}},
		"ask": {"type": "ask", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "ask"}, "s": {"type": "string"}}, "required": ["type"], "additionalProperties": false}}}
}`

func oracleJSON(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFilterOracle asks about random policies, callers and calls: whatever
// DecideOn allows, FilterTools has reported as possible. FILTER_ORACLE_CASES
// says how many calls it asks about (make filter-oracle).
func TestFilterOracle(t *testing.T) {
	t.Parallel()
	want := 2000
	if testing.Short() {
		want = 500
	}
	if text := os.Getenv("FILTER_ORACLE_CASES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		want = n
	}
	o := oracle{data: oracleJSON(t, oracleData)}
	for seed := uint64(1); o.cases < want; seed++ {
		if o.refused > o.policies+20 {
			t.Fatalf("of %d policies all but %d are refused", o.refused+o.policies, o.policies)
		}
		o.policy(t, seed)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d calls on %d policies (%d more did not compile): %d allowed; of %d tools %d hidden, %d after remediation",
		o.cases, o.policies, o.refused, o.allowed, o.tools, o.hidden, o.after)
	// A filter that never hides, or a grammar that never allows, would pass.
	if o.allowed*20 < o.cases || o.hidden*10 < o.tools || o.after == 0 {
		t.Error("too few are allowed, hidden or after remediation")
	}
}

type oracle struct {
	data                                                    rar.Value
	cases, allowed, policies, refused, tools, hidden, after int
}

// policy asks about one random policy.
func (o *oracle) policy(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 42)) //nolint:gosec // the same each time, and no secret
	text := (&grammar{r: r}).policy()
	s := o.compile(t, text)
	if s == nil {
		o.refused++
		return
	}
	o.policies++
	if madeFilter(s).eval == nil {
		t.Errorf("seed %d: the weaker policy does not compile:\n%s", seed, text)
		return
	}
	now := time.Unix(1_700_000_000, 0)
	e := New(Options{Now: func() time.Time { return now }, Budget: time.Minute})
	for range 2 {
		o.caller(t, e, s, r, func(format string, args ...any) {
			t.Errorf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), text)
		})
	}
}

// compile makes a snapshot of what the contract refuses too, such as permits
// that look at any element of a list: the weakening does not rest on its rules.
func (o *oracle) compile(t *testing.T, text string) *Snapshot {
	t.Helper()
	c := &compilation{bundles: []Bundle{{
		Name: "oracle", Revision: "r", Roots: []string{""}, Data: o.data,
		Metadata: oracleJSON(t, `{"contract": 1, "untyped_tools": true, "lax_forbids": true}`),
		Modules:  []Module{{Path: "policy.rego", Text: text}},
	}}}
	s, _ := readSettings(&c.bundles[0])
	c.settings = []settings{s}
	c.parse()
	c.data = o.data
	if !c.failed {
		c.assemble(t.Context(), s, c.compileTypes(), newToolSchemas())
	}
	if c.failed && os.Getenv("FILTER_ORACLE_SHOW") != "" {
		t.Logf("%v\n%s", c.findings, text)
	}
	return c.snapshot
}

// caller asks about the calls of one random caller.
func (o *oracle) caller(t *testing.T, e *Engine, s *Snapshot, r *rand.Rand, fail func(string, ...any)) {
	t.Helper()
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	claims := `{"iss": "i", "sub": "` + one("alice", "alice", "bob", "a") + `", "aud": "srv", "exp": 1800000000, "client_id": "agent",
		"scope": "` + one("", "s1", "a", "s1 a b") + `", "acr": "` + one("none", "mfa", "a") + `", "auth_time": ` + one("1699999999", "1699999900") +
		one("", `, "authorization_details": [`+one(`{"type": "pay"}`, `{"type": "pay", "locations": ["srv"]}`, `{"type": "pay", "s": "a", "locations": ["srv"]}`, `{"type": "pay", "s": "a"}`, `{"type": "ask"}, {"type": "pay", "s": "b"}`)+`]`) + `}`
	cred, rejected := CredentialFromClaims("c", "pep", one("", "dpop"), oracleJSON(t, claims))
	if rejected != nil {
		t.Fatal(rejected.Code)
	}
	caller := Query{
		MCP: &MCP{Server: "srv"}, Credentials: []Credential{cred}, Actionable: NewKindSet(KindScopes, KindToken), CarriesObligations: true,
		Context: oracleJSON(t, `{"mode": "`+one("a", "b", "t1")+`"}`),
	}
	if r.IntN(8) == 0 {
		caller.Credentials, caller.Subject = nil, &Subject{Type: "identity", ID: "alice"}
	}
	q := &FilterQuery{Caller: caller, Tools: []ListedTool{{Name: "t1"}, {Name: "t2"}, {Name: "a"}}}
	found, err := e.FilterTools(t.Context(), s, q)
	if err != nil {
		fail("%v", err)
		return
	}
	for i, tool := range q.Tools {
		access := found.Tools[i].Access
		o.tools++
		switch access {
		case ToolHidden:
			o.hidden++
		case ToolAfterRemediation:
			o.after++
		case ToolPossible:
		}
		for range 3 {
			arguments := `{"s": "` + one("a", "b", "t1", "alice", "s1") + `", "n": ` + one("0", "4", "60") + `, "l": ` +
				one(`[]`, `["a"]`, `["a", "c"]`, `["t1", "b"]`) + one("", `, "x": "`+one("a", "b", "alice")+`"`) + `}` + one("", `, "_meta": {"k": "`+one("a", "t1")+`"}`)
			call := caller
			call.Action, call.Resource = Action{Name: "tools/call"}, Resource{Type: "tool", ID: tool.Name}
			call.MCP = &MCP{Method: "tools/call", Server: "srv", Params: oracleJSON(t, `{"name": "`+tool.Name+`", "arguments": `+arguments+`}`)}
			d, err := e.DecideOn(t.Context(), s, &call)
			if err != nil {
				fail("%v", err)
				return
			}
			o.cases++
			if !d.Allow {
				continue
			}
			o.allowed++
			if access != ToolPossible {
				fail("%s with %s is allowed to %s by %s, and was reported as %d by %q", tool.Name, arguments, claims, d.Rule, access, found.Tools[i].Rule)
				return
			}
		}
	}
}

func madeFilter(s *Snapshot) *filter {
	New(Options{}).Prepare(s)
	return s.filter.made
}
