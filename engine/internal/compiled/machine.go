package compiled

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Reason is why topdown must be asked.
type Reason string

// The reasons, for metrics.
const (
	// Conflict: two values where one was due.
	Conflict Reason = "conflict"
	// BuiltinError: a builtin failed.
	BuiltinError Reason = "builtin_error"
	// AmbiguousKey: a base document was read by a key of another type.
	AmbiguousKey Reason = "ambiguous_key"
	// RepeatedKey: an object with keys that are no strings got a key again.
	RepeatedKey Reason = "repeated_key"
	// Unhashed: a value went where OPA finds it by its hash, which is not that of its
	// equals.
	Unhashed Reason = "unhashed"
	// IndexedOut: OPA's index may leave out a definition that holds.
	IndexedOut Reason = "indexed_out"
	// Overlay: a with replaced a part of a document that topdown would merge.
	Overlay Reason = "overlay"
	// UndefinedOperand: a statement lacked a value that it needs.
	UndefinedOperand Reason = "undefined_operand"
	// OddNumber: a number is not written the usual way (1.0, 1e3), or no double.
	OddNumber Reason = "odd_number"
	// Budget: the evaluation took too many steps, values or nested calls.
	Budget Reason = "budget"
	// Cancelled: the context ended.
	Cancelled Reason = "cancelled"
	// MalformedOutput: a document has no JSON form.
	MalformedOutput Reason = "malformed_output"
	// LargeData: a large document was asked for as a whole, or iterated.
	LargeData Reason = "large_data"
	// Failed: the evaluator itself is at fault.
	Failed Reason = "failed"
)

// Reasons are all of them, the last for what is none of the others.
func Reasons() []Reason {
	return []Reason{Conflict, BuiltinError, AmbiguousKey, RepeatedKey, Unhashed, IndexedOut, Overlay, UndefinedOperand, OddNumber, Budget, Cancelled, MalformedOutput, LargeData, Failed}
}

// HandoverError is the error of every evaluation that did not end in results. It says
// nothing about the policy: topdown must be asked.
type HandoverError struct {
	Reason Reason
	Err    error
}

func (h *HandoverError) Error() string {
	if h.Err != nil {
		return fmt.Sprintf("compiled evaluation: %s: %v", h.Reason, h.Err)
	}
	return fmt.Sprintf("compiled evaluation: %s", h.Reason)
}

func (h *HandoverError) Unwrap() error { return h.Err }

func handover(r Reason, err error) *HandoverError { return &HandoverError{Reason: r, Err: err} }

// What a statement answers with: 0 goes on, n > 0 leaves n blocks (1: a statement
// was undefined), the negative ones unwind the whole function.
const (
	next      = 0
	undefined = 1
	returned  = -1
	failed    = -2
)

// code is one compiled statement, over the frame of its function.
type code func(m *machine, fr []*node) int

// function is a compiled rule set or function of the policy.
type function struct {
	name string
	// path is where its document stands in data, for Outcomes.
	path   []string
	params []ir.Local
	result ir.Local
	locals int
	body   []code
	// stale is how many levels of objects of its document are stale.
	stale int
	// nests: it calls functions with arguments.
	nests bool
	// early: the first definition that holds ends it; tests ask.
	early bool
	// memo is the place of a document's value in the machine's memos, -1 for a
	// function with arguments.
	memo int
}

// stepInterval is how many steps pass between two looks at the context and the
// budget.
const stepInterval = 256

// stackSize is how many locals fit at first.
const stackSize = 512

// machine is the memory of one evaluation.
type machine struct {
	p     *Program
	arena arena

	// stack holds the frames; at is where the next begins.
	stack []*node
	at    int
	depth int

	// memos hold documents that were evaluated already, under the generation of
	// the input and data that they were evaluated with.
	memos       []memo
	saved       []memo // those of the outside, while a with is evaluated
	calls       map[callKey]*node
	lists       map[argsKey]int
	generation  int64
	generations int64

	// recent are the rows of large documents that were read last.
	recent        [4]recentRow
	nextRecent    int
	touchedBefore uint64

	results []*node
	err     *HandoverError

	fuel   int             // steps until the next look
	budget int64           // steps left after those
	ctx    context.Context //nolint:containedctx // a machine lives for one call of Eval
	now    time.Time
	seed   io.Reader
	bctx   *topdown.BuiltinContext
}

type memo struct {
	generation int64
	value      *node
}

func (p *Program) take() *machine {
	m, _ := p.pool.Get().(*machine)
	if m == nil {
		m = &machine{p: p, memos: make([]memo, p.memos), stack: make([]*node, stackSize)}
	}
	m.arena.larges = p.larges
	return m
}

// release readies the machine for the next evaluation.
func (m *machine) release() {
	m.ctx, m.seed, m.bctx, m.err = nil, nil, nil, nil
	clear(m.results)
	m.results = m.results[:0]
	m.recent = [4]recentRow{}
	clear(m.calls)
	clear(m.lists)
	if m.p.poison {
		m.arena.poison()
	} else if m.arena.reset(); len(m.arena.nodes) == 0 { // given up: let nothing keep it
		clear(m.memos)
		m.saved, m.calls, m.lists, m.stack = nil, nil, nil, make([]*node, stackSize)
	}
	m.p.pool.Put(m)
}

