package base

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/authzd/authzd/rar"
)

// rowsIn is random text of rows, an array or object.
func rowsIn(r *rand.Rand, n int) string {
	var out []string
	object := r.IntN(2) == 0
	for i := range n {
		row := []string{
			`{"id": "a"}`, `{"id": "b", "x": [1]}`, `{"id": ""}`, `{"id": "\u0061"}`, `{"id": 1}`, `{"id": 1.0}`, `{"id": null}`, `{"id": ["a"]}`, `{"id": {"id": "a"}}`,
			`{"x": "a"}`, `{}`, `"a"`, `["a"]`, `null`, `{"x": 1, "id": "a", "pad": "` + strings.Repeat("p", r.IntN(80)) + `"}`,
		}[r.IntN(15)]
		if object {
			row = strconv.Quote([]string{"", "k", "a/b"}[r.IntN(3)]+strconv.Itoa(i)) + ":" + row
		}
		out = append(out, row)
	}
	if object {
		return "{" + strings.Join(out, ",") + "}"
	}
	return "[" + strings.Join(out, ",") + "]"
}

// wantRows are the rows of AST that have a key, as policy finds them.
func wantRows(t *testing.T, v ast.Value, key string) ast.Value {
	t.Helper()
	has := func(row *ast.Term) bool {
		o, ok := row.Value.(ast.Object)
		if !ok {
			return false
		}
		id := o.Get(ast.StringTerm("id"))
		if id == nil {
			return false
		}
		if s, ok := id.Value.(ast.String); ok {
			return key == TextKey(string(s))
		}
		return key == OtherKey
	}
	switch v := v.(type) {
	case *ast.Array:
		var out []*ast.Term
		v.Foreach(func(row *ast.Term) {
			if has(row) {
				out = append(out, row)
			}
		})
		if len(out) > 0 {
			return ast.NewArray(out...)
		}
	case ast.Object:
		var out [][2]*ast.Term
		v.Foreach(func(k, row *ast.Term) {
			if has(row) {
				out = append(out, [2]*ast.Term{k, row})
			}
		})
		if len(out) > 0 {
			return ast.NewObject(out...)
		}
	default:
		t.Fatalf("%T", v)
	}
	return nil
}

