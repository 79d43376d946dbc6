package rar_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/authzd/authzd/rar"
)

// condenseTypes declares one type with a field for each rule that matters here.
func condenseTypes(t testing.TB) *rar.Types {
	t.Helper()
	return compileOne(t, declare(t, `
		"actions": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
		"places": {"type": "array", "items": {"type": "string"}},
		"paths": {"type": "array", "items": {"type": "string"}},
		"names": {"type": "array", "items": {"type": "string"}},
		"grades": {"type": "array", "items": {"type": "string"}},
		"least": {"type": "number"},
		"sum": {"type": "object", "properties": {"amount": {"type": "string"}, "currency": {"type": "string"}}, "additionalProperties": false},
		"payee": {"type": "string"},
		"note": {"type": "string"}`,
		`{"/actions": {"rule": "subset", "implies": {"write": ["read"]}}, "/grades": {"rule": "subset", "implies": {"a": ["b"], "b": ["a"]}}, "/places": {"rule": "subset", "absent": "any"}, "/paths": "prefix", "/names": "glob",
		"/least": "min", "/sum/amount": "max", "/sum/currency": "equal", "/payee": "equal", "/note": "ignore"}`, ""))
}

func TestCondense(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	for _, c := range []struct {
		name  string
		needs []string
		want  []string
	}{
		{"nothing", nil, nil},
		{"one", []string{`"payee": "a"`}, []string{`"payee": "a"`}},
		{"the same twice", []string{`"payee": "a"`, `"payee": "a"`}, []string{`"payee": "a"`}},
		{
			"a lower amount is taken in",
			[]string{`"sum": {"amount": "80", "currency": "EUR"}`, `"sum": {"amount": "100", "currency": "EUR"}`},
			[]string{`"sum": {"amount": "100", "currency": "EUR"}`},
		},
		{
			"a higher least is taken in",
			[]string{`"least": 5`, `"least": 3`},
			[]string{`"least": 3`},
		},
		{
			"other currencies and payees stay apart",
			[]string{`"sum": {"amount": "80", "currency": "EUR"}`, `"sum": {"amount": "80", "currency": "USD"}`, `"payee": "a"`, `"payee": "b"`},
			[]string{`"sum": {"amount": "80", "currency": "EUR"}`, `"sum": {"amount": "80", "currency": "USD"}`, `"payee": "a"`, `"payee": "b"`},
		},
		{
			"one set grows",
			[]string{`"actions": ["read"], "payee": "a"`, `"actions": ["list"], "payee": "a"`},
			[]string{`"actions": ["read", "list"], "payee": "a"`},
		},
		{
			"read×A and write×B never make write×A",
			[]string{`"actions": ["list"], "places": ["A"]`, `"actions": ["read"], "places": ["B"]`},
			[]string{`"actions": ["list"], "places": ["A"]`, `"actions": ["read"], "places": ["B"]`},
		},
		{
			"all four corners make one",
			[]string{
				`"actions": ["list"], "places": ["A"]`, `"actions": ["read"], "places": ["B"]`,
				`"actions": ["read"], "places": ["A"]`, `"actions": ["list"], "places": ["B"]`,
			},
			[]string{`"actions": ["list", "read"], "places": ["A", "B"]`},
		},
		{
			"three needs make a whole that no two make",
			[]string{`"actions": ["list", "read"], "places": ["A"]`, `"actions": ["list"], "places": ["A", "B"]`, `"actions": ["read"], "places": ["B"]`},
			[]string{`"actions": ["list", "read"], "places": ["A", "B"]`},
		},
		{
			"a higher amount for one action is not one for both",
			[]string{`"actions": ["list"], "sum": {"amount": "80", "currency": "EUR"}`, `"actions": ["read"], "sum": {"amount": "100", "currency": "EUR"}`},
			[]string{`"actions": ["list"], "sum": {"amount": "80", "currency": "EUR"}`, `"actions": ["read"], "sum": {"amount": "100", "currency": "EUR"}`},
		},
		{
			"what implies the other is enough",
			[]string{`"actions": ["read"], "payee": "a"`, `"actions": ["write"], "payee": "a"`},
			[]string{`"actions": ["write"], "payee": "a"`},
		},
		{
			"of what implies each other one is enough",
			[]string{`"grades": ["a"], "places": ["A"]`, `"grades": ["b"], "places": ["B"]`},
			[]string{`"grades": ["a"], "places": ["A", "B"]`},
		},
		{
			"a folder and what is in it",
			[]string{`"paths": ["/a/b"]`, `"paths": ["/a"]`, `"paths": ["/c"]`},
			[]string{`"paths": ["/a", "/c"]`},
		},
		{
			"within a set, too",
			[]string{`"paths": ["/a/b", "/x"]`, `"paths": ["/a", "/y"]`},
			[]string{`"paths": ["/x", "/a", "/y"]`},
		},
		{
			"a pattern and its instance",
			[]string{`"names": ["a1"]`, `"names": ["a*"]`, `"names": ["b1"]`},
			[]string{`"names": ["a*", "b1"]`},
		},
		{
			"silence where a grant may be silent is the wider one",
			[]string{`"places": ["A"], "payee": "a"`, `"payee": "a"`},
			[]string{`"payee": "a"`},
		},
		{
			"what is ignored does not keep needs apart",
			[]string{`"payee": "a", "note": "1"`, `"payee": "a", "note": "2"`, `"payee": "a"`},
			[]string{`"payee": "a", "note": "1"`},
		},
		{
			"of what is ignored the first stays",
			[]string{`"actions": ["list"], "note": "1"`, `"actions": ["read"], "note": "2"`},
			[]string{`"actions": ["list", "read"], "note": "1"`},
		},
		{
			"the schema admits no more than three",
			[]string{`"actions": ["a", "b"]`, `"actions": ["c", "d"]`},
			[]string{`"actions": ["a", "b"]`, `"actions": ["c", "d"]`},
		},
		{
			"a number is not text",
			[]string{`"least": 3`, `"sum": {"amount": "3", "currency": "EUR"}`},
			[]string{`"least": 3`, `"sum": {"amount": "3", "currency": "EUR"}`},
		},
		{
			"what covers not even itself stays as it is",
			[]string{`"actions": []`, `"actions": ["read"]`, `"actions": []`},
			[]string{`"actions": []`, `"actions": ["read"]`, `"actions": []`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var needs []rar.Value
			for _, n := range c.needs {
				needs = append(needs, object(t, n))
			}
			got, optimal, err := types.Condense(needs, nil)
			if err != nil || !optimal {
				t.Fatalf("optimal %v, error %v", optimal, err)
			}
			var texts, want []string
			for _, v := range got {
				texts = append(texts, string(v.AppendCanonical(nil)))
			}
			for _, w := range c.want {
				want = append(want, string(object(t, w).AppendCanonical(nil)))
			}
			if !slices.Equal(texts, want) {
				t.Errorf("got  %s\nwant %s", strings.Join(texts, "\n     "), strings.Join(want, "\n     "))
			}
		})
	}
}

