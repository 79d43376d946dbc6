// Package base keeps the base documents of a snapshot as topdown reads them: small
// ones as AST, large ones as the text and index that rar.DecodePacked makes, of which
// a row becomes AST when it is read.
//
// A Store is a storage.Store that is never written to, and takes no lock: a reader
// has nothing in common with whoever makes the next snapshot. Its answers are those of
// OPA's own store in memory, but that reading all of a large document takes as long as
// making AST of it; that ends with the context.
package base

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/authzd/authzd/rar"
)

const (
	// fewChildren is how many children of a packed value become documents of their own,
	// with all that is said of those here.
	fewChildren = 256
	// keptRows is how many rows of one document are kept as AST, maxKeptRow up to which
	// length of text, in bytes: an AST takes about thirty times that.
	keptRows   = 4096
	maxKeptRow = 512
	// maxKept is how much text, in bytes, of packed documents that were read as a whole
	// is kept as AST.
	maxKept = 64 << 20
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
	// room is how much more text may be kept as AST.
	room atomic.Int64
}

// document is one of three forms: AST, an object or array of documents, or packed.
type document struct {
	ast  ast.Value
	list []*document          // of an array
	kids map[string]*document // of an object
	keys []string             // in order
	// packed has the rows that were read last, and all of it, if that has been read.
	packed rar.Value
	rows   atomic.Pointer[[keptRows]atomic.Pointer[row]]
	whole  atomic.Pointer[ast.Term]
	// making has a token while somebody makes whole, for those who wait for it.
	making chan struct{}
}

type row struct {
	n     int
	value ast.Value
}

// New makes a store of data, an object. Term makes AST of small values.
func New(data rar.Value, term func(rar.Value) *ast.Term) (*Store, error) {
	if data.Kind() != rar.Object {
		return nil, fmt.Errorf("base data is not an object, but of kind %s", data.Kind())
	}
	return newStore(data, term, fewChildren, maxKept), nil
}

func newStore(data rar.Value, term func(rar.Value) *ast.Term, few int, room int64) *Store {
	s := &Store{term: term, few: few}
	s.room.Store(room)
	s.root = s.document(data)
	return s
}

// With makes a store of other data.
func (s *Store) With(data rar.Value) (*Store, error) { return New(data, s.term) }

// hasPacked tells whether v, or something in it, is packed.
func hasPacked(v rar.Value) bool {
	if v.Packed() {
		return true
	}
	for i := range v.Len() {
		child := v.Index(i)
		if v.Kind() == rar.Object {
			child = v.Member(i).Value
		}
		if hasPacked(child) {
			return true
		}
	}
	return false
}

func (s *Store) document(v rar.Value) *document {
	switch {
	case !hasPacked(v):
		return &document{ast: s.term(v).Value}
	case v.Packed() && v.Len() > s.few:
		return &document{packed: v, making: make(chan struct{}, 1)}
	case v.Kind() == rar.Array:
		d := &document{list: make([]*document, v.Len())}
		for i := range d.list {
			d.list[i] = s.document(v.Index(i))
		}
		return d
	}
	d := &document{kids: make(map[string]*document, v.Len())}
	for i := range v.Len() {
		m := v.Member(i)
		d.keys = append(d.keys, m.Name)
		d.kids[m.Name] = s.document(m.Value)
	}
	return d
}

var errNotFound = &storage.Error{Code: storage.NotFoundErr, Message: "document does not exist"}

