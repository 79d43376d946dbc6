package api

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLook: whoever has the network looked at gets an answer, also when it has ended.
func TestLook(t *testing.T) {
	t.Parallel()
	l, err := newLook()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.serve(ctx) }()
	for range 3 {
		l.around()
	}
	stop()
	<-ended
	l.around()
}

// lookFor is a look of which the test tells when it has been.
func lookFor(t *testing.T) *look {
	t.Helper()
	l, err := newLook()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.r.Close(), l.w.Close() })
	l.seen = make(chan struct{}) // nobody reads the pipe
	return l
}

// startLookout has p look, until stop.
func (p *pool) startLookout(t *testing.T) (stop func()) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	var lookout sync.WaitGroup
	lookout.Go(func() { p.lookout(ctx, p.look) })
	synctest.Wait()
	return func() { end(); lookout.Wait() }
}

// A look that takes long stops all goroutines, now and again with rests that are longer by
// far; and nobody looks once the server has ended.
func TestLookLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lookFor(t)
		var stops atomic.Int64
		l.stop = func() { stops.Add(1); time.Sleep(lookLate) }
		p := newPool(1, 10, time.Minute, 1)
		p.look, p.waiting = l, 1
		if p.lookAround() {
			t.Error("a place was left to nobody")
		}
		stop := p.startLookout(t)
		p.running, p.waiting = 1, 1
		began := time.Now()
		if !p.lookAround() || p.lookAround() {
			t.Error("the network is not looked at once")
		}
		p.waiting = 0
		time.Sleep(3 * lookLate) // one until it is late, one for the stop, and one of the rest
		l.seen <- struct{}{}
		synctest.Wait()
		if p.running != 0 || p.looking || p.looked.Sub(began) != 3*lookLate || stops.Load() != 1 {
			t.Errorf("%d places, looking %t, looked after %s, %d stops", p.running, p.looking, p.looked.Sub(began), stops.Load())
		}
		p.running, p.looked = 1, time.Time{}
		if p.waiting = 1; !p.lookAround() {
			t.Error("the network is not looked at again")
		}
		p.waiting = 0
		time.Sleep((stopRest - 2) * lookLate)
		if n := stops.Load(); n != 1 {
			t.Errorf("%d stops within the rest of the first", n)
		}
		time.Sleep(2 * lookLate)
		l.seen <- struct{}{}
		synctest.Wait()
		if n := stops.Load(); n != 2 {
			t.Errorf("%d stops, want 2", n)
		}
		p.waiting = 1
		if p.lookAround() {
			t.Error("looks again so soon")
		}
		stop()
		time.Sleep(lookAfter)
		if p.lookAround() {
			t.Error("a place was left to one that has ended")
		}
	})
}

// While the network is looked at, fewer decisions are let in than there are processors.
func TestPoolLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lookFor(t)
		p := newPool(2, 100, time.Minute, 1)
		p.processors = 1
		p.start(t)
		synctest.Wait()
		p.look = l
		stop := p.startLookout(t)
		var calls sync.WaitGroup
		ends := make([]chan struct{}, 6)
		var begun, left atomic.Int64
		call := func(n int) {
			ends[n] = make(chan struct{})
			calls.Go(func() {
				_ = p.seat("", 1).here(t.Context(), func(context.Context) { begun.Add(1); <-ends[n] })
				left.Add(1)
			})
			synctest.Wait()
		}
		for n := range 5 {
			call(n)
		}
		wantBegun := func(want int64, when string) {
			t.Helper()
			if got := begun.Load(); got != want {
				t.Errorf("%s %d have begun, want %d", when, got, want)
			}
		}
		wantBegun(2, "with two places")
		close(ends[0])
		synctest.Wait()
		if left.Load() != 1 {
			t.Error("a call waits for the network to be looked at")
		}
		wantBegun(2, "while it is looked at, and the other one decides")
		close(ends[1])
		synctest.Wait()
		wantBegun(2, "while it is looked at")
		call(5)
		wantBegun(2, "one that comes while it is looked at:")
		l.seen <- struct{}{}
		synctest.Wait()
		wantBegun(4, "once it has been looked at")
		close(ends[2])
		synctest.Wait()
		wantBegun(5, "so soon after that it is not looked at again")
		looks := 0
		for _, end := range ends[3:] {
			time.Sleep(lookAfter)
			close(end)
			synctest.Wait()
			select {
			case l.seen <- struct{}{}:
				looks++
			default: // nobody waits any more
			}
			synctest.Wait()
		}
		if looks != 1 {
			t.Errorf("the network is looked at %d times more, want once: while a call waits", looks)
		}
		calls.Wait()
		wantBegun(6, "in the end")
		stop()
		p.empty(t)
	})
}
