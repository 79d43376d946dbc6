// Package base keeps the base documents of a snapshot as topdown reads them: small
// ones as AST, others as the rar.Value they are, of which a row becomes AST when it
// is read. Those are what rar.DecodePacked keeps as text, and small ones beyond what
// the Store may keep as AST in all.
//
// A Store is a storage.Store that is never written to. Its answers are those of OPA's
// own store in memory, but that reading all of a large document takes as long as making
// AST of it, and ends with the context. A document that there is room for is made once,
// in the background: that goes on when the reader's context ends, and ends by itself, or
// when nothing leads to the Store any more.
//
// Package engine makes one for each snapshot; any number of goroutines may read it, and
// none takes a lock.
package base

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/authzd/authzd/rar"
)

const (
	// keptRows is how many rows of one document are kept as AST, maxKeptRow up to which
	// length of text, in bytes: an AST takes about thirty times that.
	keptRows   = 4096
	maxKeptRow = 512
	// rowsShare is the part of room that rows of all documents may take.
	rowsShare = 8
	// lookEvery is how many rows are read between two looks at the context.
	lookEvery = 256
)

// Store answers reads of base documents. It may be used by any number of goroutines.
type Store struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported

	root *document
	term func(rar.Value) *ast.Term
	few  int // fewChildren
	text int64
	// indexes are those of documents, by path with slashes.
	indexes map[string]*indexed
	// room is how much more text may be kept as AST, rowRoom how much of rows; in bytes.
	room, rowRoom atomic.Int64
}

// document is one of three forms: AST, an object or array of documents, or a value.
type document struct {
	from rar.Value
	ast  ast.Value
	list []*document          // of an array
	kids map[string]*document // of an object
	keys []string             // in order
	// value is read by row. It has the rows that were read last, and all of it, if that
	// has been read.
	value rar.Value
	size  int64    // of its text, about
	order []uint32 // the members of a long object that is not packed, by name
	rows  atomic.Pointer[[]atomic.Pointer[row]]
	// kept is how much text of rows is in rows.
	kept  atomic.Int64
	whole atomic.Pointer[whole]
}

type row struct {
	n     int
	size  int64
	value ast.Value
}

// New makes a store of data, an object. Term makes AST of small values. Text is how many
// bytes of text may be kept as AST, which takes about thirty times that: small documents
// from the start, and large ones that are read as a whole. An eighth of that may be kept of
// rows besides.
func New(data rar.Value, term func(rar.Value) *ast.Term, text int64) (*Store, error) {
	if data.Kind() != rar.Object {
		return nil, fmt.Errorf("base data is not an object, but of kind %s", data.Kind())
	}
	return newStore(data, term, fewChildren, text), nil
}

func newStore(data rar.Value, term func(rar.Value) *ast.Term, few int, text int64) *Store {
	s := &Store{term: term, few: few, text: text}
	s.room.Store(text)
	s.rowRoom.Store(text / rowsShare)
	s.root = s.document(data, nil)
	return s
}

