package compiled

// kind orders values the way Rego does.
type kind uint8

const (
	kNull kind = iota
	kBool
	kNum
	kStr
	kArr
	kObj
	kSet
	// kPoison is what tests make of released memory.
	kPoison
)

// node is one value; a nil *node is undefined. Nodes of the policy and of the
// data live as long as the Program and are never written. Nodes of an evaluation
// live in its arena. There is one node each for null, false and true.
type node struct {
	k kind
	// isInt: i holds the value of a number, which fits.
	isInt bool
	// plain: a number whose text is that of i and may be missing.
	plain bool
	// base marks composites of the base documents, see dot.
	base bool
	// loose: a number that is not written the usual way and may only be compared,
	// see firm.
	loose bool
	// own marks composites that the evaluation at hand is building.
	own bool
	// stale marks composites that OPA's sets and objects do not find, see stale.go.
	stale bool
	// large marks composites of the base documents that are kept as text, see large.go.
	large bool
	i     int64
	s     string // a string, or the text of a number
	// made is for coll alone: the members of a composite, or the arena's unmade.
	made *coll
}

// composite tells whether n has members, without making them.
func (n *node) composite() bool { return n.made != nil }

// coll holds the members of a composite; nil for any other value.
func (n *node) coll() *coll {
	if c := n.made; c == nil || c.owner == nil {
		return c
	}
	return n.expand()
}

//nolint:gochecknoglobals // constants, never written
var (
	nodeNull  = &node{k: kNull}
	nodeFalse = &node{k: kBool}
	nodeTrue  = &node{k: kBool, i: 1}
	// smallInts are the numbers that lengths and indices usually are.
	smallInts = makeSmallInts()
	// ambiguous is what dot answers where topdown's answer depends on how a
	// reference is written.
	ambiguous = &node{k: kPoison}
	// delegate is what a native builtin answers where OPA's own shall.
	delegate = &node{k: kPoison}
)

func makeSmallInts() []node {
	list := make([]node, 1024)
	for i := range list {
		list[i] = node{k: kNum, isInt: true, plain: true, i: int64(i)}
	}
	return list
}

func boolNode(b bool) *node {
	if b {
		return nodeTrue
	}
	return nodeFalse
}

// freeze readies a value that the Program keeps for sharing between goroutines:
// sorted, and large objects with an index.
func (n *node) freeze(base bool) {
	if n.large {
		return
	}
	c := n.coll()
	if c == nil {
		return
	}
	n.base, n.own = base, false
	for _, v := range c.keys {
		v.freeze(base)
	}
	for _, v := range c.vals {
		v.freeze(base)
	}
	c.sort()
	if n.k != kObj || len(c.keys) <= linearMax {
		return
	}
	m := make(map[string]*node, len(c.keys))
	for i, k := range c.keys {
		if k.k != kStr {
			return
		}
		m[k.s] = c.vals[i]
	}
	c.text = m
}

// dot is a reference into a value: undefined (nil) unless it is there.
//
// topdown reads base documents by storage paths, which are text: data.o[1]
// finds the key "1" and data.a["0"] the first element, but only if the reference
// is not cut in two by a variable, which the plan does not tell. Where that makes
// a difference the answer is ambiguous.
func (m *machine) dot(v, key *node) *node {
	if v == nil {
		return nil
	}
	if v.large {
		return m.dotLarge(v, key)
	}
	switch v.k {
	case kObj:
		if key.k == kStr {
			return v.coll().getText(key)
		}
		x := v.coll().get(key)
		if x == nil && v.base && key.k == kNum && v.coll().getText(&node{k: kStr, s: key.numText()}) != nil {
			return ambiguous
		}
		return x
	case kArr:
		return dotArray(v, key)
	case kSet:
		if i := v.coll().find(key); i >= 0 {
			return v.coll().keys[i]
		}
	default:
	}
	return nil
}

func dotArray(v, key *node) *node {
	switch key.k {
	case kNum:
		if !key.isInt || key.i < 0 || key.i >= int64(len(v.coll().vals)) {
			return nil
		}
		if v.base && !key.plain {
			return ambiguous
		}
		return v.coll().vals[key.i]
	case kStr:
		if v.base && key.s != "" && len(v.coll().vals) > 0 && key.s[0] <= '9' { // perhaps a number
			return ambiguous
		}
	default:
	}
	return nil
}

// maxWeight is how far the work on a value is counted.
const maxWeight = 1 << 16

// weight counts the values in n, up to about limit.
func (n *node) weight(limit int) int {
	if !n.composite() || limit <= 0 {
		return 1
	}
	w, c := 1, n.coll()
	for _, k := range c.keys {
		if w += k.weight(limit - w); w > limit {
			return w
		}
	}
	for _, v := range c.vals {
		if w += v.weight(limit - w); w > limit {
			return w
		}
	}
	return w
}
