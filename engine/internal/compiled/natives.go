package compiled

import (
	"strings"
)

// Builtins on strings, objects and sets; see native1.

func ofText(f func(string) string) func(*machine, *node) *node {
	return func(m *machine, a *node) *node {
		if a.k != kStr {
			return delegate
		}
		return m.arena.str(f(a.s))
	}
}

func testTexts(f func(a, b string) bool) func(m *machine, a, b *node) *node {
	return func(_ *machine, a, b *node) *node {
		if a.k != kStr || b.k != kStr {
			return delegate
		}
		return boolNode(f(a.s, b.s))
	}
}

func changeText(f func(a, b string) string) func(m *machine, a, b *node) *node {
	return func(m *machine, a, b *node) *node {
		if a.k != kStr || b.k != kStr {
			return delegate
		}
		return m.arena.str(f(a.s, b.s))
	}
}

func replaceText(m *machine, a, b, c *node) *node {
	// Many replacements of long texts are OPA's, which watches their size.
	if a.k != kStr || b.k != kStr || c.k != kStr || b.s == "" || len(c.s) > len(b.s) {
		return delegate
	}
	return m.arena.str(strings.ReplaceAll(a.s, b.s, c.s))
}

func split(m *machine, a, b *node) *node {
	if a.k != kStr || b.k != kStr || !m.charge(1+len(a.s)/64) {
		return delegate
	}
	n := 1 + strings.Count(a.s, b.s)
	if b.s == "" || !m.charge(n/8) {
		return delegate
	}
	vals, rest := m.arena.slice(n), a.s
	for {
		before, after, found := strings.Cut(rest, b.s)
		vals = append(vals, m.arena.str(before))
		if !found {
			return m.arena.composite(kArr, nil, vals, true)
		}
		rest = after
	}
}

func concat(m *machine, sep, list *node) *node {
	if sep.k != kStr || list.k != kArr && list.k != kSet || !m.charge(list.size()/8) {
		return delegate
	}
	size := 0
	for _, e := range list.elements() {
		if e.k != kStr {
			return delegate
		}
		size += len(e.s) + len(sep.s)
	}
	var b strings.Builder
	b.Grow(size)
	for i, e := range list.elements() {
		if i > 0 {
			b.WriteString(sep.s)
		}
		b.WriteString(e.s)
	}
	return m.arena.str(b.String())
}

// format takes %s of strings, %d of integers and %v of either; everything else
// is OPA's business.
func format(m *machine, text, args *node) *node {
	if text.k != kStr || args.k != kArr {
		return delegate
	}
	var b strings.Builder
	list := args.coll().vals
	for i := 0; i < len(text.s); i++ {
		c := text.s[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i++; i == len(text.s) || len(list) == 0 {
			return delegate
		}
		arg := list[0]
		list = list[1:]
		switch verb := text.s[i]; {
		case arg.k == kStr && (verb == 's' || verb == 'v'):
			b.WriteString(arg.s)
		case arg.plain && (verb == 'd' || verb == 'v'):
			b.WriteString(arg.numText())
		default:
			return delegate
		}
	}
	if len(list) > 0 {
		return delegate
	}
	return m.arena.str(b.String())
}

func objectGet(m *machine, object, key, otherwise *node) *node {
	if object.k != kObj || key.k == kArr { // an array is a path
		return delegate
	}
	var v *node
	if object.large {
		if key.k == kStr { // as all its keys are
			l := object.made.large
			v = m.row(l, l.value.Find(key.s))
		}
	} else if key.k == kStr {
		v = object.coll().getText(key)
	} else {
		v = object.coll().get(key)
	}
	if v == nil {
		return otherwise
	}
	return v
}

func objectKeys(m *machine, a *node) *node {
	if a.k != kObj || !m.charge(a.size()/8) {
		return delegate
	}
	keys := append(m.arena.slice(len(a.coll().keys)), a.coll().keys...)
	return m.arena.composite(kSet, keys, nil, a.coll().sorted)
}

// unionObjects merges objects, whose members are again merged where both are
// objects; else b's win.
func unionObjects(m *machine, a, b *node) *node {
	if a.k != kObj || b.k != kObj || !m.charge(1+(a.size()+b.size())/4) {
		return delegate
	}
	n := m.arena.composite(kObj, append(m.arena.slice(a.size()+b.size()), a.coll().keys...), append(m.arena.slice(a.size()+b.size()), a.coll().vals...), a.coll().sorted)
	for i, k := range b.coll().keys {
		v := b.coll().vals[i]
		if at := n.coll().find(k); at >= 0 {
			if old := n.coll().vals[at]; old.k == kObj && v.k == kObj {
				if v = unionObjects(m, old, v); v == delegate {
					return delegate
				}
			}
			n.coll().vals[at] = v
			continue
		}
		n.coll().insert(k, v)
	}
	return n
}

func concatArrays(m *machine, a, b *node) *node {
	if a.k != kArr || b.k != kArr || !m.charge(1+(a.size()+b.size())/8) {
		return delegate
	}
	vals := append(m.arena.slice(a.size()+b.size()), a.coll().vals...)
	return m.arena.composite(kArr, nil, append(vals, b.coll().vals...), true)
}

// selectFrom keeps the elements of a that are in b, or those that are not.
func selectFrom(m *machine, a, b *node, in bool) *node {
	if a.k != kSet || b.k != kSet || !m.charge(1+a.size()/4) {
		return delegate
	}
	keys := m.arena.slice(a.size())
	for _, k := range a.coll().keys {
		if (b.coll().find(k) >= 0) == in {
			keys = append(keys, k)
		}
	}
	return m.arena.composite(kSet, keys, nil, a.coll().sorted)
}

func union(m *machine, a, b *node) *node {
	if a.k != kSet || b.k != kSet || !m.charge(1+(a.size()+b.size())/4) {
		return delegate
	}
	n := m.arena.composite(kSet, append(m.arena.slice(a.size()+b.size()), a.coll().keys...), nil, a.coll().sorted)
	for _, k := range b.coll().keys {
		n.coll().add(k)
	}
	return n
}

// subArray is object.subset of arrays: a run of the outer equals the inner.
func subArray(m *machine, a, b *node) *node {
	if a.k != kArr || b.k != kArr {
		return delegate
	}
	x, y := a.coll().vals, b.coll().vals
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
