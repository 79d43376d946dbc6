package engine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// filterQuery asks about tools with these credentials.
func filterQuery(tools []string, creds ...engine.Credential) *engine.FilterQuery {
	q := &engine.FilterQuery{Caller: engine.Query{
		MCP:         &engine.MCP{Server: testServer, Transport: "http", ProtocolVersion: "2026-07-28"},
		Credentials: creds, Actionable: allKinds(), CarriesObligations: true,
	}}
	for _, name := range tools {
		q.Tools = append(q.Tools, engine.ListedTool{Name: name})
	}
	return q
}

func filterTools(t testing.TB, e *engine.Engine, q *engine.FilterQuery) []engine.FilteredTool {
	t.Helper()
	out, err := e.FilterTools(t.Context(), e.Snapshot(), q)
	if err != nil {
		t.Fatalf("filter: %v", err)
	}
	if len(out.Tools) != len(q.Tools) {
		t.Fatalf("%d answers to %d tools", len(out.Tools), len(q.Tools))
	}
	return out.Tools
}

// show writes an answer as a test's table has it.
func show(f engine.FilteredTool) string {
	words := map[engine.ToolAccess]string{engine.ToolHidden: "hidden", engine.ToolAfterRemediation: "after", engine.ToolPossible: "possible"}
	out := words[f.Access]
	n := f.Needs
	if n == nil {
		return out
	}
	if len(n.Scopes) > 0 {
		out += " scopes=" + strings.Join(n.Scopes, ",")
	}
	if len(n.DetailTypes) > 0 {
		out += " types=" + strings.Join(n.DetailTypes, ",")
	}
	if len(n.ACRValues) > 0 {
		out += " acr=" + strings.Join(n.ACRValues, ",")
	}
	if n.MaxAge >= 0 {
		out += " age=" + (time.Duration(n.MaxAge) * time.Second).String()
	}
	if n.ProofOfPossession {
		out += " pop"
	}
	if n.Approval {
		out += " approval"
	}
	if n.Token {
		out += " token"
	}
	return out
}

const filterData = `{
	"roles": {"admin": ["t"]}, "list": ["a", "b"], "limits": {"t": 5}, "types": {"t": "pay"},
	"authzd_tools": {
		"t": {"arguments": {"type": "object", "properties": {"x": {}, "s": {"type": "string"}, "n": {"type": "number"}, "l": {"type": "array"}}, "required": ["s", "n", "l"]}},
		"u": {"arguments": {"type": "object", "properties": {"x": {}}}}},
	"authzd_types": {"pay": {"type": "pay",
		"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "pay"}, "s": {"type": "string"}}, "required": ["type"], "additionalProperties": false}}}
}`