func TestCondenseRefuses(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	for name, c := range map[string]struct {
		needs []rar.Value
		code  rar.Code
		path  string
	}{
		"undeclared": {[]rar.Value{object(t, `"payee": "a"`), mustDecode(t, `{"type": "x"}`)}, rar.CodeUnknownType, "/1/type"},
		"invalid":    {[]rar.Value{object(t, `"payee": 1`)}, rar.CodeInvalidRequired, "/0/payee"},
		"no object":  {[]rar.Value{mustDecode(t, `1`)}, rar.CodeInvalidRequired, "/0"},
		"too many":   {make([]rar.Value, 2000), rar.CodeTooComplex, ""},
	} {
		got, optimal, err := types.Condense(c.needs, nil)
		e := asError(err)
		if got != nil || optimal || e == nil || e.Code != c.code || e.Path != c.path {
			t.Errorf("%s: %v %v %v", name, got, optimal, err)
		}
	}
}

// box is a need in a world of three actions, three places and two limits, as
// sets of bits.
type box struct{ actions, places, limit int }

func (b box) within(o box) bool {
	return b.actions&^o.actions == 0 && b.places&^o.places == 0 && b.limit <= o.limit
}

func (b box) value(t testing.TB) rar.Value {
	t.Helper()
	var actions, places []string
	for i := range 3 {
		if b.actions&(1<<i) != 0 {
			actions = append(actions, fmt.Sprintf(`"a%d"`, i))
		}
		if b.places&(1<<i) != 0 {
			places = append(places, fmt.Sprintf(`"p%d"`, i))
		}
	}
	return object(t, fmt.Sprintf(`"actions": [%s], "places": [%s], "sum": {"amount": "%d", "currency": "EUR"}`,
		strings.Join(actions, ","), strings.Join(places, ","), b.limit))
}

