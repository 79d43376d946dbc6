package rar

import (
	"fmt"
	"strconv"
)

const (
	// condenseExactly is the number of needs that differ in sets and limits only
	// up to which Condense tries every way of putting them together.
	condenseExactly = 10
	// maxCells bounds the single rights that one joined object is taken apart
	// into. An object of more is not joined.
	maxCells = 4096
)

// Condense returns few objects that cover every need and together grant nothing
// that the needs do not ask for: what to ask an authorization server for once
// instead of need by need (RFC 9396 section 2: values inside an object multiply,
// objects add up).
//
// A need that another one covers is left out. Needs that differ only in sets
// (subset, prefix, glob) and limits (max, min) are put together if every
// combination that the joined object would grant is asked for by one of them:
// read×A and read×B become read×{A,B}; read×A and write×B stay two. Up to ten
// such needs the number of objects is the least possible and optimal is true;
// above, pairs are joined as long as any can be. It is false also where needs of
// one type differ in which members they have and silence grants anything: then
// fewer objects are conceivable, which nobody looks for.
//
// Needs for single use are not for Condense: each wants an object of its own.
// The needs must be valid, as for Covers; one that does not cover itself is kept
// as it is, unless another covers it.
//
// Budget is how many steps may be taken, and is lowered by those that were; nil
// is that of one comparison. Once it is used up nothing more is put together.
func (t *Types) Condense(needs []Value, budget *int) (objects []Value, optimal bool, err error) {
	if len(needs) > maxCompared {
		return nil, false, &Error{Code: CodeTooComplex, Err: fmt.Errorf("more than %d objects", maxCompared)}
	}
	for i, v := range needs {
		if err := t.checkRequired(v, false); err != nil {
			err.Path = "/" + strconv.Itoa(i) + err.Path
			return nil, false, err
		}
	}
	if budget == nil {
		work := maxWork
		budget = &work
	}
	c := condenser{types: t, cmp: comparer{work: budget}, optimal: true}
	groups := c.groups(c.undominated(needs))
	for _, group := range groups {
		objects = append(objects, c.fewest(group)...)
	}
	// Once the budget is used up every comparison says no, so nothing is joined or
	// left out by mistake; only smallness is lost.
	return c.undominated(objects), c.optimal && !mayOverlap(groups) && *budget >= 0, nil
}

// mayOverlap reports whether objects of two groups could be replaced by one that
// is silent where one of them is not: they have the same members but for those
// on which silence grants anything.
func mayOverlap(groups []*group) bool {
	silent := map[string]string{}
	for _, g := range groups {
		var always, optional []byte
		g.typ.rules.members(g.needs[0], &always, &optional)
		key := g.typ.name + "\x00" + string(always)
		if other, met := silent[key]; met && other != string(optional) {
			return true
		}
		silent[key] = string(optional)
	}
	return false
}

// members notes which members v has, apart those on which a grant may be silent.
func (n *node) members(v Value, always, optional *[]byte) {
	for _, i := range v.sortedNames() {
		child := n.child(v.list()[i].str())
		switch {
		case child == nil:
		case child.rule == ruleIgnore:
			continue
		case child.absentAny:
			*optional = appendQuoted(*optional, v.list()[i].str())
			continue
		}
		*always = appendQuoted(*always, v.list()[i].str())
		if child != nil && child.rule == ruleFields && v.list()[i+1].kind == Object {
			*always, *optional = append(*always, '{'), append(*optional, '{')
			child.members(v.list()[i+1], always, optional)
			*always, *optional = append(*always, '}'), append(*optional, '}')
		}
	}
}

// condenser is one call of Condense.
type condenser struct {
	types   *Types
	cmp     comparer
	optimal bool
}

// covers compares two objects of one type by their rules, schemas aside.
func (c *condenser) covers(ty *typ, granted, required Value) bool {
	return c.cmp.fields(ty.rules, granted, required, nil) && *c.cmp.work >= 0
}

// undominated leaves out needs that another need covers; of needs that cover
// each other the first stays.
func (c *condenser) undominated(needs []Value) []Value {
	var out []Value
	for i, v := range needs {
		ty := c.types.lookup(typeOf(v))
		dominated := false
		for j, other := range needs {
			// Of another type it is not: but that would be seen late, for members are sorted.
			if i == j || typeOf(other) != ty.name || !c.covers(ty, other, v) {
				continue
			}
			if j < i || !c.covers(ty, v, other) {
				dominated = true
				break
			}
		}
		if !dominated {
			out = append(out, v)
		}
	}
	return out
}

// group is needs of one type that differ in sets and limits only.
type group struct {
	typ   *typ
	axes  []axis
	needs []Value
}

// axis is a place in which the needs of a group may differ.
type axis struct {
	path []string
	node *node
}

// groups sorts needs by what they have in common, in order of appearance.
func (c *condenser) groups(needs []Value) []*group {
	var out []*group
	byShape := map[string]*group{}
	for i, v := range needs {
		ty := c.types.lookup(typeOf(v))
		var axes []axis
		shape := ty.rules.appendShape(nil, v, nil, &axes)
		if !c.covers(ty, v, v) {
			shape = strconv.AppendInt(shape, int64(i), 10) // alone
			axes = nil
		}
		g := byShape[string(shape)]
		if g == nil {
			g = &group{typ: ty, axes: axes}
			byShape[string(shape)] = g
			out = append(out, g)
		}
		g.needs = append(g.needs, v)
	}
	return out
}

// appendShape is appendCanonical with a mark in place of each set and limit,
// which it notes as an axis.
func (n *node) appendShape(dst []byte, v Value, path []string, axes *[]axis) []byte {
	switch {
	case n == nil:
		return v.AppendCanonical(dst)
	case n.rule == ruleFields && v.kind == Object:
		dst = append(dst, '{')
		for _, i := range v.sortedNames() {
			name := v.list()[i].str()
			child := n.child(name)
			if child != nil && child.rule == ruleIgnore {
				continue
			}
			dst = append(appendQuoted(dst, name), ':')
			below := append(path[:len(path):len(path)], name)
			dst = append(child.appendShape(dst, v.list()[i+1], below, axes), ',')
		}
		return append(dst, '}')
	case n.isSet() && v.kind == Array, n.isLimit() && limitKind(v) != Absent:
		*axes = append(*axes, axis{path: path, node: n})
		// The kind stays part of the shape: a number never compares with text.
		return append(append(dst, '<'), v.kind.String()...)
	}
	return n.appendCanonical(dst, v)
}

func (n *node) isSet() bool {
	return n.rule == ruleSubset || n.rule == rulePrefix || n.rule == ruleGlob
}

func (n *node) isLimit() bool { return n.rule == ruleMax || n.rule == ruleMin }

// limitKind returns the kind of a value that max and min can judge.
func limitKind(v Value) Kind {
	if v.kind == Number || isDecimalText(v.str()) {
		return v.kind
	}
	return Absent
}

// valueAt returns what stands at a path of member names.
func valueAt(v Value, path []string) Value {
	for _, name := range path {
		v, _ = v.Get(name)
	}
	return v
}

// replaceAt returns v with another value at a path of member names that exists.
func replaceAt(v Value, path []string, to Value) Value {
	if len(path) == 0 {
		return to
	}
	kids := append([]Value(nil), v.list()...)
	for i := 0; i < len(kids); i += 2 {
		if kids[i].str() == path[0] {
			kids[i+1] = replaceAt(kids[i+1], path[1:], to)
		}
	}
	return listValue(Object, kids)
}
