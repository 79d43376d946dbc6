package rar

import (
	"math/bits"
	"slices"
)

// fewest puts the needs of a group together.
func (c *condenser) fewest(g *group) []Value {
	if len(g.needs) == 1 { // where there is no axis, others were left out as covered
		return g.needs
	}
	grid := c.grid(g)
	if grid == nil {
		c.optimal = false
		return g.needs
	}
	all := make([]piece, len(g.needs))
	for i := range g.needs {
		all[i] = grid.piece(i)
	}
	if v := grid.join(all...); v.value.kind != Absent {
		return []Value{v.value}
	}
	if len(all) > condenseExactly {
		c.optimal = false
		return grid.pairwise(all)
	}
	return grid.exactly(all)
}

// exactly finds the fewest pieces: best[m] is how few cover the needs in the
// set m, last[m] is the set that one of them joins.
func (g *grid) exactly(all []piece) []Value {
	full := 1<<len(all) - 1
	joined := make([]Value, full+1)
	best, last := make([]int, full+1), make([]int, full+1)
	for m := 1; m <= full; m++ {
		joined[m] = g.join(pick(all, m)...).value
		best[m] = len(all) + 1
		low := m & -m
		for sub := m; sub > 0; sub = (sub - 1) & m {
			if sub&low != 0 && joined[sub].kind != Absent && best[m&^sub]+1 < best[m] {
				best[m], last[m] = best[m&^sub]+1, sub
			}
		}
	}
	var out []Value
	for m := full; m > 0; m &^= last[m] {
		out = append(out, joined[last[m]])
	}
	return out
}

// pick returns the pieces of the set m.
func pick(all []piece, m int) []piece {
	out := make([]piece, 0, bits.OnesCount(uint(m)))
	for i, p := range all {
		if m&(1<<i) != 0 {
			out = append(out, p)
		}
	}
	return out
}

// pairwise joins any two pieces that can be joined until none can.
func (g *grid) pairwise(out []piece) []Value {
	for i := 0; i < len(out); i++ {
		for j := i + 1; j < len(out); j++ {
			if p := g.join(out[i], out[j]); p.value.kind != Absent {
				out[i] = p
				out = append(out[:j], out[j+1:]...)
				i = -1 // what was refused may fit the joined one
				break
			}
		}
	}
	values := make([]Value, len(out))
	for i, p := range out {
		values[i] = p.value
	}
	return values
}

// grid is a group with every axis divided into steps: the elements of its sets,
// the values of its limits. A combination of steps, one of each axis, is a
// single right. Objects compare field by field, so a need covers a combination
// if it covers each of its steps.
type grid struct {
	c     *condenser
	group *group
	// steps of each axis, and for each step the needs that cover it.
	steps [][]Value
	by    [][]bitset
	// needs holds for each need its own steps on each axis.
	needs [][]bitset
}

// piece is a need, or several joined.
type piece struct {
	value Value
	// steps are those of each axis whose combinations the piece grants.
	steps []bitset
}

// grid returns nil if an axis has more steps than a joined object may.
func (c *condenser) grid(g *group) *grid {
	out := &grid{
		c: c, group: g, steps: make([][]Value, len(g.axes)), by: make([][]bitset, len(g.axes)), needs: make([][]bitset, len(g.needs)),
	}
	for a, axis := range g.axes {
		own, ok := out.divide(a, axis)
		if !ok {
			return nil
		}
		n := len(out.steps[a])
		for i, list := range own {
			steps := newBitset(n)
			for _, s := range list {
				steps.set(s)
			}
			out.needs[i] = append(out.needs[i], steps)
		}
		out.cover(a, axis)
	}
	return out
}

// divide finds the steps of an axis and returns those of each need.
func (g *grid) divide(a int, axis axis) (own [][]int, ok bool) {
	known := map[string]int{}
	own = make([][]int, len(g.group.needs))
	for i, v := range g.group.needs {
		for _, s := range axis.stepsOf(valueAt(v, axis.path)) {
			text := s.AppendCanonical(nil)
			if axis.node.isLimit() && s.kind == String { // equal limits in two spellings
				text = parseDecimal(s.str()).appendTo([]byte{'"'})
			}
			at, met := known[string(text)]
			if !met {
				at = len(g.steps[a])
				known[string(text)] = at
				g.steps[a] = append(g.steps[a], s)
			}
			own[i] = append(own[i], at)
			if !g.c.cmp.spend(1+len(text)) || at >= maxCells {
				return nil, false
			}
		}
	}
	return own, true
}