// With is New of other data, of which most may be the same: the documents of those values
// that are in memory once are those of s, with their indexes. Others are indexed anew, until
// the context ends.
func (s *Store) With(ctx context.Context, data rar.Value) (*Store, error) {
	if data.Kind() != rar.Object {
		return nil, fmt.Errorf("base data is not an object, but of kind %s", data.Kind())
	}
	next := &Store{term: s.term, few: s.few, text: s.text}
	next.room.Store(s.text)
	next.rowRoom.Store(s.text / rowsShare)
	next.root = next.document(data, s.root)
	for _, d := range s.indexes {
		if err := next.index(ctx, d); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// take takes room for AST of so much text.
func (s *Store) take(size int64) bool {
	for {
		room := s.room.Load()
		if size > room {
			return false
		}
		if s.room.CompareAndSwap(room, room-size) {
			return true
		}
	}
}

var errNotFound = &storage.Error{Code: storage.NotFoundErr, Message: "document does not exist"}

// Read implements storage.Store. What is found is an ast.Value.
func (s *Store) Read(ctx context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	d := s.root
	if len(s.indexes) > 0 && len(path) > 0 && path[0] == IndexRoot {
		return s.readIndex(ctx, path[1:])
	}
	for i, key := range path {
		switch {
		case d.ast != nil:
			return valueAt(d.ast, path[i:])
		case d.kids != nil:
			if d = d.kids[key]; d == nil {
				return nil, errNotFound
			}
		case d.list != nil:
			n, ok := util.Atoi(key)
			if !ok || n < 0 || n >= len(d.list) {
				return nil, errNotFound
			}
			d = d.list[n]
		default:
			return s.below(ctx, d, path[i:])
		}
	}
	t, err := s.all(ctx, d)
	if err != nil {
		return nil, err
	}
	return t.Value, nil
}

// below reads below a document that is a value; path is not empty.
func (s *Store) below(ctx context.Context, d *document, path storage.Path) (any, error) {
	n := d.place(path[0])
	if n < 0 {
		return nil, errNotFound
	}
	if all := d.made(); all != nil {
		return valueAt(all.Value, path)
	}
	slot := d.slot(n)
	if r := slot.Load(); r != nil && r.n == n {
		return valueAt(r.value, path[1:])
	}
	v, size := child(d.value, n), int64(d.value.ChildSize(n))
	if !d.value.Packed() {
		size = measure(v, maxKeptRow)
	}
	path = path[1:]
	kept := !v.Packed() && size <= maxKeptRow
	for !kept && len(path) > 0 {
		if n = place(v, path[0]); n < 0 {
			return nil, errNotFound
		}
		v, path = child(v, n), path[1:]
	}
	t, err := convert(ctx, s.term, v)
	if err != nil {
		return nil, err
	}
	if kept {
		s.remember(d, slot, &row{n, size, t.Value})
	}
	return valueAt(t.Value, path)
}

// slot is where row n is kept, and others.
func (d *document) slot(n int) *atomic.Pointer[row] {
	rows := d.rows.Load()
	if rows == nil {
		made := make([]atomic.Pointer[row], min(keptRows, d.value.Len()))
		if rows = &made; !d.rows.CompareAndSwap(nil, rows) {
			rows = d.rows.Load()
		}
	}
	return &(*rows)[n%len(*rows)]
}

// remember keeps a row in place of the one that is in its slot, unless the rows of all
// documents would become too much.
func (s *Store) remember(d *document, slot *atomic.Pointer[row], r *row) {
	old, more := slot.Load(), r.size
	if old != nil {
		more -= old.size
	}
	if s.rowRoom.Add(-more) < 0 && more > 0 || !slot.CompareAndSwap(old, r) {
		s.rowRoom.Add(more)
		return
	}
	d.kept.Add(more)
}

// place is the number of a child of d's value.
func (d *document) place(key string) int {
	if d.order == nil {
		return place(d.value, key)
	}
	return d.find(key)
}

// place is the number of a child, -1 if there is none. Elements are found as OPA's
// store finds them.
func place(v rar.Value, key string) int {
	if v.Kind() == rar.Object {
		return v.Find(key)
	}
	n, ok := util.Atoi(key)
	if v.Kind() != rar.Array || !ok || n < 0 || n >= v.Len() {
		return -1
	}
	return n
}

func child(v rar.Value, n int) rar.Value {
	if v.Kind() == rar.Object {
		return v.Member(n).Value
	}
	return v.Index(n)
}

// valueAt is what stands at a path of AST.
func valueAt(v ast.Value, path storage.Path) (any, error) {
	for _, key := range path {
		switch x := v.(type) {
		case ast.Object:
			t := x.Get(ast.StringTerm(key))
			if t == nil {
				return nil, errNotFound
			}
			v = t.Value
		case *ast.Array:
			n, ok := util.Atoi(key)
			if !ok || n < 0 || n >= x.Len() {
				return nil, errNotFound
			}
			v = x.Elem(n).Value
		default:
			return nil, errNotFound
		}
	}
	return v, nil
}

// reading is the one transaction: nothing changes.
type reading struct{}

// ID implements storage.Transaction.
func (reading) ID() uint64 { return 1 }

// NewTransaction implements storage.Store; it refuses to write.
func (*Store) NewTransaction(_ context.Context, params ...storage.TransactionParams) (storage.Transaction, error) {
	for _, p := range params {
		if p.Write {
			return nil, &storage.Error{Code: storage.WritesNotSupportedErr}
		}
	}
	return reading{}, nil
}

// Commit and Abort end a transaction, which changes nothing.
func (*Store) Commit(context.Context, storage.Transaction) error { return nil }

// Abort implements storage.Store.
func (*Store) Abort(context.Context, storage.Transaction) {}

// Truncate implements storage.Store; it refuses.
func (*Store) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// Register implements storage.Trigger: nothing will ever trigger.
func (*Store) Register(context.Context, storage.Transaction, storage.TriggerConfig) (storage.TriggerHandle, error) {
	return nil, &storage.Error{Code: storage.TriggersNotSupportedErr}
}
