package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/compiled"
	"github.com/authzd/authzd/rar"
)

// planTime bounds compiling a policy to Go closures. Until it is done, and for
// good if it takes longer, topdown decides.
const planTime = 2 * time.Minute

// evaluation is how the policy of a snapshot is evaluated: by the program once it
// is there, by topdown before, whenever the program hands over, and for good
// where it refuses the policy or has been caught at a difference.
type evaluation struct {
	topdown *topdownEvaluator
	fast    atomic.Pointer[program]
	habit   habit
	// once is of make; from is let go of with it.
	once sync.Once
	from func(context.Context) (*program, error)

	mu    sync.Mutex
	state EvaluatorState
	why   string
}

// Prepare makes what the first FilterTools on s would make, so that it is not the
// one to wait. With Options.Compiled it compiles the policy to Go closures before,
// which decide from then on. Who has swapped s in calls it when there is time.
func (e *Engine) Prepare(s *Snapshot) {
	if e.opts.Compiled {
		s.eval.make()
	}
	s.filter.make()
}

// EvaluatorState says what evaluates a policy.
type EvaluatorState string

// The states.
const (
	// EvaluatorInterpreted: topdown, while the policy is not compiled.
	EvaluatorInterpreted EvaluatorState = "interpreted"
	// EvaluatorCompiled: Go closures, with topdown for what they hand over.
	EvaluatorCompiled EvaluatorState = "compiled"
	// EvaluatorRefused: topdown, because the compiler refuses the policy.
	EvaluatorRefused EvaluatorState = "refused"
	// EvaluatorDistrusted: topdown, because the compiled policy once answered
	// otherwise.
	EvaluatorDistrusted EvaluatorState = "distrusted"
)

func newEvaluation(t *topdownEvaluator, entrypoint ast.Ref, data rar.Value) *evaluation {
	return &evaluation{topdown: t, state: EvaluatorInterpreted, from: func(ctx context.Context) (*program, error) {
		return newProgram(ctx, t, entrypoint, documentNames(), data)
	}}
}

// inherit has v, of the same policy on other data, not make what before was caught at.
func (v *evaluation) inherit(before *evaluation) {
	before.mu.Lock()
	state, why := before.state, before.why
	before.mu.Unlock()
	if state != EvaluatorDistrusted {
		return
	}
	v.once.Do(func() { v.from = nil })
	v.distrust(why)
}

// Interpreted are findings that say why Options.Compiled would leave all of the policy to
// OPA, and where; none if it would not, or if all of it is told by the lint (lint.slow_form).
// It compiles the policy, to see, as Engine.Prepare does and for no longer; an error is
// that of ctx.
func (s *Snapshot) Interpreted(ctx context.Context) ([]Finding, error) {
	within, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	_, err := newProgram(within, s.eval.topdown, packageRef(s.made.settings[s.made.main].entrypoint), documentNames(), s.made.data)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("compile policy: %w", ctx.Err())
	}
	var refused *compiled.RefusalError
	switch {
	case err == nil:
		return nil, nil
	case within.Err() != nil:
		return []Finding{interpreted("it takes longer than "+planTime.String()+" to compile", "make it smaller, lists into data")}, nil
	case !errors.As(err, &refused):
		return []Finding{interpreted(err.Error(), "")}, nil
	}
	var out []Finding
	for _, r := range append([]*compiled.RefusalError{refused}, refused.Others...) {
		if r.ComputedKeys {
			continue
		}
		f := interpreted(r.Cause(), r.Fix)
		if at := r.At; at != nil {
			f.File, f.Row, f.Col = at.File, at.Row, at.Col
		}
		out = append(out, f)
	}
	sortFindings(out)
	return out, nil
}

func interpreted(why, fix string) Finding {
	if fix == "" {
		fix = "write it otherwise"
	}
	return Finding{
		Code: CodeBundleInterpreted, Severity: SeverityWarning, Message: "--evaluator compiled leaves all of this policy to the interpreter: " + why,
		Fix: fix + "; or keep to the interpreter, which decides the same",
	}
}

// CodeBundleInterpreted is of policy that the compiler refuses, which is evaluated all the same.
const CodeBundleInterpreted Code = "bundle.interpreted"

