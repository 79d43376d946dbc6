package base

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
)

// stuck is how long a test waits for what never happens where a fault is.
const stuck = 20 * time.Second

// counting is term that counts the text that it makes AST of.
type counting struct{ text atomic.Int64 }

func (c *counting) term(v rar.Value) *ast.Term {
	c.text.Add(int64(len(v.AppendJSON(nil))))
	return term(v)
}

// tables is an object of n objects of rows of so much text each.
func tables(n, rows, size int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		fmt.Fprintf(&b, `"t%d":`, i)
		for k := range rows {
			b.WriteString(map[bool]string{true: "{", false: ","}[k == 0])
			fmt.Fprintf(&b, `"r%d":{"at":[%d,%d],"text":%q}`, k, i, k, strings.Repeat("x", size))
		}
		b.WriteByte('}')
	}
	b.WriteByte('}')
	return b.String()
}

// files is the same, as many files each of which is a table: nothing of it is packed.
func files(t testing.TB, n, rows, size int) rar.Value {
	t.Helper()
	v, err := rar.DecodeText(tables(n, rows, size), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func decode(t testing.TB, p rar.Packing, text string) rar.Value {
	t.Helper()
	v, err := p.Decode(text, rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLoadIsBounded: of data beyond the room no more than that becomes AST when it is
// loaded, whatever its form, and every read comes out.
func TestLoadIsBounded(t *testing.T) {
	t.Parallel()
	const room = 64 << 10
	text := tables(16, 16, 2000)
	for name, c := range map[string]struct {
		data  rar.Value
		least int64 // of the room that is used at load
	}{
		"few in few, packed":   {decode(t, rar.Packing{Above: 1}, text), room / 2},
		"few, not packed":      {files(t, 16, 16, 2000), room / 2},
		"many, not packed":     {files(t, 300, 10, 200), 0},
		"many long":            {files(t, 300, 10, 600), room / 2},
		"rows, not packed":     {files(t, 2, 3000, 100), 0},
		"one, not packed":      {files(t, 1, 3000, 100), 0},
		"large texts":          {files(t, 4, 1, 100_000), 0},
		"packed among others":  {rar.ObjectValue(rar.Member{Name: "t0", Value: decode(t, rar.Packing{Above: 1}, text)}, rar.Member{Name: "b", Value: files(t, 20, 10, 2000)}), room / 2},
		"few, some are packed": {decode(t, rar.Packing{Above: 1, Row: 40_000}, `{"t0":`+text+`,"b":`+tables(9, 20, 200)+`}`), 0},
	} {
		var count counting
		s := newStore(c.data, count.term, fewChildren, room)
		made := count.text.Load()
		if made > room || made < c.least {
			t.Errorf("%s: AST of %d bytes", name, made)
		}
		if left := s.room.Load(); left < 0 || left > room-made {
			t.Errorf("%s: room for %d, of %d made", name, left, made)
		}
		walk(t, s, storage.Path{}, c.data, 4)
	}
}

// walk reads everything as far as a depth.
func walk(t testing.TB, s *Store, p storage.Path, v rar.Value, depth int) {
	t.Helper()
	got, err := s.Read(t.Context(), reading{}, p)
	if err != nil || valueOf(t, got).Compare(term(v).Value) != 0 {
		t.Fatalf("%v: %v", p, err)
	}
	if _, err := s.Read(t.Context(), reading{}, append(p[:len(p):len(p)], "absent")); !storage.IsNotFound(err) {
		t.Fatalf("%v: absent: %v", p, err)
	}
	if depth == 0 {
		return
	}
	for i := range min(v.Len(), 40) {
		name := strconv.Itoa(i)
		if v.Kind() == rar.Object {
			name = v.Name(i)
		}
		walk(t, s, append(p[:len(p):len(p)], name), child(v, i), depth-1)
	}
}

// TestRowsAreBounded: the rows that are kept of all documents are so much text together.
func TestRowsAreBounded(t *testing.T) {
	t.Parallel()
	const documents, rows, room = 12, 400, 256 << 10
	for name, data := range map[string]rar.Value{
		"packed":     decode(t, rar.Packing{Above: 1}, tables(documents, rows, 200)),
		"not packed": files(t, documents, rows, 200),
	} {
		var count counting
		s := newStore(data, count.term, fewChildren, room)
		s.room.Store(0)
		pass := func() int64 {
			before := count.text.Load()
			var group sync.WaitGroup
			for i := range documents {
				group.Go(func() {
					for k := range rows {
						p := storage.Path{fmt.Sprintf("t%d", i), fmt.Sprintf("r%d", k), "at", "1"}
						if v, err := s.Read(t.Context(), reading{}, p); err != nil || valueOf(t, v).Compare(ast.Number(strconv.Itoa(k))) != 0 {
							t.Errorf("%v: %v, %v", p, v, err)
						}
					}
				})
			}
			group.Wait()
			return count.text.Load() - before
		}
		all := pass()
		again := pass()
		if kept := all - again; kept > room/rowsShare || kept < room/rowsShare/2 {
			t.Errorf("%s: rows of %d bytes are kept of %d", name, kept, all)
		}
		if left := s.rowRoom.Load(); left < 0 || left != room/rowsShare-keptText(s.root) {
			t.Errorf("%s: room for rows of %d bytes", name, left)
		}
	}
}

// keptText is that of the rows that are kept below d.
func keptText(d *document) int64 {
	n := int64(0)
	for _, kid := range d.kids {
		n += keptText(kid)
	}
	if rows := d.rows.Load(); rows != nil {
		for i := range *rows {
			if r := (*rows)[i].Load(); r != nil {
				n += r.size
			}
		}
	}
	return n
}

// TestWaiting: whoever asks for all of a document waits no longer than its context, and
// what was begun is there afterwards.
func TestWaiting(t *testing.T) {
	t.Parallel()
	data := decode(t, rar.Packing{}, large(20_000))
	begun, goOn, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	s := newStore(data, func(v rar.Value) *ast.Term {
		if v.Kind() == rar.Object && v.Len() == 3 && first.CompareAndSwap(false, true) { // a user
			close(begun)
			select {
			case <-goOn:
			case <-time.After(stuck):
			}
		}
		return term(v)
	}, fewChildren, maxKept)
	users := storage.Path{"users"}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(returned)
		var e *topdown.Error
		if _, err := s.Read(ctx, reading{}, users); !errors.As(err, &e) || e.Code != topdown.CancelErr {
			t.Errorf("a reader whose context ends: %v", err)
		}
	}()
	<-begun
	cancel()
	select {
	case <-returned:
	case <-time.After(stuck / 2):
		t.Error("it waits on")
	}
	// Rows are there meanwhile.
	if _, err := s.Read(t.Context(), reading{}, storage.Path{"users", "u7"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(ctx, reading{}, users); err == nil {
		t.Error("there before it is made")
	}
	close(goOn)
	all, err := s.Read(t.Context(), reading{}, users)
	if err != nil || valueOf(t, all).(ast.Object).Len() != 20_000 { //nolint:forcetypeassert // a panic is as good
		t.Fatal(err)
	}
	if again, err := s.Read(ctx, reading{}, users); err != nil || again != all {
		t.Errorf("made anew: %v", err)
	}
}

// TestDropped: nobody makes on what nobody can read.
func TestDropped(t *testing.T) {
	t.Parallel()
	const rows = 50_000
	data := decode(t, rar.Packing{}, large(rows))
	begun, goOn, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var made atomic.Int64
	s := newStore(data, func(v rar.Value) *ast.Term {
		if v.Kind() == rar.Object && v.Len() == 3 && made.Add(1) == 1 {
			close(begun)
			select {
			case <-goOn:
			case <-time.After(stuck):
			}
		}
		return term(v)
	}, fewChildren, maxKept)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := s.Read(ctx, reading{}, storage.Path{"users"}); err == nil {
		t.Error("there before it is made")
	}
	w := s.root.kids["users"].whole.Load()
	runtime.AddCleanup(s, func(gone chan struct{}) { close(gone) }, gone)
	for end := time.Now().Add(stuck / 2); time.Now().Before(end); runtime.GC() {
		select {
		case <-gone:
			end = time.Time{}
		default:
		}
	}
	close(goOn)
	<-w.done
	if w.err == nil || made.Load() == rows {
		t.Errorf("made on: %d rows, %v", made.Load(), w.err)
	}
}

// TestBeyondTheRoom: what is not kept is made by each reader, and none waits for another.
func TestBeyondTheRoom(t *testing.T) {
	t.Parallel()
	data := decode(t, rar.Packing{}, large(20_000))
	both := make(chan struct{})
	var inside atomic.Int32
	s := newStore(data, func(v rar.Value) *ast.Term {
		if tenant, _ := v.Get("rev"); tenant.Text() == "0" { // each reader comes by once
			if inside.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-time.After(stuck):
				t.Error("one at a time")
			}
		}
		return term(v)
	}, fewChildren, 1000)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, err := s.Read(t.Context(), reading{}, storage.Path{"users"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// TestPanic: what goes wrong in the background is an error of whoever reads.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := newStore(decode(t, rar.Packing{}, large(20_000)), func(v rar.Value) *ast.Term {
		if v.Kind() == rar.Object && v.Len() == 3 {
			panic("no term")
		}
		return term(v)
	}, fewChildren, maxKept)
	for range 2 {
		if v, err := s.Read(t.Context(), reading{}, storage.Path{"users"}); err == nil || v != nil || !strings.Contains(err.Error(), "no term") {
			t.Errorf("%v, %v", v, err)
		}
	}
}

// TestWith: a store of data in which little has changed has the documents of the one
// before, what has changed is read as it is now, and the room is what a new one has.
func TestWith(t *testing.T) {
	t.Parallel()
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 21)) //nolint:gosec // a test's
		pack := rar.Packing{Above: 1, Row: 1 + r.IntN(60)}
		data, err := pack.Decode(`{"a": `+text(r, 4)+`, "b": `+text(r, 4)+`, "c": {"d": `+text(r, 3)+`}}`, rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		room := int64([]int{0, 40, 400, maxKept}[r.IntN(4)])
		s := newStore(data, term, r.IntN(4), room)
		for range 6 {
			if r.IntN(2) == 0 { // some of it is made as a whole
				if _, err := s.Read(t.Context(), reading{}, storage.Path{[]string{"a", "b", "c"}[r.IntN(3)]}); err != nil && !storage.IsNotFound(err) {
					t.Fatal(err)
				}
			}
			edit := rar.Edit{Op: rar.Upsert, Path: []string{[]string{"a", "b", "c", "e"}[r.IntN(4)]}, Value: rar.IntValue(int64(r.IntN(9)))}
			if r.IntN(3) > 0 && edit.Path[0] == "c" {
				edit.Path = append(edit.Path, []string{"d", "0", "k1"}[r.IntN(3)])
			}
			changed, err := pack.Apply(data, []rar.Edit{edit}, rar.Limits{})
			if err != nil {
				continue // not an object by now
			}
			next, err := s.With(t.Context(), changed)
			if err != nil {
				t.Fatal(err)
			}
			if left := next.room.Load() + next.root.taken(); left != room || next.room.Load() < 0 {
				t.Fatalf("seed %d: room of %d, not %d", seed, left, room)
			}
			object, ok := term(changed).Value.(ast.Object)
			if !ok {
				t.Fatal("no object")
			}
			want := inmem.NewFromASTObject(object)
			txn, err := want.NewTransaction(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range 60 {
				same(t, want, txn, next, path(r, changed))
			}
			data, s = changed, next
		}
	}
}

// TestWithShares: a large document that has not changed is not made again.
func TestWithShares(t *testing.T) {
	t.Parallel()
	data, err := rar.DecodePacked(large(20_000), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(data, term, maxKept)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Read(t.Context(), reading{}, storage.Path{"users"})
	if err != nil {
		t.Fatal(err)
	}
	changed, err := rar.Apply(data, []rar.Edit{{Op: rar.Upsert, Path: []string{"few", "x"}, Value: rar.IntValue(2)}}, rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.With(t.Context(), changed)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := next.Read(t.Context(), reading{}, storage.Path{"users"}); err != nil || again != all {
		t.Errorf("made again: %v", err)
	}
	if x, err := next.Read(t.Context(), reading{}, storage.Path{"few", "x"}); err != nil || valueOf(t, x).Compare(ast.Number("2")) != 0 {
		t.Errorf("%v, %v", x, err)
	}
	if x, err := s.Read(t.Context(), reading{}, storage.Path{"few", "x"}); err != nil || valueOf(t, x).Compare(ast.Number("1")) != 0 {
		t.Errorf("%v, %v", x, err)
	}
}
