package base

import (
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

const (
	// fewChildren is how many children of a value become documents of their own, with
	// all that is said of those here.
	fewChildren = 256
	// longChild is the mean length of text from which on more of them do: one of those
	// is worth a document.
	longChild = 4 << 10
	// ownShare is the part of a packed value's text up to which its small children become
	// documents even where there is no room for their AST.
	ownShare = 16
	// fewMembers is how many members are scanned for a name.
	fewMembers = 16
	// perValue is what measure adds for each value, in bytes.
	perValue = 4
)

// document makes AST of v while there is room, and else leaves it a value that is read by
// row. Where there are few children it is made of those.
//
// Old is that of an earlier value, or nil: what has not changed is taken over.
func (s *Store) document(v rar.Value, old *document) *document {
	if old != nil && rar.Same(old.from, v) && !old.wasRefused() && s.take(old.taken()) {
		s.rowRoom.Add(-old.rowsTaken())
		return old
	}
	d := s.made(v, old)
	d.from = v
	return d
}

// taken is how much room a document has that was not refused any.
func (d *document) taken() (n int64) {
	switch {
	case d.ast != nil:
		return d.size
	case d.whole.Load() != nil:
		n = d.size
	}
	for _, e := range d.list {
		n += e.taken()
	}
	for _, e := range d.kids {
		n += e.taken()
	}
	return n
}

// rowsTaken is how much text of rows is kept of a document.
func (d *document) rowsTaken() int64 {
	n := d.kept.Load()
	for _, e := range d.list {
		n += e.rowsTaken()
	}
	for _, e := range d.kids {
		n += e.rowsTaken()
	}
	return n
}

// wasRefused: there was no room once for all of d, or of what is in it.
func (d *document) wasRefused() bool {
	if w := d.whole.Load(); w != nil {
		select {
		case <-w.done:
			return w.err != nil
		default:
		}
	}
	for _, e := range d.list {
		if e.wasRefused() {
			return true
		}
	}
	for _, e := range d.kids {
		if e.wasRefused() {
			return true
		}
	}
	return false
}

func (s *Store) made(v rar.Value, old *document) *document {
	if v.Packed() {
		text := int64(v.TextSize())
		if v.Len() <= s.few {
			if own := ownText(v); own <= s.room.Load() || own <= text/ownShare {
				return s.split(v, old)
			}
		}
		return &document{value: v, size: text}
	}
	size := measure(v, max(s.room.Load(), int64(v.Len())*longChild))
	fits, packed := size <= s.room.Load(), v.HasPacked()
	switch {
	case fits && !packed && s.take(size):
		return &document{ast: s.term(v).Value, size: size}
	case v.Len() > 0 && (fits || v.Len() <= s.few || size >= int64(v.Len())*longChild):
		return s.split(v, old)
	}
	d := &document{value: v, size: measure(v, 1<<62)}
	if v.Kind() == rar.Object && v.Len() > fewMembers {
		d.order = make([]uint32, v.Len())
		for i := range d.order {
			d.order[i] = uint32(i)
		}
		slices.SortFunc(d.order, func(a, b uint32) int { return strings.Compare(v.Name(int(a)), v.Name(int(b))) })
	}
	return d
}

// split makes a document of each child.
func (s *Store) split(v rar.Value, old *document) *document {
	if v.Kind() == rar.Array {
		d := &document{list: make([]*document, v.Len())}
		for i := range d.list {
			d.list[i] = s.document(v.Index(i), old.element(i))
		}
		return d
	}
	d := &document{kids: make(map[string]*document, v.Len())}
	for i := range v.Len() {
		m := v.Member(i)
		d.keys = append(d.keys, m.Name)
		d.kids[m.Name] = s.document(m.Value, old.member(m.Name))
	}
	return d
}

// element and member are children of a document that is split, nil for none.
func (d *document) element(i int) *document {
	if d == nil || i >= len(d.list) {
		return nil
	}
	return d.list[i]
}

func (d *document) member(name string) *document {
	if d == nil {
		return nil
	}
	return d.kids[name]
}

// ownText is how much of the text of a packed value is of children that are not packed.
func ownText(v rar.Value) int64 {
	n := int64(0)
	for i := range v.Len() {
		if !child(v, i).Packed() {
			n += int64(v.ChildSize(i))
		}
	}
	return n
}

// measure is about how long the text of v is, in bytes, or some number above limit.
func measure(v rar.Value, limit int64) int64 {
	n := int64(perValue + len(v.Text()) + v.TextSize())
	if v.Packed() {
		return n
	}
	for i := 0; i < v.Len() && n <= limit; i++ {
		if v.Kind() == rar.Object {
			m := v.Member(i)
			n += int64(perValue+len(m.Name)) + measure(m.Value, limit-n)
		} else {
			n += measure(v.Index(i), limit-n)
		}
	}
	return n
}

// find is the number of the member with a name, -1 if there is none.
func (d *document) find(name string) int {
	i, ok := slices.BinarySearchFunc(d.order, name, func(at uint32, name string) int {
		return strings.Compare(d.value.Name(int(at)), name)
	})
	if !ok {
		return -1
	}
	return int(d.order[i])
}