// make compiles, once.
func (v *evaluation) make() {
	v.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), planTime)
		defer cancel()
		p, err := v.from(ctx)
		v.from = nil // it keeps the data
		v.mu.Lock()
		defer v.mu.Unlock()
		if err != nil {
			v.state, v.why = EvaluatorRefused, err.Error()
			return
		}
		v.state = EvaluatorCompiled
		v.fast.Store(p)
	})
}

// distrust leaves all to topdown from now on. First: it did not before.
func (v *evaluation) distrust(why string) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	first = v.state == EvaluatorCompiled
	v.fast.Store(nil)
	v.state, v.why = EvaluatorDistrusted, why
	return first
}

// Evaluator tells what evaluates the policy, and why it is not the faster one.
func (s *Snapshot) Evaluator() (state EvaluatorState, why string) {
	s.eval.mu.Lock()
	defer s.eval.mu.Unlock()
	return s.eval.state, s.eval.why
}

// Evaluations counts what an engine's decisions were evaluated by.
type Evaluations struct {
	// Compiled are evaluations by Go closures, Interpreted those by topdown alone.
	Compiled, Interpreted uint64
	// HandedOver are evaluations that the closures left to topdown, by reason; those
	// of "habit" they were not asked for, because they leave most to topdown.
	HandedOver map[string]uint64
	// Verified were compared with topdown, Different came out otherwise, Unverified
	// were chosen, and nobody had time.
	Verified, Different, Unverified uint64
}

// counters is Evaluations as it is counted.
type counters struct {
	compiled, interpreted           atomic.Uint64
	verified, different, unverified atomic.Uint64
	handedOver                      map[compiled.Reason]*atomic.Uint64 // never changed after New
}

func noneHandedOver() map[compiled.Reason]*atomic.Uint64 {
	counts := map[compiled.Reason]*atomic.Uint64{reasonHabit: {}}
	for _, r := range compiled.Reasons() {
		counts[r] = &atomic.Uint64{}
	}
	return counts
}

func (c *counters) handover(r compiled.Reason) {
	n := c.handedOver[r]
	if n == nil {
		n = c.handedOver[compiled.Failed]
	}
	n.Add(1)
}

// Evaluations returns the counts since New.
func (e *Engine) Evaluations() Evaluations {
	c := &e.counters
	out := Evaluations{
		Compiled: c.compiled.Load(), Interpreted: c.interpreted.Load(), HandedOver: map[string]uint64{},
		Verified: c.verified.Load(), Different: c.different.Load(), Unverified: c.unverified.Load(),
	}
	for r, n := range c.handedOver {
		out.HandedOver[string(r)] = n.Load()
	}
	return out
}

// bounded is a context that has ended after until, for those who ask Err. It costs
// no timer, so Done does not tell. Who asks is paced.
type bounded struct {
	context.Context //nolint:containedctx // it is one
	until           time.Time
	pacing          *pacing
}

// Err is that of the context, or of the time.
func (b *bounded) Err() error {
	if err := b.Context.Err(); err != nil {
		return err //nolint:wrapcheck // it is the context's
	}
	now, err := b.pacing.step(b.Context, time.Now())
	if err == nil && !now.Before(b.until) {
		err = context.DeadlineExceeded
	}
	return err
}

// account is what an evaluation tells of itself when it is to be explained.
type account struct {
	// compiled: by closures, whose outcomes these are.
	compiled bool
	outcomes []compiled.Outcome
	// handedOver is why not; empty if they were not asked.
	handedOver compiled.Reason
}

// evaluate asks the policy of s, until then at the latest. To may be nil.
func (e *Engine) evaluate(ctx context.Context, until time.Time, s *Snapshot, in *input, to *account) (output, *Fault) {
	fast := s.eval.fast.Load()
	switch {
	case fast == nil || e.distrusted.Load():
		e.counters.interpreted.Add(1)
	case s.eval.habit.resting():
		e.counters.handover(reasonHabit)
		if to != nil {
			to.handedOver = reasonHabit
		}
	default:
		paced := pacingOf(ctx)
		paced.begin()
		out, handover := fast.evaluate(&bounded{ctx, until, paced}, in, to) //nolint:contextcheck // it is ctx, with an end
		if handover == nil || handover.Reason != compiled.Cancelled {       // which says nothing of the policy
			s.eval.habit.note(handover != nil)
		}
		if handover == nil {
			e.counters.compiled.Add(1)
			if to != nil {
				to.compiled = true
			}
			if n := e.opts.VerifySample; n > 0 && (n == 1 || rand.IntN(n) == 0) { //nolint:gosec // a sample, no secret
				e.sample(s, in, &out)
			}
			return out, nil
		}
		e.counters.handover(handover.Reason)
		if to != nil {
			to.handedOver = handover.Reason
		}
	}
	budget, stop := context.WithDeadline(ctx, until)
	defer stop()
	out, fault := s.eval.topdown.evaluate(budget, in, e.opts.MaxSteps, e.opts.Tracer)
	if fault != nil && fault.Code == CodeBudget && contextError(ctx) == nil {
		e.stopped(ctx, s, in, fault)
	}
	return out, fault
}

