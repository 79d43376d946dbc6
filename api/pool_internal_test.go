package api

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const testQueueTime = 10 * time.Millisecond

// start runs the workers until the test ends.
func (p *pool) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var workers sync.WaitGroup
	workers.Go(func() {
		if err := p.serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); workers.Wait() })
}

// empty fails the test if anything is left behind.
func (p *pool) empty(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != 0 || p.inside.now+p.inside.past != 0 || p.active != 0 || p.slow != 0 || p.waiting != 0 || p.coming != 0 || len(p.lines) != 0 || len(p.turns) != 0 || len(p.slowTurns) != 0 {
		t.Errorf("left behind: %d running, %d slow, %d waiting, %d coming, %d lines, %d turns, %d slow turns", p.running, p.slow, p.waiting, p.coming, len(p.lines), len(p.turns), len(p.slowTurns))
	}
}

func isOverloaded(err error) bool {
	var full *Error
	return errors.As(err, &full) && full.Code == CodeOverloaded
}

func TestPool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, 1, testQueueTime, 1)
		p.start(t)
		ctx := t.Context()
		hold := make(chan struct{})
		var running, most atomic.Int64
		work := func(context.Context) {
			most.Store(max(most.Load(), running.Add(1)))
			<-hold
			running.Add(-1)
		}
		var calls sync.WaitGroup
		// One of each kind takes a place, a third waits, a fourth is refused.
		calls.Go(func() { _ = p.seat("", 1).here(ctx, work) })
		calls.Go(func() { _ = p.seat("", 1).onWorker(ctx, work) })
		synctest.Wait()
		calls.Go(func() { _ = p.seat("", 1).onWorker(ctx, work) })
		synctest.Wait()
		if waiting, _ := p.waits(); waiting != 1 || running.Load() != 2 {
			t.Errorf("%d wait and %d run, want 1 and 2", waiting, running.Load())
		}
		for _, call := range []func(context.Context, func(context.Context)) error{p.seat("", 1).here, p.seat("", 1).onWorker} {
			if err := call(ctx, func(context.Context) { t.Error("ran") }); !isOverloaded(err) {
				t.Errorf("a fourth: %v", err)
			}
		}
		close(hold)
		calls.Wait()
		if most.Load() != 2 {
			t.Errorf("most at once %d", most.Load())
		}
		p.empty(t)
	})
}

// Nothing is decided before the workers are there.
func TestPoolNotUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, 4, testQueueTime, 1)
		early, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := p.seat("", 1).here(early, func(context.Context) { t.Error("ran") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before there are workers: %v", err)
		}
		ran := false
		var call sync.WaitGroup
		call.Go(func() { _ = p.seat("", 1).here(t.Context(), func(context.Context) { ran = true }) })
		synctest.Wait()
		p.start(t)
		call.Wait()
		if !ran {
			t.Error("did not run once there were")
		}
		p.start(t) // a second time, by whoever runs the server twice
		p.empty(t)
	})
}

// A call that waits in vain goes with its own deadline and never runs.
func TestPoolDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 4, testQueueTime, 1)
		p.start(t)
		hold := make(chan struct{})
		var calls sync.WaitGroup
		calls.Go(func() { _ = p.seat("", 1).here(t.Context(), func(context.Context) { <-hold }) })
		synctest.Wait()
		for _, call := range []func(context.Context, func(context.Context)) error{p.seat("", 1).here, p.seat("", 1).onWorker} {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			if err := call(ctx, func(context.Context) { t.Error("ran after its deadline") }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("in vain: %v", err)
			}
			stop()
		}
		close(hold)
		calls.Wait()
		p.empty(t)
	})
}

// panics fails unless the panic of a worker reaches f's caller, with where it came from.
func panics(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		if v, ok := recover().(*panicked); !ok || v.value != want || len(v.stack) == 0 {
			t.Errorf("recovered %v, want %s", v, want)
		}
	}()
	f()
}

// A panic on a worker reaches the caller, and the worker lives on.
func TestPoolPanic(t *testing.T) {
	t.Parallel()
	p := newPool(1, 1, testQueueTime, 1)
	p.start(t)
	for range 3 {
		panics(t, "boom", func() {
			_ = p.seat("", 1).onWorker(t.Context(), func(context.Context) { panic("boom") })
		})
	}
	if err := p.seat("", 1).onWorker(t.Context(), func(context.Context) {}); err != nil {
		t.Errorf("after panics: %v", err)
	}
	p.empty(t)
}

