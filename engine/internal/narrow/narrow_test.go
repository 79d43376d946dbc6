package narrow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/narrow"
)

func documents() []narrow.Document {
	return []narrow.Document{
		{Path: []string{"grants"}, Members: []string{"user", "team"}, Array: true},
		{Path: []string{"org", "teams"}, Members: []string{"id"}},
		{Path: []string{"virtual"}, Members: []string{"user"}, Array: true},
	}
}

// narrowed are the places in a module that are, as path.member.
func narrowed(t *testing.T, more map[string]string, rego string) []string {
	t.Helper()
	modules := map[string]*ast.Module{}
	for name, text := range more {
		modules[name] = ast.MustParseModule(text)
	}
	module, err := ast.ParseModule("policy.rego", "package authz\n"+rego)
	if err != nil {
		t.Fatal(err)
	}
	modules["policy.rego"] = module
	var places, found []narrow.Place
	c := ast.NewCompiler().WithStageAfterID(ast.StageBuildComprehensionIndices, ast.CompilerStageDefinition{
		Name: "Narrow", MetricName: "narrow", Stage: func(c *ast.Compiler) *ast.Error {
			found = narrow.Find(c, func(path []string) *narrow.Document {
				for _, d := range documents() {
					if d.Name() == strings.Join(path, "/") {
						return &d
					}
				}
				return nil
			})
			places = narrow.Rewrite(c, documents())
			return nil
		},
	})
	if c.Compile(modules); c.Failed() {
		t.Fatal(c.Errors)
	}
	// What is suggested is what is done, but for members that are not declared.
	if len(places) > len(found) {
		t.Errorf("%v, and found %v", places, found)
	}
	var out []string
	for _, p := range places {
		if p.Row < 2 || p.File != "policy.rego" {
			t.Errorf("no place: %+v", p)
		}
		out = append(out, strings.Join(p.Path, "/")+"."+p.Member)
	}
	return out
}