// askedFor: every single right in the box is in one of the needs.
func (b box) askedFor(needs []box) bool {
	for a := range 3 {
		for p := range 3 {
			for l := 1; l <= b.limit; l++ {
				cell := box{1 << a, 1 << p, l}
				if cell.within(b) && !slices.ContainsFunc(needs, cell.within) {
					return false
				}
			}
		}
	}
	return true
}

// fewest counts by brute force, over all boxes there are, how few cover all
// needs and nothing else.
func fewest(needs []box) int {
	var boxes []int // the needs that a box covers, as bits
	for a := 1; a < 8; a++ {
		for p := 1; p < 8; p++ {
			for l := 1; l <= 2; l++ {
				b, covered := box{a, p, l}, 0
				for i, n := range needs {
					if n.within(b) {
						covered |= 1 << i
					}
				}
				if covered != 0 && b.askedFor(needs) {
					boxes = append(boxes, covered)
				}
			}
		}
	}
	reached, full := map[int]bool{0: true}, 1<<len(needs)-1
	for n := 0; ; n++ {
		if reached[full] {
			return n
		}
		next := map[int]bool{}
		for have := range reached {
			for _, b := range boxes {
				next[have|b] = true
			}
		}
		reached = next
	}
}

// TestCondenseIsOptimal compares with brute force over a small world.
func TestCondenseIsOptimal(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	fewer := 0
	for range 1500 {
		needs := make([]box, 1+rng.IntN(7))
		values := make([]rar.Value, len(needs))
		for i := range needs {
			needs[i] = box{1 + rng.IntN(7), 1 + rng.IntN(7), 1 + rng.IntN(2)}
			values[i] = needs[i].value(t)
		}
		got, optimal, err := types.Condense(values, nil)
		if err != nil || !optimal {
			t.Fatalf("optimal %v, error %v", optimal, err)
		}
		if want := fewest(needs); len(got) != want {
			t.Fatalf("%+v: %d objects, brute force finds %d", needs, len(got), want)
		}
		if len(got) < len(needs) {
			fewer++
		}
	}
	if fewer < 300 {
		t.Errorf("only %d of the draws could be condensed", fewer)
	}
}

