package engine

import (
	"testing"
	"time"

	"github.com/authzd/authzd/rar"
)

// TestFilterIsSound: what DecideOn allows, FilterTools has reported as
// possible.
func TestFilterIsSound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, policy, data string }{
		{"a complete permit", `permit := {"a": {}} if input.mcp.params.arguments.s == "x"`, ``},
		{"a complete permit by a helper", `permit := perms
perms[k] := {} if some k in ["a"]`, ``},
		{"comprehension permit", `permit := {k: {} | some k in input.mcp.params.arguments.l}`, ``},
		{"comprehension permit without", `permit := {k: {} | some k in data.list}`, ``},
		{"nested permit refs", `permit[x].require := [authzd.scopes(["s"])] if x := "a"`, ``},
		{"a key of an argument", `permit[x] := {} if x := input.mcp.params.arguments.s`, ``},
		{"input in a variable", `permit["a"] := {} if { i := input; i.mcp.params.arguments.s == "x" }`, ``},
		{"mcp in a variable, name", `permit["a"] := {} if { m := input.mcp; m.params.name == "t"; m.params.arguments.s == "x" }`, ``},
		{"a variable step", `permit["a"] := {} if { some k; input.mcp[k].arguments.s == "x" }`, ``},
		{"walk", `permit["a"] := {} if { some p, v; walk(input.mcp, [p, v]); v == "x" }`, ``},
		{"object.get path", `permit["a"] := {} if object.get(input, ["mcp", "params", "arguments", "s"], "") == "x"`, ``},
		{"json.filter", `permit["a"] := {} if json.filter(input, ["mcp/params/arguments/s"]).mcp.params.arguments.s == "x"`, ``},
		{"glob", `permit["a"] := {} if glob.match("x*", [], input.mcp.params.arguments.s)`, ``},
		{"not helper", `permit["a"] := {} if not bad
bad if input.mcp.params.arguments.s != "x"`, ``},
		{"not helper default", `permit["a"] := {} if bad == false
default bad := false
bad if input.mcp.params.arguments.s != "x"`, ``},
		{"helper false value", `permit["a"] := {} if h == false
h := false if input.mcp.params.arguments.s == "x"`, ``},
		{"double not", `permit["a"] := {} if not b
b if not c
c if input.mcp.params.arguments.s == "x"`, ``},
		{"every over arguments", `permit["a"] := {} if every v in input.mcp.params.arguments.l { v in data.list }`, ``},
		{"some over arguments", `permit["a"] := {} if { some v in input.mcp.params.arguments.l; v == data.list[0] }`, ``},
		{"count of permit elsewhere", `permit["a"] := {}
forbid["f"] := {} if count(others) == 0
others contains v if some v in input.mcp.params.arguments.l`, ``},
		{"forbid by helper default", `permit["a"] := {}
forbid["f"] := {} if not ok
default ok := false
ok if input.mcp.params.arguments.s == "x"`, ``},
		{"forbid by a function of nothing", `permit["a"] := {}
forbid["f"] := {} if not g("x")
g(v) if input.mcp.params.arguments.s == v`, ``},
		{"forbid else", `permit["a"] := {}
forbid["f"] := {} if h == 2
h := 1 if input.mcp.params.arguments.s == "x"
else := 2`, ``},
		{"deny else false", `permit["a"] := {}
deny := false if { input.mcp.params.arguments.s == "x" } else := true`, ``},
		{"default deny true", `permit["a"] := {}
default deny := true
deny := false if input.mcp.params.arguments.s == "x"`, ``},
		{"partial deny", `permit["a"] := {}
deny contains "m" if { count(input.mcp.params.arguments) == 0 }`, ``},
		{"forbid with", `permit["a"] := {}
forbid["f"] := {} if not h with input.subject.id as "bob"
h if { input.subject.id == "bob"; input.mcp.params.arguments.s == "x" }`, ``},
		{"forbid data dynamic", `permit["a"] := {}
forbid["f"] := {} if { k := input.resource.id; not sub[k] }
sub[k] := true if { some k in ["t"]; input.mcp.params.arguments.s == "x" }`, ``},
		{"forbid on a set of arguments", `permit["a"] := {}
forbid["f"] := {} if not "x" in {v | v := input.mcp.params.arguments.s}`, ``},
		{"requirement by else", `permit["a"] := {"require": [r]}
r := authzd.scopes(["s"]) if input.mcp.params.arguments.s == "x"
else := authzd.scopes(["z"])`, ``},
		{"requirement by several", `permit["a"] := {"require": [r(input.mcp.params.arguments.s)]}
r("y") := authzd.scopes(["z"])
r("x") := authzd.scopes(["s"])`, ``},
		{"requirement by default function", `permit["a"] := {"require": [r(input.mcp.params.arguments.s)]}
default r(_) := {"kind": "scopes", "scopes": ["z"]}
r(v) := {"kind": "scopes", "scopes": ["s"]} if v == "x"`, ``},
		{"requirement from a table", `permit["a"] := {"require": [authzd.scopes([table[input.mcp.params.arguments.s]])]}
table := {"x": "s", "y": "z"}`, ``},
		{"requirement from a table in a rule", `permit["a"] := {"require": [table[input.mcp.params.arguments.s]]}
table["x"] := authzd.scopes(["s"])
table["y"] := authzd.scopes(["z"])`, ``},
		{"requirement from a partial object with one", `permit["a"] := {"require": [authzd.scopes(table[input.mcp.params.arguments.s])]}
table[k] := ["s"] if some k in ["x"]
table["y"] := ["z"]`, ``},
		{"union overrides", `permit["a"] := {"require": [object.union(authzd.scopes(["z"]), {"scopes": [input.mcp.params.arguments.k]})]}`, ``},
		{"union overrides by a rule", `permit["a"] := {"require": [object.union({"kind": "scopes", "scopes": ["z"]}, more)]}
more := {"scopes": ["s"]} if input.mcp.params.arguments.s == "x"`, ``},
		{"union of a kind", `permit["a"] := {"require": [object.union(authzd.proof_of_possession, more)]}
more := authzd.scopes(["s"]) if input.mcp.params.arguments.s == "x"`, ``},
		{"authentication twice", `permit["a"] := {"require": [authzd.authentication(object.union({"max_age": 1}, {"max_age": input.mcp.params.arguments.n}))]}`, ``},
		{"authentication of a rule", `permit["a"] := {"require": [authzd.authentication(w)]}
w := {"max_age": 1} if input.mcp.params.arguments.s != "x"
w := {"max_age": 100000} if input.mcp.params.arguments.s == "x"`, ``},
		{"authentication acr", `permit["a"] := {"require": [authzd.authentication(w)]}
w := {"acr_values": ["z"]} if input.mcp.params.arguments.s != "x"
w := {"acr_values": ["z", "pwd"]} if input.mcp.params.arguments.s == "x"`, ``},
		{"object.remove", `permit["a"] := object.remove({"require": [authzd.scopes(["z"])], "priority": 1}, [input.mcp.params.arguments.r])`, ``},
		{"array.concat", `permit["a"] := {"require": array.concat([authzd.scopes(["s"])], [r | some v in input.mcp.params.arguments.l; v == "zz"; r := authzd.scopes(["z"])])}`, ``},
		{"array.slice", `permit["a"] := {"require": array.slice([authzd.scopes(["z"]), authzd.scopes(["s"])], input.mcp.params.arguments.n, 2)}`, ``},
		{"shadowed local", `permit["a"] := {"require": [authzd.scopes([x])]} if { some x in ["z", "s"]; x == input.mcp.params.arguments.k }`, ``},
		{"unified local", `permit["a"] := {"require": [authzd.scopes([x])]} if { [x, y] = [input.mcp.params.arguments.k, 1]; y == 1 }`, ``},
		{"object pattern", `permit["a"] := {"require": [authzd.scopes([x])]} if { {"k": x} = object.filter(input.mcp.params.arguments, ["k"]) }`, ``},
		{"reverse equality", `permit["a"] := {"require": [authzd.scopes([x])]} if { input.mcp.params.arguments.k = x }`, ``},
		{"allow value of a call", `allow := startswith(input.mcp.params.arguments.s, "x")`, ``},
		{"allow else", `allow := false if { input.mcp.params.arguments.s != "x" } else := true`, ``},
		{"default allow true", `default allow := true
allow := false if input.mcp.params.arguments.s != "x"`, ``},
		{"allow by a chain", `allow if a1
a1 if a2
a2 if { a3; input.resource.id == "t" }
a3 if input.mcp.params.arguments.s == "x"`, ``},
		{"helper that is a comprehension", `permit["a"] := {} if count(h) > 0
h := [v | some v in data.list; v == input.mcp.params.arguments.l[_]]`, ``},
		{"helper object member", `permit["a"] := {} if obj.ok
obj.ok if input.mcp.params.arguments.s == "x"
obj.no := true`, ``},
		{"helper object dynamic", `permit["a"] := {} if obj[input.resource.id]
obj[k] if { k := "t"; input.mcp.params.arguments.s == "x" }`, ``},
		{"helper beside its children", `permit["a"] := {} if h.q
h.q if input.mcp.params.arguments.s == "x"
h.q.z := 1 if input.subject.id == "bob"`, ``},
		{"string interpolation", "permit[\"a\"] := {} if $`{input.mcp.params.arguments.s}` == \"x\"", ``},
		{"import of input", `permit["a"] := {} if arguments_of.s == "x"
arguments_of := object.get(input.mcp.params, "arguments", {})`, ``},
		{"sort order", `permit["a"] := {} if sort([input.mcp.params.arguments.s, "y"])[0] == "x"`, ``},
		{"set difference", `permit["a"] := {} if count({"x"} - {input.mcp.params.arguments.s}) == 0`, ``},
		{"numbers of tables", `permit["a"] := {} if data.rank[input.mcp.params.arguments.s] >= data.need[input.resource.id]`, ``},
		{"late binding", `permit["a"] := {} if { y == x; x := input.mcp.params.arguments.s; y := "x" }`, ``},
		{"closure over a bare variable", `permit["a"] := {} if { x = input.mcp.params.arguments.s; c := [x | x = data.words[_]]; count(c) == 1 }`, ``},
		{"closure over another bare variable", `permit["a"] := {} if { c := [x | data.words[_] = x; x != "x"]; count(c) == 0; x = input.mcp.params.arguments.s }`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := `{"list": ["a", "q"], "words": ["x", "y"], "rank": {"x": 2}, "need": {"t": 2}}`
			if c.data != "" {
				base = c.data
			}
			o := oracle{data: oracleJSON(t, base)}
			snap := o.compile(t, "package authz\n\nimport data.authzd.v1 as authzd\n\nlib := authzd.decimal(\"1\")\n\n"+c.policy)
			if snap == nil {
				t.Skip("does not compile")
			}
			if madeFilter(snap).eval == nil {
				t.Log("there is no weaker policy")
			}
			now := time.Unix(1_700_000_010, 0)
			e := New(Options{Now: func() time.Time { return now }, Budget: time.Minute})
			cred, rejected := CredentialFromClaims("c", "pep", "", oracleJSON(t, `{"iss": "i", "sub": "alice", "aud": "srv", "exp": 1800000000, "client_id": "agent", "scope": "s", "acr": "pwd", "auth_time": 1700000000}`))
			if rejected != nil {
				t.Fatal(rejected.Code)
			}
			caller := Query{MCP: &MCP{Server: "srv"}, Credentials: []Credential{cred}, Actionable: NewKindSet(KindScopes, KindToken), CarriesObligations: true}
			found, err := e.FilterTools(t.Context(), snap, &FilterQuery{Caller: caller, Tools: []ListedTool{{Name: "t"}}})
			if err != nil {
				t.Fatal(err)
			}
			allowed := 0
			for _, arguments := range []string{
				`{"s": "x", "k": "s", "n": 1, "l": ["a"], "r": "require"}`, `{"s": "x", "k": "s", "n": 100000, "l": ["x"]}`,
				`{"s": "x", "k": "s", "n": 1, "l": []}`, `{"s": "y", "k": "z", "n": 1, "l": []}`, `{}`,
			} {
				call := caller
				call.Action, call.Resource = Action{Name: "tools/call"}, Resource{Type: "tool", ID: "t"}
				call.MCP = &MCP{Method: "tools/call", Server: "srv", Params: rar.ObjectValue(
					rar.Member{Name: "name", Value: rar.StringValue("t")}, rar.Member{Name: "arguments", Value: oracleJSON(t, arguments)})}
				d, err := e.DecideOn(t.Context(), snap, &call)
				if err != nil {
					t.Fatal(err)
				}
				if !d.Allow {
					continue
				}
				allowed++
				if found.Tools[0].Access != ToolPossible {
					t.Errorf("%s is allowed by %s, and the tool is %d (rule %q)", arguments, d.Rule, found.Tools[0].Access, found.Tools[0].Rule)
				}
			}
			t.Logf("%d allowed; access %d", allowed, found.Tools[0].Access)
		})
	}
}
