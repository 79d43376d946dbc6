package lint_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/authzd/authzd/engine/internal/lint"
	"github.com/authzd/authzd/rar"
)

// TestFindingsHold: of random rules that the lint says never fire, none does on any input
// of a small domain; and none that it says is undefined without a row, on those without it.
func TestFindingsHold(t *testing.T) {
	t.Parallel()
	policies := 8
	if testing.Short() {
		policies = 3
	}
	never, undefined := 0, 0
	for seed := range policies {
		n, u := findingsHold(t, uint64(seed))
		never, undefined = never+n, undefined+u
	}
	t.Logf("%d rules never fire, %d may be undefined", never, undefined)
	if min(never, undefined) < policies {
		t.Errorf("%d policies are too few to tell anything", policies)
	}
}

// claim is what a finding says of one rule: where row, a reference, is missing, it does not
// hold; nowhere, if row is "".
type claim struct {
	row  string
	line int
}

// findingsHold asks one policy of many rules, and returns how many findings of each kind it
// has.
func findingsHold(t *testing.T, seed uint64) (never, undefined int) {
	t.Helper()
	g := &grammar{rand: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // repeatable
	policy, rules := g.policy(30)
	m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, policy)
	}
	c := ast.NewCompiler()
	if c.Compile(map[string]*ast.Module{"policy.rego": m}); c.Failed() {
		t.Fatalf("seed %d: %v\n%s", seed, c.Errors, policy)
	}
	claims := map[string][]claim{}
	for _, f := range lint.Run(t.Context(), lint.Input{
		Compiler: c, Entrypoint: ast.MustParseRef("data.authz"), Data: rar.Value{}, IsLibrary: func(string) bool { return false },
	}) {
		rule := rules[f.Row]
		switch _, rest, _ := strings.Cut(f.Message, ", where "); {
		case rule == "":
		case f.Code == lint.CodeNeverFires:
			claims[rule] = append(claims[rule], claim{line: f.Row})
			never++
		case f.Code == lint.CodeUndefined:
			claims[rule] = append(claims[rule], claim{row: strings.TrimSuffix(rest, " is missing"), line: f.Row})
			undefined++
		}
	}
	const query = `all := data.authz; rows := array.concat(["data.rows[input.a]" | data.rows[input.a]], ["data.rows[input.b]" | data.rows[input.b]])`
	q, err := rego.New(rego.Compiler(c), rego.Query(query), rego.Store(inmem.NewFromObject(map[string]any{"rows": []any{map[string]any{"v": 1}, map[string]any{"v": 2}}}))).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range domain() {
		rs, err := q.Eval(t.Context(), rego.EvalParsedInput(ast.MustParseTerm(in).Value))
		if err != nil {
			t.Fatalf("seed %d, input %s: %v\n%s", seed, in, err, policy)
		}
		for _, rule := range holding(rs[0].Bindings["all"]) {
			for _, claimed := range claims[rule] {
				if rows, _ := rs[0].Bindings["rows"].([]any); claimed.row == "" || !slices.Contains(rows, any(claimed.row)) {
					t.Errorf("seed %d: %s holds of %s, in spite of what is said of line %d (%s):\n%s", seed, rule, in, claimed.line, claimed.row, numbered(policy))
					delete(claims, rule)
				}
			}
		}
	}
	return never, undefined
}

// holding are the rules of a policy that hold, as grammar.policy names them.
func holding(policy any) []string {
	var out []string
	documents, _ := policy.(map[string]any)
	for name, v := range documents {
		switch v := v.(type) {
		case []any:
			if len(v) > 0 {
				out = append(out, name)
			}
		case map[string]any:
			for key, value := range v {
				out = append(out, fmt.Sprintf("%s[%q] is %v", name, key, value))
			}
		default:
			out = append(out, name)
		}
	}
	return out
}

func numbered(policy string) string {
	var b strings.Builder
	for i, line := range strings.Split(policy, "\n") {
		fmt.Fprintf(&b, "%3d %s\n", i+1, line)
	}
	return b.String()
}

