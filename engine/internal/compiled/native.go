package compiled

import (
	"strings"
	"unicode/utf8"
)

// native1 is our form of a builtin with one operand. It answers delegate where
// OPA's own shall: operands of other types, big numbers, errors.
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
		return func(m *machine, a, b *node) *node { return sum(m, a, b, -1) }
	case "startswith":
		return ofTexts(strings.HasPrefix)
	case "endswith":
		return ofTexts(strings.HasSuffix)
	case "contains":
		return ofTexts(strings.Contains)
	case "object.subset":
		return subArray
	}
	return nil
}

func native3(name string) func(m *machine, a, b, c *node) *node {
	return nil
}

func prepared(name string, args []operand) func(*machine, *node) *node {
	return nil
}

func count(m *machine, a *node) *node {
	if a.k == kStr {
		return m.arena.int(int64(utf8.RuneCountInString(a.s)))
	}
	if a.c == nil {
		return delegate
	}
	return m.arena.int(int64(a.size()))
}

func isKind(k kind) func(*machine, *node) *node {
	return func(_ *machine, a *node) *node { return boolNode(a.k == k) }
}

// member is "a in b": among the elements, or the values of an object.
func member(m *machine, a, b *node) *node {
	switch b.k {
	case kSet:
		return boolNode(b.c.find(a) >= 0)
	case kArr, kObj:
		if !m.charge(len(b.c.vals) / 8) {
			return delegate // which fails at once
		}
		for _, v := range b.c.vals {
			if equal(a, v) {
				return nodeTrue
			}
		}
	default:
	}
	return nodeFalse
}

// sum adds small integers; everything else is OPA's business.
func sum(m *machine, a, b *node, sign int64) *node {
	const limit = 1 << 52
	if !a.plain || !b.plain || a.i > limit || a.i < -limit || b.i > limit || b.i < -limit {
		return delegate
	}
	return m.arena.int(a.i + sign*b.i)
}

func ofTexts(f func(a, b string) bool) func(m *machine, a, b *node) *node {
	return func(_ *machine, a, b *node) *node {
		if a.k != kStr || b.k != kStr {
			return delegate
		}
		return boolNode(f(a.s, b.s))
	}
}

// subArray is object.subset of arrays: a run of the outer equals the inner.
func subArray(m *machine, a, b *node) *node {
	if a.k != kArr || b.k != kArr {
		return delegate
	}
	x, y := a.c.vals, b.c.vals
	if !m.charge(len(x) * (1 + len(y)) / 8) {
		return delegate
	}
outer:
	for i := 0; i+len(y) <= len(x); i++ {
		for j := range y {
			if !equal(x[i+j], y[j]) {
				continue outer
			}
		}
		return nodeTrue
	}
	return nodeFalse
}
