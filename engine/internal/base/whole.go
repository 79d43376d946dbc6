package base

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
)

// whole is all of a document, once done is closed.
type whole struct {
	done chan struct{}
	term *ast.Term
	err  error
}

// errNoRoom says that a document is made anew by everyone who reads all of it.
var errNoRoom = errors.New("no room")

// made is all of d, if that is there.
func (d *document) made() *ast.Term {
	w := d.whole.Load()
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return w.term
	default:
		return nil
	}
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
	return s.allOf(ctx, d)
}

// allOf makes all of a value. Where there is room it is kept, whoever began it.
func (s *Store) allOf(ctx context.Context, d *document) (*ast.Term, error) {
	w := d.whole.Load()
	if w == nil {
		if ctx.Err() != nil {
			return nil, stopped(ctx)
		}
		w = &whole{done: make(chan struct{})}
		if d.whole.CompareAndSwap(nil, w) {
			s.begin(ctx, d, w)
		} else {
			w = d.whole.Load()
		}
	}
	select {
	case <-w.done: // perhaps since long, and whatever ctx says
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, stopped(ctx)
		}
	}
	if errors.Is(w.err, errNoRoom) {
		return convert(ctx, s.term, d.value)
	}
	return w.term, w.err
}

// begin makes all of d in the background, to the end, or nobody would ever have it: but
// nobody who reads has to wait so long, and it stops where no store has d any more.
func (s *Store) begin(ctx context.Context, d *document, w *whole) {
	if !s.take(d.size) {
		w.err = errNoRoom
		close(w.done)
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	dropped := runtime.AddCleanup(d, func(cancel context.CancelFunc) { cancel() }, cancel)
	term, v := s.term, d.value // nothing there leads to d
	go func() {
		defer close(w.done)
		defer cancel()
		defer dropped.Stop()
		defer func() {
			if r := recover(); r != nil { // there is no decision around it that would
				w.err = fmt.Errorf("make a document: %v", r)
			}
		}()
		w.term, w.err = convert(ctx, term, v)
	}()
}

func stopped(ctx context.Context) error {
	return &topdown.Error{Code: topdown.CancelErr, Message: "reading a large document was stopped: " + ctx.Err().Error()}
}

// Keep makes all of what is at a path, if it is not AST and there is room: for policy
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
	if d.value.Kind() != rar.Absent && d.size <= s.room.Load() {
		_, err := s.all(ctx, d)
		return err
	}
	return nil
}

// convert makes AST, and looks at the context where there is much to make.
func convert(ctx context.Context, term func(rar.Value) *ast.Term, v rar.Value) (*ast.Term, error) {
	if !v.Packed() && measure(v, longChild) <= longChild {
		return term(v), nil
	}
	object := v.Kind() == rar.Object
	if !object && v.Kind() != rar.Array {
		return term(v), nil
	}
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
		t, err := convert(ctx, term, m.Value)
		if err != nil {
			return nil, err
		}
		if object {
			pairs = append(pairs, [2]*ast.Term{term(rar.StringValue(m.Name)), t})
		} else {
			elements = append(elements, t)
		}
	}
	if object {
		return ast.ObjectTerm(pairs...), nil
	}
	return ast.ArrayTerm(elements...), nil
}
