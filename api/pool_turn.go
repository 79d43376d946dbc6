package api

import (
	"context"
	"time"

	"github.com/authzd/authzd/engine"
)

// turn is a place while a decision has it.
type turn struct {
	pool   *pool
	caller string
	// suspect: it is paced after suspectAfter.
	suspect bool
	// slow: the place is given back, and the evaluation runs beside the others.
	slow bool
	// active: it has one of the pool's slowTurns, since then.
	active bool
	since  time.Time
}

// here runs f once there is a place: on the calling goroutine, or on a worker if the
// call had to wait. When calls wait there are more of them than grpc-go has long-lived
// goroutines, and f would have to grow the stack of a new one each time.
func (s *seat) here(ctx context.Context, f func(context.Context)) error {
	return s.run(ctx, f, false)
}

// onWorker runs f on a worker once there is a place, and waits for its end.
func (s *seat) onWorker(ctx context.Context, f func(context.Context)) error {
	return s.run(ctx, f, true)
}

// run runs f once there is a place. A call whose context ends before a worker is
// free never runs; after that f itself watches the context.
func (s *seat) run(ctx context.Context, f func(context.Context), onWorker bool) error {
	select {
	case <-s.pool.up:
	default: // which costs nothing once it is closed
		select {
		case <-s.pool.up:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	waited, err := s.enter(ctx)
	if err != nil {
		return err
	}
	t := &turn{pool: s.pool, caller: s.caller, suspect: s.pool.suspects(s.caller)}
	defer t.end()
	paced := engine.WithPace(ctx, t.paceAfter(), t.pace)
	if !onWorker && !waited {
		f(paced)
		return nil
	}
	work := &task{run: func() { f(paced) }, done: make(chan struct{})}
	select {
	case s.pool.tasks <- work:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-work.done
	if work.panicked != nil {
		panic(work.panicked)
	}
	return nil
}

// suspects tells whether a caller has evaluations under way that took slowAfter: what
// was only suspected makes nobody suspect, and callers that are not told apart are not
// judged by each other.
func (p *pool) suspects(caller string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lines[caller]
	return caller != "" && l != nil && l.long > 0
}

// paceAfter is how long an evaluation may run before it is paced.
func (t *turn) paceAfter() time.Duration {
	if t.suspect {
		return suspectAfter
	}
	return slowAfter
}

// end gives back what the turn has.
func (t *turn) end() {
	p := t.pool
	if !t.slow {
		if !p.lookAround() {
			p.give()
		}
		return
	}
	t.rest()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow--
	if l := p.lines[t.caller]; l != nil {
		l.slow--
		if !t.suspect {
			l.long--
		}
		p.forget(l)
	}
}

// rest lets another slow one run.
func (t *turn) rest() {
	if t.active {
		t.active = false
		<-t.pool.slowTurns
	}
}

// pace holds up an evaluation that takes long: first it gives its place to others,
// and then it rests most of the time while they decide.
func (t *turn) pace(ctx context.Context) error {
	p := t.pool
	if !t.slow && !t.yield() {
		return errorf(CodeOverloaded, "", "too many decisions take long; try again later")
	}
	// It rests with its turn, so that all of them together take no more than one would.
	wake := time.NewTimer(p.restAfter(t.since))
	defer wake.Stop()
	select {
	case <-wake.C:
	case <-ctx.Done():
		return nil // which ends the evaluation
	}
	t.rest()
	select {
	case p.slowTurns <- struct{}{}:
		t.active, t.since = true, time.Now()
	case <-ctx.Done():
	}
	return nil
}

// yield gives the place back and has the evaluation counted as a slow one, of
// which one caller may have half.
func (t *turn) yield() bool {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.workers * slowPerWorker
	l := p.lineOf(t.caller)
	if p.slow >= most || t.caller != "" && l.slow >= max(most/2, 1) {
		p.forget(l)
		return false
	}
	t.slow, t.since = true, time.Now()
	l.slow++
	if !t.suspect {
		l.long++
	}
	p.slow++
	p.running--
	p.went++
	p.measure(t.since)
	p.next(t.since)
	return true
}

// restAfter is how long a slow evaluation rests that ran since then.
func (p *pool) restAfter(since time.Time) time.Duration {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == 0 && p.waiting == 0 && now.Sub(p.fast) > recently {
		return slowBreath
	}
	return min(slowRest*now.Sub(since), longestRest) + slowBreath
}
