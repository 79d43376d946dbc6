package api

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPoolHot: while more comes than can be decided, for longer than a burst, the line is
// short; and it is long again after that. Callers that wait for their answers are many,
// and no such load.
func TestPoolHot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const each = time.Millisecond
		p := newPool(1, 1000, 100*time.Millisecond, 1)
		p.start(t)
		var calls sync.WaitGroup
		var refused atomic.Int64
		call := func(longest *atomic.Int64) {
			came := time.Now()
			a, err := p.arrive(t.Context(), "")
			defer a.leave()
			if err == nil {
				err = p.seat("", 1).here(t.Context(), func(context.Context) { time.Sleep(each) })
			}
			if isOverloaded(err) {
				refused.Add(1)
				return
			}
			longest.Store(max(longest.Load(), int64(time.Since(came))))
		}
		var waiting atomic.Int64
		for range 60 { // wait for 60 ms
			calls.Go(func() {
				for range 10 {
					call(&waiting)
				}
			})
		}
		calls.Wait()
		if refused.Load() != 0 || time.Duration(waiting.Load()) < 50*each {
			t.Errorf("of callers that wait %d were refused, the longest wait was %s", refused.Load(), time.Duration(waiting.Load()))
		}
		var early, late atomic.Int64
		for i := range 5000 { // five times what can be decided, for a second
			longest := &early
			if i > 2500 {
				longest = &late
			}
			calls.Go(func() { call(longest) })
			time.Sleep(each / 5)
		}
		calls.Wait()
		if d := time.Duration(early.Load()); d < 50*each {
			t.Errorf("no burst is let in: the longest wait was %s", d)
		}
		if d := time.Duration(late.Load()); d > 15*each {
			t.Errorf("under lasting overload the longest wait was %s", d)
		}
		if refused.Load() < 3500 {
			t.Errorf("%d refused of 5000", refused.Load())
		}
		time.Sleep(2 * countTime)
		refused.Store(0)
		for range 60 {
			calls.Go(func() { call(&waiting) })
		}
		calls.Wait()
		if refused.Load() != 0 {
			t.Errorf("%d refused when it is over", refused.Load())
		}
		p.empty(t)
	})
}

// What comes at once after a standstill has the whole queue time: it comes once.
func TestPoolHotAfterStandstill(t *testing.T) {
	t.Parallel()
	for name, verifying := range map[string]bool{"": false, "with credentials to verify": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { hotAfterStandstill(t, verifying) })
		})
	}
}

// hotAfterStandstill: calls take their seats before they wait for a place, or not.
func hotAfterStandstill(t *testing.T, takes bool) {
	t.Helper()
	const each = time.Millisecond
	p := newPool(1, 1000, 100*time.Millisecond, 1)
	p.start(t)
	var calls sync.WaitGroup
	var refused atomic.Int64
	call := func() {
		calls.Go(func() {
			a, err := p.arrive(t.Context(), "")
			defer a.leave()
			at := p.seat("", 1)
			defer at.leave()
			if err == nil && takes {
				err = at.take(t.Context())
			}
			if err == nil {
				err = at.here(t.Context(), func(context.Context) { time.Sleep(each) })
			}
			if isOverloaded(err) {
				refused.Add(1)
			}
		})
	}
	steady := func() { // seven tenths of what can be decided, for a second
		for range 700 {
			call()
			time.Sleep(10 * each / 7)
		}
	}
	steady()
	if n := refused.Load(); n != 0 {
		t.Errorf("%d refused at 70 %% load", n)
	}
	for range 150 {
		call()
	}
	steady()
	// Those that come within the next 50 ms would wait longer than 100 ms.
	if n := refused.Load(); n < 30 || n > 40 {
		t.Errorf("%d were refused after 150 came at once, want 35", n)
	}
	calls.Wait()
	p.empty(t)
}

func TestPoolOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 10, testQueueTime, 1)
		come := func(caller string) {
			a, err := p.arrive(t.Context(), caller)
			if err != nil {
				t.Fatal(err)
			}
			a.leave()
		}
		check := func(of string, want bool) {
			t.Helper()
			if p.others(of) != want {
				t.Errorf("others than %s: %t", of, !want)
			}
		}
		come("flood")
		come("flood")
		check("flood", false)
		come("quiet")
		for range 3 {
			come("flood")
		}
		check("flood", true)
		check("quiet", true)
		time.Sleep(2 * time.Second)
		come("flood")
		check("flood", false)
		check("quiet", true)
	})
}

// What is refused because the queue is full has come, too.
func TestPoolCountsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1, time.Second, 1)
		p.start(t)
		p.counted = time.Now()
		hold := make(chan struct{})
		var calls sync.WaitGroup
		for range 2 { // one that is decided, and all that may wait
			calls.Go(func() { _ = p.seat("", 1).here(t.Context(), func(context.Context) { <-hold }) })
			synctest.Wait()
		}
		for range 3 {
			a, err := p.arrive(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if at := p.seat("", 5); !isOverloaded(at.take(t.Context())) {
				t.Error("more wait than may")
			}
			a.leave()
		}
		if p.came != 15 {
			t.Errorf("%d have come in three batches of five", p.came)
		}
		close(hold)
		calls.Wait()
		if p.went != 2 {
			t.Errorf("%d were decided, want 2", p.went)
		}
		p.empty(t)
	})
}
