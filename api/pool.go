package api

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

const (
	// hotShare is the part of Options.QueueTime that calls may wait while more come than
	// can be decided: what waits longer then makes answers later, and no more of them.
	hotShare = 20
	// firstBetween is the most that one measurement alone may make of the time between
	// two freed places, and eight times what it was after that: a process that stood
	// still for a second would refuse what it has time for.
	firstBetween = time.Millisecond
	// slowAfter is how long an evaluation may take before it gives its place to
	// others, suspectAfter the same for a caller that has such ones under way: what
	// never ends is rarely asked once.
	slowAfter    = 5 * time.Millisecond
	suspectAfter = time.Millisecond
	// slowPerWorker is how many evaluations that take long there may be to a worker.
	// They wait for each other, which is cheaper than to begin one more only to refuse it.
	slowPerWorker = 16
	// slowRest is how much longer such a one rests than it runs while others decide.
	slowRest = 9
	// slowBreath is its rest otherwise, in which the network is looked at.
	slowBreath = 20 * time.Microsecond
	// recently is how long ago others have decided at the most for that.
	recently = 20 * time.Millisecond
	// longestRest bounds the rest after a step that could not be interrupted.
	longestRest = 50 * time.Millisecond
)

// pool bounds how many decisions run at once and how many wait, and has callers
// take turns. Decisions of batches, and those that have waited, run on its long-lived
// workers: evaluation grows the stack, and a call of grpc-go that is one of many starts
// on a fresh small one.
//
// An evaluation that takes long gives its place to others and goes on beside them,
// in turn with its like (turn.pace).
type pool struct {
	tasks   chan *task
	workers int
	limit   int
	target  time.Duration
	began   time.Time
	// processors that there are.
	processors int
	// up is closed once the workers are there, which begun sees to. Nothing is decided
	// before.
	up    chan struct{}
	begun sync.Once

	mu sync.Mutex
	// running decisions have a place; slow ones have given theirs back.
	running, slow int
	// waiting calls, and those that batches still have to come with.
	waiting, coming int
	// inside are the calls that have arrived and not left, active the lines of such.
	inside fresh
	active int
	// lines are of callers that wait or are yet to come.
	lines map[string]*line
	// turns has the lines in which calls wait, the next one first.
	turns []*line
	// over is when one would have waited too long last.
	over time.Time
	// came and went are how many have come, refused ones too, and were decided, since
	// counted. excess is in how many times of late that many more came than went, two at
	// most. hot: so lastingly that the line is to be short.
	came, went, excess int
	counted            time.Time
	hot                bool
	// looking: the network is being looked at; looked is when it was last.
	looking bool
	looked  time.Time
	// left is when a place became free last while calls waited, and between the
	// average time between two such, as it was when it was measured last.
	left, measured time.Time
	between        time.Duration
	// fast is when a place was last taken.
	fast time.Time
	// slowTurns lets as many slow evaluations run as there are processors to spare.
	slowTurns chan struct{}
	// recent are the last caller and the last that was another.
	recent [2]asked
	// looks: serve makes a look, which is asked while calls wait; nil: by nobody.
	looks bool
	look  *look
}

// line is what one caller has waiting.
type line struct {
	caller  string
	waiters []*waiter
	coming  int
	// calls are those that have arrived and not left, inside the fresh ones of them.
	calls  int
	inside fresh
	// slow evaluations are under way, long those of them that took slowAfter.
	slow, long int
}

type waiter struct {
	line *line
	// kept: its call was let in as a whole, and is not refused in the middle.
	kept bool
	// ready receives once: nil with a place, or why there is none.
	ready chan error
}

type task struct {
	run  func()
	done chan struct{}
	// panicked is what run panicked with, for the goroutine that waits.
	panicked *panicked
}

// panicked carries a panic and the stack that it happened on from a worker to
// the caller, whose recovery denies.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// newPool makes a pool of so many places, for which so many calls may wait, while
// it is busy no longer than target. Spare is how many slow evaluations run at once.
func newPool(workers, queue int, target time.Duration, spare int) *pool {
	return &pool{
		tasks: make(chan *task), workers: workers, processors: runtime.GOMAXPROCS(0), limit: queue, target: target, began: time.Now(),
		lines: map[string]*line{}, slowTurns: make(chan struct{}, max(spare, 1)), up: make(chan struct{}),
	}
}

