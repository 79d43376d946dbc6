package compiled

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ir"
)

// test compiles the statements that ask something of locals and are undefined if
// it is not so.
func (c *compilation) test(s ir.Stmt) (code, bool) {
	switch s := s.(type) {
	case *ir.IsDefinedStmt:
		t := c.local(s.Source)
		return func(_ *machine, fr []*node) int { return holds(fr[t] != nil) }, true
	case *ir.IsUndefinedStmt:
		t := c.local(s.Source)
		return func(_ *machine, fr []*node) int { return holds(fr[t] == nil) }, true
	case *ir.IsArrayStmt:
		return c.isKind(s.Source, kArr), true
	case *ir.IsObjectStmt:
		return c.isKind(s.Source, kObj), true
	case *ir.IsSetStmt:
		return c.isKind(s.Source, kSet), true
	case *ir.EqualStmt:
		return c.equal(s), true
	case *ir.NotEqualStmt:
		return c.notEqual(s), true
	}
	return nil, false
}

func holds(b bool) int {
	if b {
		return next
	}
	return undefined
}

func (c *compilation) isKind(o ir.Operand, k kind) code {
	x := c.operand(o)
	return func(_ *machine, fr []*node) int {
		v := x.get(fr)
		return holds(v != nil && v.k == k)
	}
}

func (c *compilation) equal(s *ir.EqualStmt) code {
	a, b := c.operand(s.A), c.operand(s.B)
	if a.constant != nil {
		a, b = b, a
	}
	if a.constant == nil && b.constant != nil && b.constant.k == kStr {
		l, want := a.local, b.constant
		return func(m *machine, fr []*node) int {
			v := fr[l]
			if v == nil {
				return m.fail(UndefinedOperand)
			}
			return holds(v == want || v.k == kStr && v.s == want.s)
		}
	}
	// topdown does not go over a set for a value that it knows: it looks for it, and for
	// arrays and objects that hold it.
	sought := slices.Contains(c.labels, scanBlock)
	return func(m *machine, fr []*node) int {
		x, y := a.get(fr), b.get(fr)
		if x == nil || y == nil {
			return m.fail(UndefinedOperand)
		}
		if sought && !m.hashed(x, y) {
			return failed
		}
		if x.composite() && !m.charge(x.size()/8) {
			return failed
		}
		return holds(equal(x, y))
	}
}

func (c *compilation) notEqual(s *ir.NotEqualStmt) code {
	a, b := c.operand(s.A), c.operand(s.B)
	if a.constant == nil && b.constant == nodeFalse { // an expression that is a value
		l := a.local
		return func(m *machine, fr []*node) int {
			v := fr[l]
			if v == nil {
				return m.fail(UndefinedOperand)
			}
			return holds(v != nodeFalse)
		}
	}
	return func(m *machine, fr []*node) int {
		x, y := a.get(fr), b.get(fr)
		if x == nil || y == nil {
			return m.fail(UndefinedOperand)
		}
		return holds(!equal(x, y))
	}
}