// Callers take turns, however many calls one of them has waiting.
func TestPoolTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 100, testQueueTime, 1)
		p.start(t)
		hold := make(chan struct{})
		var order []string
		var calls sync.WaitGroup
		calls.Go(func() { _ = p.seat("flood", 1).here(t.Context(), func(context.Context) { <-hold }) })
		synctest.Wait()
		for i := range 6 {
			for _, caller := range []string{"flood", "quiet"} {
				if caller == "quiet" && i < 4 {
					continue
				}
				calls.Go(func() {
					if err := p.seat(caller, 1).here(t.Context(), func(context.Context) { order = append(order, caller) }); err != nil {
						t.Errorf("%s: %v", caller, err)
					}
				})
				synctest.Wait()
			}
		}
		close(hold)
		calls.Wait()
		want := []string{"flood", "quiet", "flood", "quiet", "flood", "flood", "flood", "flood"}
		if !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		p.empty(t)
	})
}

// Who comes to a queue that another caller has filled takes the place of that one's
// newest call; a batch that was let in keeps what it has.
func TestPoolMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 4, testQueueTime, 1)
		p.start(t)
		hold := make(chan struct{})
		var refused, done atomic.Int64
		var calls sync.WaitGroup
		call := func(caller string) {
			calls.Go(func() {
				err := p.seat(caller, 1).here(t.Context(), func(context.Context) { <-hold })
				switch {
				case isOverloaded(err):
					refused.Add(1)
				case err == nil:
					done.Add(1)
				default:
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 6 {
			call("flood")
		}
		if refused.Load() != 1 {
			t.Errorf("%d refused, want the one beyond the queue", refused.Load())
		}
		call("quiet")
		if refused.Load() != 2 {
			t.Errorf("%d refused, want one more of the flood", refused.Load())
		}
		close(hold)
		calls.Wait()
		if done.Load() != 5 {
			t.Errorf("%d done, want 5", done.Load())
		}
		p.empty(t)
	})
}

// Who would wait longer than the time for it is refused before anything of it is read.
func TestPoolQueueTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1000, 200*time.Millisecond, 1)
		p.start(t)
		var calls sync.WaitGroup
		var done, refused atomic.Int64
		call := func() {
			calls.Go(func() {
				a, err := p.arrive(t.Context(), "")
				defer a.leave()
				if err != nil || isOverloaded(p.seat("", 1).here(t.Context(), func(context.Context) { time.Sleep(time.Millisecond) })) {
					refused.Add(1)
				} else {
					done.Add(1)
				}
			})
		}
		for range 400 { // nobody knows yet for how long they will wait
			call()
		}
		time.Sleep(195 * time.Millisecond)
		arrive := func(ctx context.Context, caller string) error {
			a, err := p.arrive(ctx, caller)
			a.leave()
			return err
		}
		if !isOverloaded(arrive(t.Context(), "")) {
			t.Error("who would wait 205 ms is let in")
		}
		if err := arrive(t.Context(), "another"); err != nil {
			t.Errorf("another caller, whose turn is next: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
		if err := arrive(t.Context(), ""); err != nil {
			t.Errorf("who would wait 195 ms: %v", err)
		}
		time.Sleep(190 * time.Millisecond)
		short, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		if !isOverloaded(arrive(short, "")) {
			t.Error("who would wait beyond its deadline is let in")
		}
		calls.Wait()
		if done.Load() != 400 || refused.Load() != 0 {
			t.Errorf("%d done, %d refused", done.Load(), refused.Load())
		}
		p.empty(t)
	})
}

// A process that stood still is not taken for decisions that take long; those that do
// are believed after some.
func TestPoolStandsStill(t *testing.T) {
	t.Parallel()
	p := newPool(1, 1000, testQueueTime, 1)
	p.waiting = 1
	now := time.Now()
	frees := func(n int, every time.Duration) {
		for range n {
			now = now.Add(every)
			p.measure(now)
		}
	}
	frees(100, time.Millisecond)
	frees(1, 3*time.Second)
	if p.between > 2*time.Millisecond {
		t.Errorf("after a stop of 3 s a place is thought to become free every %v", p.between)
	}
	frees(40, 100*time.Millisecond)
	if p.between < 50*time.Millisecond {
		t.Errorf("after 40 decisions of 100 ms a place is thought to become free every %v", p.between)
	}
}

// A batch counts by its items, and is refused before the first or not at all.
func TestPoolBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 10, testQueueTime, 1)
		p.start(t)
		ctx := t.Context()
		one, two := p.seat("a", 6), p.seat("b", 6)
		if err := one.take(ctx); err != nil {
			t.Fatal(err)
		}
		if err := two.take(ctx); !isOverloaded(err) {
			t.Errorf("six and six where ten may wait: %v", err)
		}
		if err := p.seat("c", 1).here(ctx, func(context.Context) {}); err != nil {
			t.Errorf("a single call while none waits: %v", err)
		}
		if err := p.seat("a", 5).take(ctx); !isOverloaded(err) {
			t.Errorf("more than half of the room for one caller: %v", err)
		}
		for range 6 {
			if err := one.onWorker(ctx, func(context.Context) {}); err != nil {
				t.Error(err)
			}
		}
		if err := two.take(ctx); err != nil {
			t.Errorf("after it: %v", err)
		}
		two.leave()
		two.leave()
		large := p.seat("d", 100)
		if err := large.take(ctx); err != nil {
			t.Errorf("the largest call, with nothing else: %v", err)
		}
		large.leave()
		p.empty(t)
	})
}

