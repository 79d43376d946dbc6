package base

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
)

const maxKept = 64 << 20

// term makes AST without any sharing.
func term(v rar.Value) *ast.Term {
	switch v.Kind() {
	case rar.Bool:
		return ast.BooleanTerm(v.Bool())
	case rar.Number:
		return ast.NewTerm(ast.Number(v.Text()))
	case rar.String:
		return ast.StringTerm(v.Text())
	case rar.Array:
		list := make([]*ast.Term, v.Len())
		for i := range list {
			list[i] = term(v.Index(i))
		}
		return ast.ArrayTerm(list...)
	case rar.Object:
		pairs := make([][2]*ast.Term, v.Len())
		for i := range pairs {
			m := v.Member(i)
			pairs[i] = [2]*ast.Term{ast.StringTerm(m.Name), term(m.Value)}
		}
		return ast.ObjectTerm(pairs...)
	case rar.Absent, rar.Null:
	}
	return ast.NullTerm()
}

// text writes a random document: nested, mixed, with keys that look like indexes.
func text(r *rand.Rand, depth int) string {
	n := r.IntN(8)
	if depth <= 0 {
		n = r.IntN(4)
	}
	switch n {
	case 0:
		return []string{"null", "true", "false"}[r.IntN(3)]
	case 1:
		return []string{"0", "-3", "1.50", "9007199254740993", "1e3"}[r.IntN(5)]
	case 2, 3:
		return []string{`""`, `"a"`, `"0"`, `"b\u00e9/~"`}[r.IntN(4)]
	case 4, 5:
		parts := make([]string, r.IntN(9))
		for i := range parts {
			parts[i] = text(r, depth-1)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	parts := make([]string, r.IntN(9))
	for i := range parts {
		parts[i] = fmt.Sprintf("%q: %s", key(r, i), text(r, depth-1))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// key is the name of member i of its object.
func key(r *rand.Rand, i int) string {
	if r == nil || i%2 == 0 {
		return strconv.Itoa(i)
	}
	return fmt.Sprintf("k%d", i)
}

// path is a random one, most of whose steps lead somewhere.
func path(r *rand.Rand, v rar.Value) storage.Path {
	p := storage.Path{}
	for r.IntN(6) > 0 && len(p) < 7 {
		step := []string{"0", "1", "-1", "01", "+1", "1.0", "k1", "absent", "", "99"}[r.IntN(10)]
		if v.Len() > 0 && r.IntN(5) > 0 {
			i := r.IntN(v.Len())
			if v.Kind() == rar.Object {
				step, v = v.Member(i).Name, v.Member(i).Value
			} else {
				step, v = strconv.Itoa(i), v.Index(i)
			}
		} else {
			v = rar.Value{}
		}
		p = append(p, step)
	}
	return p
}

func valueOf(t testing.TB, x any) ast.Value {
	t.Helper()
	v, ok := x.(ast.Value)
	if !ok {
		t.Fatalf("%T is no ast.Value", x)
	}
	return v
}

// same holds one read of both stores against each other.
func same(t testing.TB, want storage.Store, wantTxn storage.Transaction, got *Store, p storage.Path) (found bool) {
	t.Helper()
	w, wantErr := want.Read(t.Context(), wantTxn, p)
	g, err := got.Read(t.Context(), reading{}, p)
	switch {
	case storage.IsNotFound(wantErr) != storage.IsNotFound(err) || (wantErr == nil) != (err == nil):
		t.Fatalf("%v: %v, not %v", p, err, wantErr)
	case wantErr != nil:
		return false
	}
	a, b := valueOf(t, w), valueOf(t, g)
	if a.Compare(b) != 0 || a.String() != b.String() {
		t.Fatalf("%v: %s, not %s", p, b, a)
	}
	return true
}

// reads is how many TestReads makes of each form of each document, twice: about a
// million in all.
const reads = 320

// TestReads: every read comes out as from OPA's own store, whatever is packed, and
// from many at once.
func TestReads(t *testing.T) {
	t.Parallel()
	found, packed := 0, 0
	seeds := uint64(400)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a test's
		doc := `{"a": ` + text(r, 5) + `, "b": ` + text(r, 4) + `}`
		plain, err := rar.DecodeText(doc, rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, pack := range []rar.Packing{{Above: 1, Row: 1}, {Above: 1, Row: 20}, {Above: 1, Row: 200}, {}} {
			data, err := pack.Decode(doc, rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if data.Packed() {
				packed++
			}
			object, ok := term(plain).Value.(ast.Object)
			if !ok {
				t.Fatal("no object")
			}
			want := inmem.NewFromASTObject(object)
			txn, err := want.NewTransaction(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := newStore(data, term, r.IntN(4), int64(r.IntN(2))*maxKept)
			var group sync.WaitGroup
			paths := make([]storage.Path, reads)
			for i := range paths {
				paths[i] = path(r, plain)
			}
			for g := range 2 {
				group.Go(func() {
					for i, p := range paths {
						if same(t, want, txn, got, p) && g == 0 && i >= 0 {
							found++
						}
					}
				})
			}
			group.Wait()
		}
	}
	if !testing.Short() && (packed < 500 || found < 100_000) {
		t.Errorf("%d packed, %d found", packed, found)
	}
}

// TestIterations: policy that walks through data comes out the same.
func TestIterations(t *testing.T) {
	t.Parallel()
	module, err := ast.ParseModuleWithOpts("p.rego", `package p

walked := {[path, value] | walk(data.a, [path, value])}

pairs := [[i, x] | some i, x in data.a]

second := {[i, j, x] | x := data.a[i][j]}

deep := {x | x := data.a[_].k1[_]}

counted := count(data.a)

holds if "a" in data.b
`, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	compiler := ast.NewCompiler()
	if compiler.Compile(map[string]*ast.Module{"p.rego": module}); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	ask := func(s storage.Store, body string) string {
		txn, err := s.NewTransaction(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := compiler.QueryCompiler()
		compiled, err := q.Compile(ast.MustParseBody(body))
		if err != nil {
			t.Fatal(err)
		}
		rs, err := topdown.NewQuery(compiled).WithCompiler(compiler).WithQueryCompiler(q).WithStore(s).WithTransaction(txn).Run(t.Context())
		if err != nil {
			return err.Error()
		}
		var out strings.Builder
		for _, r := range rs {
			out.WriteString(r["x"].String())
		}
		return out.String()
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 4)) //nolint:gosec // a test's
		doc := `{"a": ` + text(r, 4) + `, "b": ` + text(r, 2) + `}`
		data, err := rar.Packing{Above: 1, Row: 1 + r.IntN(30)}.Decode(doc, rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		object, _ := term(data).Value.(ast.Object)
		want, got := inmem.NewFromASTObject(object), newStore(data, term, r.IntN(4), maxKept)
		for _, rule := range []string{"walked", "pairs", "second", "deep", "counted", "holds"} {
			body := "x = data.p." + rule
			if w, g := ask(want, body), ask(got, body); w != g {
				t.Fatalf("%s of %s: %s, not %s", rule, doc, g, w)
			}
		}
	}
}

// large has n users of one form.
func large(n int) string {
	var b strings.Builder
	b.WriteString(`{"few": {"x": 1}, "users": {`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"u%d":{"roles":["r%d","all"],"tenant":"t%d","rev":%d}`, i, i%7, i%13, i)
	}
	b.WriteString(`}}`)
	return b.String()
}

func TestLarge(t *testing.T) {
	t.Parallel()
	const users = 50_000
	data, err := rar.DecodePacked(large(users), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(data, term, maxKept)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 5)) //nolint:gosec // a test's
			for range 5000 {
				i := r.IntN(users)
				v, err := s.Read(t.Context(), reading{}, storage.Path{"users", fmt.Sprintf("u%d", i), "rev"})
				if got, ok := v.(ast.Value); err != nil || !ok || got.Compare(ast.Number(strconv.Itoa(i))) != 0 {
					t.Errorf("user %d: %v, %v", i, v, err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, p := range []storage.Path{{"users", "u50000"}, {"users", "u1", "x"}, {"users", "u1", "rev", "x"}, {"few", "y"}, {"absent"}} {
		if v, err := s.Read(t.Context(), reading{}, p); !storage.IsNotFound(err) {
			t.Errorf("%v: %v, %v", p, v, err)
		}
	}
	// All of it is made within the time there is, and kept.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var e *topdown.Error
	if _, err := s.Read(ended, reading{}, storage.Path{"users"}); !errors.As(err, &e) || e.Code != topdown.CancelErr {
		t.Errorf("a context that has ended: %v", err)
	}
	all, err := s.Read(t.Context(), reading{}, storage.Path{"users"})
	if object, ok := all.(ast.Object); err != nil || !ok || object.Len() != users {
		t.Fatalf("%v", err)
	}
	if again, err := s.Read(ended, reading{}, storage.Path{"users"}); err != nil || again != all {
		t.Errorf("made anew: %v", err)
	}
	if v, err := s.Read(ended, reading{}, storage.Path{"users", "u7", "roles", "1"}); err != nil || valueOf(t, v).Compare(ast.String("all")) != 0 {
		t.Errorf("%v, %v", v, err)
	}
}

// TestKeep: what is known to be read as a whole is there before; what there is no room
// for is made each time.
func TestKeep(t *testing.T) {
	t.Parallel()
	data, err := rar.DecodePacked(large(20_000), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	users := storage.Path{"users"}
	for _, c := range []struct {
		path []string
		room int64
		kept bool
	}{
		{[]string{"users"}, maxKept, true},
		{nil, maxKept, true},
		{[]string{"few"}, maxKept, false},
		{[]string{"absent", "x"}, maxKept, false},
		{[]string{"users", "u1", "x"}, maxKept, false},
		{[]string{"users"}, 1000, false},
	} {
		s := newStore(data, term, fewChildren, c.room)
		if err := s.Keep(t.Context(), c.path); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(ended, reading{}, users); (err == nil) != c.kept {
			t.Errorf("%v, room %d: %v", c.path, c.room, err)
		}
		all, err := s.Read(t.Context(), reading{}, users)
		if err != nil || valueOf(t, all).(ast.Object).Len() != 20_000 { //nolint:forcetypeassert // a panic is as good
			t.Errorf("%v, room %d: %v", c.path, c.room, err)
		}
	}
	// Many at once make it once.
	s := newStore(data, term, fewChildren, maxKept)
	var group sync.WaitGroup
	values := make([]any, 8)
	for i := range values {
		group.Go(func() { values[i], _ = s.Read(t.Context(), reading{}, users) })
	}
	group.Wait()
	for _, v := range values {
		if v == nil || v != values[0] {
			t.Error("made more than once")
		}
	}
}

func TestNothingIsWritten(t *testing.T) {
	t.Parallel()
	data, err := rar.DecodeText(`{"a": 1}`, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var s storage.Store
	if s, err = New(data, term, maxKept); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewTransaction(t.Context(), storage.WriteParams); err == nil {
		t.Error("a transaction that writes")
	}
	txn, err := s.NewTransaction(t.Context())
	if err != nil || txn.ID() == 0 {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), txn, storage.AddOp, storage.Path{"b"}, 1); err == nil {
		t.Error("written")
	}
	if err := s.Truncate(t.Context(), txn, storage.TransactionParams{}, nil); err == nil {
		t.Error("truncated")
	}
	if _, err := s.Register(t.Context(), txn, storage.TriggerConfig{}); err == nil {
		t.Error("registered")
	}
	if err := s.Commit(t.Context(), txn); err != nil {
		t.Error(err)
	}
	s.Abort(t.Context(), txn)
	if _, err := New(rar.ArrayValue(), term, maxKept); err == nil {
		t.Error("an array is no data")
	}
}
