package compiled

import (
	"hash/maphash"
	"math"
	"sort"
	"strconv"
)

// coll holds the members of a composite: an array uses vals, a set keys, an
// object both, in parallel. Keys are unique. They are put in Rego's order when
// order is first asked for, so that building is not quadratic.
type coll struct {
	keys, vals []*node
	sorted     bool
	// mixed: a key was put in that is neither a string nor a plain integer.
	mixed bool
	// text finds the members of a large frozen object with string keys only.
	text map[string]*node
	// table finds keys of a large coll that is being built out of order.
	table map[uint64][]int32
	// owner marks the unmade of an arena: the composite is yet to be made.
	owner *arena
	// large is of one that has no members here; it has an owner, too.
	large *large
}

const (
	// linearMax is the size up to which scanning beats searching.
	linearMax = 24
)

// Len, Less and Swap make a coll a sort.Interface.
func (c *coll) Len() int           { return len(c.keys) }
func (c *coll) Less(i, j int) bool { return compare(c.keys[i], c.keys[j]) < 0 }

// Swap exchanges two members.
func (c *coll) Swap(i, j int) {
	c.keys[i], c.keys[j] = c.keys[j], c.keys[i]
	if c.vals != nil {
		c.vals[i], c.vals[j] = c.vals[j], c.vals[i]
	}
}

func (c *coll) sort() {
	if c.sorted || len(c.keys) == 0 {
		return
	}
	sort.Sort(c)
	c.sorted, c.table = true, nil
}

// find returns the place of key in keys, -1 if it is not there.
func (c *coll) find(key *node) int {
	n := len(c.keys)
	if n <= linearMax {
		for i, k := range c.keys {
			if k == key || k.k == key.k && equal(k, key) {
				return i
			}
		}
		return -1
	}
	if c.sorted {
		i := sort.Search(n, func(i int) bool { return compare(c.keys[i], key) >= 0 })
		if i < n && equal(c.keys[i], key) {
			return i
		}
		return -1
	}
	if c.table == nil {
		c.table = make(map[uint64][]int32, 2*n)
		for i, k := range c.keys {
			c.note(k, i)
		}
	}
	for _, i := range c.table[hashNode(key)] {
		if equal(c.keys[i], key) {
			return int(i)
		}
	}
	return -1
}

func (c *coll) note(key *node, i int) {
	h := hashNode(key)
	c.table[h] = append(c.table[h], int32(i)) //nolint:gosec // the limit of nodes is far below
}

func (c *coll) get(key *node) *node {
	if i := c.find(key); i >= 0 {
		return c.vals[i]
	}
	return nil
}

// getText is get for a string, the usual key.
func (c *coll) getText(key *node) *node {
	if c.text != nil {
		return c.text[key.s]
	}
	if len(c.keys) > linearMax {
		return c.get(key)
	}
	for i, k := range c.keys {
		if k == key || k.k == kStr && k.s == key.s {
			return c.vals[i]
		}
	}
	return nil
}

// insert puts a pair into an object that is being built. As in OPA the key that
// was there stays, the value is replaced.
func (c *coll) insert(key, val *node) {
	if i := c.find(key); i >= 0 {
		c.vals[i] = val
		return
	}
	c.grow(key)
	c.vals = append(c.vals, val)
}

// add puts an element into a set that is being built.
func (c *coll) add(key *node) {
	if c.sorted && len(c.keys) > linearMax && compare(c.keys[len(c.keys)-1], key) < 0 {
		c.keys = append(c.keys, key)
		return
	}
	if c.find(key) < 0 {
		c.grow(key)
	}
}

// grow appends a key that is not there.
func (c *coll) grow(key *node) {
	n := len(c.keys)
	c.sorted = n == 0 || c.sorted && compare(c.keys[n-1], key) < 0
	c.mixed = c.mixed || key.k != kStr && (!key.plain || key.i > maxPlain || key.i < -maxPlain)
	if c.table != nil {
		c.note(key, n)
	}
	c.keys = append(c.keys, key)
}

//nolint:gochecknoglobals // a constant of the process
var hashSeed = maphash.MakeSeed()

// hashNode is the same for equal values.
func hashNode(n *node) uint64 {
	switch n.k {
	case kNum:
		return hashNumber(n)
	case kStr:
		return maphash.String(hashSeed, n.s)
	case kArr:
		h := uint64(len(n.coll().vals)) + 3
		for _, v := range n.coll().vals {
			h = h*1_099_511_628_211 + hashNode(v)
		}
		return h
	case kSet:
		h := uint64(len(n.coll().keys)) + 5
		for _, v := range n.coll().keys {
			h += hashNode(v) * 0x9e3779b97f4a7c15
		}
		return h
	case kObj:
		h := uint64(len(n.coll().keys)) + 7
		for i, k := range n.coll().keys {
			h += (hashNode(k)*31 + hashNode(n.coll().vals[i])) * 0x9e3779b97f4a7c15
		}
		return h
	default:
		return uint64(n.k)<<1 + uint64(n.i&1)
	}
}

// hashNumber goes over the nearest double: equal numbers have the same, however
// they are written.
func hashNumber(n *node) uint64 {
	f := float64(n.i)
	if !n.isInt {
		f, _ = strconv.ParseFloat(n.s, 64)
	}
	if f == 0 {
		return 1
	}
	return math.Float64bits(f) * 0x9e3779b97f4a7c15
}
