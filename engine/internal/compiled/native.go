package compiled

import (
	"strings"
	"unicode/utf8"
)

// native1 is our form of a builtin with one operand. It answers delegate where
// OPA's own shall: operands of other types, big numbers, errors. All of them are
// held against OPA's own on random values.
func native1(name string) func(*machine, *node) *node {
	switch name {
	case "count":
		return count
	case "is_array":
		return isKind(kArr)
	case "is_boolean":
		return isKind(kBool)
	case "is_null":
		return isKind(kNull)
	case "is_number":
		return isKind(kNum)
	case "is_object":
		return isKind(kObj)
	case "is_set":
		return isKind(kSet)
	case "is_string":
		return isKind(kStr)
	case "type_name":
		return typeName
	case "lower":
		return ofText(strings.ToLower)
	case "upper":
		return ofText(strings.ToUpper)
	case "trim_space":
		return ofText(strings.TrimSpace)
	case "sum":
		return total
	case "max":
		return func(_ *machine, a *node) *node { return extreme(a, 1) }
	case "min":
		return func(_ *machine, a *node) *node { return extreme(a, -1) }
	case "object.keys":
		return objectKeys
	case "to_number":
		return toNumber
	}
	return nil
}

func native2(name string) func(m *machine, a, b *node) *node {
	switch name {
	case "equal":
		return func(_ *machine, a, b *node) *node { return boolNode(equal(a, b)) }
	case "neq":
		return func(_ *machine, a, b *node) *node { return boolNode(!equal(a, b)) }
	case "lt":
		return func(_ *machine, a, b *node) *node { return boolNode(compare(a, b) < 0) }
	case "lte":
		return func(_ *machine, a, b *node) *node { return boolNode(compare(a, b) <= 0) }
	case "gt":
		return func(_ *machine, a, b *node) *node { return boolNode(compare(a, b) > 0) }
	case "gte":
		return func(_ *machine, a, b *node) *node { return boolNode(compare(a, b) >= 0) }
	case "internal.member_2":
		return member
	case "plus":
		return func(m *machine, a, b *node) *node { return sum(m, a, b, 1) }
	case "minus":
		return func(m *machine, a, b *node) *node {
			if a.k == kSet && b.k == kSet {
				return selectFrom(m, a, b, false)
			}
			return sum(m, a, b, -1)
		}
	case "and":
		return func(m *machine, a, b *node) *node { return selectFrom(m, a, b, true) }
	case "or":
		return union
	case "array.concat":
		return concatArrays
	case "object.union":
		return unionObjects
	case "object.subset":
		return subArray
	}
	return nativeText2(name)
}

// nativeText2 are those of two strings.
func nativeText2(name string) func(m *machine, a, b *node) *node {
	switch name {
	case "startswith":
		return testTexts(strings.HasPrefix)
	case "endswith":
		return testTexts(strings.HasSuffix)
	case "contains":
		return testTexts(strings.Contains)
	case "trim":
		return changeText(strings.Trim)
	case "trim_left":
		return changeText(strings.TrimLeft)
	case "trim_right":
		return changeText(strings.TrimRight)
	case "trim_prefix":
		return changeText(strings.TrimPrefix)
	case "trim_suffix":
		return changeText(strings.TrimSuffix)
	case "split":
		return split
	case "concat":
		return concat
	case "sprintf":
		return format
	}
	return nil
}

func native3(name string) func(m *machine, a, b, c *node) *node {
	switch name {
	case "object.get":
		return objectGet
	case "replace":
		return replaceText
	case "internal.member_3":
		return member3
	}
	return nil
}

func isKind(k kind) func(*machine, *node) *node {
	return func(_ *machine, a *node) *node { return boolNode(a.k == k) }
}

func typeName(m *machine, a *node) *node {
	names := [...]string{kNull: "null", kBool: "boolean", kNum: "number", kStr: "string", kArr: "array", kObj: "object", kSet: "set"}
	return m.arena.str(names[a.k])
}

func count(m *machine, a *node) *node {
	if a.k == kStr {
		return m.arena.int(int64(utf8.RuneCountInString(a.s)))
	}
	if a.coll() == nil {
		return delegate
	}
	return m.arena.int(int64(a.size()))
}

// maxPlain bounds integers whose sums are surely exact.
const maxPlain = 1 << 52

// sum adds small integers.
func sum(m *machine, a, b *node, sign int64) *node {
	if !a.plain || !b.plain || a.i > maxPlain || a.i < -maxPlain || b.i > maxPlain || b.i < -maxPlain {
		return delegate
	}
	return m.arena.int(a.i + sign*b.i)
}

// elements of an array or a set.
func (n *node) elements() []*node {
	switch n.k {
	case kArr:
		return n.coll().vals
	case kSet:
		n.coll().sort()
		return n.coll().keys
	default:
		return nil
	}
}

func total(m *machine, a *node) *node {
	if a.k != kArr && a.k != kSet || !m.charge(a.size()/8) {
		return delegate
	}
	var t int64
	for _, x := range a.elements() {
		if !x.plain || t > maxPlain || t < -maxPlain || x.i > maxPlain || x.i < -maxPlain {
			return delegate
		}
		t += x.i
	}
	return m.arena.int(t)
}

// extreme is the greatest or the least element; of nothing, OPA decides.
func extreme(a *node, sign int) *node {
	list := a.elements()
	if len(list) == 0 {
		return delegate
	}
	best := list[0]
	for _, x := range list[1:] {
		if sign*compare(x, best) >= 0 { // of equals, which may be written differently, the last
			best = x
		}
	}
	return best
}

// toNumber reads plain numbers only; every other text is OPA's business. An amount
// such as 80.50 is mostly compared, and may be.
func toNumber(m *machine, a *node) *node {
	switch {
	case a.k == kNum:
		return a
	case a.k == kStr && (plainInteger(a.s) || usual(a.s)):
		return m.arena.num(a.s)
	case a.k == kStr && looseAmount(a.s):
		n := m.arena.node()
		n.setNumber(a.s)
		n.loose = true
		return n
	}
	return delegate
}

// looseAmount tells whether text is an amount that only ends in zeros too many.
func looseAmount(text string) bool {
	if len(text) > maxDigits || !strings.Contains(text, ".") || text[0] == '-' || text[len(text)-1] != '0' {
		return false
	}
	return usual(strings.TrimRight(text, "0") + "1")
}

// member is "a in b": among the elements, or the values of an object.
func member(m *machine, a, b *node) *node {
	switch b.k {
	case kSet:
		return boolNode(b.coll().find(a) >= 0)
	case kArr, kObj:
		if !m.charge(len(b.coll().vals) / 8) {
			return delegate // which ends at once
		}
		for _, v := range b.coll().vals {
			if equal(a, v) {
				return nodeTrue
			}
		}
	default:
	}
	return nodeFalse
}

// member3 is "key, a in b".
func member3(_ *machine, key, a, b *node) *node {
	var v *node
	switch b.k {
	case kSet:
		if b.coll().find(key) >= 0 {
			v = key
		}
	case kObj:
		v = b.coll().get(key)
	case kArr:
		if key.k == kNum && key.isInt && key.i >= 0 && key.i < int64(len(b.coll().vals)) {
			v = b.coll().vals[key.i]
		}
	default:
	}
	return boolNode(v != nil && equal(v, a))
}
