package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// The planner keeps every value in a local, uses the locals of one definition
// again for the next, and trusts that nobody reads what nobody set. Where it errs
// (a variable of one every that another one knows, a pattern that binds a variable
// to one that is bound later), the plan reads what was left there. So a plan is
// refused unless each local that a statement reads is set on every way to it: since
// the definition began, and within the turn of the loop that sets it. Locals that
// may be asked whether they are set must have been reset as recently.

// flow is what is known of the locals at one point.
type flow struct {
	set   bits // surely set, in this definition and turn
	fresh bits // surely set or reset, in this definition and turn
}

func (f *flow) clone() *flow {
	return &flow{set: append(bits(nil), f.set...), fresh: append(bits(nil), f.fresh...)}
}

// meet keeps what holds on both ways; either may be nil, a way that is not there.
func meet(a, b *flow) *flow {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	a.set.and(b.set)
	a.fresh.and(b.fresh)
	return a
}

type bits []uint64

func (b bits) has(l ir.Local) bool { return b[l>>6]&(1<<(l&63)) != 0 }
func (b bits) put(l ir.Local)      { b[l>>6] |= 1 << (l & 63) }
func (b bits) drop(l ir.Local)     { b[l>>6] &^= 1 << (l & 63) }

func (b bits) and(o bits) {
	for i := range b {
		b[i] &= o[i]
	}
}

// definite checks one function or plan.
type definite struct {
	funcs map[string]*function
	name  string
	kept  ir.Local // locals up to this one belong to the function, not to a definition
	reads map[ir.Local]int
	words int
	// dropped counts the times that something ceased to be known.
	dropped int
	err     error
}

// judgeLocals refuses a plan that may read locals which are not set.
func (c *compilation) judgeLocals(name string, blocks []*ir.Block, params []ir.Local, result ir.Local) error {
	d := &definite{funcs: c.p.funcs, name: name, kept: result, reads: map[ir.Local]int{}}
	top := max(result, ir.Unused)
	for _, p := range params {
		top, d.kept = max(top, p), max(d.kept, p)
	}
	if result >= 0 { // the planner's next local holds the value of one definition
		d.kept++
	}
	top = max(top, d.kept)
	n := map[ir.Local]int{}
	walk(blocks, func(s ir.Stmt) {
		reads(s, n)
		writes(s, n)
	})
	for l := range n {
		if l < 0 {
			return refuse("%s has a local with a negative number", name)
		}
		top = max(top, l)
	}
	d.words = int(top)/64 + 1
	at := &flow{set: make(bits, d.words), fresh: make(bits, d.words)}
	for _, l := range append([]ir.Local{ir.Input, ir.Data}, params...) {
		at.set.put(l)
		at.fresh.put(l)
	}
	if result >= 0 {
		at.fresh.put(result)
	}
	d.definitions(blocks, at, true)
	return d.err
}

// definitions goes over the blocks of a function. Each is one definition, or holds
// in turn the blocks of one and of its else branches.
func (d *definite) definitions(blocks []*ir.Block, at *flow, outer bool) *flow {
	for _, b := range blocks {
		if at == nil {
			return nil
		}
		d.forget(at)
		if s, ok := onlyBlocks(b); ok && outer {
			at = d.definitions(s.Blocks, at, false)
			continue
		}
		end, exits := d.statements(b.Stmts, at)
		at = meet(end, exits[1])
		if len(exits) > 1 || len(exits) == 1 && exits[1] == nil {
			d.fault("leaves its function")
		}
	}
	return at
}

func onlyBlocks(b *ir.Block) (*ir.BlockStmt, bool) {
	if len(b.Stmts) != 1 {
		return nil, false
	}
	s, ok := b.Stmts[0].(*ir.BlockStmt)
	return s, ok
}

// forget drops the locals of the definition before.
func (d *definite) forget(at *flow) {
	d.dropped++
	keep := make(bits, d.words)
	for l := range max(d.kept, ir.Unused-1) + 1 {
		keep.put(l)
	}
	at.set.and(keep)
	at.fresh.and(keep)
}

func (d *definite) fault(format string, args ...any) {
	if d.err == nil {
		r := refuse(format, args...)
		r.What = d.name + ": the plan " + r.What
		d.err = r
	}
}

// ways are where statements can leave to: ways[n] leaves n blocks.
type ways map[int]*flow

