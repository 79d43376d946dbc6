package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// planPolicy has a rule for each way in which permits can differ.
const planPolicy = `package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

called(tool) if input.resource.id == tool

permit["read"] := {"require": [authzd.scopes(["files:read"])]} if called("read")

permit["edit"] := {"require": [authzd.authorization_details([access])]} if called("edit")

# Either a broad scope or details for the very file.
permit["save-any"] := {"priority": 200, "require": [authzd.scopes(["files:write"])]} if called("save")
permit["save-one"] := {"require": [authzd.authorization_details([access])]} if called("save")

permit["wire"] := {"require": [authzd.single_use([{"type": "wire", "amount": args.amount}])]} if called("wire")

permit["sign"] := {"require": [authzd.authentication({"acr_values": args.acr, "max_age": args.age})]} if called("sign")

permit["prove"] := {"require": [authzd.proof_of_possession, authzd.scopes(["prove"])]} if called("prove")

permit["ask"] := {"require": [authzd.approval({"workflow": "w", "approver": "subject"})]} if called("ask")

permit["free"] := {} if called("free")

permit["both-bad"] := {"require": [authzd.scopes(["junk"]), authzd.authentication({"acr_values": ["a"]}), authzd.authentication({"acr_values": ["b"]})]} if called("both")
permit["both-good"] := {"require": [authzd.authentication({"acr_values": ["a"]}), authzd.authorization_details([access])]} if called("both")

permit["secret"] := {"require": [authzd.authorization_details([{"type": "access", "actions": ["a"], "places": [data.vault]}])]} if called("secret")
permit["secret-admin"] := {"priority": 200, "require": [authzd.scopes(["admin"])]} if called("secret")

forbid["closed"] := {"message": "closed"} if called("closed")

access := {"type": "access", "actions": [args.action], "places": [args.place]}
`

const planData = `{
	"vault": "basement-314",
	"authzd_tools": {
		"read": {"arguments": {"type": "object", "properties": {}}},
		"edit": {"arguments": {"type": "object", "properties": {"action": {"type": "string"}, "place": {"type": "string"}}, "required": ["action", "place"]}},
		"save": {"arguments": {"type": "object", "properties": {"action": {"type": "string"}, "place": {"type": "string"}}, "required": ["action", "place"]}},
		"wire": {"arguments": {"type": "object", "properties": {"amount": {"type": "string"}}, "required": ["amount"]}},
		"sign": {"arguments": {"type": "object", "properties": {"acr": {"type": "array", "items": {"type": "string"}}, "age": {"type": "number"}}, "required": ["acr", "age"]}},
		"both": {"arguments": {"type": "object", "properties": {"action": {"type": "string"}, "place": {"type": "string"}}, "required": ["action", "place"]}},
		"secret": {"arguments": {"type": "object", "properties": {"action": {"type": "string"}, "place": {"type": "string"}}, "required": ["action", "place"]}},
		"prove": {"arguments": {"type": "object", "properties": {}}}, "ask": {"arguments": {"type": "object", "properties": {}}},
		"free": {"arguments": {"type": "object", "properties": {}}}, "closed": {"arguments": {"type": "object", "properties": {}}}
	},
	"authzd_types": {
		"access": {"type": "access", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "access"}, "actions": {"type": "array", "items": {"type": "string"}}, "places": {"type": "array", "items": {"type": "string"}}},
			"required": ["type", "actions", "places"], "additionalProperties": false},
			"compare": {"/actions": "subset", "/places": "subset"}},
		"wire": {"type": "wire", "single_use": true, "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "wire"}, "amount": {"type": "string"}}, "required": ["type", "amount"], "additionalProperties": false},
			"compare": {"/amount": "max"}}
	}
}`