// TestIndex: an index gives the rows that have a key, in their order, however the document
// is kept, and after it has changed.
func TestIndex(t *testing.T) {
	t.Parallel()
	path, found := []string{"org", "teams"}, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 26)) //nolint:gosec // a test's
		var s *Store
		for range 3 {
			text := `{"org": {"teams": ` + rowsIn(r, []int{0, 1, 5, 40}[r.IntN(4)]) + `, "other": 1}}`
			data, err := (rar.Packing{Above: r.IntN(2) * 100_000, Row: 1 + r.IntN(100)}).Decode(text, rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if s == nil {
				s = newStore(data, term, r.IntN(5), int64([]int{0, 50, maxKept}[r.IntN(3)]))
				err = s.Index(t.Context(), path, []string{"id"})
			} else {
				s, err = s.With(t.Context(), data)
			}
			if err != nil {
				t.Fatal(err)
			}
			all, err := s.Read(t.Context(), reading{}, path)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"sa", "sb", "s", "sc", "o", "so"} {
				at := storage.Path{IndexRoot, "org/teams", "id", key}
				want := wantRows(t, valueOf(t, all), key)
				got, err := s.Read(t.Context(), reading{}, at)
				if want == nil {
					if !storage.IsNotFound(err) {
						t.Fatalf("seed %d: %s: %v, %v", seed, key, got, err)
					}
					continue
				}
				if err != nil || valueOf(t, got).Compare(want) != 0 {
					t.Fatalf("seed %d: %s: %v, not %v (%v)", seed, key, got, want, err)
				}
				found++
				// Row by row it is the same.
				names := []string{"9999", "x", "-1"}
				switch w := want.(type) {
				case *ast.Array:
					names = append(names, "0", strconv.Itoa(w.Len()-1), strconv.Itoa(w.Len()))
				case ast.Object:
					w.Foreach(func(k, _ *ast.Term) { names = append(names, string(k.Value.(ast.String))) }) //nolint:forcetypeassert // a panic is as good
				}
				for _, name := range names {
					one, err := valueAt(want, storage.Path{name, "id"})
					row, rowErr := s.Read(t.Context(), reading{}, append(at[:len(at):len(at)], name, "id"))
					if (err == nil) != (rowErr == nil) || err == nil && valueOf(t, row).Compare(valueOf(t, one)) != 0 || err != nil && !storage.IsNotFound(rowErr) {
						t.Fatalf("seed %d: %s: %v, %v", seed, name, row, rowErr)
					}
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("%d found", found)
	}
}

// TestIndexIsNoData: nothing lists it, what no index is for is a fault and not nothing, and
// without indexes there is nothing.
func TestIndexIsNoData(t *testing.T) {
	t.Parallel()
	data := decode(t, rar.Packing{}, `{"grants": [{"id": "a"}], "n": 1}`)
	s := newStore(data, term, fewChildren, maxKept)
	if _, err := s.Read(t.Context(), reading{}, storage.Path{IndexRoot}); !storage.IsNotFound(err) {
		t.Error(err)
	}
	if err := s.Index(t.Context(), []string{"grants"}, []string{"id"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []storage.Path{
		{IndexRoot},
		{IndexRoot, "grants"},
		{IndexRoot, "grants", "id"},
		{IndexRoot, "grants", "x", "sa"},
		{IndexRoot, "other", "id", "sa"},
		{IndexRoot, "grants", "id", "x"},
		{IndexRoot, "grants", "id", ""},
		{IndexRoot, "grants", "id", "oa"},
	} {
		if v, err := s.Read(t.Context(), reading{}, path); err == nil || storage.IsNotFound(err) {
			t.Errorf("%v: %v, %v", path, v, err)
		}
	}
	all, err := s.Read(t.Context(), reading{}, nil)
	if err != nil || valueOf(t, all).Compare(term(data).Value) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	for _, path := range [][]string{{"n"}, {"none"}, {"grants", "id"}} {
		if err := s.Index(t.Context(), path, []string{"id"}); err == nil {
			t.Errorf("%v is indexed", path)
		}
	}
	scalar := decode(t, rar.Packing{}, `{"grants": 1}`)
	if _, err := s.With(t.Context(), scalar); err == nil {
		t.Error("a scalar is indexed")
	}
}

// TestIndexOfSameText: rows of one hash are told apart by what they say.
func TestIndexOfSameText(t *testing.T) {
	t.Parallel()
	data := decode(t, rar.Packing{}, `{"grants": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}`)
	s := newStore(data, term, fewChildren, maxKept)
	if err := s.Index(t.Context(), []string{"grants"}, []string{"id"}); err != nil {
		t.Fatal(err)
	}
	x := s.indexes["grants"].by["id"]
	x.texts = []uint64{x.hash("a") << rowBits, x.hash("a")<<rowBits | 1, x.hash("a")<<rowBits | 2}
	if got := x.rows(s.indexes["grants"].from, "sa"); fmt.Sprint(got) != "[0 2]" {
		t.Error(got)
	}
}

// TestIndexWith: of what has not changed the index is taken over, and another one ends with
// the context.
func TestIndexWith(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString(`{"few": {"x": 1}, "grants": [`)
	const rows = 40_000
	for i := range rows {
		fmt.Fprintf(&text, `{"id": "u%d", "role": "some role of this user"},`, i%4)
	}
	text.WriteString(`{"id": "last"}]}`)
	data, err := rar.DecodePacked(text.String(), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(data, term, maxKept)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Index(ended, []string{"grants"}, []string{"id"}); err == nil {
		t.Error("indexed after the end")
	}
	if err := s.Index(t.Context(), []string{"grants"}, []string{"id"}); err != nil {
		t.Fatal(err)
	}
	limits := rar.Limits{MaxBytes: 1 << 30}
	edited := func(e rar.Edit) rar.Value {
		v, err := rar.Apply(data, []rar.Edit{e}, limits)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	same := edited(rar.Edit{Op: rar.Upsert, Path: []string{"few", "x"}, Value: rar.IntValue(2)})
	next, err := s.With(ended, same)
	if err != nil {
		t.Fatal(err)
	}
	if next.indexes["grants"].by["id"] != s.indexes["grants"].by["id"] {
		t.Error("made again")
	}
	other := edited(rar.Edit{Op: rar.Upsert, Path: []string{"grants", strconv.Itoa(rows)}, Value: decode(t, rar.Packing{}, `{"id": "new"}`)})
	if _, err := s.With(ended, other); err == nil {
		t.Error("indexed after the end")
	}
	changed, err := s.With(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    *Store
		key  string
		rows int
	}{{s, "slast", 1}, {s, "snew", 0}, {changed, "slast", 1}, {changed, "snew", 1}, {changed, "su1", rows / 4}, {next, "su3", rows / 4}} {
		// Many rows are those of the whole document, which is kept.
		v, err := c.s.Read(t.Context(), reading{}, storage.Path{IndexRoot, "grants", "id", c.key})
		if c.s == s && s.root.kids["grants"].made() != nil {
			t.Error("few rows are read, and all of them kept")
		}
		if c.rows == 0 {
			if !storage.IsNotFound(err) {
				t.Errorf("%s: %v, %v", c.key, v, err)
			}
			continue
		}
		if err != nil || valueOf(t, v).(*ast.Array).Len() != c.rows { //nolint:forcetypeassert // a panic is as good
			t.Errorf("%s: %v", c.key, err)
		}
		if _, err := c.s.Read(ended, reading{}, storage.Path{IndexRoot, "grants", "id", c.key}); err == nil && c.rows > 1 {
			t.Errorf("%s: read after the end", c.key)
		}
	}
	if d := changed.root.kids["grants"]; d.made() == nil {
		t.Error("many rows are read, and not kept")
	}
}