// statements goes over the inside of a block; at is used up. end is nil if the
// last statement is never passed.
func (d *definite) statements(stmts []ir.Stmt, at *flow) (end *flow, exits ways) {
	exits = ways{}
	noted := map[int]int{}
	exit := func(n int) {
		if was, ok := noted[n]; ok && was == d.dropped {
			return // only more is known than then
		}
		noted[n] = d.dropped
		exits[n] = meet(at.clone(), exits[n])
	}
	for _, s := range stmts {
		if at == nil || d.err != nil {
			return nil, exits
		}
		switch s := s.(type) {
		case *ir.BreakStmt:
			exit(int(s.Index) + 1)
			at = nil
		case *ir.ReturnLocalStmt:
			d.asked(at, s.Source)
			at = nil
		case *ir.BlockStmt:
			for _, b := range s.Blocks {
				if at == nil {
					break
				}
				e, inner := d.statements(b.Stmts, at)
				at = d.join(exits, e, inner)
			}
			clear(noted)
		case *ir.ScanStmt, *ir.NotStmt:
			at = d.closed(s, at, exits, exit)
			clear(noted)
		case *ir.WithStmt:
			d.read(s, at)
			e, inner := d.statements(s.Block.Stmts, at)
			if inner[1] != nil { // an undefined block makes its surroundings undefined
				exits[1] = meet(inner[1], exits[1])
				delete(inner, 1)
			}
			at = d.join(exits, e, inner)
			clear(noted)
		default:
			d.simple(s, at, exit)
		}
	}
	return at, exits
}

// join is what holds after a block with this end and these ways out of it.
func (d *definite) join(exits ways, end *flow, inner ways) *flow {
	d.dropped++
	for n, f := range inner {
		if n == 1 {
			end = meet(f, end)
		} else {
			exits[n-1] = meet(f, exits[n-1])
		}
	}
	return end
}

// closed goes over a loop or a negation: nothing that is set in it holds after it.
func (d *definite) closed(s ir.Stmt, at *flow, exits ways, exit func(int)) *flow {
	scan, loop := s.(*ir.ScanStmt)
	if loop {
		d.read(s, at)
	} else {
		exit(1) // a negation is undefined if its block holds
	}
	body := inner(s)[0]
	d.dropped++
	inside := at.clone()
	after := at
	walk([]*ir.Block{body}, func(x ir.Stmt) {
		if _, once := x.(*ir.AssignVarOnceStmt); once {
			return // gathers over all turns
		}
		n := map[ir.Local]int{}
		writes(x, n)
		for l := range n {
			if _, with := x.(*ir.WithStmt); with {
				continue // for its block only
			}
			after.set.drop(l)
			if loop {
				inside.set.drop(l)
				inside.fresh.drop(l)
			} else {
				after.fresh.drop(l) // a negation may have left something there
			}
		}
	})
	if loop {
		for _, l := range []ir.Local{scan.Key, scan.Value} {
			after.set.drop(l)
			after.fresh.drop(l)
			inside.set.put(l)
			inside.fresh.put(l)
		}
	}
	_, ways := d.statements(body.Stmts, inside)
	for n, f := range ways {
		if n > 1 {
			f.set.and(after.set)
			f.fresh.and(after.fresh)
			exits[n-1] = meet(f, exits[n-1])
		}
	}
	d.dropped++
	return after
}

// asked: a local of which it is asked whether it is set.
func (d *definite) asked(at *flow, l ir.Local) {
	if !at.fresh.has(l) {
		d.fault("asks for local %d, which may hold what was left there", l)
	}
}

// read checks what a statement reads.
func (d *definite) read(s ir.Stmt, at *flow) {
	clear(d.reads)
	reads(s, d.reads)
	for l := range d.reads {
		if !at.set.has(l) {
			d.fault("reads local %d where it may not be set", l)
		}
	}
}

func (d *definite) simple(s ir.Stmt, at *flow, exit func(int)) {
	put := func(l ir.Local) {
		at.set.put(l)
		at.fresh.put(l)
	}
	switch s := s.(type) {
	case *ir.IsDefinedStmt:
		d.asked(at, s.Source)
		exit(1)
		put(s.Source)
		return
	case *ir.IsUndefinedStmt:
		d.asked(at, s.Source)
		exit(1)
		return
	case *ir.ResetLocalStmt:
		d.dropped++
		at.set.drop(s.Target)
		at.fresh.put(s.Target)
		return
	case *ir.AssignVarOnceStmt:
		if l, ok := s.Source.Value.(ir.Local); ok && !at.set.has(l) {
			d.fault("reads local %d where it may not be set", l)
		}
		d.asked(at, s.Target)
		put(s.Target)
		return
	}
	d.read(s, at)
	switch s := s.(type) {
	case *ir.CallStmt:
		exit(1)
		if d.answers(s) {
			put(s.Result)
		}
	case *ir.CallDynamicStmt:
		exit(1)
		exit(leavesDynamicCall)
		put(s.Result)
	case *ir.DotStmt:
		exit(1)
		put(s.Target)
	case *ir.EqualStmt, *ir.NotEqualStmt, *ir.IsArrayStmt, *ir.IsObjectStmt, *ir.IsSetStmt:
		exit(1)
	default:
		clear(d.reads)
		writes(s, d.reads)
		for l := range d.reads {
			put(l)
		}
	}
}

// answers tells whether a call sets its result at all.
func (d *definite) answers(s *ir.CallStmt) bool {
	return d.funcs[s.Func] != nil || !voidBuiltin(s.Func)
}
