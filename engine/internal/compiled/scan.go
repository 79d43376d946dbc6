package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// scan runs its block for each element, in Rego's order.
func (c *compilation) scan(s *ir.ScanStmt) (code, error) {
	src, k, v := c.local(s.Source), c.local(s.Key), c.local(s.Value)
	block, err := c.inside(s.Block, scanBlock)
	if err != nil {
		return nil, err
	}
	needKey := c.reads[s.Key] > 0 || c.o.Off.DropUnread
	// An element that is undefined in the block is passed over.
	turn := func(m *machine, fr []*node) int {
		if !m.step() {
			return failed
		}
		if r := block(m, fr); r > 1 || r < 0 {
			return r
		}
		return next
	}
	return func(m *machine, fr []*node) int {
		x := fr[src]
		if x == nil || !x.composite() {
			return next
		}
		members := x.coll()
		switch x.k {
		case kArr:
			for i, e := range members.vals {
				if needKey {
					fr[k] = m.arena.int(int64(i))
				}
				fr[v] = e
				if r := turn(m, fr); r != next {
					return leave(r)
				}
			}
		case kObj:
			members.sort()
			for i, e := range members.keys {
				fr[k], fr[v] = e, members.vals[i]
				if r := turn(m, fr); r != next {
					return leave(r)
				}
			}
		default:
			members.sort()
			for _, e := range members.keys {
				fr[k], fr[v] = e, e
				if r := turn(m, fr); r != next {
					return leave(r)
				}
			}
		}
		return next
	}, nil
}
