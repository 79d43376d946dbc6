package compiled

import "strings"

// compare is Rego's total order.
func compare(a, b *node) int {
	if a == b {
		return 0
	}
	if a.k != b.k {
		return compareInts(int64(a.k), int64(b.k))
	}
	switch a.k {
	case kNull:
		return 0
	case kBool:
		return compareInts(a.i, b.i)
	case kNum:
		return compareNumbers(a, b)
	case kStr:
		return strings.Compare(a.s, b.s)
	case kArr:
		return compareLists(a.coll().vals, b.coll().vals)
	case kSet:
		x, y := a.coll(), b.coll()
		x.sort()
		y.sort()
		return compareLists(x.keys, y.keys)
	case kObj:
		return compareObjects(a.coll(), b.coll())
	default:
		panic("a value was used after its release")
	}
}

func compareLists(x, y []*node) int {
	for i := 0; i < len(x) && i < len(y); i++ {
		if c := compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return len(x) - len(y)
}

func compareObjects(a, b *coll) int {
	a.sort()
	b.sort()
	for i := 0; i < len(a.keys) && i < len(b.keys); i++ {
		if c := compare(a.keys[i], b.keys[i]); c != 0 {
			return c
		}
		if c := compare(a.vals[i], b.vals[i]); c != 0 {
			return c
		}
	}
	return len(a.keys) - len(b.keys)
}

// equal is compare == 0 without the work of ordering.
func equal(a, b *node) bool {
	if a == b {
		return true
	}
	if a.k != b.k {
		return false
	}
	switch a.k {
	case kStr:
		return a.s == b.s
	case kArr:
		x, y := a.coll().vals, b.coll().vals
		if len(x) != len(y) {
			return false
		}
		for i, v := range x {
			if !equal(v, y[i]) {
				return false
			}
		}
		return true
	case kObj, kSet:
		if len(a.coll().keys) != len(b.coll().keys) {
			return false
		}
	default:
	}
	return compare(a, b) == 0
}