// A call that is alone runs where it came in, one that waits on a worker, where it
// may panic as well.
func TestPoolWaitsForWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 10, testQueueTime, 1)
		p.start(t)
		where := func(f func()) (worker bool) {
			if err := p.seat("", 1).here(t.Context(), func(context.Context) {
				worker = bytes.Contains(debug.Stack(), []byte("(*task).work"))
				f()
			}); err != nil {
				t.Error(err)
			}
			return worker
		}
		hold := make(chan struct{})
		var calls sync.WaitGroup
		calls.Go(func() {
			if where(func() { <-hold }) {
				t.Error("a call that is alone runs on a worker")
			}
		})
		synctest.Wait()
		calls.Go(func() {
			if !where(func() {}) {
				t.Error("a call that has waited runs where it came in")
			}
		})
		calls.Go(func() {
			panics(t, "broken", func() { where(func() { panic("broken") }) })
		})
		synctest.Wait()
		close(hold)
		calls.Wait()
		p.empty(t)
	})
}

// Who has an evaluation under way that takes long is soon paced in the next one.
func TestPoolSuspects(t *testing.T) {
	t.Parallel()
	p := newPool(2, 10, testQueueTime, 1)
	slow := &turn{pool: p, caller: "runaway"}
	p.running = 1 // its place
	if !slow.yield() {
		t.Fatal("no room for one that takes long")
	}
	if !p.suspects("runaway") || p.suspects("quiet") {
		t.Errorf("beside one that takes long: suspects %v, another caller %v", p.suspects("runaway"), p.suspects("quiet"))
	}
	next := &turn{pool: p, caller: "runaway", suspect: true}
	p.running++
	if got := next.paceAfter(); got != suspectAfter || !next.yield() {
		t.Errorf("paced after %v", got)
	}
	slow.end()
	if p.suspects("runaway") {
		t.Error("what was only suspected makes suspect")
	}
	next.end()
	p.empty(t)
	all := &turn{pool: p}
	p.running++
	if !all.yield() || p.suspects("") {
		t.Error("callers that are not told apart are judged by each other")
	}
	all.end()
	p.empty(t)
}

// What takes long gives its place back, runs in turn with its like, and is refused
// when there is too much of it.
func TestPoolSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(4, 100, testQueueTime, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		var refused atomic.Int64
		slow := func(caller string) {
			calls.Go(func() {
				s := p.seat(caller, 1)
				if _, err := s.enter(ctx); err != nil {
					t.Error(err)
					return
				}
				turn := &turn{pool: p, caller: caller}
				defer turn.end()
				for ctx.Err() == nil {
					if err := turn.pace(ctx); err != nil {
						if !isOverloaded(err) {
							t.Error(err)
						}
						refused.Add(1)
						return
					}
					if len(p.slowTurns) > 1 {
						t.Error("two run at once where one may")
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		half := p.workers * slowPerWorker / 2
		for range half + 1 {
			slow("runaway")
		}
		time.Sleep(10 * time.Millisecond)
		if _, n := p.waits(); n != half || refused.Load() != 1 {
			t.Errorf("%d slow and %d refused, want %d, half of the room, and 1", n, refused.Load(), half)
		}
		for range 4 { // all places are free for others
			if _, err := p.seat("quiet", 1).enter(ctx); err != nil {
				t.Error(err)
			}
		}
		if p.running != 4 {
			t.Errorf("%d run beside the slow ones, want 4", p.running)
		}
		for range 4 {
			p.give()
		}
		cancel()
		calls.Wait()
		p.empty(t)
	})
}

// What arrived counts for a quarter to half of a second, and leaves once.
func TestPoolArrivals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 10, testQueueTime, 1)
		count := func() int { return p.inside.turn(p.epoch(time.Now())) }
		var all []*arrival
		for range 3 {
			a, err := p.arrive(t.Context(), "slow")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		all[0].leave()
		all[0].leave()
		if count() != 2 {
			t.Errorf("%d inside, want 2", count())
		}
		time.Sleep(freshTime)
		all[1].leave()
		if count() != 1 {
			t.Errorf("%d inside in the next interval, want 1", count())
		}
		time.Sleep(freshTime)
		if count() != 0 || p.active != 1 {
			t.Errorf("%d inside of %d callers after that, want none of one", count(), p.active)
		}
		all[2].leave()
		p.empty(t)
	})
}
