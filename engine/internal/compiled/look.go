package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// dot is one look-up; undefined unless it finds something.
func (c *compilation) dot(s *ir.DotStmt) code {
	src, key, t := c.operand(s.Source), c.operand(s.Key), c.local(s.Target)
	if src.constant == nil && key.constant != nil && key.constant.k == kStr {
		l, k := src.local, key.constant
		return func(m *machine, fr []*node) int {
			v := fr[l]
			if v == nil {
				return undefined
			}
			if v.k == kObj && !v.large {
				v = v.coll().getText(k)
			} else if v = m.dot(v, k); v == ambiguous {
				return m.fail(AmbiguousKey)
			}
			if v == nil {
				return undefined
			}
			fr[t] = v
			return next
		}
	}
	return func(m *machine, fr []*node) int {
		k := key.get(fr)
		if k == nil {
			return m.fail(UndefinedOperand)
		}
		m.firm(k)
		if !m.hashed(k) {
			return failed
		}
		v := m.dot(src.get(fr), k)
		if v == nil {
			return undefined
		}
		if v == ambiguous {
			return m.fail(AmbiguousKey)
		}
		fr[t] = v
		return next
	}
}

// chain makes look-ups in a row, whose middle values nobody else reads, one
// step. n is how many statements it takes.
func (c *compilation) chain(stmts []ir.Stmt) (out code, n int) {
	first, ok := stmts[0].(*ir.DotStmt)
	if !ok {
		return nil, 0
	}
	keys := []operand{c.operand(first.Key)}
	last := first
	for n = 1; n < len(stmts); n++ {
		d, ok := stmts[n].(*ir.DotStmt)
		if !ok || d.Source.Value != ir.Val(last.Target) || c.reads[last.Target] != 1 || d.Key.Value == ir.Val(last.Target) {
			break
		}
		keys = append(keys, c.operand(d.Key))
		last = d
	}
	if n < 2 {
		return nil, 0
	}
	c.p.stats.fused++
	src, t := c.operand(first.Source), c.local(last.Target)
	return func(m *machine, fr []*node) int {
		v := src.get(fr)
		for i := range keys {
			k := keys[i].get(fr)
			if k == nil {
				return m.fail(UndefinedOperand)
			}
			m.firm(k)
			if !m.hashed(k) {
				return failed
			}
			if v = m.dot(v, k); v == nil {
				return undefined
			}
			if v == ambiguous {
				return m.fail(AmbiguousKey)
			}
		}
		fr[t] = v
		return next
	}, n
}