// stopped names the policy of an evaluation that was too much.
func (e *Engine) stopped(ctx context.Context, s *Snapshot, in *input, fault *Fault) {
	e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "an evaluation of policy was stopped, which denies",
		slog.String("bundle", s.policy.Bundle), slog.String("revision", s.policy.Revision), slog.String("decision_id", in.decisionID),
		slog.String("action", in.query.Action.Name), slog.String("resource", in.query.Resource.ID), slog.String("code", string(fault.Code)), slog.String("why", fault.Message))
}

// sampled is an evaluation to compare.
type sampled struct {
	snapshot *Snapshot
	document ast.Value
	now      time.Time
	id       string
	out      output
}

// solve asks topdown; a panic of a builtin is a fault, and not the end of the process.
func (s *sampled) solve(ctx context.Context) (terms [4]*ast.Term, fault *Fault) {
	defer func() {
		if r := recover(); r != nil {
			fault = &Fault{Code: CodeEvalError, Message: fmt.Sprintf("the interpreter panics: %v", r)}
		}
	}()
	return s.snapshot.eval.topdown.solve(ctx, s.document, s.now, s.id, math.MaxInt64, nil) // it runs beside decisions
}

// maxSampled bounds what waits to be compared.
const maxSampled = 16

func (e *Engine) sample(s *Snapshot, in *input, out *output) {
	one := sampled{snapshot: s, document: in.document(s.eval.topdown.words), now: in.now, id: in.decisionID, out: *out}
	select {
	case e.samples <- one:
	default:
		e.counters.unverified.Add(1)
	}
}

// Verify evaluates a sample of decisions once more by topdown, until ctx ends:
// one in Options.VerifySample. A difference is logged with the shape of its
// input, counted, and leaves all policy to topdown as long as the engine lives.
// Without Verify nothing is compared.
func (e *Engine) Verify(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case one := <-e.samples:
			e.verify(ctx, &one)
		}
	}
}

func (e *Engine) verify(ctx context.Context, one *sampled) {
	budget, stop := budgetContext(ctx, e.opts.Budget)
	defer stop()
	terms, fault := one.solve(budget)
	if fault != nil && budget.Err() != nil {
		e.counters.unverified.Add(1)
		return // too slow to tell
	}
	var want output
	if fault == nil {
		want, fault = readOutput(terms)
	}
	e.counters.verified.Add(1)
	differs := ""
	if fault != nil {
		differs = string(fault.Code)
	} else if name := one.out.differs(&want); name != "" {
		differs = name
	}
	if differs == "" {
		return
	}
	e.counters.different.Add(1)
	e.distrusted.Store(true) // of what is loaded later, too
	if one.snapshot.eval.distrust("a decision came out otherwise than by the interpreter: " + one.id) {
		e.opts.Log.Error("the compiled policy answered otherwise than the interpreter, which decides from now on; please report this",
			"decision_id", one.id, "bundle", one.snapshot.policy.Bundle, "revision", one.snapshot.policy.Revision,
			"differs", differs, "input", shapeOf(one.document))
	}
}

// differs names the first document that is not the same.
func (o *output) differs(p *output) string {
	for i, pair := range [][2]*document{{&o.permit, &p.permit}, {&o.forbid, &p.forbid}, {&o.allow, &p.allow}, {&o.deny, &p.deny}} {
		a, b := pair[0], pair[1]
		// To the letter: 1 and 1.0 are equal, and policy can tell them apart.
		if a.set != b.set || a.defined() != b.defined() || a.defined() && !bytes.Equal(a.value.AppendJSON(nil), b.value.AppendJSON(nil)) {
			return documentNames()[i]
		}
	}
	return ""
}
