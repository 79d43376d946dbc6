package compiled

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// refusedBuiltin tells why a builtin stays with topdown: it acts on the world,
// needs what only the interpreter has, or answers differently when it is asked
// in another order.
func (p *Program) refusedBuiltin(decl *ast.Builtin) string {
	switch decl.Name {
	case "http.send", "trace", "opa.runtime", "internal.test_case", "rego.parse_module", "net.lookup_ip_addr":
		return "needs the interpreter"
	case "time.now_ns", "io.jwt.decode_verify":
		return "" // one time per decision
	case "json.match_schema", "json.verify_schema":
		if c := p.capabilities; c != nil && c.AllowNet != nil && len(c.AllowNet) == 0 {
			return ""
		}
		return "may use the network"
	}
	if decl.Nondeterministic {
		return "depends on the order of calls"
	}
	return ""
}

// voidBuiltin tells whether a builtin only holds or not.
func voidBuiltin(name string) bool {
	decl := ast.BuiltinMap[name]
	return decl != nil && decl.Decl.Result() == nil
}

// callBuiltin calls a builtin: our own form of it where there is one that takes
// these operands, else OPA's.
func (c *compilation) callBuiltin(name string, args []operand, t int) (code, error) {
	decl := ast.BuiltinMap[name]
	if decl == nil {
		return nil, refuse("builtin %s is not known", name)
	}
	if why := c.p.refusedBuiltin(decl); why != "" {
		return nil, refuse("builtin %s %s", name, why)
	}
	slow, err := delegated(name, decl, args, t)
	if err != nil || c.o.Off.Native {
		return slow, err
	}
	if len(args) == 0 && name == "time.now_ns" {
		return func(m *machine, fr []*node) int { fr[t] = m.arena.int(m.now.UnixNano()); return next }, nil
	}
	if f := prepared(name, args); f != nil {
		return callNative1(f, false, args[1], t, slow), nil
	}
	if f := native1(name); f != nil && len(args) == 1 {
		return callNative1(f, takesStale(name), args[0], t, slow), nil
	}
	if f := native2(name); f != nil && len(args) == 2 {
		return callNative2(f, comparison(name), args[0], args[1], t, slow), nil
	}
	if f := native3(name); f != nil && len(args) == 3 {
		return callNative3(f, takesStale(name), args, t, slow), nil
	}
	return slow, nil
}

// comparison tells whether a builtin asks no more of two numbers than which is
// greater.
func comparison(name string) bool {
	switch name {
	case "equal", "neq", "lt", "lte", "gt", "gte":
		return true
	}
	return false
}

// What a call of a builtin takes, in steps.
const (
	nativeSteps    = 2
	delegatedSteps = 10
)

func callNative1(f func(*machine, *node) *node, stale bool, a operand, t int, slow code) code {
	return func(m *machine, fr []*node) int {
		x := a.get(fr)
		if x == nil {
			return m.fail(UndefinedOperand)
		}
		m.firm(x)
		if !stale && !m.hashed(x) || !m.charge(nativeSteps) {
			return failed
		}
		v := f(m, x)
		if v == delegate {
			return slow(m, fr)
		}
		fr[t] = v
		return next
	}
}

func callNative2(f func(*machine, *node, *node) *node, compares bool, a, b operand, t int, slow code) code {
	return func(m *machine, fr []*node) int {
		x, y := a.get(fr), b.get(fr)
		if x == nil || y == nil {
			return m.fail(UndefinedOperand)
		}
		if !compares {
			m.firm(x)
			m.firm(y)
			if !m.hashed(x, y) {
				return failed
			}
		}
		if !m.charge(nativeSteps) {
			return failed
		}
		v := f(m, x, y)
		if v == delegate {
			return slow(m, fr)
		}
		fr[t] = v
		return next
	}
}

func callNative3(f func(m *machine, x, y, z *node) *node, stale bool, args []operand, t int, slow code) code {
	a, b, c := args[0], args[1], args[2]
	return func(m *machine, fr []*node) int {
		x, y, z := a.get(fr), b.get(fr), c.get(fr)
		if x == nil || y == nil || z == nil {
			return m.fail(UndefinedOperand)
		}
		m.firm(x)
		m.firm(y)
		m.firm(z)
		if !stale && !m.hashed(x) || !m.hashed(y, z) {
			return failed
		}
		if !m.charge(nativeSteps) {
			return failed
		}
		v := f(m, x, y, z)
		if v == delegate {
			return slow(m, fr)
		}
		fr[t] = v
		return next
	}
}

