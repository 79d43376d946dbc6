package compiled

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// planted are policies in which something fails that a pass could leave out. %A
// and %B are two definitions, tried in both orders; the input is the same for
// all.
type planted struct {
	name string
	text string // of package p; the document is p.x
	a, b string
	// fails: topdown ends in an error whatever the order, so that a Program that
	// answers is wrong. Otherwise topdown decides.
	fails bool
}

const plantedInput = `{"a": "x", "n": 0, "k": "one", "list": [1, "y", 3], "o": {"p": 1, "q": "z"}, "s": "s"}`

func plantedCases() []planted {
	return []planted{
		{
			name: "early exit, a builtin fails", a: `x if input.a == "x"`, b: `x if to_number(input.s) == 1`,
		},
		{
			name: "early exit, a division by zero", a: `x if input.n == 0`, b: `x if 1 / input.n == 1`,
		},
		{
			name: "early exit, a helper conflicts", text: "h := 1 if input.a == \"x\"\n\nh := 2 if input.n == 0",
			a: `x if input.a == "x"`, b: `x if h == 1`,
		},
		{
			name: "early exit, a helper fails", text: "h if to_number(input.s) > 1",
			a: `x if input.a == "x"`, b: `x if h`,
		},
		{
			name: "early exit, a function conflicts", text: "f(y) := 1 if y == \"x\"\n\nf(y) := 2 if y != \"z\"",
			a: `x if input.a == "x"`, b: `x if f(input.a) == 1`,
		},
		{
			name: "early exit, an object has a conflict", a: `x if input.a == "x"`, b: `x if count({"k": v | some v in input.list}) == 1`,
		},
		{
			name: "early exit inside of an iteration", a: "x if {\n\tsome v in input.list\n\tto_number(v) == 1\n}", b: `x if input.a == "none"`,
		},
		{
			name: "early exit, a failing element first", a: "x if {\n\tsome v in [\"y\", 1]\n\tto_number(v) == 1\n}", b: `x if input.a == "none"`, fails: true,
		},
		{
			name: "values differ", a: `x := true if input.a == "x"`, b: `x := false if input.n == 0`, fails: true,
		},
		{
			name: "values differ, one of them computed", a: `x := "x" if input.n == 0`, b: `x := input.k if input.a == "x"`, fails: true,
		},
		{
			name: "one of many, with a default", text: "default x := false", a: `x if input.a == "x"`, b: `x if upper(input.n) == "A"`,
		},
		{
			name: "else after a failure", a: "x := 1 if {\n\tto_number(input.s) == 1\n} else := 1 if {\n\tinput.a == \"x\"\n}", b: `x := 1 if input.n == 0`,
		},
		{
			name: "guards, a guarded definition fails", text: "x if input.k == \"two\"\n\nx if input.k == \"three\"\n\nx if input.k == \"four\"",
			a: `x if input.k == "one"`, b: "x if {\n\tinput.k == \"one\"\n\tto_number(input.s) == 1\n}",
		},
		{
			name: "guards, a failing definition between", text: "x if input.k == \"two\"\n\nx if input.k == \"three\"\n\nx if input.k == \"four\"",
			a: `x if to_number(input.s) == 1`, b: `x if input.k == "one"`,
		},
		{
			name: "guards, what fails comes before the guard", text: "x if input.k == \"two\"\n\nx if input.k == \"three\"\n\nx if input.k == \"four\"",
			a: "x if {\n\tto_number(input.s) == 1\n\tinput.k == \"nine\"\n}", b: `x if input.k == "one"`,
		},
		{
			name: "guards, conflict of two guarded definitions", text: "x := 5 if input.k == \"two\"\n\nx := 6 if input.k == \"three\"",
			a: `x := 1 if input.k == "one"`, b: `x := 2 if input.k == "one"`, fails: true,
		},
		{
			name: "unread, the call fails", a: "x if {\n\tv := to_number(input.s)\n\tinput.a == \"x\"\n\ttype_name(v) != \"y\"\n}", b: `x if input.n == 0`,
		},
		{
			name: "unread, a wildcard of what fails", a: "x if {\n\t_ = to_number(input.s)\n\tinput.a == \"x\"\n}", b: `x if input.n == 5`, fails: true,
		},
		{
			name: "unread, undefined", a: "x if {\n\t_ = input.none\n\tinput.a == \"x\"\n}", b: `x if input.n == 5`,
		},
		{
			name: "fusion, a long look-up", a: `x if input.o.p.r.s == 1`, b: `x if input.o.p == to_number(input.o.q)`, fails: true,
		},
		{
			name: "fusion, a computed key", a: "x if {\n\tsome k in [\"p\", \"q\"]\n\tinput.o[k] == to_number(input.o[k])\n}", b: `x if input.o.none.x == 1`,
		},
		{
			name: "a comprehension that topdown evaluates ahead",
			a:    "x if {\n\tsome k in [\"a\"]\n\tn := [v | some e in [{\"k\": \"a\", \"v\": \"1\"}, {\"k\": \"b\", \"v\": \"no\"}]; e.k == k; v := to_number(e.v)]\n\tcount(n) == 1\n}",
			b:    `x if input.n == 5`,
		},
		{
			name: "a comprehension that topdown cannot evaluate ahead",
			a:    "x[v] := [1 | v in input.list] if {\n\tv := \"y\"\n\ttype_name(v) != \"z\"\n}", b: "y := 1",
		},
		{
			name: "a tree of which nothing is defined", a: "x[true].a := 1 if input.none", b: "y := 1",
		},
		{
			name: "a comprehension that is all of an expression", a: "x if [1 | to_number(input.s)]", b: "y := 1", fails: true,
		},
		{
			name: "a replaced package", text: "q := data.o.c", a: "x := v if v := data.p.q with data.o as {\"c\": {\"a\": 1}}", b: "y := v if v := data.p.q with data.o.c as input.o",
		},
		{
			name: "objects that overlap", a: "y[k] := {\"b\": 1} if some k in [\"a\"]", b: "y[k].b := 1 if some k in [\"a\"]", text: "x := y",
		},
		{
			name: "objects that conflict", a: "x[k] := 1 if some k in input.list", b: "x[k] := 2 if some k in input.list", fails: true,
		},
		{
			name: "sets", a: "x contains v if some v in input.list", b: "x contains to_number(v) if some v in input.list", fails: true,
		},
		{
			name: "negation of a failure", a: "x if not to_number(input.s)", b: "x if input.n == 0",
		},
		{
			name: "negation of what cannot be equal", a: "x if not {input.a: 1} == {\"a\": 1, \"b\": 2}", b: "x if input.n == 5",
		},
		{
			name: "every, a later element fails", a: "x if {\n\tevery v in input.list { v == 2; to_number(v) == 1 }\n}", b: "x if input.n == 0",
		},
		{
			name: "with over a part of what is no object", a: `x if input.a.b == 1 with input.a.b as 1`, b: `x if input.n == 5`,
		},
		{
			name: "two definitions, the with makes one fail", a: `x if input.a == "x"`, b: `x if h with input.s as "1"`, text: "h if to_number(input.s) == 1",
		},
		{
			name: "keys again that share a hash in OPA", a: `x := count({k: 1 | some k in [0, false, null, 0, false, null, 0.5, 0.7, 0.5]})`, b: "y := 1",
		},
		{
			name: "a tree with an error in an unasked branch", a: "t.u := to_number(input.s)", b: "t.v := 1", text: "x := t.v",
		},
		{
			name: "a whole tree with an error in a branch", a: "t.u := to_number(input.s)", b: "t.v := 1", text: "x := t", fails: true,
		},
	}
}

