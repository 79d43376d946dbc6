package engine

import (
	"context"
	"fmt"
	"time"
)

// DefaultMaxSteps is how many steps the interpreter may take for one decision.
// One takes 100 to 500 ns, so that time is up first, unless the machine is fast.
const DefaultMaxSteps = 10_000_000

const (
	// paceEvery is how long a paced evaluation runs between two askings.
	paceEvery = 500 * time.Microsecond
	// meterInterval steps pass between two looks at the clock.
	meterInterval = 64
)

// Pace is asked by an evaluation that takes long, again and again on its own
// goroutine, so that it can be held up in favour of others. Waiting counts as the
// evaluation's time. An error ends the evaluation, and is the decision's.
type Pace func(context.Context) error

// WithPace has what is decided under the context ask pace once it has run for
// after. The context is for one decision at a time.
func WithPace(ctx context.Context, after time.Duration, pace Pace) context.Context {
	return context.WithValue(ctx, pacingKey{}, &pacing{after: after, pace: pace})
}

type pacingKey struct{}

// pacing is a Pace, and the error that it has ended an evaluation with.
type pacing struct {
	after time.Duration
	pace  Pace
	next  time.Time
	err   error
}

func pacingOf(ctx context.Context) *pacing {
	p, _ := ctx.Value(pacingKey{}).(*pacing)
	return p
}

// begin starts the time of the first evaluation; those after it go on with it.
func (p *pacing) begin() {
	if p != nil && p.next.IsZero() {
		p.next = time.Now().Add(p.after)
	}
}

// step paces what is due and returns the time after that.
func (p *pacing) step(ctx context.Context, now time.Time) (time.Time, error) {
	if p == nil || now.Before(p.next) {
		return now, nil
	}
	if p.err == nil {
		p.err = p.pace(ctx)
	}
	now = time.Now()
	p.next = now.Add(paceEvery)
	return now, p.err
}

// paceError is what pace has ended an evaluation with.
func paceError(ctx context.Context) error {
	if p := pacingOf(ctx); p != nil {
		return p.err
	}
	return nil
}

// limit is what ended an evaluation early.
type limit string

const (
	limitTime  limit = "time"
	limitSteps limit = "steps"
)

// meter is the cancellation of one evaluation by the interpreter, which asks it
// at each step.
type meter struct {
	ctx    context.Context //nolint:containedctx // a meter lives for one evaluation
	pacing *pacing
	left   int64 // steps
	until  int   // steps until the next look
	over   bool
	why    limit // empty: by the context, or by pace
}

func newMeter(ctx context.Context, steps int64) *meter {
	m := &meter{ctx: ctx, pacing: pacingOf(ctx), left: steps}
	m.pacing.begin()
	m.over = paceError(ctx) != nil
	return m
}

// Cancel ends the evaluation.
func (m *meter) Cancel() { m.over = true }

// Cancelled counts a step and tells whether it was one too many.
func (m *meter) Cancelled() bool {
	if m.until--; m.until >= 0 || m.over {
		return m.over
	}
	m.until = meterInterval - 1
	if m.left -= meterInterval; m.left < 0 {
		m.over, m.why = true, limitSteps
		return true
	}
	if _, err := m.pacing.step(m.ctx, time.Now()); err != nil || m.ctx.Err() != nil {
		m.over, m.why = true, limitTime
	}
	return m.over
}

// fault says what was too much.
func (m *meter) fault(steps int64) *Fault {
	f := &Fault{Code: CodeBudget, Message: "evaluation was stopped before it ended: out of time"}
	if m.why == limitSteps {
		f.Message = fmt.Sprintf("evaluation was stopped before it ended: more than %d steps", steps)
	}
	return f
}
