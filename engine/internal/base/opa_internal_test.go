package base

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/authzd/authzd/rar"
)

// storageDocument and storageReads are the document and the reads of the tests of OPA's
// store in memory (v1/storage/inmem, OPA 1.22.2), with what there is at each.
const storageDocument = `{"a": [1,2,3,4], "b": {"v1": "hello", "v2": "goodbye"},
	"c": [{"x": [true, false, "foo"], "y": [null, 3.14159], "z": {"p": true, "q": false}}],
	"d": {"e": ["bar", "baz"]}, "g": {"a": [1, 0, 0, 0], "b": [0, 2, 0, 0], "c": [0, 0, 0, 4]}, "h": [[1,2,3], [2,3,4]]}`

func storageReads() map[string]string {
	return map[string]string{
		"/a/0": `1`, "/a/3": `4`, "/b/v1": `"hello"`, "/b/v2": `"goodbye"`, "/c/0/x/1": `false`, "/c/0/y/0": `null`, "/c/0/y/1": `3.14159`,
		"/d/e/1": `"baz"`, "/d/e": `["bar", "baz"]`, "/c/0/z": `{"p": true, "q": false}`,
		"/a/0/beef": "", "/d/100": "", "/dead/beef": "", "/a/str": "", "/a/100": "", "/a/-1": "",
	}
}

// storageWrites are OPA's tests of writes: what is done, where, and what is at a place
// then; "" for an error, which leaves all as it was.
func storageWrites() [][5]string {
	return [][5]string{
		{"add", "/newroot", `{"a": [[1]]}`, "/newroot", `{"a": [[1]]}`},
		{"add", "/a/1", `"x"`, "/a", `[1,"x",2,3,4]`},
		{"add", "/h/1/2", `"x"`, "/h", `[[1,2,3], [2,3,"x",4]]`},
		{"add", "/d/e/1", `"x"`, "/d", `{"e": ["bar", "x", "baz"]}`},
		{"add", "/b/vNew", `"x"`, "/b", `{"v1": "hello", "v2": "goodbye", "vNew": "x"}`},
		{"add", "/b/v2", `"x"`, "/b", `{"v1": "hello", "v2": "x"}`},
		{"add", "/a/-", `"x"`, "/a", `[1,2,3,4,"x"]`},
		{"add", "/a/4", `"x"`, "/a", `[1,2,3,4,"x"]`},
		{"add", "/c/0/x/-", `"x"`, "/c/0/x", `[true,false,"foo","x"]`},
		{"add", "/c/0/x/3", `"x"`, "/c/0/x", `[true,false,"foo","x"]`},
		{"add", "/h/0/-", `"x"`, "/h/0/3", `"x"`},
		{"add", "/h/0/3", `"x"`, "/h/0/3", `"x"`},
		{"remove", "/c/0/x/-", ``, "", ""},
		{"replace", "/c/0/x/-", `1`, "", ""},
		{"remove", "/a/1", ``, "/a", "[1,3,4]"},
		{"remove", "/c/0/x/1", ``, "/c/0/x", `[true,"foo"]`},
		{"remove", "/h/0/1", ``, "/h/0", "[1,3]"},
		{"remove", "/b/v2", ``, "/b", `{"v1": "hello"}`},
		{"replace", "/a", "1", "/a", "1"},
		{"replace", "/b/v1", "1", "/b", `{"v1": 1, "v2": "goodbye"}`},
		{"replace", "/a/1", "999", "/a", "[1,999,3,4]"},
		{"add", "/a/foo", "1", "", ""},
		{"add", "/a/3.14", "1", "", ""},
		{"add", "/a/5", "1", "", ""},
		{"add", "/a/-1", "1", "", ""},
		{"add", "/a/1/2", "1", "", ""},
		{"add", "/h/9999/-", `"x"`, "", ""},
		{"add", "/a/-/b/-", `"x"`, "", ""},
		{"add", "/b/v1/-", "1", "", ""},
		{"remove", "/dead/beef/0", "", "", ""},
		{"remove", "/b/deadbeef", "", "", ""},
		{"replace", "/deadbeef", "1", "", ""},
		{"replace", "/dead/beef/1", "1", "", ""},
	}
}

