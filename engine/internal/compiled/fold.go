package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// folding follows statements that make constants, and what they make.
type folding struct {
	c      *compilation
	values map[ir.Local]*node
	order  []ir.Local
	// open counts the changes that each composite still needs.
	open map[ir.Local]int
	// reads counts the reads by statements that are folded.
	reads map[ir.Local]int
}

// fold compiles the making of constant composites, which begins at stmts[0], to
// the use of nodes that are made once. n is how many statements it takes, 0 if
// there is nothing to fold. A composite counts as constant if nothing else in
// the function changes it.
func (c *compilation) fold(stmts []ir.Stmt) (out code, n int) {
	switch stmts[0].(type) {
	case *ir.MakeArrayStmt, *ir.MakeObjectStmt, *ir.MakeSetStmt:
	default:
		return nil, 0
	}
	f := &folding{c: c, values: map[ir.Local]*node{}, open: map[ir.Local]int{}, reads: map[ir.Local]int{}}
	unfinished := 0
	complete := 0 // statements up to where nothing was unfinished
	var upTo []ir.Local
	var readUpTo map[ir.Local]int
	for i, s := range stmts {
		change, ok := f.take(s)
		if !ok {
			break
		}
		if unfinished += change; unfinished == 0 {
			complete, upTo = i+1, append([]ir.Local(nil), f.order...)
			readUpTo = make(map[ir.Local]int, len(f.reads))
			for l, n := range f.reads {
				readUpTo[l] = n
			}
		}
	}
	if complete == 0 {
		return nil, 0
	}
	c.p.stats.folded++
	return f.assign(upTo, readUpTo), complete
}

// assign sets the locals that anybody else reads.
func (f *folding) assign(locals []ir.Local, read map[ir.Local]int) code {
	var at []int
	var values []*node
	for _, l := range locals {
		v := f.values[l]
		v.freeze(false)
		if f.c.reads[l] > read[l] {
			at, values = append(at, f.c.local(l)), append(values, v)
		}
	}
	if len(at) == 1 {
		l, v := at[0], values[0]
		return func(_ *machine, fr []*node) int { fr[l] = v; return next }
	}
	return func(_ *machine, fr []*node) int {
		for i, l := range at {
			fr[l] = values[i]
		}
		return next
	}
}

// take follows one statement; change is by how many more composites are
// unfinished after it.
func (f *folding) take(s ir.Stmt) (change int, ok bool) {
	switch s := s.(type) {
	case *ir.MakeArrayStmt:
		return f.begin(s.Target, kArr)
	case *ir.MakeObjectStmt:
		return f.begin(s.Target, kObj)
	case *ir.MakeSetStmt:
		return f.begin(s.Target, kSet)
	case *ir.MakeNumberRefStmt:
		return 0, f.set(s.Target, f.c.constants.num(f.c.p.strs[s.Index].s))
	case *ir.MakeNumberIntStmt:
		return 0, f.set(s.Target, f.c.constants.int(s.Value))
	case *ir.MakeNullStmt:
		return 0, f.set(s.Target, nodeNull)
	case *ir.ArrayAppendStmt:
		return f.change(s.Array, func(v []*node, c *coll) { c.vals = append(c.vals, v[0]) }, s.Value)
	case *ir.SetAddStmt:
		return f.change(s.Set, func(v []*node, c *coll) { c.add(v[0]) }, s.Value)
	case *ir.ObjectInsertStmt:
		return f.change(s.Object, func(v []*node, c *coll) { c.insert(v[0], v[1]) }, s.Key, s.Value)
	}
	return 0, false
}

// set notes a constant. Locals that are set more than once are left alone.
func (f *folding) set(l ir.Local, n *node) bool {
	if f.c.writes[l] != 1 {
		return false
	}
	f.values[l] = n
	f.order = append(f.order, l)
	return true
}

func (f *folding) begin(l ir.Local, k kind) (change int, ok bool) {
	n := f.c.constants.composite(k, nil, nil, true)
	if !f.set(l, n) {
		return 0, false
	}
	if f.open[l] = f.c.changes[l]; f.open[l] > 0 {
		return 1, true
	}
	return 0, true
}

func (f *folding) change(l ir.Local, apply func([]*node, *coll), operands ...ir.Operand) (change int, ok bool) {
	target, ok := f.values[l]
	if !ok || target.coll() == nil {
		return 0, false
	}
	values := make([]*node, len(operands))
	for i, o := range operands {
		if v, isLocal := o.Value.(ir.Local); isLocal {
			if f.open[v] > 0 || f.values[v] == nil {
				return 0, false
			}
			values[i] = f.values[v]
		} else {
			values[i] = f.c.operand(o).constant
		}
	}
	for _, o := range operands {
		if v, isLocal := o.Value.(ir.Local); isLocal {
			f.reads[v]++
		}
	}
	f.reads[l]++
	apply(values, target.coll())
	if f.open[l]--; f.open[l] == 0 {
		return -1, true
	}
	return 0, true
}
