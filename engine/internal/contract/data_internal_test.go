package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// manyRows has users none of whom has a member "x".
func manyRows(t testing.TB, n int) rar.Value {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"users": {`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"u%d": {"roles": ["a", "b", "c"], "team": {"name": "t%d", "of": [1, 2]}}`, i, i)
	}
	b.WriteString(`}}`)
	v, err := rar.Packing{Above: 1}.Decode(b.String(), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRowsAreNotDecoded: a path through every row of a large document decodes none of
// those that do not have it, and is looked up once for all rules that read it.
func TestRowsAreNotDecoded(t *testing.T) { // it counts allocations: alone
	const rows, rules = 5000, 40
	var policy strings.Builder
	policy.WriteString("package authz\n\n")
	for i := range rules {
		fmt.Fprintf(&policy, "forbid[\"f%d\"] := {} if {\n\tsome user in data.users\n\tuser.team.x.y == input.subject.id\n}\n\n", i)
	}
	m, err := ast.ParseModuleWithOpts("p.rego", policy.String(), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	a := Analyze(Input{Modules: map[string]*ast.Module{"p.rego": m}})
	data := manyRows(t, rows)
	var found []Finding
	allocs := testing.AllocsPerRun(1, func() { found = a.CheckData(data) })
	missing := 0
	for _, f := range found {
		if f.Code == CodeMissingData {
			missing++
		}
	}
	if missing != rules {
		t.Errorf("%d findings of %d: %v", missing, rules, found)
	}
	if allocs > rows {
		t.Errorf("%v allocations", allocs)
	}
	looks := dataLooks{data: data, names: map[string]map[string]int{}, found: map[string]looked{}}
	path := []step{{name: "users"}, {kind: stepEach}, {name: "team"}, {name: "name"}}
	first, _ := looks.at("a", path)
	looks.data = rar.ObjectValue()
	if again, ok := looks.at("a", path); !ok || !rar.Equal(first, again) {
		t.Error("looked up again")
	}
	if _, ok := looks.at("b", path); ok {
		t.Error("another path is the same")
	}
}

// TestLookEach: however data is kept, a path leads to the same.
func TestLookEach(t *testing.T) {
	t.Parallel()
	each, name, at := step{kind: stepEach}, func(s string) step { return step{name: s} }, func(i int) step { return step{kind: stepIndex, index: i} }
	long := strings.Repeat("x", 5000)
	const text = `{
		"a": {"n": null, "s": "text", "i": {"x": null, "y": {"z": [null, {"q": 1}]}}, "j": {"x": {"w": 2}, "y": []}, "l": [{"q": 3}]},
		"l": [1, null, [], {"x": null}, {"x": [null, {"q": null}]}, {"x": [{"q": false}]}, {"long": {"q": 5, "p": "LONG"}}],
		"e": {}, "f": [], "n": null, "s": "s"
	}`
	doc := strings.Replace(text, "LONG", long, 1)
	plain, err := rar.DecodeText(doc, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	steps := []step{each, each, name("a"), name("l"), name("x"), name("y"), name("z"), name("q"), name("w"), name("i"), name("e"), name("long"), name("n"), name("s"), at(0), at(1), at(9), {kind: stepDynamic}}
	for _, p := range []rar.Packing{{Above: 1}, {Above: 1, Row: 1}, {Above: 1, Row: 60}} {
		packed, err := p.Decode(doc, rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		compared, hits := 0, 0
		var try func(path []step)
		try = func(path []step) {
			got, ok := lookSteps(packed, path)
			want, wantOK := plainLook(plain, path)
			if ok != wantOK || !rar.Equal(got, want) {
				t.Fatalf("data%s: %s %v, not %s %v", pathText(path), got.AppendJSON(nil), ok, want.AppendJSON(nil), wantOK)
			}
			compared++
			if ok {
				hits++
			}
			for _, s := range steps {
				if len(path) < 4 {
					try(append(path[:len(path):len(path)], s))
				}
			}
		}
		try(nil)
		if compared < 100_000 || hits < 1000 {
			t.Errorf("%d of %d", hits, compared)
		}
	}
}

// plainLook is lookSteps as it is said: element by element, step by step.
func plainLook(v rar.Value, path []step) (rar.Value, bool) {
	if len(path) == 0 {
		return v, true
	}
	s, rest := path[0], path[1:]
	switch {
	case s.kind == stepName && v.Kind() == rar.Object:
		if next, ok := v.Get(s.name); ok {
			return plainLook(next, rest)
		}
	case s.kind == stepIndex && v.Kind() == rar.Array && s.index < v.Len():
		return plainLook(v.Index(s.index), rest)
	case s.kind == stepEach && (v.Kind() == rar.Array || v.Kind() == rar.Object):
		if v.Len() == 0 || len(rest) == 0 {
			return v, true
		}
		for i := range v.Len() {
			e := v.Index(i)
			if v.Kind() == rar.Object {
				e = v.Member(i).Value
			}
			if found, ok := plainLook(e, rest); ok && found.Kind() != rar.Null {
				return found, true
			}
		}
	}
	return rar.Value{}, false
}
