package compiled

import (
	"sync/atomic"

	"github.com/authzd/authzd/rar"
)

// Large base documents stay the text that rar.DecodePacked made of them. A node of
// one has no members: looking up one of them (dot) makes that one in the memory of the
// evaluation. Whoever wants all of them, to iterate, compare or hand them to a builtin,
// gets none, and the evaluation is handed over: topdown reads such documents whole.

// fewMembers is how many members of a packed value become nodes.
const fewMembers = 256

// larges is what the large documents of a Program have in common.
type larges struct {
	few int
	// touched counts how often one was asked for as a whole, by any evaluation. One
	// that sees it change is handed over: it may have been itself.
	touched atomic.Uint64
}

// large is one document.
type large struct {
	of    *larges
	value rar.Value
}

func (l *larges) admits(v rar.Value) bool { return v.Packed() && v.Len() > l.few }

func (l *larges) node(a *arena, k kind, v rar.Value) *node {
	n, c := a.node(), a.coll()
	c.owner, c.large = a, &large{l, v}
	n.k, n.made, n.base, n.large = k, c, true, true
	return n
}

// touch answers for all members.
func (l *large) touch() *coll {
	l.of.touched.Add(1)
	return &coll{sorted: true}
}

// touched tells whether the evaluation may have asked for a large document as a whole.
func (m *machine) touched() bool {
	l := m.p.larges
	return l != nil && l.touched.Load() != m.touchedBefore
}

// recentRow is a member of a large document that was made already.
type recentRow struct {
	of   *large
	i    int
	node *node
}

// dotLarge is dot into a large document. Names are text only.
func (m *machine) dotLarge(v, key *node) *node {
	l := v.made.large
	if v.k == kObj {
		switch key.k {
		case kStr:
			return m.row(l, l.value.Find(key.s))
		case kNum:
			if l.value.Find(key.numText()) >= 0 {
				return ambiguous
			}
		default:
		}
		return nil
	}
	switch key.k {
	case kNum:
		switch {
		case !key.isInt || key.i < 0 || key.i >= int64(l.value.Len()):
			return nil
		case !key.plain:
			return ambiguous
		}
		return m.row(l, int(key.i))
	case kStr:
		if key.s != "" && l.value.Len() > 0 && key.s[0] <= '9' { // perhaps a number
			return ambiguous
		}
	default:
	}
	return nil
}

// row makes member i, unless it has just been made. Its composites are made when they are
// looked into, as those of an input.
func (m *machine) row(l *large, i int) *node {
	if i < 0 {
		return nil
	}
	for k := range m.recent {
		if r := &m.recent[k]; r.of == l && r.i == i {
			return r.node
		}
	}
	v := l.value.Index(i)
	if l.value.Kind() == rar.Object {
		v = l.value.Member(i).Value
	}
	m.fuel -= l.cost(i, v) // whoever steps next looks
	n := m.arena.fromJSON(v)
	n.setBase()
	m.recent[m.nextRecent] = recentRow{l, i, n}
	m.nextRecent = (m.nextRecent + 1) % len(m.recent)
	return n
}

// rowUnit is how many bytes of text are worth a step, and packedText the length from
// which on a child is kept as text itself, and is not made.
const (
	rowUnit    = 64
	packedText = 4 << 10
)

// cost is that of making member i, which is v, in steps.
func (l *large) cost(i int, v rar.Value) int {
	switch {
	case !v.Packed():
		return 1 + l.value.ChildSize(i)/rowUnit
	case l.of.admits(v):
		return 1
	}
	size := 0
	for k := range v.Len() {
		size += min(v.ChildSize(k), packedText)
	}
	return 1 + size/rowUnit
}

// setBase marks a composite of the base documents; other values may be shared.
func (n *node) setBase() {
	if n.composite() {
		n.base = true
	}
}
