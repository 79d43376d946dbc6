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

// While the network is looked at, fewer decisions are let in than there are processors.
func TestPoolLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := newLook()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = l.r.Close(), l.w.Close() }()
		l.seen = make(chan struct{}) // the test tells when it has been looked at
		p := newPool(2, 100, time.Minute, 1)
		p.processors = 1
		p.start(t)
		synctest.Wait()
		p.look = l // whom nobody serves
		ctx := t.Context()
		var calls sync.WaitGroup
		ends := make([]chan struct{}, 6)
		var begun atomic.Int64
		call := func(n int) {
			ends[n] = make(chan struct{})
			calls.Go(func() {
				_ = p.seat("", 1).here(ctx, func(context.Context) { begun.Add(1); <-ends[n] })
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
		for _, end := range ends[3:] {
			time.Sleep(lookAfter)
			close(end)
			synctest.Wait()
			select {
			case l.seen <- struct{}{}:
			default: // nobody waits any more
			}
			synctest.Wait()
		}
		calls.Wait()
		wantBegun(6, "in the end")
		p.empty(t)
	})
}