// TestWeakening walks the rules by which a policy is weakened. Each answer is
// for tool t and a credential of alice with the scope "s".
func TestWeakening(t *testing.T) {
	t.Parallel()
	const args = "\nargs := input.mcp.params.arguments\n"
	for _, c := range []struct{ name, policy, want string }{
		// What holds whatever the arguments.
		{"a permit without conditions", `permit["a"] := {}`, "possible"},
		{"no rule holds", `permit["a"] := {} if input.resource.id == "u"`, "hidden"},
		{"nobody's permit", `permit["a"] := {} if input.subject.id == "bob"`, "hidden"},
		{"the name among params", `permit["a"] := {} if input.mcp.params.name == "t"`, "possible"},
		{"another name among params", `permit["a"] := {} if input.mcp.params.name == "u"`, "hidden"},
		{"the tool's entry", `permit["a"] := {} if input.mcp.tool.annotations.readOnlyHint == true`, "hidden"},
		{"context", `permit["a"] := {} if input.context.mode == "open"`, "hidden"},
		{"data", `permit["a"] := {} if input.resource.id in data.roles.admin`, "possible"},
		{"data, not there", `permit["a"] := {} if data.limits[input.resource.id] == 6`, "hidden"},
		{"plain allow", `allow if input.subject.id == "alice@example.com"`, "possible"},
		{"plain allow, nobody's", "default allow := false\nallow if input.subject.id == \"bob\"", "hidden"},

		// Expressions that depend are left out.
		{"an argument", `permit["a"] := {} if input.mcp.params.arguments.n < 5`, "possible"},
		{"an argument and a nobody", `permit["a"] := {} if { input.mcp.params.arguments.n < 5; input.subject.id == "bob" }`, "hidden"},
		{"an argument by a rule", args + `permit["a"] := {} if args.n < 5`, "possible"},
		{"an argument by a local", args + `permit["a"] := {} if { n := args.n; m := n + 1; m < 5; input.subject.id != "bob" }`, "possible"},
		{"what the local would compare with", args + `permit["a"] := {} if { n := args.s; n == input.subject.id; input.subject.id == "bob" }`, "hidden"},
		{"a later use of a left-out variable", args + `permit["a"] := {} if { n := args.n; n > 3; n < 2 }`, "possible"},
		{"_meta", `allow if input.mcp.params._meta.k == "never"`, "possible"},
		{"params as a whole", `permit["a"] := {} if { count(input.mcp.params) > 7 }`, "possible"},
		{"mcp as a whole", `permit["a"] := {} if { m := input.mcp; m.method == "x" }`, "possible"},
		{"input as a whole", `permit["a"] := {} if { count(input) > 77 }`, "possible"},
		{"a computed place of params", `permit["a"] := {} if { k := "name"; object.get(input.mcp.params, k, "") == "u" }`, "possible"},
		{"arguments in a call of a function", args + `big(x) if x > 99
permit["a"] := {} if big(args.n)`, "possible"},
		{"a function that depends inside", args + `big(x) if args.n > x
permit["a"] := {} if big(99)`, "possible"},
		{"a function that does not depend", `mine(x) if x == "t"
permit["a"] := {} if mine(input.resource.id)`, "possible"},
		{"a function that does not depend, no", `mine(x) if x == "u"
permit["a"] := {} if mine(input.resource.id)`, "hidden"},
		{"a value of arguments compared", args + `limit := x if { x := args.n }
permit["a"] := {} if limit == 99`, "possible"},
		{"not of an argument", args + `permit["a"] := {} if not args.n == 5`, "possible"},
		{"not of a rule that depends", args + "small if args.n < 5\n" + `permit["a"] := {} if not small`, "possible"},
		{"not of a rule that depends in part", args + `ok if { args.n < 5; input.subject.id == "bob" }
permit["a"] := {} if not ok`, "possible"},
		{"not of a rule that does not", `bob if input.subject.id == "bob"
permit["a"] := {} if not bob`, "possible"},
		{"not of a rule that does not, no", `alice if input.subject.id == "alice@example.com"
permit["a"] := {} if not alice`, "hidden"},
		{"every over arguments", args + `permit["a"] := {} if every v in args.l { v == "never" }`, "possible"},
		{"every over data, with arguments", args + `permit["a"] := {} if every v in data.list { v == args.s }`, "possible"},
		{"every over data", `permit["a"] := {} if every v in data.list { v == "a" }`, "hidden"},
		{"a comprehension of arguments", args + `allow if count([v | some v in args.l; v == "x"]) == 3`, "possible"},
		{"a comprehension of data with arguments", args + `allow if count([v | some v in data.list; v == args.s]) == 3`, "possible"},
		{"a comprehension of data", `allow if count([v | some v in data.list]) == 3`, "hidden"},
		{"an else that depends", args + `level := 1 if { args.n < 5 } else := 2
permit["a"] := {} if level == 3`, "possible"},
		{"an else that does not", `level := 1 if { input.subject.id == "bob" } else := 2
permit["a"] := {} if level == 3`, "hidden"},
		{"a branch of an else that depends", args + `level := 1 if { input.subject.id == "bob" } else := 2 if { args.n < 5 } else := 3
permit["a"] := {} if level == 4`, "possible"},
		{"a default of a rule that depends", args + `default level := 1
level := 2 if args.n < 5
permit["a"] := {} if level == 3`, "possible"},
		{"else at the top", args + `allow if { input.subject.id == "bob" } else := true if { args.n == 9 }`, "possible"},
		{"rand", `allow if rand.intn("x", 1) == 5`, "possible"},
		{"a partial rule that depends", args + `seen contains args.s
allow if "zzz" in seen`, "possible"},
		{"walk over input", `allow if { some p, v; walk(input, [p, v]); v == "zzz" }`, "possible"},

		// A rule that is nothing but true is weakened too.
		{"a condition with a name", args + `ok if { args.n < 5; input.subject.id == "bob" }
permit["a"] := {} if ok`, "hidden"},
		{"one of two such", args + `ok if { args.n < 5; input.subject.id == "bob" }
ok if args.n == 7
permit["a"] := {} if ok`, "possible"},
		{"such with a default", args + `default ok := false
ok if { args.n < 5; input.subject.id == "bob" }
permit["a"] := {} if ok`, "hidden"},
		{"such with a default of true", args + `default ok := true
ok := false if { args.n < 5; input.subject.id == "bob" }
permit["a"] := {} if ok`, "possible"},
		{"such that is false", args + `ok := false if { args.n < 5; input.subject.id == "bob" }
ok := true if { args.n < 6 }
permit["a"] := {} if ok`, "possible"},
		{"such below another", args + `ok if { args.n < 5; inner }
inner if { args.n > 1; input.subject.id == "bob" }
permit["a"] := {} if ok`, "hidden"},

		{"such with an else", args + `ok if { input.subject.id == "bob" } else if { args.n < 6 }
permit["a"] := {} if ok`, "possible"},

		// Forbids.
		{"a forbid for all", "permit[\"a\"] := {}\n" + `forbid["f"] := {}`, "hidden"},
		{"a forbid of one argument", args + "permit[\"a\"] := {}\n" + `forbid["f"] := {} if args.n == 5`, "possible"},
		{"a forbid with a part that depends", args + "permit[\"a\"] := {}\n" + `forbid["f"] := {} if { args.n == 5; input.subject.id == "alice@example.com" }`, "possible"},
		{"a forbid that negates a rule that depends", args + "permit[\"a\"] := {}\nok if args.n == 5\n" + `forbid["f"] := {} if not ok`, "possible"},
		{"a forbid with a value that depends", args + "permit[\"a\"] := {}\n" + `forbid["f"] := {"message": args.s} if true`, "possible"},
		{"a forbid that does not hold", "permit[\"a\"] := {}\n" + `forbid["f"] := {} if input.subject.id == "bob"`, "possible"},
		{"one of two forbids of a name", args + "permit[\"a\"] := {}\n" + `forbid["f"] := {} if args.n == 5` + "\n" + `forbid["f"] := {} if input.resource.id == "t"`, "hidden"},
		{"plain deny", "allow := true\ndeny if input.resource.id == \"t\"", "hidden"},
		{"plain deny false", "allow := true\ndeny := false if input.resource.id == \"t\"", "possible"},
		{"plain deny with a default", "allow := true\ndefault deny := false\ndeny if input.resource.id == \"t\"", "hidden"},
		{"deny, a set", "allow := true\ndeny contains \"no\" if input.resource.id == \"t\"", "hidden"},
		{"deny, a set that depends", args + "allow := true\ndeny contains args.s if input.resource.id == \"t\"", "possible"},
		{"deny of two kinds", args + "allow := true\ndeny contains \"x\" if args.n == 5\ndeny contains \"y\" if input.resource.id == \"u\"", "possible"},
		{"deny by default", args + "allow := true\ndefault deny := true\ndeny := false if args.n == 5", "possible"},
		{"deny with an else that does not depend", "allow := true\ndeny if { input.resource.id == \"t\" } else := false", "hidden"},
		{"deny with an else that does not depend, no", "allow := true\ndeny := false if { input.resource.id == \"t\" } else := true", "possible"},
		{"deny with an else", args + "allow := true\ndeny := false if { args.n == 5 } else := true", "possible"},

		// Faults: nothing is known.
		{"a conflict", "h := 1 if input.tenant == \"default\"\nh := 2 if input.action.name == \"tools/call\"\n" + `permit["a"] := {} if h == 3`, "possible"},
		{"a builtin error", `permit["a"] := {} if to_number(input.tenant) == 1`, "possible"},
		{"a malformed permit", `permit["a"] := {"requires": []}`, "possible"},
		{"a malformed forbid", "permit[\"a\"] := {}\n" + `forbid["f"] := {"msg": "x"}`, "possible"},
		{"a permit document", args + `permit := {"a": {}} if args.n == 5`, "possible"},

		// Requirements.
		{"a scope held", `permit["a"] := {"require": [authzd.scopes(["s"])]}`, "possible scopes=s"},
		{"a scope missing", `permit["a"] := {"require": [authzd.scopes(["s", "z"])]}`, "after scopes=s,z"},
		{"a scope of data", `permit["a"] := {"require": [authzd.scopes([data.list[0]])]}`, "after scopes=a"},
		{"a scope that depends", args + `permit["a"] := {"require": [authzd.scopes([args.s])]}`, "possible"},
		{"a scope missing beside one that depends", args + `permit["a"] := {"require": [authzd.scopes([args.s, "z"])]}`, "after scopes=z"},
		{"details, not held", args + `permit["a"] := {"require": [authzd.authorization_details([{"type": "pay", "s": args.s}])]}`, "after types=pay"},
		{"details of a function", args + `permit["a"] := {"require": [authzd.authorization_details([need("pay", args)])]}
need(kind, a) := {"type": kind, "s": a.s}`, "after types=pay"},
		{"details of a rule", args + `permit["a"] := {"require": [authzd.authorization_details([need])]}
need := object.union(part, more)
part := {"type": "pay"}
more := {} if args.s == ""
more := {"s": args.s} if args.s != ""`, "after types=pay"},
		{"details of a type that may be another", args + `permit["a"] := {"require": [authzd.authorization_details([need])]}
need := object.union({"type": "pay"}, more)
more := {} if args.s == ""
more := {"type": args.s} if args.s != ""`, "possible"},
		{"details of each", args + `permit["a"] := {"require": [authzd.authorization_details(authzd.each(args.l, [{"type": "pay", "s": v} | some v in args.l]))]}`, "after types=pay"},
		{"details of a type of data", args + `permit["a"] := {"require": [authzd.authorization_details([{"type": data.types[input.resource.id], "s": args.s}])]}`, "after types=pay"},
		{"details of a type that depends", args + `permit["a"] := {"require": [authzd.authorization_details([{"type": args.s}])]}`, "possible"},
		{"a whole requirement that depends", args + `permit["a"] := {"require": [args.x]}`, "possible"},
		{"requirements that depend", args + `permit["a"] := {"require": args.l}`, "possible"},
		{"a permit that depends", args + `permit["a"] := args.x`, "possible"},
		{"authentication", `permit["a"] := {"require": [authzd.authentication({"acr_values": ["mfa"], "max_age": 300})]}`, "after acr=mfa age=5m0s"},
		{"authentication with an age that depends", args + `permit["a"] := {"require": [authzd.authentication({"acr_values": ["mfa"], "max_age": args.n})]}`, "after acr=mfa"},
		{"authentication with values that depend", args + `permit["a"] := {"require": [authzd.authentication({"acr_values": ["mfa", args.s]})]}`, "possible"},
		{"possession", `permit["a"] := {"require": [authzd.proof_of_possession]}`, "after pop"},
		{"approval that depends", args + `permit["a"] := {"require": [authzd.approval({"workflow": args.s, "approver": "subject"})]}`, "after approval"},
		{"the easiest permit", `permit["a"] := {"require": [authzd.proof_of_possession]}` + "\n" + `permit["b"] := {"require": [authzd.scopes(["z"])]}`, "after scopes=z"},
		{"a possible permit wins", args + `permit["a"] := {"require": [authzd.scopes(["z"])]}` + "\n" + `permit["b"] := {"require": [authzd.scopes(["s"])]} if args.n == 1`, "possible scopes=s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := compileWith(t, "package authz\n\nimport data.authzd.v1 as authzd\n\n"+imported(c.policy), filterData,
				`{"contract": 1, "lax_forbids": true}`)
			e := newEngine(s)
			got := filterTools(t, e, filterQuery([]string{"t"}, credential(t, "c", claims(`"scope": "s"`))))
			if show(got[0]) != c.want {
				t.Errorf("got %q (rule %q), want %q", show(got[0]), got[0].Rule, c.want)
			}
		})
	}
}

