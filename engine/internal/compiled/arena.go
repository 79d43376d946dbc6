package compiled

import "github.com/authzd/authzd/rar"

// arena hands out what one evaluation makes; all of it dies with the
// evaluation, and the memory is used again by the next.
type arena struct {
	// unmade is the coll of composites that nobody has looked into yet, raws what
	// they are, see lazy.
	unmade coll
	raws   []rar.Value
	intern map[string]*node // the Program's, for base documents; nil for inputs
	larges *larges          // the Program's; nil while it has none

	nodes          [][]node
	colls          [][]coll
	ptrs           [][]*node
	nodeAt, collAt place
	ptrAt          place
	// odd: a number was made that is not written the usual way, see usual.
	odd bool
}

// place is the next free element of chunks.
type place struct{ chunk, i int }

const (
	nodeChunk = 256
	collChunk = 64
	ptrChunk  = 256
	// keptChunks bounds what stays for the next evaluation.
	keptChunks = 64
)

func (a *arena) node() *node {
	p := &a.nodeAt
	if p.chunk == len(a.nodes) {
		a.nodes = append(a.nodes, make([]node, nodeChunk))
	}
	n := &a.nodes[p.chunk][p.i]
	if p.i++; p.i == nodeChunk {
		p.chunk, p.i = p.chunk+1, 0
	}
	return n
}

// used is how many nodes were made.
func (a *arena) used() int { return a.nodeAt.chunk*nodeChunk + a.nodeAt.i }

func (a *arena) coll() *coll {
	p := &a.collAt
	if p.chunk == len(a.colls) {
		a.colls = append(a.colls, make([]coll, collChunk))
	}
	c := &a.colls[p.chunk][p.i]
	if p.i++; p.i == collChunk {
		p.chunk, p.i = p.chunk+1, 0
	}
	return c
}

// slice hands out an empty slice with room for n; beyond that it grows on the
// heap.
func (a *arena) slice(n int) []*node {
	if n > ptrChunk {
		return make([]*node, 0, n)
	}
	p := &a.ptrAt
	if p.chunk < len(a.ptrs) && p.i+n > ptrChunk {
		p.chunk, p.i = p.chunk+1, 0
	}
	if p.chunk == len(a.ptrs) {
		a.ptrs = append(a.ptrs, make([]*node, ptrChunk))
	}
	s := a.ptrs[p.chunk][p.i : p.i : p.i+n]
	p.i += n
	return s
}

// reset forgets everything; strings are released to the garbage collector.
func (a *arena) reset() {
	if len(a.nodes) > keptChunks || len(a.colls) > 4*keptChunks || len(a.ptrs) > 2*keptChunks || cap(a.raws) > keptChunks*nodeChunk {
		*a = arena{larges: a.larges} // do not keep what one huge input needed
		return
	}
	clear(a.raws)
	a.raws = a.raws[:0]
	clearChunks(a.nodes, a.nodeAt)
	clearChunks(a.colls, a.collAt)
	clearChunks(a.ptrs, a.ptrAt)
	a.nodeAt, a.collAt, a.ptrAt, a.odd = place{}, place{}, place{}, false
}

func clearChunks[T any](chunks [][]T, end place) {
	for i := 0; i <= end.chunk && i < len(chunks); i++ {
		if i == end.chunk {
			clear(chunks[i][:end.i])
		} else {
			clear(chunks[i])
		}
	}
}

// poison overwrites everything and gives the memory up, so that whoever kept a
// value finds none.
func (a *arena) poison() {
	for _, chunk := range a.nodes {
		for i := range chunk {
			chunk[i] = node{k: kPoison, s: "released", i: -1}
		}
	}
	for _, chunk := range a.colls {
		clear(chunk)
	}
	for _, chunk := range a.ptrs {
		for i := range chunk {
			chunk[i] = ambiguous
		}
	}
	*a = arena{larges: a.larges}
}

func (a *arena) str(s string) *node {
	n := a.node()
	n.k, n.s = kStr, s
	return n
}

func (a *arena) int(i int64) *node {
	if i >= 0 && i < int64(len(smallInts)) {
		return &smallInts[i]
	}
	n := a.node()
	n.k, n.isInt, n.plain, n.i = kNum, true, i > -1_000_000_000_000_000_000 && i < 1_000_000_000_000_000_000, i
	return n
}

func (a *arena) num(text string) *node {
	if len(text) <= 4 && plainInteger(text) && text[0] != '-' {
		var i int64
		for _, d := range []byte(text) {
			i = 10*i + int64(d-'0')
		}
		return a.int(i)
	}
	n := a.node()
	n.setNumber(text)
	a.odd = a.odd || !n.plain && !usual(text)
	return n
}

// composite makes an array, set or object of members that are unique, and in
// order if sorted says so.
func (a *arena) composite(k kind, keys, vals []*node, sorted bool) *node {
	n := a.node()
	c := a.coll()
	c.keys, c.vals, c.sorted = keys, vals, sorted
	n.k, n.made = k, c
	return n
}