// serve runs the workers until ctx ends. Calls that wait then are refused by
// their own contexts.
func (p *pool) serve(ctx context.Context) error {
	var workers sync.WaitGroup
	if p.looks {
		l, err := newLook()
		if err != nil {
			return err
		}
		p.lookBy(l)
		workers.Go(func() { l.serve(ctx) })
		workers.Go(func() { p.lookout(ctx, l) })
	}
	for range p.workers * (1 + slowPerWorker) { // a slow one keeps its worker
		workers.Go(func() {
			for {
				select {
				case t := <-p.tasks:
					t.work()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	p.begun.Do(func() { close(p.up) })
	workers.Wait()
	return nil
}

func (t *task) work() {
	defer close(t.done)
	defer func() {
		if v := recover(); v != nil {
			t.panicked = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	t.run()
}

// errOverloaded is one for all: making it for each of thousands is work as well.
var errOverloaded = errorf(CodeOverloaded, "", "too many calls are waiting for a decision; try again later")

func overloaded() error { return errOverloaded }

// lineOf finds the line of a caller. Callers that are not told apart share one.
func (p *pool) lineOf(caller string) *line {
	l := p.lines[caller]
	if l == nil {
		l = &line{caller: caller}
		p.lines[caller] = l
	}
	return l
}

// forget lets go of a line that nobody is in.
func (p *pool) forget(l *line) {
	if len(l.waiters) == 0 && l.coming == 0 && l.calls == 0 && l.slow == 0 {
		delete(p.lines, l.caller)
	}
}

// wait is about how long the next call of a caller would wait, after n others of
// its own: its line has one turn in as many as there are lines. What has arrived
// counts whether it waits here or for a processor.
func (p *pool) wait(caller string, n int, now time.Time) time.Duration {
	if now.Sub(p.measured) > freshTime {
		return 0 // nobody has waited for a while
	}
	at := p.epoch(now)
	own, others := n+1, p.active
	if l := p.lines[caller]; l != nil {
		own += max(l.inside.turn(at), len(l.waiters)) + l.coming
		if l.calls > 0 {
			others--
		}
	}
	before := min(own*(others+1), max(p.inside.turn(at), p.waiting)+p.coming+n+1)
	return time.Duration(before) * p.between
}

// holds tells whether n more decisions may be to come. One caller may have half of
// what there is room for. The largest call is not refused for ever.
func (p *pool) holds(caller string, n int) bool {
	if l := p.lines[caller]; caller != "" && l != nil && l.coming > 0 && l.coming+n > p.limit/2 {
		return false
	}
	return p.coming == 0 || p.coming+n <= p.limit
}

// admits tells whether a call that comes with n decisions may wait. It is called
// with the lock held.
func (p *pool) admits(ctx context.Context, caller string, n int, now time.Time) bool {
	if p.waiting >= p.limit && !p.makeRoom(caller, n) {
		return false
	}
	wait := p.wait(caller, n-1, now)
	if end, ok := ctx.Deadline(); ok && now.Before(end) && now.Add(wait).After(end) {
		return false
	}
	if wait > p.target {
		p.over = now
	}
	target := p.target
	if p.hot {
		target /= hotShare
	}
	// A call is not refused for the work that is under way.
	return wait <= max(target, time.Duration(2*p.workers)*p.between)
}

// makeRoom refuses the newest of the longest line in favour of a caller whose own
// line is shorter by more than one.
func (p *pool) makeRoom(caller string, n int) bool {
	own := n
	if l := p.lines[caller]; l != nil {
		own += len(l.waiters) + l.coming
	}
	var longest *line
	for _, l := range p.turns {
		if longest == nil || len(l.waiters) > len(longest.waiters) {
			longest = l
		}
	}
	if n != 1 || longest == nil || len(longest.waiters) <= own {
		return false
	}
	for _, last := range slices.Backward(longest.waiters) {
		if !last.kept {
			p.remove(last)
			last.ready <- overloaded()
			return true
		}
	}
	return false
}

// remove takes a call out of its line.
func (p *pool) remove(w *waiter) bool {
	at := slices.Index(w.line.waiters, w)
	if at < 0 {
		return false
	}
	w.line.waiters = slices.Delete(w.line.waiters, at, at+1)
	p.waiting--
	if len(w.line.waiters) == 0 {
		p.turns = slices.DeleteFunc(p.turns, func(l *line) bool { return l == w.line })
		p.forget(w.line)
	}
	return true
}

// waits is how many calls wait for a place, slows how many evaluations take long.
func (p *pool) waits() (waiting, slow int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting, p.slow
}

// seat is the right of one call to wait for n places, one after the other.
type seat struct {
	pool   *pool
	caller string
	n      int
	// held is how many of them it has still to come with.
	held  int
	taken bool
}

// seat is for a call of n decisions, which may be refused as long as none of
// them is made.
func (p *pool) seat(caller string, n int) *seat { return &seat{pool: p, caller: caller, n: n} }

// take counts the call in, once, or refuses it because too much waits.
func (s *seat) take(ctx context.Context) error {
	if s.taken {
		return nil
	}
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	n, now := min(s.n, p.limit), time.Now()
	p.count(s.n-1, now) // one was counted when it arrived
	if !p.holds(s.caller, n) || !p.admits(ctx, s.caller, n, now) {
		return overloaded()
	}
	s.taken, s.held = true, n
	p.coming += n
	p.lineOf(s.caller).coming += n
	return nil
}

// leave gives up what the call has not come with.
func (s *seat) leave() {
	if s.held == 0 {
		return
	}
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.come(s, s.held)
}

// come counts n of a seat as no more to come.
func (p *pool) come(s *seat, n int) {
	n = min(n, s.held)
	s.held -= n
	p.coming -= n
	if l := p.lines[s.caller]; l != nil {
		l.coming -= n
		p.forget(l)
	}
}

// enter takes a place, and waits for it where others are about.
func (s *seat) enter(ctx context.Context) (waited bool, err error) {
	p := s.pool
	p.mu.Lock()
	now := time.Now()
	if !s.taken && p.waiting >= p.limit && !p.makeRoom(s.caller, 1) {
		p.mu.Unlock()
		return false, overloaded()
	}
	p.come(s, 1)
	if p.running < p.places() && p.waiting == 0 && p.inside.turn(p.epoch(now)) <= 1 {
		p.running++
		p.fast = now
		p.mu.Unlock()
		return false, nil
	}
	w := &waiter{line: p.lineOf(s.caller), kept: s.taken, ready: make(chan error, 1)}
	if len(w.line.waiters) == 0 {
		p.turns = append(p.turns, w.line)
	}
	w.line.waiters = append(w.line.waiters, w)
	if p.waiting++; p.waiting == 1 {
		p.left = time.Time{}
	}
	free := p.running < p.places()
	p.mu.Unlock()
	if free {
		// Decisions rarely wait for anything but a processor, and without this each would
		// be made before the next call is even seen: the queue would be the scheduler's,
		// which knows no callers. Who frees a place hands it on, and whoever is to have it
		// should be there, and not behind everything that can run.
		runtime.Gosched()
		p.mu.Lock()
		p.next(time.Now())
		p.mu.Unlock()
	}
	select {
	case err := <-w.ready:
		return true, err
	case <-ctx.Done():
	}
	p.mu.Lock()
	stays := p.remove(w)
	p.mu.Unlock()
	if !stays { // it was its turn just now
		if err := <-w.ready; err == nil {
			p.give()
		}
	}
	return true, context.Cause(ctx)
}

// give frees a place, which the next line's first call gets.
func (p *pool) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	p.went++
	now := time.Now()
	p.measure(now)
	p.next(now)
}

// measure learns how often a place becomes free while calls wait.
func (p *pool) measure(now time.Time) {
	if p.waiting == 0 {
		return
	}
	if !p.left.IsZero() {
		took := now.Sub(p.left)
		if now.Sub(p.measured) > freshTime { // what was then says nothing of now
			p.between = min(took, firstBetween)
		}
		p.measured = now
		took = min(took, max(8*p.between, firstBetween))
		p.between += (took - p.between) / 16
	}
	p.left = now
}

// next fills the places that are free.
func (p *pool) next(now time.Time) {
	for p.running < p.places() && p.waiting > 0 {
		l := p.turns[0]
		w := l.waiters[0]
		p.turns = p.turns[1:]
		l.waiters = l.waiters[1:]
		if len(l.waiters) > 0 {
			p.turns = append(p.turns, l)
		} else {
			p.forget(l)
		}
		p.waiting--
		p.running++
		p.fast = now
		w.ready <- nil
	}
}
