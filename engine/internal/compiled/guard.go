package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// guardMin is how many definitions in a row must ask the same field of the input
// for a constant before one look-up replaces asking one after the other.
const guardMin = 3

// guard is what a definition asks before anything else: input.path == want.
type guard struct {
	path []*node
	want *node
}

func (g *guard) sameField(o *guard) bool {
	if g == nil || o == nil || len(g.path) != len(o.path) {
		return false
	}
	for i := range g.path {
		if g.path[i] != o.path[i] {
			return false
		}
	}
	return true
}

// guardOf reads the guard of a block: look-ups from the input by constant keys,
// then equality with a constant string. Nothing before it can fail, so where the
// guard does not hold, topdown too finds the definition undefined and no more.
func (c *compilation) guardOf(b *ir.Block) *guard {
	g := &guard{}
	at := ir.Input
	for _, s := range b.Stmts {
		switch s := s.(type) {
		case *ir.ResetLocalStmt:
			if len(g.path) > 0 {
				return nil
			}
		case *ir.DotStmt:
			k, ok := s.Key.Value.(ir.StringIndex)
			if !ok || s.Source.Value != ir.Val(at) {
				return nil
			}
			g.path = append(g.path, c.p.strs[k])
			at = s.Target
		case *ir.EqualStmt:
			x, y := s.A, s.B
			if x.Value != ir.Val(at) {
				x, y = y, x
			}
			k, ok := y.Value.(ir.StringIndex)
			if len(g.path) == 0 || x.Value != ir.Val(at) || !ok {
				return nil
			}
			g.want = c.p.strs[k]
			return g
		default:
			return nil
		}
	}
	return nil
}

// closes tells whether b only hands a definition's value on to the function's.
func closes(b *ir.Block, result ir.Local) bool {
	if len(b.Stmts) != 2 {
		return false
	}
	defined, ok := b.Stmts[0].(*ir.IsDefinedStmt)
	if !ok {
		return false
	}
	a, ok := b.Stmts[1].(*ir.AssignVarOnceStmt)
	return ok && a.Target == result && a.Source.Value == ir.Val(defined.Source)
}

// unit is one definition of a function: its block, and the one that hands its
// value on.
type unit struct {
	guard    *guard
	from, to int
}

func (c *compilation) units(f *ir.Func) []unit {
	var list []unit
	for i := 0; i < len(f.Blocks); {
		u := unit{guard: c.guardOf(f.Blocks[i]), from: i, to: i + 1}
		if u.guard != nil && u.to < len(f.Blocks) && closes(f.Blocks[u.to], f.Return) {
			u.to++
		}
		list = append(list, u)
		i = u.to
	}
	return list
}

// guard replaces runs of guarded definitions by one look-up; the definitions keep
// their order.
func (c *compilation) guard(f *ir.Func, body []code) []code {
	if len(f.Params) == 0 || f.Params[0] != ir.Input || c.writes[ir.Input] > 1 {
		return body // a with replaces the input somewhere: not worth telling where
	}
	units := c.units(f)
	out := make([]code, 0, len(body))
	for i := 0; i < len(units); {
		j := i + 1
		for j < len(units) && units[i].guard.sameField(units[j].guard) {
			j++
		}
		if units[i].guard == nil || j-i < guardMin {
			out = append(out, body[units[i].from:units[j-1].to]...)
			i = j
			continue
		}
		byWant := map[string][]code{}
		for _, u := range units[i:j] {
			byWant[u.guard.want.s] = append(byWant[u.guard.want.s], body[u.from:u.to]...)
		}
		c.p.stats.guarded += j - i
		out = append(out, guarded(units[i].guard.path, byWant))
		i = j
	}
	return out
}

func guarded(path []*node, byWant map[string][]code) code {
	return func(m *machine, fr []*node) int {
		v := fr[ir.Input]
		for _, k := range path {
			if v = dot(v, k); v == nil {
				return next
			}
			if v == ambiguous { // the input is a base document
				return m.fail(AmbiguousKey)
			}
		}
		if v.k != kStr {
			return next
		}
		for _, b := range byWant[v.s] {
			if r := b(m, fr); r < 0 {
				return r
			}
		}
		return next
	}
}