// Read implements storage.Store. What is found is an ast.Value.
func (s *Store) Read(ctx context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	d := s.root
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

// below reads below a packed document; path is not empty.
func (s *Store) below(ctx context.Context, d *document, path storage.Path) (any, error) {
	n := place(d.packed, path[0])
	if n < 0 {
		return nil, errNotFound
	}
	if all := d.whole.Load(); all != nil {
		return valueAt(all.Value, path)
	}
	rows := d.rows.Load()
	if rows == nil {
		rows = new([keptRows]atomic.Pointer[row])
		if !d.rows.CompareAndSwap(nil, rows) {
			rows = d.rows.Load()
		}
	}
	slot := &rows[n%keptRows]
	if r := slot.Load(); r != nil && r.n == n {
		return valueAt(r.value, path[1:])
	}
	v := child(d.packed, n)
	path = path[1:]
	for v.Packed() && len(path) > 0 { // a row that is large itself
		if n = place(v, path[0]); n < 0 {
			return nil, errNotFound
		}
		v, path, slot = child(v, n), path[1:], nil
	}
	t, err := s.convert(ctx, v)
	if err != nil {
		return nil, err
	}
	if slot != nil && d.packed.ChildSize(n) <= maxKeptRow {
		slot.Store(&row{n, t.Value})
	}
	return valueAt(t.Value, path)
}

// all is the AST of all of d.
func (s *Store) all(ctx context.Context, d *document) (*ast.Term, error) {
	switch {
	case d.ast != nil:
		return ast.NewTerm(d.ast), nil
	case d.list != nil:
		elements := make([]*ast.Term, len(d.list))
		for i, e := range d.list {
			var err error
			if elements[i], err = s.all(ctx, e); err != nil {
				return nil, err
			}
		}
		return ast.ArrayTerm(elements...), nil
	case d.kids != nil:
		pairs := make([][2]*ast.Term, 0, len(d.keys))
		for _, key := range d.keys {
			v, err := s.all(ctx, d.kids[key])
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, [2]*ast.Term{ast.StringTerm(key), v})
		}
		return ast.ObjectTerm(pairs...), nil
	}
	if t := d.whole.Load(); t != nil {
		return t, nil
	}
	if ctx.Err() != nil {
		return nil, stopped(ctx)
	}
	select {
	case d.making <- struct{}{}:
		defer func() { <-d.making }()
	case <-ctx.Done():
		return nil, stopped(ctx)
	}
	if t := d.whole.Load(); t != nil {
		return t, nil
	}
	if size := int64(d.packed.TextSize()); s.room.Add(-size) < 0 {
		s.room.Add(size)
		return s.convert(ctx, d.packed)
	}
	// To the end, or nobody would ever have it.
	t, err := s.convert(context.WithoutCancel(ctx), d.packed)
	if err != nil {
		return nil, err
	}
	d.whole.Store(t)
	return t, nil
}

func stopped(ctx context.Context) error {
	return &topdown.Error{Code: topdown.CancelErr, Message: "reading a large document was stopped: " + ctx.Err().Error()}
}

// Keep makes all of what is at a path, if it is packed and there is room: for policy
// that is known to read it as a whole. What is not there is passed over.
func (s *Store) Keep(ctx context.Context, path []string) error {
	d := s.root
	for _, key := range path {
		if d = d.kids[key]; d == nil {
			return nil
		}
	}
	return s.keep(ctx, d)
}

func (s *Store) keep(ctx context.Context, d *document) error {
	for _, key := range d.keys {
		if err := s.keep(ctx, d.kids[key]); err != nil {
			return err
		}
	}
	for _, e := range d.list {
		if err := s.keep(ctx, e); err != nil {
			return err
		}
	}
	if d.packed.Packed() && int64(d.packed.TextSize()) <= s.room.Load() {
		_, err := s.all(ctx, d)
		return err
	}
	return nil
}

// convert makes AST, and looks at the context where there is much to make.
func (s *Store) convert(ctx context.Context, v rar.Value) (*ast.Term, error) {
	if !v.Packed() {
		return s.term(v), nil
	}
	object := v.Kind() == rar.Object
	var pairs [][2]*ast.Term
	var elements []*ast.Term
	for i := range v.Len() {
		if i%lookEvery == 0 {
			if ctx.Err() != nil {
				return nil, stopped(ctx)
			}
		}
		var m rar.Member
		if object {
			m = v.Member(i)
		} else {
			m.Value = v.Index(i)
		}
		t, err := s.convert(ctx, m.Value)
		if err != nil {
			return nil, err
		}
		if object {
			pairs = append(pairs, [2]*ast.Term{s.term(rar.StringValue(m.Name)), t})
		} else {
			elements = append(elements, t)
		}
	}
	if object {
		return ast.ObjectTerm(pairs...), nil
	}
	return ast.ArrayTerm(elements...), nil
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