// TestCondenseOfMany: above ten the result may be larger than it need be, and
// is still right.
func TestCondenseOfMany(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	whole := func(list []rar.Value) {
		t.Helper()
		got, optimal, err := types.Condense(list, nil)
		if err != nil || !optimal || len(got) != 1 {
			t.Fatalf("%d objects, optimal %v, error %v", len(got), optimal, err)
		}
	}
	var grid, stairs []rar.Value
	for i := range 40 {
		grid = append(grid, object(t, fmt.Sprintf(`"places": ["p%d"], "paths": ["/%d"]`, i%8, i/8)))
		stairs = append(stairs, object(t, fmt.Sprintf(`"places": ["p%d"], "paths": ["/%d"]`, (i+1)/2, i/2)))
	}
	whole(grid)
	whole(slices.Repeat(grid, 25))
	got, optimal, err := types.Condense(stairs, nil)
	if err != nil || optimal || len(got) != 20 {
		t.Fatalf("stairs: %d objects, optimal %v, error %v", len(got), optimal, err)
	}
	if r := covers(t, types, got, stairs, rar.CoverOptions{}); !r.Covered {
		t.Errorf("not covered: %v", r.Because)
	}
}

// TestCondenseIsBounded: what takes too much work is not put together, and is
// still right. The steps are counted, so that the bound is one of work and not
// of somebody's clock.
func TestCondenseIsBounded(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	var payees, long, wide []rar.Value
	for i := range 300 {
		payees = append(payees, object(t, fmt.Sprintf(`"places": ["%s", %s"z"], "payee": "%d"`, strings.Repeat("x", 400), strings.Repeat(`"y", `, 200), i)))
	}
	for i := range 2 {
		var all, paths []string
		for k := range 20_000 {
			all = append(all, fmt.Sprintf(`"%d-%d"`, i, k))
			if k < 2000 {
				paths = append(paths, fmt.Sprintf(`"/%d/%d"`, i, k))
			}
		}
		long = append(long, object(t, `"places": [`+strings.Join(all, ",")+`]`))
		wide = append(wide, object(t, `"places": ["a", "b", "c"], "paths": [`+strings.Join(paths, ",")+`]`))
	}
	for name, needs := range map[string][]rar.Value{"payees": payees, "long": long, "wide": wide} {
		budget := 4 << 20
		got, optimal, err := types.Condense(needs, &budget)
		if err != nil || optimal || len(got) != len(needs) {
			t.Errorf("%s: %d objects, optimal %v, error %v", name, len(got), optimal, err)
		}
		none := 0
		if got, optimal, err := types.Condense(needs[:2], &none); err != nil || optimal || len(got) != 2 {
			t.Errorf("%s, without budget: %d objects, optimal %v, error %v", name, len(got), optimal, err)
		}
	}
}

// TestCondenseBudget: steps that are just enough are enough, and one less is not.
func TestCondenseBudget(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	needs := []rar.Value{object(t, `"places": ["A"], "paths": ["/a", "/b"]`), object(t, `"places": ["B"], "paths": ["/b", "/a"]`), object(t, `"places": ["C"], "least": 1`)}
	const plenty = 1 << 20
	budget := plenty
	if got, optimal, err := types.Condense(needs, &budget); err != nil || !optimal || len(got) != 2 {
		t.Fatalf("%d objects, optimal %v, error %v", len(got), optimal, err)
	}
	for less := range 2 {
		b := plenty - budget - less
		got, optimal, err := types.Condense(needs, &b)
		if err != nil || optimal != (less == 0) || b != -less || len(got) != 2 {
			t.Errorf("with %d steps less: %d objects, optimal %v, %d left, error %v", less, len(got), optimal, b, err)
		}
	}
}

