package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// building compiles the statements that make composites. Only what the running
// evaluation made by them may be written to.
func (c *compilation) building(s ir.Stmt) (code, bool) {
	switch s := s.(type) {
	case *ir.MakeArrayStmt:
		t, n := c.local(s.Target), max(int(s.Capacity), 0)
		return func(m *machine, fr []*node) int { fr[t] = m.build(kArr, nil, m.arena.slice(n)); return next }, true
	case *ir.MakeObjectStmt:
		t := c.local(s.Target)
		return func(m *machine, fr []*node) int {
			fr[t] = m.build(kObj, m.arena.slice(4), m.arena.slice(4))
			return next
		}, true
	case *ir.MakeSetStmt:
		t := c.local(s.Target)
		return func(m *machine, fr []*node) int { fr[t] = m.build(kSet, m.arena.slice(4), nil); return next }, true
	case *ir.ArrayAppendStmt:
		return c.append(s), true
	case *ir.SetAddStmt:
		return c.add(s), true
	case *ir.ObjectInsertStmt:
		return c.insert(s.Object, s.Key, s.Value, false), true
	case *ir.ObjectInsertOnceStmt:
		return c.insert(s.Object, s.Key, s.Value, true), true
	case *ir.ObjectMergeStmt:
		return c.merge(s), true
	case *ir.ResultSetAddStmt:
		l := c.local(s.Value)
		return func(m *machine, fr []*node) int { m.results = append(m.results, fr[l]); return next }, true
	}
	return nil, false
}

func (m *machine) build(k kind, keys, vals []*node) *node {
	n := m.arena.composite(k, keys, vals, true)
	n.own = true
	return n
}

// builds tells whether n is a composite of kind k that may be written to.
func builds(n *node, k kind) bool { return n != nil && n.k == k && n.own }

func (c *compilation) append(s *ir.ArrayAppendStmt) code {
	o, t := c.operand(s.Value), c.local(s.Array)
	return func(m *machine, fr []*node) int {
		v, list := o.get(fr), fr[t]
		if v == nil || !builds(list, kArr) {
			return m.fail(UndefinedOperand)
		}
		m.firm(v)
		list.stale = list.stale || v.stale
		list.coll().vals = append(list.coll().vals, v)
		return next
	}
}

func (c *compilation) add(s *ir.SetAddStmt) code {
	o, t := c.operand(s.Value), c.local(s.Set)
	return func(m *machine, fr []*node) int {
		v, set := o.get(fr), fr[t]
		if v == nil || !builds(set, kSet) {
			return m.fail(UndefinedOperand)
		}
		m.firm(v)
		if !m.hashed(v) {
			return failed
		}
		set.coll().add(v)
		return next
	}
}

// insert sets a member; with once, another value than the member has is a
// conflict.
func (c *compilation) insert(object ir.Local, key, value ir.Operand, once bool) code {
	k, v, t := c.operand(key), c.operand(value), c.local(object)
	return func(m *machine, fr []*node) int {
		kn, vn, obj := k.get(fr), v.get(fr), fr[t]
		if kn == nil || vn == nil || !builds(obj, kObj) {
			return m.fail(UndefinedOperand)
		}
		m.firm(kn)
		m.firm(vn)
		if !m.hashed(kn) {
			return failed
		}
		obj.stale = obj.stale || vn.stale
		old := obj.coll().get(kn)
		switch {
		case old == nil:
			obj.coll().insert(kn, vn)
		case obj.coll().mixed:
			// An object of OPA that gets a key again may lose others of the same hash,
			// which true and 1 have, or 0.5 and 0.7; and whichever key that is, no set
			// finds the object any more.
			return m.fail(RepeatedKey)
		case !once:
			obj.coll().insert(kn, vn)
		case !equal(old, vn):
			return m.fail(Conflict)
		}
		return next
	}
}

// merge joins a base document with the virtual one of the same name.
func (c *compilation) merge(s *ir.ObjectMergeStmt) code {
	a, b, t := c.local(s.A), c.local(s.B), c.local(s.Target)
	return func(m *machine, fr []*node) int {
		v := m.merge(fr[a], fr[b])
		if v == nil {
			return m.fail(Conflict)
		}
		fr[t] = v
		return next
	}
}

// merge is nil where the two do not go together. topdown lets the base document
// win in some of these cases; asking it is simpler than telling which.
func (m *machine) merge(a, b *node) *node {
	if a == nil || b == nil || a.k != kObj || b.k != kObj || a.stale || b.stale || !m.charge(a.size()+b.size()) {
		return nil
	}
	a.coll().sort()
	n := m.arena.composite(kObj, append([]*node(nil), a.coll().keys...), append([]*node(nil), a.coll().vals...), true)
	for i, k := range b.coll().keys {
		v := b.coll().vals[i]
		if old := a.coll().get(k); old != nil {
			if v = m.merge(old, v); v == nil {
				return nil
			}
		}
		n.coll().insert(k, v)
	}
	return n
}
