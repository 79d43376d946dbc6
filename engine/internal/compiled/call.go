package compiled

import (
	"github.com/open-policy-agent/opa/v1/ir"
)

// call calls a rule set, a function of the policy, or a builtin.
func (c *compilation) call(s *ir.CallStmt) (code, error) {
	args := make([]operand, len(s.Args))
	for i, a := range s.Args {
		args[i] = c.operand(a)
	}
	t := c.local(s.Result)
	f := c.p.funcs[s.Func]
	if f == nil {
		return c.callBuiltin(s.Func, args, t)
	}
	if len(args) != len(f.params) || len(args) < 2 {
		return nil, refuse("a call of %s with %d arguments", s.Func, len(args))
	}
	if f.memo >= 0 {
		return callDocument(f, args[0], args[1], t), nil
	}
	return callFunction(f, args, t), nil
}

// callDocument reads the document of a rule set.
func callDocument(f *function, input, data operand, t int) code {
	return func(m *machine, fr []*node) int {
		v, r := m.document(f, input.get(fr), data.get(fr))
		if r != next {
			return r
		}
		if v == nil {
			return undefined
		}
		fr[t] = v
		return next
	}
}

// callKey is a call of a function with the very same argument nodes: the last of
// them, after those that before stands for.
type callKey struct {
	f          *function
	generation int64
	before     int
	last       *node
}

// argsKey is a list of arguments: one, after those that before stands for.
type argsKey struct {
	before int
	arg    *node
}

// callFunction calls a function with arguments. topdown keeps the results of equal
// calls; calling again comes to the same, for no builtin that we admit answers
// differently the second time. Results are kept where functions call functions,
// so that a chain of them does not take exponential time.
func callFunction(f *function, args []operand, t int) code {
	run := runFunction(f, args)
	kept := keptFunction(f, args, run)
	return func(m *machine, fr []*node) int {
		evaluate := run
		if f.nests { // known when all functions are compiled
			evaluate = kept
		}
		v, r := evaluate(m, fr)
		if r != next {
			return r
		}
		if v == nil {
			return undefined
		}
		fr[t] = v
		return next
	}
}

// calling is one way to call a function; nil is undefined.
type calling func(m *machine, fr []*node) (*node, int)

func keptFunction(f *function, args []operand, run calling) calling {
	return func(m *machine, fr []*node) (*node, int) {
		key := callKey{f: f, generation: m.generation}
		for i, a := range args[2:] {
			if i > 0 {
				key.before = m.list(argsKey{key.before, key.last})
			}
			key.last = a.get(fr)
		}
		if v, ok := m.calls[key]; ok {
			return v, next
		}
		v, r := run(m, fr)
		if r == next {
			if m.calls == nil {
				m.calls = map[callKey]*node{}
			}
			m.calls[key] = v
		}
		return v, r
	}
}

// list is the number of a list of arguments, from 1 on.
func (m *machine) list(k argsKey) int {
	n, ok := m.lists[k]
	if !ok {
		if m.lists == nil {
			m.lists = map[argsKey]int{}
		}
		n = len(m.lists) + 1
		m.lists[k] = n
	}
	return n
}

func runFunction(f *function, args []operand) calling {
	return func(m *machine, fr []*node) (*node, int) {
		if !m.step() {
			return nil, failed
		}
		stack, at := m.stack, m.at
		inner := m.frame(f.locals)
		for i, a := range args {
			v := a.get(fr)
			if v == nil && i >= 2 { // only input and data may be undefined
				return nil, m.fail(UndefinedOperand)
			}
			m.firm(v)
			inner[f.params[i]] = v
		}
		v, r := m.run(f, inner)
		m.stack, m.at = stack, at
		return v, r
	}
}

// leavesDynamicCall is how many blocks the planner puts around a dynamic call:
// one that finds its document undefined leaves all of them, so that data is not
// asked for it.
const leavesDynamicCall = 4

// callDynamic calls the rule set at a path that is computed.
func (c *compilation) callDynamic(s *ir.CallDynamicStmt) (code, error) {
	if len(s.Args) != 2 {
		return nil, refuse("a dynamic call with %d arguments", len(s.Args))
	}
	if !c.canBreak(leavesDynamicCall - 1) {
		return nil, refuse("a dynamic call in blocks of another shape")
	}
	t, input, data := c.local(s.Result), c.local(s.Args[0]), c.local(s.Args[1])
	path := make([]operand, len(s.Path))
	for i, o := range s.Path {
		path[i] = c.operand(o)
	}
	return func(m *machine, fr []*node) int {
		at := m.p.byPath
		for _, o := range path {
			n := o.get(fr)
			if n == nil || n.k != kStr {
				return undefined
			}
			if at = at.next[n.s]; at == nil {
				return undefined
			}
		}
		if at.f == nil || at.f.memo < 0 {
			return undefined
		}
		v, r := m.document(at.f, fr[input], fr[data])
		if r != next {
			return r
		}
		if v == nil {
			return leavesDynamicCall
		}
		fr[t] = v
		return next
	}, nil
}

// pathNode finds functions by path.
type pathNode struct {
	next map[string]*pathNode
	f    *function
}

func (n *pathNode) put(path []string, f *function) {
	for _, s := range path {
		if n.next == nil {
			n.next = map[string]*pathNode{}
		}
		child := n.next[s]
		if child == nil {
			child = &pathNode{}
			n.next[s] = child
		}
		n = child
	}
	n.f = f
}
