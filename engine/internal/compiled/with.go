package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// with replaces the input or the data, or a part of them, for its block.
func (c *compilation) with(s *ir.WithStmt) (code, error) {
	l, val := c.local(s.Local), c.operand(s.Value)
	path := make([]*node, len(s.Path))
	for i, x := range s.Path {
		path[i] = c.p.strs[x]
	}
	block, err := c.inside(s.Block, withBlock)
	if err != nil {
		return nil, err
	}
	overlay := s.Local == ir.Data
	return func(m *machine, fr []*node) int {
		outer, v := fr[l], val.get(fr)
		m.firm(v)
		if !m.hashed(v) {
			return failed
		}
		if len(path) > 0 {
			if v == nil {
				return m.fail(UndefinedOperand)
			}
			if v = m.replace(outer, path, v, overlay); v == nil {
				return failed
			}
		}
		// Documents of the outside neither hold inside nor may be overwritten by it.
		if !m.charge(1 + len(m.memos)/8) {
			return failed
		}
		generation, from := m.generation, len(m.saved)
		m.saved = append(m.saved, m.memos...)
		m.generations++
		m.generation = m.generations
		fr[l] = v
		r := block(m, fr)
		fr[l], m.generation = outer, generation
		copy(m.memos, m.saved[from:])
		m.saved = m.saved[:from]
		if r == next || r == undefined {
			return r
		}
		return leave(r)
	}, nil
}

// replace is doc with the value at path replaced; nil after a failure. Where the
// path leads through what is no object, topdown has ways of its own. So it has for
// data, which it overlays: who reads a document further up finds an object that
// was replaced by another merged with it.
func (m *machine) replace(doc *node, path []*node, v *node, overlay bool) *node {
	if len(path) == 0 {
		if overlay && doc != nil && doc.k == kObj && v.k == kObj {
			m.fail(Overlay)
			return nil
		}
		return v
	}
	n := m.arena.composite(kObj, nil, nil, true)
	var child *node
	if doc != nil {
		if doc.k != kObj {
			m.fail(Overlay)
			return nil
		}
		if !m.charge(doc.size()) {
			return nil
		}
		doc.coll().sort()
		child = doc.coll().getText(path[0])
		n.base = doc.base
		n.stale = doc.stale || len(path) > 1 // topdown replaces what is further down in place
		n.coll().keys = append([]*node(nil), doc.coll().keys...)
		n.coll().vals = append([]*node(nil), doc.coll().vals...)
	}
	if v = m.replace(child, path[1:], v, overlay); v == nil {
		return nil
	}
	n.coll().insert(path[0], v)
	return n
}
