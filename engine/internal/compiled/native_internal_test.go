package compiled

import (
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

func randomNode(r *rand.Rand, depth int) ast.Value {
	k := r.Intn(9)
	if depth == 0 {
		k = r.Intn(6)
	}
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	switch k {
	case 0:
		return ast.NullValue
	case 1:
		return ast.Boolean(r.Intn(2) == 0)
	case 2, 3:
		return ast.Number(pick("0", "1", "1.0", "2", "-1", "1.5", "1.50", "1e0", "10", "-0", "12345678901234567890", "9007199254740993", "9223372036854775807", "0.1e1"))
	case 4, 5:
		return ast.String(pick("", "a", "b", "ab", "ba", "é", "aé", "1", "-1", "01", "1.0", "1.5", "1.50", "100.00", "0.00", "-0.0", "-1.50", "00.50", "1.", ".50", "1e0", "10000000000000.00", "%v", "%s-%d", "a,b", "A", " a ", "ǅ", "^a", "["))
	}
	n := r.Intn(4)
	if r.Intn(20) == 0 {
		n = 10 + r.Intn(30)
	}
	terms := make([]*ast.Term, n)
	for i := range terms {
		terms[i] = ast.NewTerm(randomNode(r, depth-1))
	}
	switch k {
	case 6:
		return ast.NewArray(terms...)
	case 7:
		return ast.NewSet(terms...)
	}
	o := ast.NewObject()
	for _, t := range terms {
		if o.Get(t) == nil { // inserting a key again breaks an object whose keys share a hash
			o.Insert(t, ast.NewTerm(randomNode(r, depth-1)))
		}
	}
	return o
}

// testMachine is a machine outside of any evaluation.
func testMachine(t *testing.T) *machine {
	t.Helper()
	p := &Program{limits: Limits{}.withDefaults()}
	m := p.take()
	m.ctx, m.budget, m.now = t.Context(), 1<<60, time.Unix(1, 0)
	return m
}

// TestNative: each native builtin answers as OPA's own does, or leaves the call
// to it. Where OPA's fails, it must be left to it.
func TestNative(t *testing.T) {
	t.Parallel()
	rounds := 6000
	if testing.Short() {
		rounds = 1000
	}
	calls := map[string]int{}
	r := seeded(5)
	m := testMachine(t)
	for range rounds {
		args := []ast.Value{randomNode(r, 2), randomNode(r, 2), randomNode(r, 2)}
		if r.Intn(4) == 0 {
			args[1] = args[0]
		}
		a, b, c := m.arena.fromAST(args[0]), m.arena.fromAST(args[1]), m.arena.fromAST(args[2])
		for _, decl := range ast.Builtins {
			var got *node
			arity := len(decl.Decl.FuncArgs().Args)
			pattern := operand{constant: a}
			switch {
			case arity == 1 && native1(decl.Name) != nil:
				got = native1(decl.Name)(m, a)
			case arity == 2 && native2(decl.Name) != nil:
				got = native2(decl.Name)(m, a, b)
			case arity == 2 && prepared(decl.Name, []operand{pattern, {}}) != nil:
				got = prepared(decl.Name, []operand{pattern, {}})(m, b)
			case arity == 3 && native3(decl.Name) != nil:
				got = native3(decl.Name)(m, a, b, c)
			default:
				continue
			}
			if got == delegate {
				continue
			}
			calls[decl.Name]++
			want, err := callOPA(m, decl.Name, args[:arity])
			switch {
			case err != nil || want == nil:
				t.Errorf("%s%v: %v, OPA %v %v", decl.Name, args[:arity], got.toAST(), want, err)
			case ast.Compare(got.toAST().Value, want.Value) != 0 || got.toAST().String() != want.String():
				t.Errorf("%s%v: %v, OPA %v", decl.Name, args[:arity], got.toAST(), want)
			}
		}
		m.arena.reset()
	}
	for _, decl := range ast.Builtins {
		known := native1(decl.Name) != nil || native2(decl.Name) != nil || native3(decl.Name) != nil
		if known && calls[decl.Name] < rounds/500 {
			t.Errorf("%s was compared %d times only", decl.Name, calls[decl.Name])
		}
	}
	t.Logf("%d builtins", len(calls))
}

func callOPA(m *machine, name string, args []ast.Value) (out *ast.Term, err error) {
	terms := make([]*ast.Term, len(args))
	for i, a := range args {
		terms[i] = ast.NewTerm(a)
	}
	err = topdown.GetBuiltin(name)(*m.builtinContext(), terms, func(o *ast.Term) error { out = o; return nil })
	return out, err
}

// TestInfallibleBuiltins: what early exit relies on never fails in OPA.
func TestInfallibleBuiltins(t *testing.T) {
	t.Parallel()
	r := seeded(6)
	m := testMachine(t)
	n := 0
	for _, decl := range ast.Builtins {
		if !infallibleBuiltin(decl.Name) || topdown.GetBuiltin(decl.Name) == nil {
			continue
		}
		n++
		for range 2000 {
			args := []ast.Value{randomNode(r, 2), randomNode(r, 2), randomNode(r, 2)}[:decl.Decl.Arity()]
			if _, err := callOPA(m, decl.Name, args); err != nil {
				t.Errorf("%s%v: %v", decl.Name, args, err)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d builtins", n)
	}
}

// TestValues: order, equality, hashes, look-up and conversion agree with the
// AST's.
func TestValues(t *testing.T) {
	t.Parallel()
	r := seeded(7)
	m := testMachine(t)
	for range 20000 {
		x, y := randomNode(r, 2), randomNode(r, 2)
		if r.Intn(4) == 0 {
			y = x
		}
		a, b := m.arena.fromAST(x), m.arena.fromAST(y)
		want := ast.Compare(x, y)
		if got := compare(a, b); (got < 0) != (want < 0) || (got > 0) != (want > 0) || equal(a, b) != (want == 0) {
			t.Errorf("order of %v and %v: %d, OPA %d", x, y, got, want)
		}
		if want == 0 && hashNode(a) != hashNode(b) {
			t.Errorf("%v and %v are equal, their hashes are not", x, y)
		}
		if ast.Compare(a.toAST().Value, x) != 0 {
			t.Errorf("conversion of %v: %v", x, a.toAST())
		}
		wantFound := ast.Value(nil)
		switch x := x.(type) {
		case *ast.Array:
			if e := x.Get(ast.NewTerm(y)); e != nil {
				wantFound = e.Value
			}
		case ast.Object:
			if e := x.Get(ast.NewTerm(y)); e != nil {
				wantFound = e.Value
			}
		case ast.Set:
			if x.Contains(ast.NewTerm(y)) {
				wantFound = y
			}
		}
		found := new(machine).dot(a, b)
		if (found == nil) != (wantFound == nil) || found != nil && ast.Compare(found.toAST().Value, wantFound) != 0 {
			t.Errorf("%v[%v]: not as OPA", x, y)
		}
		m.arena.reset()
	}
}

// TestNumbers: numbers compare as OPA compares them, whatever their text.
func TestNumbers(t *testing.T) {
	t.Parallel()
	r := seeded(3)
	one := func() string {
		s := ""
		if r.Intn(3) == 0 {
			s = "-"
		}
		s += strconv.FormatInt(r.Int63()>>r.Intn(63), 10)
		switch r.Intn(6) {
		case 0, 1:
			s += "." + strconv.Itoa(r.Intn(1000))
		case 2:
			s += "." + strings.Repeat("0", 1+r.Intn(8)) + strconv.Itoa(r.Intn(3))
		case 3:
			s += fmt.Sprintf("e%d", r.Intn(12)-6)
		}
		return s
	}
	texts := []string{
		"0", "-0", "0.0", "-0.0", "1", "1.0", "1.10", "1.1", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"0.1", "1e-1", "100e-1", "10", "1e400", "10e399", "-1e400", "1e-400", "999999999999.999999", "1000000000000",
	}
	more := 300
	if testing.Short() {
		more = 60
	}
	for range more {
		texts = append(texts, one())
	}
	var a arena
	for _, x := range texts {
		for _, y := range texts {
			want := ast.NumberCompare(ast.Number(x), ast.Number(y))
			p, q := a.num(x), a.num(y)
			if got := compareNumbers(p, q); got != want {
				t.Errorf("%s ? %s: %d, OPA %d", x, y, got, want)
			}
			if equal(p, q) != (want == 0) || want == 0 && hashNode(p) != hashNode(q) {
				t.Errorf("%s = %s: not as OPA", x, y)
			}
		}
		if p := a.num(x); p.numText() != x {
			t.Errorf("%s became %s", x, p.numText())
		}
	}
}