// TestPlanted: no pass and no order of definitions makes an answer of what
// topdown ends in an error.
func TestPlanted(t *testing.T) {
	t.Parallel()
	for _, c := range plantedCases() {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for _, order := range [][]string{{c.text, c.a, c.b}, {c.text, c.b, c.a}, {c.a, c.text, c.b}, {c.b, c.text, c.a}} {
				module := "package p\n\n" + strings.Join(order, "\n\n") + "\n"
				x, err := newSubject([]string{module}, "v = data.p.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
				if err != nil {
					t.Fatalf("%v\n%s", err, module)
				}
				if err := x.setData(t.Context(), ast.NewObject()); err != nil {
					t.Fatal(err)
				}
				input := ast.MustParseTerm(plantedInput).Value
				_, wantErr := x.topdown(t.Context(), input)
				if c.fails && wantErr == nil {
					t.Errorf("the test plants nothing: topdown has an answer\n%s", module)
				}
				for name, off := range passSets() {
					x.compile(t.Context(), mustJSON(t, "{}"), off)
					if o, why := x.judge(t.Context(), input); o == wrong {
						t.Errorf("%s: %s\n%s", name, why, module)
					}
				}
			}
		})
	}
}

// TestPassesRun: each pass does something where it may, so that the comparisons
// with it on and off mean something.
func TestPassesRun(t *testing.T) {
	t.Parallel()
	module := `package p

x if input.k == "one"

x if input.k == "two"

x if input.k == "three"

x if {
	some v in input.o.list.deep
	v in {"a", "b"}
}
`
	x, err := newSubject([]string{module}, "v = data.p.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
	if err != nil {
		t.Fatal(err)
	}
	x.compile(t.Context(), mustJSON(t, "{}"), Passes{})
	if x.refusal != nil {
		t.Fatal(x.refusal)
	}
	on := x.program.stats
	if on.earlyExits == 0 || on.guarded == 0 || on.fused == 0 || on.dropped == 0 || on.folded == 0 {
		t.Errorf("passes did nothing: %+v", on)
	}
	x.compile(t.Context(), mustJSON(t, "{}"), passSets()["no passes"])
	if off := x.program.stats; off.earlyExits+off.guarded+off.fused+off.dropped+off.folded != 0 {
		t.Errorf("passes ran though they are off: %+v", off)
	}
}

// TestEarlyExitOnlyWhereNothingFails holds the condition of the pass itself.
func TestEarlyExitOnlyWhereNothingFails(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{
		`input.a == 1`:                    1,
		`input.a in input.b`:              1,
		`not input.a in input.b`:          1,
		`every v in input.list { v > 1 }`: 1,
		`h`:                               1,
		`[1 | some v in input.list; v == 1] == []`: 1,
		`data.base.a == 1`:                         1,
		`g`:                                        0,
		`f(input.a)`:                               0,
		`startswith(input.a, "x")`:                 0,
		`count(input.a) == 1`:                      0,
		`input.a + 1 == 2`:                         0,
		`{k: 1 | some k in input.list} == {}`:      0,
		`o.k == 1`:                                 0,
		`two == 1`:                                 0,
		`input.a == 1 with input.a as 1`:           0,
		`data.p.tree == {}`:                        0,
	} {
		module := `package p

x if ` + body + `

x if input.z == 2

h if input.a == 1

g if h2

h2 if to_number(input.a) == 1

f(y) if startswith(y, "a")

o[k] := 1 if some k in input.list

two := 1 if input.a == 1

two := 2 if input.a == 2

tree.a := 1

tree.b := 1 / input.a
`
		x, err := newSubject([]string{module}, "v = data.p.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
		if err != nil {
			t.Fatal(err)
		}
		x.compile(t.Context(), mustJSON(t, "{}"), Passes{})
		if x.refusal != nil {
			t.Fatalf("%s: %v", body, x.refusal)
		}
		got := 0
		for _, f := range x.program.funcs {
			if strings.HasSuffix(f.name, "data.p.x") && f.early {
				got = 1
			}
		}
		if got != want {
			t.Errorf("%s: early exit %d, want %d", body, got, want)
		}
	}
}