// TestRewrite: what is looked up, and the neighbours that are not.
func TestRewrite(t *testing.T) {
	t.Parallel()
	user, team, both := []string{"grants.user"}, []string{"org/teams.id"}, []string{"grants.user", "org/teams.id"}
	for _, c := range []struct {
		rego string
		want []string
	}{
		{`p if { some g in data.grants; g.user == input.u }`, user},
		{`p if { some g in data.grants; input.u == g.user; g.role == "x" }`, user},
		{`p if { g := data.grants[_]; g.user == input.u }`, user},
		{`p if { g = data.grants[_]; g.user = input.u }`, user},
		{`p if { data.grants[_].user == input.u }`, user},
		{`p if { data.grants[i].user == input.u }`, user},
		{`p if { some i; data.grants[i].user == input.u; data.grants[i].role == "x" }`, user},
		{`p if { some i; data.grants[i].role == "x"; data.grants[i].user == input.u; not data.grants[i].off }`, user},
		{`p if { some i, g in data.grants; g.user == input.u }`, user},
		{"import data.grants as rows\np if { some g in rows; g.user == input.u }", user},
		{`p if { some g in data.grants; g.role == "x"; g.user == input.u }`, user},
		{`p if { some g in data.grants; g.user == "x" }`, user},
		{`p if { some g in data.grants; g.user == 1 }`, user},
		{`p if { some g in data.grants; g.user == null }`, user},
		{`p if { some g in data.grants; u := input.u; g.user == u }`, user},
		{`p if { u := upper(input.u); some g in data.grants; g.user == u }`, user},
		{`p if { some u in input.users; some g in data.grants; g.user == u }`, user},
		{"uid := input.u\np if { some g in data.grants; g.user == uid }", user},
		{"editor if input.a == 1\neditor if input.a == 2\np if { some g in data.grants; editor; g.user == input.u }", user},
		{`p if { some g in data.grants; g.user == data.settings.user }`, user},
		{"f(u) if { some g in data.grants; g.user == u }\np if f(input.u)", user},
		{"f({\"u\": u}) if { some g in data.grants; g.user == u }\np if f(input)", user},
		{`p if { some g in data.grants; g.user == input.u; startswith(g.role, "x") }`, user},
		{`p if { x := [g | some g in data.grants; g.user == input.u]; x[0].role == "x" }`, user},
		{`p if { count({g.role | some g in data.grants; g.user == input.u}) > 1 }`, user},
		{`p if { x := {g.role: 1 | some g in data.grants; g.user == input.u}; x.a }`, user},
		{`p if { x := [upper(g.role) | some g in data.grants; g.user == input.u]; x[0] == "X" }`, user},
		{`p if { u := input.u; x := [g | some g in data.grants; g.user == u]; x[0].role == "x" }`, user},
		{`p[g.role] := g.x if { some g in data.grants; g.user == input.u }`, user},
		{`p contains g.role if { some g in data.grants; g.user == input.u }`, user},
		{`p := 1 if { input.a } else := 2 if { some g in data.grants; g.user == input.u }`, user},
		{`p if { some g in data.grants; g.user == input.u; some t in data.org.teams; t.id == g.team }`, both},
		{`p if { some g in data.grants; some t in data.org.teams; t.id == g.team; g.user == input.u }`, both},
		{`p if { some i, t in data.org.teams; t.id == input.u; i != "x" }`, team},
		{`p[i] := 1 if { some i; data.org.teams[i].id == input.u; data.org.teams[i].x }`, team},
		{`p if { some g in data.grants; g.team == input.t; g.user == input.u }`, []string{"grants.team"}},

		// Before the demand something can fail, which has to fail for all rows.
		{`p if { some g in data.grants; startswith(g.role, "x"); g.user == input.u }`, nil},
		{`p if { some g in data.grants; 1 / g.n > 0; g.user == input.u }`, nil},
		{"f(x) := 1\np if { some g in data.grants; f(g.x) == 1; g.user == input.u }", nil},
		{"q := upper(input.q)\np if { some g in data.grants; q == g.x; g.user == input.u }", nil},
		{"uid := upper(input.u)\np if { some g in data.grants; g.user == uid }", nil},
		{"uid := 1 if input.a\nuid := 2 if input.b\np if { some g in data.grants; g.user == uid }", nil},
		{"default uid := 1\nuid := input.u\np if { some g in data.grants; g.user == uid }", nil},
		{"uid := x if some x in input.u\np if { some g in data.grants; g.user == uid }", nil},
		{`p if { u := input.u; x := [upper(g.role) | some g in data.grants; g.user == u]; x[0] == "X" }`, nil},
		{`p if { u := input.u; x := {g.role: g | some g in data.grants; g.user == u}; x.a }`, nil},
		{`p if { some g in data.grants; count([1 | g.x]) == 1; g.user == input.u }`, nil},
		{`p if { some g in data.grants; every x in g.xs { x == 1 }; g.user == input.u }`, nil},
		// OPA would no longer know the comprehension that it evaluates for all values at once.
		{`p if { data.grants[i].user == input.u; data.grants[i].xs == [c | some k in data.ks; c := [upper(t.v) | some t in data.things; t.k == k]] }`, nil},
		// The key says more than the way to the row, of an array.
		{`p if { some i, g in data.grants; g.user == input.u; i > 1 }`, nil},
		{`p[i] := 1 if { some i, g in data.grants; g.user == input.u }`, nil},
		{`p[i].x[1] := 1 if { some i; data.grants[i].user == input.u }`, nil},
		{`p contains i if { some i; data.grants[i].user == input.u }`, nil},
		{`p if { some i; data.grants[i].user == input.u; data.other[i] }`, nil},
		{`p if { some i; data.grants[i].user == input.u; x := [1 | data.grants[i].x]; x[0] }`, nil},
		{`p if { i := input.i; data.grants[i].user == input.u }`, nil},
		{`p if { some i in input.is; data.grants[i].user == input.u }`, nil},
		{"f(i) if data.grants[i].user == input.u\np if f(1)", nil},
		{`p if { i := input.i; x := [1 | data.grants[i].user == input.u]; x[0] }`, nil},
		// Nothing known before the iteration is demanded.
		{`p if { some g in data.grants; g.user == g.owner }`, nil},
		{`p if { some g in data.grants; g.user == input.users[g.n] }`, nil},
		{`p if { some g in data.grants; g.user == input.users[_] }`, nil},
		{`p if { some g in data.grants; g.user == upper(input.u) }`, nil},
		{`p if { some g in data.grants; g.user != input.u }`, nil},
		{`p if { some g in data.grants; g.user in [input.u] }`, nil},
		{`p if { some g in data.grants; not g.user == input.u }`, nil},
		{`p if { some g in data.grants; g.user == [input.u] }`, nil},
		{`p if { some g in data.grants; g.user.id == input.u }`, nil},
		{`p if { some g in data.grants; g.role == input.u }`, nil},
		{`p if { some g in data.grants; g == input.u }`, nil},
		{`p if { some {"user": u} in data.grants; u == input.u }`, nil},
		{`p if { x := {"user": 1}; some g in data.grants; g.x; x.user == input.u }`, nil},
		{`p if { not q }` + "\nq if { some g in data.grants; g.role == input.u }", nil},
		{`p if { data.grants[0].user == input.u }`, nil},
		{`p if { data.grants[_][_].user == input.u }`, nil},
		{`p if { every g in data.grants { g.user == input.u } }`, nil},
		{`p if { every x in input.xs { some g in data.grants; g.user == x } }`, nil},
		{`p if { count(data.grants) > 0 }`, nil},
		{`p if { some g in data.other; g.user == input.u }`, nil},
		{`p if { data.org.teams[i][j].id == input.u }`, nil},
		{`p if { some g in data.virtual; g.user == input.u }`, nil}, // see more
		// With may replace what the index is of, also from afar.
		{`p if { some g in data.grants; g.user == input.u with input.u as 1 }`, nil},
		{"q if { some g in data.grants; g.user == input.u }\np if q with data.grants as []", nil},
		{"q if { some g in data.grants; g.user == input.u }\np if q with data.other as []", nil},
		{"q if { some g in data.grants; g.user == input.u }\np if q with input as {}", user},
		{"p if { some g in data.grants; g.user == input.u }\nq if data[input.x].a == 1", nil},
	} {
		got := narrowed(t, map[string]string{"virtual": "package virtual.sub\nr := 1"}, c.rego)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.rego, diff)
		}
	}
}

// TestNames: what is put in has names of its own.
func TestNames(t *testing.T) {
	t.Parallel()
	got := narrowed(t, nil, `p if { some g in data.grants; __local_authzd0__ = 1; g.user == input.u; __local_authzd0__ == 1 }`)
	if fmt.Sprint(got) != "[grants.user]" {
		t.Error(got)
	}
}

// TestKey: all that is no text is in one part, and what is no value in none.
func TestKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`""`: `"s"`, `"a"`: `"sa"`, `"o"`: `"so"`, `1`: `"o"`, `1.0`: `"o"`, `null`: `"o"`, `true`: `"o"`, `["a"]`: `"o"`, `{"a": 1}`: `"o"`, `{"a"}`: `"o"`,
	} {
		if got, ok := narrow.Key(ast.MustParseTerm(text).Value); !ok || got.String() != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, v := range []ast.Value{ast.Var("x"), ast.NewArray(ast.VarTerm("x"))} {
		if got, ok := narrow.Key(v); ok {
			t.Errorf("%v: %v", v, got)
		}
	}
}