// cover finds the needs that cover each step of an axis.
func (g *grid) cover(a int, axis axis) {
	exact := axis.node.rule == ruleSubset && axis.node.implies == nil && axis.node.items == nil
	for s, v := range g.steps[a] {
		covering := newBitset(len(g.group.needs))
		for i, need := range g.group.needs {
			if g.needs[i][a].has(s) || !exact && g.c.cmp.value(axis.node, valueAt(need, axis.path), v, nil) && *g.c.cmp.work >= 0 {
				covering.set(i)
			}
		}
		g.by[a] = append(g.by[a], covering)
	}
}

// stepsOf divides the value of an axis.
func (a axis) stepsOf(v Value) []Value {
	if a.node.isLimit() {
		return []Value{v}
	}
	out := make([]Value, len(v.list()))
	for i, e := range v.list() {
		out[i] = listValue(Array, []Value{e})
	}
	return out
}

// piece returns need i.
func (g *grid) piece(i int) piece { return piece{value: g.group.needs[i], steps: g.needs[i]} }

// join returns the one object that covers the pieces and grants no more than
// all needs of the group do; its value is Absent if there is none.
func (g *grid) join(pieces ...piece) piece {
	if len(pieces) == 1 {
		return pieces[0]
	}
	out := piece{steps: make([]bitset, len(g.steps))}
	lists := make([][]int, len(g.steps))
	cells := 1
	for a, axis := range g.group.axes {
		out.steps[a] = newBitset(len(g.steps[a]))
		for _, p := range pieces {
			out.steps[a].add(p.steps[a])
		}
		lists[a] = out.steps[a].list()
		if axis.node.isLimit() { // the outermost takes in the others
			lists[a] = []int{g.outermostLimit(a, lists[a])}
		}
		if cells *= len(lists[a]); cells > maxCells {
			g.c.optimal = false
			return piece{}
		}
	}
	if !g.c.cmp.spend(cells) || !g.askedFor(lists, 0, nil) {
		return piece{}
	}
	v := pieces[0].value
	for a, axis := range g.group.axes {
		v = replaceAt(v, axis.path, g.whole(a, lists[a]))
	}
	if g.group.typ.validate(v) != nil {
		return piece{}
	}
	for _, p := range pieces {
		if !g.c.covers(g.group.typ, v, p.value) {
			return piece{}
		}
	}
	out.value = v
	return out
}

// askedFor reports whether one need of the group covers every combination of
// steps from axis a on; alive are the needs that cover those chosen so far.
func (g *grid) askedFor(steps [][]int, a int, alive bitset) bool {
	if a == len(steps) {
		return true
	}
	for _, s := range steps[a] {
		next := g.by[a][s]
		if alive != nil {
			next = next.and(alive)
		}
		if next.empty() || !g.askedFor(steps, a+1, next) {
			return false
		}
	}
	return true
}

// outermostLimit returns the step that as a grant takes in the others.
func (g *grid) outermostLimit(a int, steps []int) int {
	best := steps[0]
	for _, s := range steps[1:] {
		if limit(g.group.axes[a].node.rule, g.steps[a][s], g.steps[a][best]) == "" {
			best = s
		}
	}
	return best
}

// whole is the value of axis a that grants these steps.
func (g *grid) whole(a int, steps []int) Value {
	n := g.group.axes[a].node
	if n.isLimit() {
		return g.steps[a][steps[0]]
	}
	all := make([]Value, len(steps))
	for i, s := range steps {
		all[i] = g.steps[a][s].list()[0]
	}
	if n.rule != ruleSubset || n.implies != nil || n.items != nil {
		all = g.c.outermost(n, all)
	}
	return listValue(Array, all)
}

// outermost leaves out elements that another one takes in; of two that take in
// each other the first stays.
func (c *condenser) outermost(n *node, all []Value) []Value {
	takesIn := func(g, r Value) bool {
		one := func(v Value) Value { return listValue(Array, []Value{v}) }
		return c.cmp.value(n, one(g), one(r), nil) && *c.cmp.work >= 0
	}
	var out []Value
	for i, e := range all {
		inner := false
		for j := 0; j < len(all) && !inner; j++ {
			inner = i != j && takesIn(all[j], e) && (j < i || !takesIn(e, all[j]))
		}
		if !inner {
			out = append(out, e)
		}
	}
	return out
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int) { b[i/64] |= 1 << (i % 64) }

func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) add(o bitset) {
	for i := range o {
		b[i] |= o[i]
	}
}

func (b bitset) and(o bitset) bitset {
	out := make(bitset, len(b))
	for i := range b {
		out[i] = b[i] & o[i]
	}
	return out
}

func (b bitset) empty() bool { return !slices.ContainsFunc(b, func(w uint64) bool { return w != 0 }) }

// list returns the numbers in order.
func (b bitset) list() []int {
	var out []int
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			out = append(out, 64*i+bits.TrailingZeros64(w))
		}
	}
	return out
}