// domain is every input that rules are asked of.
func domain() []string {
	var out []string
	for _, a := range []string{``, `"a": 1, `, `"a": 2, `} {
		for _, b := range []string{``, `"b": 1, `, `"b": "p", `} {
			for _, l := range []string{`[]`, `[1]`, `[2, 1]`, `["p", 2]`} {
				for _, m := range []string{`[]`, `[[1], [2]]`, `[["p", 1], []]`} {
					for _, k := range []string{`0`, `1`} {
						out = append(out, `{`+a+b+`"l": `+l+`, "m": `+m+`, "k": `+k+`}`)
					}
				}
			}
		}
	}
	return out
}

// grammar makes rules. All helpers but h and p are the same in each policy.
type grammar struct {
	rand *rand.Rand
	// locals are the variables that the body at hand may use, names how many it has.
	locals []string
	names  int
	// about are the terms that the body at hand is mostly about.
	about []string
	// helping: what is made is a helper, which names none.
	helping bool
}

const helpers = `package authz

alias := input.a

renamed := alias

one := 1

first := input.l[i] if i = input.k

second := input.l[i] if i = 1 - input.k

default fallen := 2

fallen := input.a

chosen := input.a if {
	input.b == 1
} else := input.b

row := data.rows[input.b]

either if input.a == 1

either if input.b == 1

is(x, v) if x == v

below(x, v) if {
	y := x
	y < v
}

boxed(x, v) if {
	o := {"v": x}
	o.v == v
}

parsed(x, v) if {
	o := json.unmarshal(json.marshal({"v": x}))
	o.v == v
}

has(v) if {
	some x in input.l
	x == v
}

among(xs, v) if xs[_] == v

at(i, v) if input.l[i] == v

called(x, v) if boxed(x, v)

two(x) if x == 1

two(x) if x == 2

kept(x) := y if {
	y := x
	y != "p"
}

graded(x) := 1 if {
	x == 1
} else := 2

large contains x if {
	some x in input.l
	x > 1
}

by_a[x] := x if {
	input.a == 1
	some x in input.l
}

tree.a.b := input.a if input.b == 1

`

// policy is n rules forbid["r…"] beside helpers, and which rule has a body in a row.
func (g *grammar) policy(n int) (policy string, rules map[int]string) {
	var b strings.Builder
	rules = map[int]string{}
	body := func(rule string) {
		from := strings.Count(b.String(), "\n") + 1
		b.WriteString(g.body())
		for row := range strings.Count(b.String(), "\n") + 1 - from {
			rules[from+row] = rule
		}
	}
	b.WriteString(helpers)
	g.helping = true
	for i := range 3 {
		fmt.Fprintf(&b, "h%d if {\n", i)
		body(fmt.Sprintf("h%d", i))
		fmt.Fprintf(&b, "}\n\np%d contains %s if {\n", i, g.constant())
		body(fmt.Sprintf("p%d", i))
		b.WriteString("}\n\n")
	}
	g.helping = false
	for i := range n {
		name := fmt.Sprintf("forbid[%q]", fmt.Sprintf("r%d", i))
		fmt.Fprintf(&b, "%s := 1 if {\n", name)
		body(name + " is 1")
		if g.rand.IntN(4) == 0 {
			b.WriteString("} else := 2 if {\n")
			body(name + " is 2")
		}
		b.WriteString("}\n\n")
	}
	return b.String(), rules
}

func (g *grammar) pick(of ...string) string { return of[g.rand.IntN(len(of))] }

func (g *grammar) constant() string { return g.pick("1", "2", "3") }

func (g *grammar) compares() string { return g.pick("==", "==", "==", "=", "!=", "<", "<=", ">", ">=") }

func (g *grammar) name() string {
	g.names++
	return fmt.Sprintf("v%d", g.names)
}

func (g *grammar) body() string {
	g.locals, g.about = nil, nil
	g.about = []string{g.term(), g.term()}
	var b strings.Builder
	for range 3 + g.rand.IntN(3) {
		b.WriteString("\t" + g.expr() + "\n")
	}
	return b.String()
}

