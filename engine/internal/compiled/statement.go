package compiled

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/authzd/authzd/rar"
)

// operand is a local or a constant.
type operand struct {
	local    int
	constant *node
}

func (o operand) get(fr []*node) *node {
	if o.constant != nil {
		return o.constant
	}
	return fr[o.local]
}

// label is what kind of statement a block belongs to.
type label uint8

const (
	plainBlock label = iota
	scanBlock
	notBlock
	withBlock
)

// compilation is the state of one Compile.
type compilation struct {
	p      *Program
	o      *Options
	ctx    context.Context //nolint:containedctx // a compilation lives for one call of Compile
	policy *ir.Policy
	safety *safety
	// constants is where composites are that are made once.
	constants arena

	// Of the function at hand:
	labels  []label
	top     int              // the highest local
	reads   map[ir.Local]int // how often each local is read
	writes  map[ir.Local]int // how often each local is set
	changes map[ir.Local]int // how often the value of each local is changed in place
	early   *earlyExit
}

// compilePolicy compiles a plan.
func compilePolicy(ctx context.Context, policy *ir.Policy, o *Options) (*Program, error) {
	limits := o.Limits.withDefaults()
	p := &Program{limits: limits, poison: o.poison, intern: map[string]*node{}, capabilities: o.Compiler.Capabilities()}
	p.byPath = &pathNode{}
	c := &compilation{p: p, o: o, ctx: ctx, policy: policy}
	if policy.Static != nil {
		for _, s := range policy.Static.Strings {
			p.strs = append(p.strs, p.internText(s.Value))
		}
	}
	if err := c.freezeData(o.Data); err != nil {
		return nil, err
	}
	c.declare()
	var err error
	if c.safety, err = judge(ctx, o.Compiler, policy, o.query, o.Data); err != nil {
		return nil, err
	}
	if policy.Funcs != nil {
		for _, f := range policy.Funcs.Funcs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := c.function(f); err != nil {
				return nil, located(err, rulesBelow(o.Compiler, functionRef(f)))
			}
		}
	}
	plan := policy.Plans.Plans[0]
	c.begin(plan.Blocks)
	if err := c.judgeLocals("the query", plan.Blocks, nil, -1); err != nil {
		return nil, err
	}
	if p.plan, err = c.blocks(plan.Blocks); err != nil {
		return nil, err
	}
	p.locals = c.top + 1
	return p, nil
}

// freezeData makes the base documents nodes, once.
func (c *compilation) freezeData(data rar.Value) error {
	if n := countValues(data); n > c.p.limits.DataNodes {
		return refuse("the data has %d values", n)
	}
	if _, ok := data.Get(string(ast.SystemDocumentKey)); ok {
		return refuse("topdown hides data.system from those who read all of data").fix("give that data another name")
	}
	var a arena // never reset
	if data.HasPacked() {
		c.p.larges = &larges{few: c.o.few}
		if c.o.few == 0 {
			c.p.larges.few = fewMembers
		}
		a.larges = c.p.larges
	}
	c.p.data = a.composite(kObj, nil, nil, true)
	if data.Kind() != rar.Absent {
		a.intern = c.p.intern
		c.p.data = a.fromJSON(data)
	}
	c.p.data.freeze(true) // makes all of it
	if a.odd {
		return refuse("the data has a number that is not written the usual way").fix(numberFix)
	}
	if c.p.data.k != kObj {
		return refuse("the data is not an object")
	}
	return nil
}

// countValues counts those that become nodes, and some more.
func countValues(v rar.Value) int {
	n := 1
	if v.Packed() && v.Len() > fewMembers {
		return n
	}
	for i := range v.Len() {
		if v.Kind() == rar.Object {
			n += 1 + countValues(v.Member(i).Value)
		} else {
			n += countValues(v.Index(i))
		}
	}
	return n
}

// declare makes the functions known to each other.
func (c *compilation) declare() {
	c.p.funcs = map[string]*function{}
	if c.policy.Funcs == nil {
		return
	}
	for _, f := range c.policy.Funcs.Funcs {
		x := &function{name: f.Name, params: f.Params, result: f.Return, memo: -1}
		if len(f.Params) == 2 {
			x.memo = c.p.memos
			c.p.memos++
			if len(f.Path) > 1 && f.Path[0] == outermost {
				x.path = f.Path[1:]
				c.p.ruled = append(c.p.ruled, x)
			}
		}
		c.p.funcs[f.Name] = x
		if len(f.Path) > 0 {
			c.p.byPath.put(f.Path, x)
		}
	}
}

func (c *compilation) begin(blocks []*ir.Block) {
	c.top, c.labels, c.early = int(ir.Unused), nil, nil
	c.reads, c.writes, c.changes = map[ir.Local]int{}, map[ir.Local]int{}, map[ir.Local]int{}
	walk(blocks, func(s ir.Stmt) {
		reads(s, c.reads)
		writes(s, c.writes)
		changes(s, c.changes)
	})
}

func (c *compilation) function(f *ir.Func) error {
	x := c.p.funcs[f.Name]
	c.begin(f.Blocks)
	for _, p := range f.Params {
		c.local(p)
		c.writes[p]++
	}
	c.local(f.Return)
	c.reads[f.Return]++
	if !c.o.Off.EarlyExit && c.safety.infallible(f) {
		if c.early = findEarlyExit(f); c.early != nil {
			x.early = true
			c.p.stats.earlyExits++
		}
	}
	if err := c.judgeLocals(f.Name, f.Blocks, f.Params, f.Return); err != nil {
		return err
	}
	body, err := c.blocks(f.Blocks)
	if err != nil {
		return err
	}
	if !c.o.Off.Guards {
		body = c.guard(f, body)
	}
	walk(f.Blocks, func(s ir.Stmt) {
		if call, ok := s.(*ir.CallStmt); ok && c.p.funcs[call.Func] != nil && len(call.Args) > 2 {
			x.nests = true
		}
	})
	x.body, x.locals, x.stale = body, c.top+1, c.staleLevels(f)
	return nil
}

