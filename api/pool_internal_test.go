package api

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var workers sync.WaitGroup
		workers.Go(func() { p.serve(ctx) })

		hold := make(chan struct{})
		var running, most atomic.Int64
		work := func() {
			most.Store(max(most.Load(), running.Add(1)))
			<-hold
			running.Add(-1)
		}
		var calls sync.WaitGroup
		// One of each kind takes a place, a third waits, a fourth is refused.
		calls.Go(func() { _ = p.here(ctx, work) })
		calls.Go(func() { _ = p.onWorker(ctx, work) })
		synctest.Wait()
		calls.Go(func() { _ = p.onWorker(ctx, work) })
		synctest.Wait()
		if p.waiting() != 1 || running.Load() != 2 {
			t.Errorf("%d wait and %d run, want 1 and 2", p.waiting(), running.Load())
		}
		for _, call := range []func(context.Context, func()) error{p.here, p.onWorker} {
			var full *Error
			if err := call(ctx, func() { t.Error("ran") }); !errors.As(err, &full) || full.Code != CodeOverloaded {
				t.Errorf("a fourth: %v", err)
			}
		}
		close(hold)
		calls.Wait()
		if most.Load() != 2 || p.admitted.Load() != 0 || p.waiting() != 0 {
			t.Errorf("most at once %d, left behind %d", most.Load(), p.admitted.Load())
		}
		cancel()
		workers.Wait()
	})
}

// A call that waits in vain goes with its own deadline and never runs.
func TestPoolDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 4)
		base, cancel := context.WithCancel(t.Context())
		defer cancel()
		var workers sync.WaitGroup
		workers.Go(func() { p.serve(base) })
		hold := make(chan struct{})
		var calls sync.WaitGroup
		calls.Go(func() { _ = p.here(base, func() { <-hold }) })
		synctest.Wait()
		for _, call := range []func(context.Context, func()) error{p.here, p.onWorker} {
			ctx, stop := context.WithTimeout(base, time.Second)
			if err := call(ctx, func() { t.Error("ran after its deadline") }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("in vain: %v", err)
			}
			stop()
		}
		close(hold)
		calls.Wait()
		cancel()
		workers.Wait()
	})
}

// A panic on a worker reaches the caller, and the worker lives on.
func TestPoolPanic(t *testing.T) {
	t.Parallel()
	p := newPool(1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var workers sync.WaitGroup
	workers.Go(func() { p.serve(ctx) })
	for range 3 {
		func() {
			defer func() {
				v, ok := recover().(*panicked)
				if !ok || v.value != "boom" || len(v.stack) == 0 {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = p.onWorker(ctx, func() { panic("boom") })
			t.Error("the panic was swallowed")
		}()
	}
	if err := p.onWorker(ctx, func() {}); err != nil || p.admitted.Load() != 0 || len(p.places) != 0 {
		t.Errorf("after panics: %v, %d admitted, %d places", err, p.admitted.Load(), len(p.places))
	}
	cancel()
	workers.Wait()
}