// term is something with a value, or several.
func (g *grammar) term() string {
	if g.about != nil && g.rand.IntN(4) > 0 {
		return g.pick(g.about...)
	}
	terms := []string{
		"input.a", "input.a", "input.a", "input.b", "input.b", "input.l[_]", "input.l[i]", "input.l[j]", "input.m[_][_]", "input.m[i][_]", "input.m[i][j]", "input.l[input.l[_]]",
		"input.l[input.k]", `input["a"]`, "alias", "renamed", "one", "first", "second", "fallen", "chosen", "tree.a.b", "large[_]", "by_a[_]",
		"data.rows[input.a].v", "data.rows[input.b].v", "data.rows[alias].v", "row.v", `object.get(input, "a", 1)`, "kept(input.a)", "graded(input.a)", "count(input.l)",
	}
	if len(g.locals) > 0 && g.rand.IntN(2) == 0 {
		terms = g.locals
	}
	return g.pick(terms...)
}

// ground is a term without variables, for what is negated.
func (g *grammar) ground() string {
	return g.pick("input.a", "input.b", "alias", "first", "fallen", "chosen", "input.l[0]", "tree.a.b", "row.v", "data.rows[input.a].v", "abs(data.rows[input.b].v)")
}

// condition is made of one term.
func (g *grammar) condition(t string) string {
	switch g.rand.IntN(6) {
	case 0:
		return fmt.Sprintf("%s in {%s, %s}", t, g.constant(), g.constant())
	case 1:
		return fmt.Sprintf("%s %s %s", g.constant(), g.compares(), t)
	case 2:
		return fmt.Sprintf("%s(%s, %s)", g.pick("is", "below", "boxed", "parsed", "called"), t, g.constant())
	}
	return fmt.Sprintf("%s %s %s", t, g.compares(), g.constant())
}

func (g *grammar) expr() string {
	switch g.rand.IntN(40) {
	case 0:
		return "not " + g.condition(g.ground())
	case 1:
		return fmt.Sprintf("%s %s %s", g.term(), g.compares(), g.term())
	case 2, 3:
		t, v := g.term(), g.name()
		g.locals = append(g.locals, v)
		return v + " := " + t
	case 4:
		v := g.name()
		g.locals = append(g.locals, v)
		return fmt.Sprintf("some %s in input.l", v)
	case 5:
		return fmt.Sprintf("every x in input.l { %s }", g.condition("x"))
	case 6:
		return fmt.Sprintf("count([x | some x in input.l; %s]) %s %d", g.condition("x"), g.compares(), g.rand.IntN(3))
	case 7:
		return fmt.Sprintf("count({1 | %s; w = input.l[_]; w == %s}) == %d", g.condition("input.a"), g.constant(), g.rand.IntN(2))
	case 8:
		return fmt.Sprintf("%s with input.%s as %s", g.condition("input.a"), g.pick("a", "b"), g.constant())
	case 9:
		return fmt.Sprintf("%s(%s)", g.pick("has", "two"), g.constant())
	case 10:
		return fmt.Sprintf("among(%s, %s)", g.pick("input.l", "input.m[_]"), g.constant())
	case 11:
		return fmt.Sprintf("at(%s, %s)", g.pick("0", "input.k"), g.constant())
	case 12:
		v, w := g.name(), g.name()
		x, y := g.term(), g.term()
		g.locals = append(g.locals, v, w)
		return fmt.Sprintf("[%s, %s] := [%s, %s]", v, w, x, y)
	case 13:
		v := g.name()
		g.locals = append(g.locals, v)
		return fmt.Sprintf("walk(input.m, [_, %s])", v)
	case 14:
		return g.pick("either", "large", "by_a", "count(large) == 0", "by_a == {}", "not large[2]", "2 in large", "count(large) > 0", "tree", "input.l[i] == input.m[j][_]", "input.l[i]", "1 in input.m[_]")
	case 15, 16, 17:
		if !g.helping {
			i := g.rand.IntN(3)
			return g.pick(
				fmt.Sprintf("h%d", i), fmt.Sprintf("h%d == true", i), fmt.Sprintf("not h%d", i), fmt.Sprintf("count(p%d) == %d", i, g.rand.IntN(2)), fmt.Sprintf("p%d[_] == %s", i, g.constant()),
				fmt.Sprintf("%s in p%d", g.constant(), i), fmt.Sprintf("h%d with data.authz.%s as %s", i, g.pick("first", "second"), g.constant()), fmt.Sprintf("p%d == set()", i), fmt.Sprintf("h%d with input.a as %s", i, g.constant()),
				fmt.Sprintf("some %s in p%d", g.name(), i),
			)
		}
	}
	return g.condition(g.term())
}