func (c *compilation) local(l ir.Local) int {
	c.top = max(c.top, int(l))
	return int(l)
}

func (c *compilation) operand(o ir.Operand) operand {
	switch v := o.Value.(type) {
	case ir.Local:
		return operand{local: c.local(v)}
	case ir.StringIndex:
		return operand{constant: c.p.strs[v]}
	case ir.Bool:
		return operand{constant: boolNode(bool(v))}
	}
	panic("an operand of an unknown kind")
}

// blocks compiles blocks in a row, each under its own label.
func (c *compilation) blocks(blocks []*ir.Block) ([]code, error) {
	out := make([]code, 0, len(blocks))
	for _, b := range blocks {
		inside, err := c.inside(b, plainBlock)
		if err != nil {
			return nil, err
		}
		out = append(out, func(m *machine, fr []*node) int { return leave(inside(m, fr)) })
	}
	return out, nil
}

// inside compiles a block's statements; the code answers as they do.
func (c *compilation) inside(b *ir.Block, l label) (code, error) {
	c.labels = append(c.labels, l)
	list, err := c.statements(b.Stmts)
	c.labels = c.labels[:len(c.labels)-1]
	if err != nil {
		return nil, err
	}
	return sequence(list), nil
}

// canBreak refuses jumps over anything but plain blocks: OPA's own back ends do
// not agree on what they mean, and its planner makes none.
func (c *compilation) canBreak(n int) bool {
	if n >= len(c.labels) {
		return false
	}
	for _, l := range c.labels[len(c.labels)-n:] {
		if l != plainBlock {
			return false
		}
	}
	return true
}

func (c *compilation) statements(stmts []ir.Stmt) ([]code, error) {
	var out []code
	for i := 0; i < len(stmts); i++ {
		c.p.stats.statements++
		if c.p.stats.statements > c.p.limits.Statements {
			return nil, refuse("the plan has more than %d statements", c.p.limits.Statements)
		}
		if !c.o.Off.Fuse {
			if chain, n := c.chain(stmts[i:]); n > 1 {
				out = append(out, chain)
				i += n - 1
				continue
			}
		}
		if !c.o.Off.Fold {
			if constant, n := c.fold(stmts[i:]); n > 0 {
				out = append(out, constant)
				i += n - 1
				continue
			}
		}
		s, err := c.statement(stmts[i])
		if err != nil {
			return nil, err
		}
		if s != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// statement compiles one statement; nil does nothing.
func (c *compilation) statement(s ir.Stmt) (code, error) {
	switch s := s.(type) {
	case *ir.NopStmt:
		return nil, nil //nolint:nilnil // does nothing
	case *ir.ReturnLocalStmt:
		// The function's result is its return local, which this names.
		return func(*machine, []*node) int { return returned }, nil
	case *ir.BlockStmt:
		list, err := c.blocks(s.Blocks)
		if err != nil {
			return nil, err
		}
		return sequence(list), nil
	case *ir.BreakStmt:
		return c.breakOut(int(s.Index))
	case *ir.ScanStmt:
		return c.scan(s)
	case *ir.NotStmt:
		return c.not(s)
	case *ir.WithStmt:
		return c.with(s)
	case *ir.CallStmt:
		return c.call(s)
	case *ir.CallDynamicStmt:
		return c.callDynamic(s)
	case *ir.DotStmt:
		return c.dot(s), nil
	}
	if out, ok := c.assignment(s); ok {
		return out, nil
	}
	if out, ok := c.test(s); ok {
		return out, nil
	}
	if out, ok := c.building(s); ok {
		return out, nil
	}
	return nil, refuse("statement %T", s)
}

// breakOut leaves as many blocks as index says and its own.
func (c *compilation) breakOut(index int) (code, error) {
	if !c.canBreak(index) {
		return nil, refuse("a break %d over a loop", index)
	}
	r := index + 1
	return func(*machine, []*node) int { return r }, nil
}

// not is undefined if its block holds. The planner puts what follows an
// iteration inside of it, so that a block which ends in one "holds" whatever the
// iteration finds; see judgeNot.
func (c *compilation) not(s *ir.NotStmt) (code, error) {
	if err := judgeNot(s); err != nil {
		return nil, err
	}
	inside, err := c.inside(s.Block, notBlock)
	if err != nil {
		return nil, err
	}
	return func(m *machine, fr []*node) int {
		r := inside(m, fr)
		if r == next {
			return undefined
		}
		return leave(r)
	}, nil
}

// leave turns what a block's inside answers into what its surroundings see.
func leave(r int) int {
	if r > 0 {
		return r - 1
	}
	return r
}

// sequence runs statements until one does not go on.
func sequence(list []code) code {
	switch len(list) {
	case 0:
		return func(*machine, []*node) int { return next }
	case 1:
		return list[0]
	case 2:
		a, b := list[0], list[1]
		return func(m *machine, fr []*node) int {
			if r := a(m, fr); r != next {
				return r
			}
			return b(m, fr)
		}
	}
	return func(m *machine, fr []*node) int {
		for _, c := range list {
			if r := c(m, fr); r != next {
				return r
			}
		}
		return next
	}
}