// TestCondenseDoesNotBoast: where fewer objects are conceivable, it does not say
// that there are none; and what a joined object takes in is left out.
func TestCondenseDoesNotBoast(t *testing.T) {
	t.Parallel()
	types := condenseTypes(t)
	got, optimal, err := types.Condense([]rar.Value{
		object(t, `"actions": ["list"]`), object(t, `"actions": ["del"]`), object(t, `"actions": ["list", "del"], "places": ["x"]`),
	}, nil)
	if err != nil || optimal || len(got) != 1 {
		t.Errorf("silence: %d objects, optimal %v, error %v", len(got), optimal, err)
	}
	// The same within an object that is compared member by member.
	nested := compileOne(t, declare(t, `"actions": {"type": "array"}, "in": {"type": "object", "properties": {"places": {"type": "array"}, "text": {"type": "string"}}, "additionalProperties": false}`,
		`{"/actions": "subset", "/in/places": {"rule": "subset", "absent": "any"}, "/in/text": "equal"}`, ""))
	got, optimal, err = nested.Condense([]rar.Value{
		object(t, `"actions": ["list"], "in": {"text": ""}`), object(t, `"actions": ["del"], "in": {"text": "", "places": ["x"]}`),
	}, nil)
	if err != nil || optimal || len(got) != 2 {
		t.Errorf("silence below: %d objects, optimal %v, error %v", len(got), optimal, err)
	}
	// More combinations than are tried.
	var long [2]rar.Value
	for i := range long {
		list := func(format string) string {
			var texts []string
			for k := range 20 {
				texts = append(texts, fmt.Sprintf(format, i, k))
			}
			return "[" + strings.Join(texts, ", ") + "]"
		}
		long[i] = object(t, `"places": `+list(`"%d-%d"`)+`, "paths": `+list(`"/%d/%d"`)+`, "names": `+list(`"%d.%d"`))
	}
	if got, optimal, err = types.Condense(long[:], nil); err != nil || optimal || len(got) != 2 {
		t.Errorf("many combinations: %d objects, optimal %v, error %v", len(got), optimal, err)
	}
	// The schema admits three actions; one that another implies need not be named.
	got, optimal, err = types.Condense([]rar.Value{
		object(t, `"actions": ["write", "a"]`), object(t, `"actions": ["read", "b"]`),
	}, nil)
	if err != nil || !optimal || len(got) != 1 {
		t.Errorf("implied: %d objects, optimal %v, error %v", len(got), optimal, err)
	}
}

// TestCondenseGrantsNoMore: under random declarations the objects cover every
// need, and allow no act that no need asks for.
func TestCondenseGrantsNoMore(t *testing.T) {
	t.Parallel()
	w := newActWorld()
	joined := 0
	rapid.Check(t, func(t *rapid.T) {
		m, types := drawTypes(t)
		oracle := m.oracle()
		var needs []any
		first := m.object()
		for range 2 + m.IntN(4) {
			next := m.object()
			if m.chance(70) {
				next = m.mutate(first, m.rulesOf(first))
			}
			if types.Declared(typeOf(next)) && oracle.valid(next) {
				needs = append(needs, next)
			}
		}
		got, _, err := types.Condense(rarValues(needs, m), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < len(needs) {
			joined++
		}
		for _, need := range needs {
			self, ok := answer(t, m, types, []any{need}, []any{need}, false)
			r, err := types.Covers(got, rarValues([]any{need}, nil), rar.CoverOptions{})
			if err != nil || !ok || self && !r.Covered {
				t.Fatalf("%s\nneeds %s\ngot %s\ncover %s: %v %v", m.declarations(), jsonText(needs), text(got), jsonText(need), r, err)
			}
		}
		for _, v := range got {
			grant := plain(t, v)
			if self, _ := answer(t, m, types, []any{grant}, []any{grant}, false); !self {
				continue // kept as it was asked for; it covers nothing
			}
			asked := w.asksMembers(oracle.rules[typeOf(grant)], grant)
			if !w.allowed(oracle, needs, grant, asked) {
				t.Fatalf("%s\nneeds %s\n%s allows more", m.declarations(), jsonText(needs), jsonText(grant))
			}
		}
	})
	if joined == 0 && !testing.Short() {
		t.Error("nothing was ever condensed")
	}
}

func text(list []rar.Value) string { return string(rar.ArrayValue(list...).AppendJSON(nil)) }

// plain is an object as the oracles see it.
func plain(t *rapid.T, v rar.Value) map[string]any {
	d := json.NewDecoder(strings.NewReader(string(v.AppendJSON(nil))))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
