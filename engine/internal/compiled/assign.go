package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// assignment compiles the statements that set a local.
func (c *compilation) assignment(s ir.Stmt) (code, bool) {
	switch s := s.(type) {
	case *ir.AssignVarStmt:
		return c.assignVar(s), true
	case *ir.AssignVarOnceStmt:
		return c.assignOnce(s), true
	case *ir.AssignIntStmt:
		return c.assignConstant(s.Target, c.number(s.Value)), true
	case *ir.MakeNumberIntStmt:
		return c.assignConstant(s.Target, c.number(s.Value)), true
	case *ir.MakeNumberRefStmt:
		var a arena
		return c.assignConstant(s.Target, a.num(c.p.strs[s.Index].s)), true
	case *ir.MakeNullStmt:
		return c.assignConstant(s.Target, nodeNull), true
	case *ir.ResetLocalStmt:
		t := c.local(s.Target)
		return func(_ *machine, fr []*node) int { fr[t] = nil; return next }, true
	case *ir.LenStmt:
		return c.length(s), true
	}
	return nil, false
}

func (*compilation) number(i int64) *node {
	var a arena
	return a.int(i)
}

func (c *compilation) assignConstant(target ir.Local, n *node) code {
	t := c.local(target)
	return func(_ *machine, fr []*node) int { fr[t] = n; return next }
}

// assignVar copies a local. Input and data may be undefined.
func (c *compilation) assignVar(s *ir.AssignVarStmt) code {
	if c.reads[s.Target] == 0 && !c.o.Off.DropUnread {
		c.p.stats.dropped++
		return nil
	}
	o, t := c.operand(s.Source), c.local(s.Target)
	if o.constant != nil {
		return c.assignConstant(s.Target, o.constant)
	}
	from := o.local
	optional := from == int(ir.Input) || from == int(ir.Data)
	return func(m *machine, fr []*node) int {
		v := fr[from]
		if v == nil && !optional {
			return m.fail(UndefinedOperand)
		}
		fr[t] = v
		return next
	}
}

// assignOnce sets the value of a rule: a second one that differs is a conflict.
func (c *compilation) assignOnce(s *ir.AssignVarOnceStmt) code {
	o, t := c.operand(s.Source), c.local(s.Target)
	if e := c.early; e != nil && e.at[s] {
		result, value := c.local(e.result), o.constant
		return func(_ *machine, fr []*node) int { fr[result] = value; return returned }
	}
	return func(m *machine, fr []*node) int {
		v := o.get(fr)
		if v == nil {
			return m.fail(UndefinedOperand)
		}
		if old := fr[t]; old != nil && old != v {
			m.firm(old) // of two equal ones, which is kept depends
			m.firm(v)
			if !equal(old, v) {
				return m.fail(Conflict)
			}
		}
		fr[t] = v
		return next
	}
}

// length is how many elements a composite has; the planner asks it of composites
// only.
func (c *compilation) length(s *ir.LenStmt) code {
	o, t := c.operand(s.Source), c.local(s.Target)
	return func(m *machine, fr []*node) int {
		v := o.get(fr)
		if v == nil || v.coll() == nil {
			return m.fail(UndefinedOperand)
		}
		fr[t] = m.arena.int(int64(v.size()))
		return next
	}
}

// size is how many elements or members a composite has.
func (n *node) size() int {
	if n.large {
		return n.made.large.value.Len()
	}
	if n.k == kArr {
		return len(n.coll().vals)
	}
	return len(n.coll().keys)
}