// TestFilterHeldDetails: of what depends on arguments, a granted object of the
// type is enough to be possible.
func TestFilterHeldDetails(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	for want, more := range map[string]string{
		"possible scopes=payments types=payment": `"scope": "payments", ` + details8050,
		"after scopes=payments types=payment":    `"scope": "payments"`,
	} {
		got := filterTools(t, e, filterQuery([]string{"pay", "unknown"}, credential(t, "c", claims(more))))
		if show(got[0]) != want || got[0].Rule != "initiate" || got[0].Name != "pay" {
			t.Errorf("got %+v %q, want %q", got[0], show(got[0]), want)
		}
		if diff := cmp.Diff(engine.FilteredTool{Name: "unknown"}, got[1]); diff != "" {
			t.Errorf("a tool without schema (-want +got):\n%s", diff)
		}
	}
}

// TestFilterLocates: a need that leaves its location open is judged for the
// server that is asked about, as a decision judges it.
func TestFilterLocates(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz

import data.authzd.v1 as authzd

permit["a"] := {"require": [authzd.authorization_details([{"type": "pay"}])]}
`, `{"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "authzd_types": {"pay": {"type": "pay",
		"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
			"properties": {"type": {"const": "pay"}, "locations": {"type": "array", "items": {"type": "string"}}}, "required": ["type"], "additionalProperties": false},
		"compare": {"/locations": {"rule": "subset", "absent": "any"}}}}}`))
	for server, want := range map[string]string{testServer: "possible types=pay", "https://other.example.com": "after types=pay"} {
		cred := credential(t, "c", claims(`"authorization_details": [{"type": "pay", "locations": ["`+server+`"]}]`))
		if got := filterTools(t, e, filterQuery([]string{"t"}, cred)); show(got[0]) != want {
			t.Errorf("%s: got %q, want %q", server, show(got[0]), want)
		}
		if d := decide(t, e, call(t, "t", "{}", cred)); d.Allow != strings.HasPrefix(want, "possible") {
			t.Errorf("%s: allow %v", server, d.Allow)
		}
	}
}

// TestFilterWithoutCredential: policy is asked only where a decision would ask
// it, and what is missing is a token.
func TestFilterWithoutCredential(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	expired := credential(t, "c", strings.Replace(claims(`"scope": "payments"`), "1795380000", "1", 1))
	none := filterQuery([]string{"pay", "unknown"})
	asserted := filterQuery([]string{"pay"})
	asserted.Caller.Subject = &engine.Subject{Type: "identity", ID: alice}
	for name, c := range map[string]struct {
		q    *engine.FilterQuery
		want []string
	}{
		"none":             {none, []string{"after token", "hidden"}},
		"expired":          {filterQuery([]string{"pay"}, expired), []string{"after token"}},
		"a subject, alone": {asserted, []string{"after scopes=payments token"}},
	} {
		for i, got := range filterTools(t, e, c.q) {
			if show(got) != c.want[i] {
				t.Errorf("%s: got %q, want %q", name, show(got), c.want[i])
			}
		}
	}
	out, err := e.FilterTools(t.Context(), e.Snapshot(), filterQuery([]string{"pay"}, expired))
	if err != nil || len(out.Rejected) != 1 || out.Rejected[0].Code != engine.CodeTokenExpired || out.Policy.Bundle != "test" {
		t.Errorf("got %+v, %v", out, err)
	}
}

// TestFilterSchemas: a schema that no call could be judged by hides the tool.
func TestFilterSchemas(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", `{}`))
	q := filterQuery([]string{"none", "good", "bad", "mapped"}, credential(t, "c", claims("")))
	q.Tools[1].Entry = decode(t, `{"name": "good", "inputSchema": {"type": "object"}}`)
	q.Tools[2].Entry = decode(t, `{"name": "bad", "inputSchema": {"$ref": "http://elsewhere"}}`)
	q.Tools[3].Entry = decode(t, `{"name": "mapped", "inputSchema": {"type": "object"}}`)
	q.Tools[3].ArgumentsMapped = true
	for i, want := range []string{"hidden", "possible", "hidden", "possible"} {
		if got := filterTools(t, e, q)[i]; show(got) != want {
			t.Errorf("%s: got %q, want %q", q.Tools[i].Name, show(got), want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	for _, c := range []struct {
		name   string
		change func(*engine.FilterQuery)
		code   engine.Code
		path   string
	}{
		{"no message", func(q *engine.FilterQuery) { q.Caller.MCP = nil }, engine.CodeMCPMissing, "/mcp"},
		{"no name", func(q *engine.FilterQuery) { q.Tools[1].Name = "" }, engine.CodeMissingMember, "/tools/1/name"},
		{"a name twice", func(q *engine.FilterQuery) { q.Tools[1].Name = "pay" }, engine.CodeInvalidValue, "/tools/1/name"},
		{"an entry that is a list", func(q *engine.FilterQuery) { q.Tools[1].Entry = rar.ArrayValue() }, engine.CodeWrongType, "/tools/1"},
		{"context a list", func(q *engine.FilterQuery) { q.Caller.Context = rar.ArrayValue() }, engine.CodeWrongType, "/context"},
		{"another agent", func(q *engine.FilterQuery) { q.Caller.Context = decode(t, `{"agent": "x"}`) }, engine.CodeAgentMismatch, "/context/agent"},
		{"subject without id", func(q *engine.FilterQuery) { q.Caller.Subject = &engine.Subject{Type: "identity"} }, engine.CodeMissingMember, "/subject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := filterQuery([]string{"pay", "other"}, credential(t, "c", claims("")))
			c.change(q)
			out, err := e.FilterTools(t.Context(), e.Snapshot(), q)
			var coded *engine.Error
			if !errors.As(err, &coded) || coded.Code != c.code || coded.Path != c.path || len(out.Tools) > 0 {
				t.Errorf("got %+v, %v; want %s at %s", out, err, c.code, c.path)
			}
		})
	}
	var coded *engine.Error
	if _, err := e.FilterTools(t.Context(), nil, filterQuery(nil)); !errors.As(err, &coded) || coded.Code != engine.CodeNotReady {
		t.Errorf("without a snapshot: %v", err)
	}
	if _, err := e.FilterTools(t.Context(), e.Snapshot(), nil); !errors.As(err, &coded) || coded.Code != engine.CodeEmptyQuery {
		t.Errorf("without a query: %v", err)
	}
}