// planned asks for a plan and writes it in short form.
func planned(t *testing.T, e *engine.Engine, queries ...*engine.Query) (engine.Plan, string) {
	t.Helper()
	p := e.NewPlanner(e.Snapshot())
	for _, q := range queries {
		if err := p.Add(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range plan.Calls {
		fmt.Fprintf(&b, "%s %s; ", c.Outcome, c.Rule)
	}
	for _, r := range plan.Remedies {
		fmt.Fprintf(&b, "| %s %v %s %v %d %v", r.Kind, r.Scopes, string(rar.ArrayValue(r.Details...).AppendJSON(nil)), r.ACRValues, r.MaxAge, r.SingleUse)
	}
	return plan, b.String()
}

func tool(t *testing.T, name, arguments string) *engine.Query {
	t.Helper()
	return call(t, name, arguments, credential(t, "c", claims(`"scope": "files:read"`)))
}

func edit(t *testing.T, name, action, place string) *engine.Query {
	t.Helper()
	return tool(t, name, fmt.Sprintf(`{"action": %q, "place": %q}`, action, place))
}

func TestPlan(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	for _, c := range []struct {
		name    string
		queries []*engine.Query
		want    string
	}{
		{"what is allowed needs nothing", []*engine.Query{tool(t, "read", ""), tool(t, "free", "")}, "allowed read; allowed free; "},
		{
			"a scope held is named beside",
			[]*engine.Query{tool(t, "read", ""), edit(t, "edit", "a", "x")},
			`allowed read; obtainable edit; | scopes [files:read] [] [] -1 false| authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false`,
		},
		{
			"needs are put together",
			[]*engine.Query{edit(t, "edit", "a", "x"), edit(t, "edit", "a", "y"), edit(t, "edit", "a", "x")},
			`obtainable edit; obtainable edit; obtainable edit; | authorization_details [] [{"actions":["a"],"places":["x","y"],"type":"access"}] [] -1 false`,
		},
		{
			"but never made wider",
			[]*engine.Query{edit(t, "edit", "a", "x"), edit(t, "edit", "b", "y")},
			`obtainable edit; obtainable edit; | authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"},{"actions":["b"],"places":["y"],"type":"access"}] [] -1 false`,
		},
		{"a scope is the easier alternative", []*engine.Query{edit(t, "save", "a", "x")}, `obtainable save-any; | scopes [files:write] [] [] -1 false`},
		{
			"which is not worth it beside details that serve both",
			[]*engine.Query{edit(t, "edit", "a", "x"), edit(t, "save", "a", "x")},
			`obtainable edit; obtainable save-one; | authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false`,
		},
		{
			"and is beside details that do not",
			[]*engine.Query{edit(t, "edit", "a", "x"), edit(t, "save", "b", "y")},
			`obtainable edit; obtainable save-any; | scopes [files:write] [] [] -1 false| authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false`,
		},
		{
			"single use is nothing to plan with, while nothing records it",
			[]*engine.Query{tool(t, "wire", `{"amount": "1"}`), tool(t, "read", "")},
			"denied ; allowed read; ",
		},
		{
			"a permit that no token meets does not stand in the way",
			[]*engine.Query{edit(t, "both", "a", "x"), tool(t, "prove", "")},
			`obtainable both-good; obtainable prove; | scopes [prove] [] [] -1 false| authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false| authentication [] [] [a] -1 false| proof_of_possession [] [] [] -1 false`,
		},
		{
			"what may not be told is no plan",
			[]*engine.Query{edit(t, "secret", "a", "x"), edit(t, "edit", "a", "x")},
			`denied ; obtainable edit; | authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false`,
		},
		{
			"the stricter sign-in serves both",
			[]*engine.Query{tool(t, "sign", `{"acr": ["a", "b"], "age": 60}`), tool(t, "sign", `{"acr": ["b", "c"], "age": 30}`)},
			`obtainable sign; obtainable sign; | authentication [] [] [b] 30 false`,
		},
		{
			"sign-ins that exclude each other",
			[]*engine.Query{tool(t, "sign", `{"acr": ["a"], "age": 60}`), tool(t, "read", ""), tool(t, "sign", `{"acr": ["c"], "age": 30}`)},
			`obtainable sign; allowed read; separate ; | scopes [files:read] [] [] -1 false| authentication [] [] [a] 60 false`,
		},
		{"a proof", []*engine.Query{tool(t, "prove", "")}, `obtainable prove; | scopes [prove] [] [] -1 false| proof_of_possession [] [] [] -1 false`},
		{
			"what no token helps",
			[]*engine.Query{tool(t, "ask", ""), tool(t, "closed", ""), tool(t, "nope", ""), edit(t, "edit", "a", "x")},
			`denied ; denied ; denied ; obtainable edit; | authorization_details [] [{"actions":["a"],"places":["x"],"type":"access"}] [] -1 false`,
		},
		{"nothing to be done", []*engine.Query{tool(t, "closed", "")}, "denied ; "},
		{"no calls", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, got := planned(t, e, c.queries...)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestPlanIsApart: a call that the token at hand allows, by what may not be told,
// is not served by the token of the plan, and says so.
func TestPlanIsApart(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	token := credential(t, "c", claims(`"authorization_details": [{"type": "access", "actions": ["a"], "places": ["basement-314"]}]`))
	secret, other := edit(t, "secret", "a", "x"), edit(t, "edit", "a", "x")
	secret.Credentials, other.Credentials = []engine.Credential{token}, []engine.Credential{token}
	if _, got := planned(t, e, secret); got != "allowed secret; " {
		t.Errorf("alone: %s", got)
	}
	if _, got := planned(t, e, secret, other); !strings.HasPrefix(got, "separate secret; obtainable edit; ") || strings.Contains(got, "basement") {
		t.Errorf("beside another: %s", got)
	}
}

// TestPlanOfMany: no token is asked for that would be too large to be read; the
// calls that do not go into it are set apart.
func TestPlanOfMany(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	var queries []*engine.Query
	for i := range 70 {
		queries = append(queries, edit(t, "edit", fmt.Sprint("a", i), fmt.Sprint("p", i)))
	}
	plan, _ := planned(t, e, queries...)
	served, apart := 0, 0
	token := credential(t, "new", claims(`"authorization_details": `+string(rar.ArrayValue(plan.Remedies[0].Details...).AppendJSON(nil))))
	for i, c := range plan.Calls {
		q := queries[i]
		q.Credentials = []engine.Credential{token}
		switch allow := decide(t, e, q).Allow; {
		case c.Outcome == engine.PlanObtainable && allow:
			served++
		case c.Outcome == engine.PlanSeparate && !allow:
			apart++
		default:
			t.Errorf("call %d is %s, and allow is %v", i, c.Outcome, allow)
		}
	}
	if served != 64 || apart != 6 || plan.Optimal {
		t.Errorf("%d served, %d apart, optimal %v", served, apart, plan.Optimal)
	}
}

// TestPlanIsBounded: many alternatives of many needs cost no more than the
// budget.
func TestPlanIsBounded(t *testing.T) {
	t.Parallel()
	const policy = `package authz

import data.authzd.v1 as authzd

ids := input.mcp.params.arguments.ids

permit["by-scope"] := {"require": [authzd.scopes([sprintf("s%d", [count(ids)])])]} if input.resource.id == "many"

permit["by-detail"] := {"require": [authzd.authorization_details([{"type": "access", "actions": ["a"], "places": ids}])]} if input.resource.id == "many"
`
	data := strings.Replace(planData, `"prove": {"arguments"`,
		`"many": {"arguments": {"type": "object", "properties": {"ids": {"type": "array", "items": {"type": "string"}}}, "required": ["ids"]}}, "prove": {"arguments"`, 1)
	e := newEngine(compileWith(t, policy, data, `{"contract": 1, "open_hints": true}`))
	var queries []*engine.Query
	for i := range 8 {
		var ids []string
		for k := range 400 {
			ids = append(ids, fmt.Sprintf(`"%d-%d"`, i, k))
		}
		queries = append(queries, tool(t, "many", `{"ids": [`+strings.Join(ids, ",")+`]}`))
	}
	plan, _ := planned(t, e, queries...)
	for i, c := range plan.Calls {
		if c.Outcome != engine.PlanObtainable {
			t.Errorf("call %d is %s", i, c.Outcome)
		}
	}
}

// TestPlanWithoutCredential: the first token is the one to plan for.
func TestPlanWithoutCredential(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	known := edit(t, "edit", "a", "x")
	known.Credentials = nil
	known.Subject = &engine.Subject{Type: "identity", ID: alice, Issuer: testIssuer}
	nobody := edit(t, "edit", "a", "x")
	nobody.Credentials = nil
	if _, got := planned(t, e, known); !strings.HasPrefix(got, "obtainable edit; | authorization_details") {
		t.Errorf("with a subject: %s", got)
	}
	if _, got := planned(t, e, nobody); got != "denied ; " {
		t.Errorf("for nobody: %s", got)
	}
}

// TestPlanDoesNotLoop: what a rejected credential would have met is not asked
// for again.
func TestPlanDoesNotLoop(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	expired := credential(t, "old", strings.Replace(claims(`"authorization_details": [{"type": "access", "actions": ["a"], "places": ["x"]}]`), "1795380000", "1700000000", 1))
	q := edit(t, "edit", "a", "x")
	q.Credentials = append(q.Credentials, expired)
	plan, got := planned(t, e, q)
	if got != "denied ; " || plan.Calls[0].Decision.Allow {
		t.Errorf("%s", got)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	p := e.NewPlanner(e.Snapshot())
	if err := p.Add(t.Context(), tool(t, "read", "")); err != nil {
		t.Fatal(err)
	}
	elsewhere := tool(t, "read", "")
	elsewhere.MCP.Server = "https://other.example.com"
	var e1 *engine.Error
	if err := p.Add(t.Context(), elsewhere); !errors.As(err, &e1) || e1.Code != engine.CodeInvalidValue || e1.Path != "/mcp/server" {
		t.Errorf("two servers: %v", err)
	}
	if err := p.Add(t.Context(), &engine.Query{}); !errors.As(err, &e1) || e1.Code != engine.CodeMissingMember {
		t.Errorf("an empty query: %v", err)
	}
	var none *engine.Snapshot
	if err := e.NewPlanner(none).Add(t.Context(), tool(t, "read", "")); !errors.As(err, &e1) || e1.Code != engine.CodeNotReady {
		t.Errorf("without a snapshot: %v", err)
	}
}

// TestPlanKeepsItsWord: for random calls, a credential that holds what the plan
// asks for, and nothing else, allows every call that the plan says it would.
func TestPlanKeepsItsWord(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, planPolicy, planData))
	rng := rand.New(rand.NewPCG(3, 9396)) //nolint:gosec // repeatable on purpose
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	obtainable, plans := 0, 150
	if testing.Short() {
		plans = 30
	}
	for range plans {
		var queries []*engine.Query
		for range 1 + rng.IntN(9) {
			queries = append(queries, edit(t, pick("edit", "save", "save"), pick("a", "b", "c"), pick("x", "y", "z")))
			if rng.IntN(4) == 0 {
				queries = append(queries, tool(t, pick("read", "free", "prove", "closed"), ""))
			}
		}
		plan, short := planned(t, e, queries...)
		var holds []string
		for _, r := range plan.Remedies {
			if len(r.Scopes) > 0 {
				holds = append(holds, fmt.Sprintf(`"scope": %q`, strings.Join(r.Scopes, " ")))
			}
			if len(r.Details) > 0 {
				holds = append(holds, `"authorization_details": `+string(rar.ArrayValue(r.Details...).AppendJSON(nil)))
			}
		}
		token := credential(t, "new", claims(strings.Join(holds, ", ")))
		token.BoundBy = "dpop"
		for i, q := range queries {
			q.Credentials = []engine.Credential{token}
			want := plan.Calls[i].Outcome == engine.PlanObtainable || len(plan.Remedies) > 0 && plan.Calls[i].Outcome == engine.PlanAllowed
			if d := decide(t, e, q); want && !d.Allow {
				t.Fatalf("%s: call %d is denied: %+v", short, i, d.Reasons)
			}
			if plan.Calls[i].Outcome == engine.PlanObtainable {
				obtainable++
			}
		}
	}
	if obtainable*3 < plans*4 {
		t.Errorf("only %d calls were obtainable", obtainable)
	}
}