// delegated calls OPA's own implementation on converted values. Any error of it
// is handed over: with strict builtin errors topdown ends in it too.
func delegated(name string, decl *ast.Builtin, args []operand, t int) (code, error) {
	impl := topdown.GetBuiltin(name)
	if impl == nil {
		return nil, refuse("builtin %s has no implementation", name)
	}
	void := decl.Decl.Result() == nil
	return func(m *machine, fr []*node) int {
		if !m.charge(delegatedSteps) {
			return failed
		}
		operands := make([]*ast.Term, len(args))
		for i, a := range args {
			v := a.get(fr)
			if v == nil {
				return m.fail(UndefinedOperand)
			}
			m.firm(v)
			if !m.hashed(v) {
				return failed
			}
			operands[i] = v.toAST()
			if v.composite() && !m.charge(v.weight(maxWeight)/4) {
				return failed
			}
		}
		if name == "glob.match" && oddGlob(operands) {
			return m.fail(IndexedOut)
		}
		out := answers{m: m, relation: decl.Relation, void: void}
		var bctx topdown.BuiltinContext
		if !decl.CanSkipBctx {
			bctx = *m.builtinContext()
		}
		if err := impl(bctx, operands, out.take); err != nil {
			return m.failBuiltin(err)
		}
		switch {
		case m.err != nil:
			return failed
		case decl.Relation:
			fr[t] = m.arena.composite(kArr, nil, out.all, true)
		case out.one == nil:
			return undefined
		case !void:
			fr[t] = out.one
		}
		return next
	}, nil
}

// answers collects what a builtin answers with.
type answers struct {
	m        *machine
	relation bool
	void     bool
	one      *node
	all      []*node
}

var (
	errEnough   = errors.New("the evaluation is over its bounds")
	errNoAnswer = errors.New("the builtin answers with nothing")
)

func (a *answers) take(t *ast.Term) error {
	switch {
	case a.void:
		a.one = nodeTrue
		return nil
	case t == nil: // a fault of OPA's (json.patch), at which topdown panics
		a.m.fail(BuiltinError)
		return topdown.Halt{Err: errNoAnswer}
	}
	if !a.m.step() {
		return topdown.Halt{Err: errEnough}
	}
	if !wellHashed(t) {
		a.m.fail(Unhashed)
		return topdown.Halt{Err: errNoAnswer}
	}
	a.one = a.m.arena.fromAST(t.Value)
	if a.relation {
		a.all = append(a.all, a.one)
	}
	if a.m.arena.used() > a.m.p.limits.Nodes {
		a.m.fail(Budget)
		return topdown.Halt{Err: errEnough}
	}
	return nil
}

func (m *machine) failBuiltin(err error) int {
	switch {
	case m.err != nil:
	case m.ctx.Err() != nil:
		m.err = handover(Cancelled, m.ctx.Err())
	default:
		m.err = handover(BuiltinError, err)
	}
	return failed
}

// builtinContext is what OPA's builtins get from topdown.
func (m *machine) builtinContext() *topdown.BuiltinContext {
	if m.bctx == nil {
		seed := m.seed
		if seed == nil {
			seed = rand.Reader
		}
		m.bctx = &topdown.BuiltinContext{
			Context:      m.ctx,
			Metrics:      metrics.NoOp(),
			Seed:         seed,
			Time:         m.arena.int(m.now.UnixNano()).toAST(),
			Cancel:       contextCancel{m.ctx},
			Cache:        builtins.Cache{},
			Capabilities: m.p.capabilities,
		}
	}
	return m.bctx
}

// contextCancel is the cancellation of a context in topdown's form, which long
// builtins ask.
type contextCancel struct {
	ctx context.Context //nolint:containedctx // it is the context in another form
}

// Cancel implements topdown.Cancel; a builtin does not cancel its own query.
func (contextCancel) Cancel() {}

// Cancelled implements topdown.Cancel.
func (c contextCancel) Cancelled() bool { return c.ctx.Err() != nil }
