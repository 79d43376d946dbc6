package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// guardMin is how many definitions in a row must ask the same field of the input
// for a constant before one look-up replaces asking one after the other.
const guardMin = 3

// guardMax bounds how many definitions are looked at to choose among fields, which
// could take time that grows with the square of their number.
const guardMax = 1024

// guard is one of the conditions that a definition begins with: input.path == want.
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

// guardsOf reads the guards of a block: look-ups from the input by constant keys,
// then equality with a constant string, as many as stand in a row before anything
// else. None of them can fail, so where one does not hold, topdown too finds the
// definition undefined and no more, whichever it asks first.
func (c *compilation) guardsOf(b *ir.Block) []guard {
	var list []guard
	var path []*node
	at := ir.Input
	for _, s := range b.Stmts {
		switch s := s.(type) {
		case *ir.ResetLocalStmt:
			if len(path) > 0 {
				return list
			}
		case *ir.DotStmt:
			k, ok := s.Key.Value.(ir.StringIndex)
			if !ok || s.Source.Value != ir.Val(at) {
				return list
			}
			path = append(path, c.p.strs[k])
			at = s.Target
		case *ir.EqualStmt:
			x, y := s.A, s.B
			if x.Value != ir.Val(at) {
				x, y = y, x
			}
			k, ok := y.Value.(ir.StringIndex)
			if len(path) == 0 || x.Value != ir.Val(at) || !ok {
				return list
			}
			list = append(list, guard{path: path, want: c.p.strs[k]})
			path, at = nil, ir.Input
		default:
			return list
		}
	}
	return list
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
	guards   []guard
	from, to int
}

// on is the guard that asks the field of another.
func (u *unit) on(field *guard) *guard {
	for i := range u.guards {
		if u.guards[i].sameField(field) {
			return &u.guards[i]
		}
	}
	return nil
}

func (c *compilation) units(f *ir.Func) []unit {
	var list []unit
	for i := 0; i < len(f.Blocks); {
		u := unit{guards: c.guardsOf(f.Blocks[i]), from: i, to: i + 1}
		if u.guards != nil && u.to < len(f.Blocks) && closes(f.Blocks[u.to], f.Return) {
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
		field, j := widest(units, i)
		if field == nil {
			out = append(out, body[units[i].from:units[i].to]...)
			i++
			continue
		}
		byWant := map[string][]code{}
		for _, u := range units[i:j] {
			want := u.on(field).want.s
			byWant[want] = append(byWant[want], body[u.from:u.to]...)
		}
		c.p.stats.guarded += j - i
		out = append(out, guarded(field.path, byWant))
		i = j
	}
	return out
}

// widest finds the field that tells the most definitions apart from units[from]
// on, of the first guardMax, among those that guardMin of them ask, and where the run
// of definitions that ask it ends; nil if there is none.
func widest(units []unit, from int) (field *guard, to int) {
	most := 0
	for k := range units[from].guards {
		candidate := &units[from].guards[k]
		values, end := map[*node]bool{}, from
		for ; end < min(len(units), from+guardMax); end++ {
			g := units[end].on(candidate)
			if g == nil {
				break
			}
			values[g.want] = true
		}
		if end-from >= guardMin && len(values) > most {
			field, to, most = candidate, end, len(values)
		}
	}
	for field != nil && to < len(units) && units[to].on(field) != nil {
		to++
	}
	return field, to
}

func guarded(path []*node, byWant map[string][]code) code {
	return func(m *machine, fr []*node) int {
		v := fr[ir.Input]
		for _, k := range path {
			if v = m.dot(v, k); v == nil {
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