// fail ends the evaluation.
func (m *machine) fail(r Reason) int {
	m.err = handover(r, nil)
	return failed
}

// step pays for one loop turn or call.
func (m *machine) step() bool {
	m.fuel--
	return m.fuel >= 0 || m.look()
}

// charge pays for work on n values at once.
func (m *machine) charge(n int) bool {
	m.fuel -= n
	return m.fuel >= 0 || m.look()
}

// look holds the evaluation against its bounds.
func (m *machine) look() bool {
	m.budget -= int64(stepInterval - m.fuel)
	m.fuel = stepInterval
	if err := m.ctx.Err(); err != nil {
		m.err = handover(Cancelled, err)
		return false
	}
	if m.arena.odd {
		m.fail(OddNumber)
		return false
	}
	if m.touched() {
		m.fail(LargeData)
		return false
	}
	if m.budget < 0 || m.arena.used() > m.p.limits.Nodes {
		m.fail(Budget)
		return false
	}
	return true
}

// frame is a frame of n undefined locals.
func (m *machine) frame(n int) []*node {
	if m.at+n > len(m.stack) {
		m.stack = make([]*node, 2*len(m.stack)+n)
		m.at = 0
	}
	fr := m.stack[m.at : m.at+n : m.at+n]
	clear(fr)
	m.at += n
	return fr
}

// run runs a function on a frame that holds its arguments; nil is undefined.
func (m *machine) run(f *function, fr []*node) (*node, int) {
	if m.depth++; m.depth > m.p.limits.Depth {
		return nil, m.fail(Budget)
	}
	for _, c := range f.body {
		if r := c(m, fr); r < 0 {
			if r == returned {
				m.depth--
				return fr[f.result], next
			}
			return nil, failed
		}
	}
	m.depth--
	return nil, next
}

// document evaluates a function without arguments, once for each input and data.
func (m *machine) document(f *function, input, data *node) (*node, int) {
	if e := &m.memos[f.memo]; e.generation == m.generation {
		return e.value, next
	}
	if !m.step() {
		return nil, failed
	}
	stack, at := m.stack, m.at
	fr := m.frame(f.locals)
	fr[f.params[0]], fr[f.params[1]] = input, data
	v, r := m.run(f, fr)
	m.stack, m.at = stack, at
	if r == next && f.stale > 0 && !m.age(v, f.stale) {
		return nil, failed
	}
	if r == next {
		m.memos[f.memo] = memo{m.generation, v}
	}
	return v, r
}

// Eval evaluates the documents on input, at the time now; seed feeds builtins
// that ask for randomness. The results are in the order of Options.Documents and
// share nothing with the Input. It may be called once for an Input. Every error
// is a *HandoverError: topdown's answer counts.
func (in *Input) Eval(ctx context.Context, input Value, now time.Time, seed io.Reader) (results []Result, err error) {
	m := in.m
	if m == nil {
		return nil, handover(Failed, errors.New("the input was released"))
	}
	defer func() {
		if r := recover(); r != nil {
			in.m = nil // its memory may be in any state
			results, err = nil, handover(Failed, fmt.Errorf("%v", r))
		}
	}()
	if h := m.evaluate(ctx, input.n, now, seed); h != nil {
		return nil, h
	}
	if len(m.results) != 1 {
		return nil, handover(Failed, fmt.Errorf("%d solutions", len(m.results)))
	}
	results = make([]Result, len(m.p.vars))
	for i, name := range m.p.vars {
		list := m.results[0].coll().getText(name.n)
		if list == nil || list.k != kArr || len(list.coll().vals) > 1 {
			return nil, handover(Failed, errors.New("a document is not one value"))
		}
		if len(list.coll().vals) == 0 {
			continue
		}
		if results[i], err = list.coll().vals[0].read(); err != nil {
			return nil, err
		}
	}
	if m.arena.odd { // in a part of the input that is a result
		return nil, handover(OddNumber, nil)
	}
	if m.touched() {
		return nil, handover(LargeData, nil)
	}
	return results, nil
}

// evaluate runs the plan, which leaves its solutions in m.results.
func (m *machine) evaluate(ctx context.Context, input *node, now time.Time, seed io.Reader) *HandoverError {
	m.ctx, m.now, m.seed = ctx, now, seed
	m.generations++
	m.generation = m.generations
	m.at, m.depth, m.fuel, m.budget = 0, 0, stepInterval, m.p.limits.Steps
	m.saved = m.saved[:0]
	if l := m.p.larges; l != nil {
		m.touchedBefore = l.touched.Load()
	}
	if err := ctx.Err(); err != nil {
		return handover(Cancelled, err)
	}
	if m.arena.odd { // in the input
		return handover(OddNumber, nil)
	}
	fr := m.frame(m.p.locals)
	fr[ir.Input], fr[ir.Data] = input, m.p.data
	for _, c := range m.p.plan {
		if c(m, fr) == failed {
			return m.err
		}
	}
	if m.arena.odd {
		return handover(OddNumber, nil)
	}
	if m.touched() {
		return handover(LargeData, nil)
	}
	if m.arena.used() > m.p.limits.Nodes {
		return handover(Budget, nil)
	}
	return nil
}