func decodePacked(t testing.TB, text string, row int) rar.Value {
	t.Helper()
	v, err := rar.Packing{Above: 1, Row: row}.Decode(text, rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ops() map[string]rar.EditOp {
	return map[string]rar.EditOp{"add": rar.Upsert, "replace": rar.Replace, "remove": rar.Remove}
}

// TestStorage: what OPA's own tests of storage read and write comes out as there, whatever
// of it is packed.
func TestStorage(t *testing.T) {
	t.Parallel()
	for _, row := range []int{1, 8, 30, 1000} {
		data := decodePacked(t, storageDocument, row)
		for _, few := range []int{0, 2, fewChildren} {
			for _, room := range []int64{0, maxKept} {
				s := newStore(data, term, few, room)
				for path, want := range storageReads() {
					got, err := s.Read(t.Context(), reading{}, storage.MustParsePath(path))
					switch {
					case want == "" && !storage.IsNotFound(err):
						t.Errorf("%s: %v, %v", path, got, err)
					case want != "" && (err != nil || valueOf(t, got).Compare(ast.MustParseTerm(want).Value) != 0):
						t.Errorf("%s: %v, %v, not %s", path, got, err, want)
					}
				}
			}
		}
		for _, w := range storageWrites() {
			e := rar.Edit{Op: ops()[w[0]], Path: storage.MustParsePath(w[1])}
			if w[2] != "" {
				e.Value = decodePacked(t, w[2], row)
			}
			changed, err := rar.Packing{Above: 1, Row: row}.Apply(data, []rar.Edit{e}, rar.Limits{})
			if (err != nil) != (w[4] == "") {
				t.Errorf("%v: %v", w, err)
			}
			if err != nil {
				continue
			}
			got, err := newStore(changed, term, 2, maxKept).Read(t.Context(), reading{}, storage.MustParsePath(w[3]))
			if err != nil || valueOf(t, got).Compare(ast.MustParseTerm(w[4]).Value) != 0 {
				t.Errorf("%v: %v, %v", w, got, err)
			}
		}
	}
}

// opaWrites makes edits on OPA's store as it makes those of a delta bundle. False: it
// refuses one.
func opaWrites(t testing.TB, s storage.Store, edits []rar.Edit) (ok bool) {
	t.Helper()
	txn, err := s.NewTransaction(t.Context(), storage.WriteParams)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		op := map[rar.EditOp]storage.PatchOp{rar.Upsert: storage.AddOp, rar.Replace: storage.ReplaceOp, rar.Remove: storage.RemoveOp}[e.Op]
		path := storage.Path(e.Path)
		if e.Op == rar.Upsert {
			if _, err := s.Read(t.Context(), txn, path[:len(path)-1]); err != nil {
				if err := storage.MakeDir(t.Context(), s, txn, path[:len(path)-1]); err != nil {
					s.Abort(t.Context(), txn)
					return false
				}
			}
		}
		var value any
		if e.Op != rar.Remove {
			value = e.Value.Any()
		}
		if err := s.Write(t.Context(), txn, op, path, value); err != nil {
			s.Abort(t.Context(), txn)
			return false
		}
	}
	return s.Commit(t.Context(), txn) == nil
}

// TestEditsAsOPA: random edits come out as OPA makes those of a delta bundle, and are
// refused where it refuses them, but that it takes "+1" and "01" for indexes.
func TestEditsAsOPA(t *testing.T) {
	t.Parallel()
	steps := []string{"a", "b", "0", "1", "2", "-", "x/y", "~", "é"}
	made, refused := 0, 0
	seeds := uint64(3000)
	if testing.Short() {
		seeds = 300
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 31)) //nolint:gosec // a test's
		pack := rar.Packing{Above: 1, Row: 1 + r.IntN(50)}
		data, err := pack.Decode(`{"a": `+text(r, 3)+`, "b": `+text(r, 3)+`}`, rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		object, ok := data.Any().(map[string]any)
		if !ok {
			t.Fatal("no object")
		}
		opa := inmem.NewFromObjectWithOpts(object, inmem.OptReturnASTValuesOnRead(true))
		for range 12 {
			e := rar.Edit{Op: []rar.EditOp{rar.Upsert, rar.Replace, rar.Remove}[r.IntN(3)], Path: []string{[]string{"a", "b", "c"}[r.IntN(3)]}}
			for range r.IntN(4) {
				e.Path = append(e.Path, steps[r.IntN(len(steps))])
			}
			if e.Op != rar.Remove {
				e.Value = decodePacked(t, strings.ReplaceAll(text(r, 2), "k", strconv.Itoa(r.IntN(3))+"k"), 20)
			}
			// One: several in a transaction that OPA looks at before they are written may be
			// refused there.
			edits := []rar.Edit{e}
			changed, err := pack.Apply(data, edits, rar.Limits{})
			if theirs := opaWrites(t, opa, edits); theirs != (err == nil) {
				t.Fatalf("seed %d: %v on %s: OPA takes it: %v; %v", seed, edits, data.AppendJSON(nil), theirs, err)
			}
			if err != nil {
				refused++
				continue
			}
			made++
			data = changed
			txn, err := opa.NewTransaction(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all, err := opa.Read(t.Context(), txn, storage.Path{})
			if err != nil || valueOf(t, all).Compare(term(data).Value) != 0 {
				t.Fatalf("seed %d: %v gives %s, not %v (%v)", seed, edits, data.AppendJSON(nil), all, err)
			}
			opa.Abort(t.Context(), txn)
		}
	}
	if !testing.Short() && (made < 4000 || refused < 4000) {
		t.Errorf("%d made, %d refused", made, refused)
	}
}
