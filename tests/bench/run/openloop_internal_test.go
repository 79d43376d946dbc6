package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// taking opens callers that take their time, as the clock of the test has it.
func taking(takes func(i int64) (time.Duration, error)) opener {
	var count atomic.Int64
	return func(_ context.Context, n int) ([]caller, func(), error) {
		callers := make([]caller, n)
		for i := range callers {
			callers[i] = func(ctx context.Context, _ []byte) (answer, error) {
				d, err := takes(count.Add(1) - 1)
				pause(ctx, d)
				return answer{allow: true, text: []byte("r0")}, err
			}
		}
		return callers, func() {}, nil
	}
}

func readText(a answer) (string, error) { return string(a.text), nil }

// TestOpenLoop: requests are due at a fixed rate, and a stall counts for all that
// were due during it, also those that it kept from being sent.
func TestOpenLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const stalled = 100 // this request and its neighbour take half a second
		open := taking(func(i int64) (time.Duration, error) {
			if i == stalled || i == stalled+1 {
				return 500 * time.Millisecond, nil
			}
			return time.Microsecond, nil
		})
		l, err := startLoad(t.Context(), open, readText, []question{{allow: true}}, 100, 2)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Second + time.Millisecond)
		entries := l.finish()
		if len(entries) != 301 {
			t.Fatalf("%d requests, want 301: one each 10 ms, the last at 3 s", len(entries))
		}
		late := 0
		for i, e := range entries {
			if e.due != time.Duration(i)*10*time.Millisecond || e.sent < e.due || e.done < e.sent || e.fault != "" || e.wrong != "" || e.revision != "r0" {
				t.Fatalf("request %d: %+v", i, e)
			}
			if e.done-e.due > time.Millisecond {
				late++
			}
		}
		// Two connections are busy from 1.00 and 1.01 s until 1.50 and 1.51 s.
		if late != 50 {
			t.Errorf("%d requests were late, want the 50 that were due in half a second", late)
		}
		s := stretch{label: "x", from: time.Second, to: 2 * time.Second}
		if o := s.outcome(entries); o.Requests != 100 || o.P50 > 50e3 || o.P99 < 490e3 || o.Max < 500e3 {
			t.Errorf("%+v", o)
		}
	})
}

// TestOpenLoopAtTheEnd: what was due before the end is sent, though late.
func TestOpenLoopAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := taking(func(int64) (time.Duration, error) { return 100 * time.Millisecond, nil })
		l, err := startLoad(t.Context(), open, readText, []question{{allow: true}}, 100, 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second - time.Millisecond)
		if got := len(l.finish()); got != 100 {
			t.Errorf("%d requests, want 100", got)
		}
	})
}

func TestOpenLoopFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := taking(func(i int64) (time.Duration, error) {
			if i == 5 {
				return 0, errors.New("refused")
			}
			return 0, nil
		})
		l, err := startLoad(t.Context(), open, readText, []question{{allow: true}, {allow: true}, {allow: false}}, 100, 4)
		if err != nil {
			t.Fatal(err)
		}
		l.await("r0")
		time.Sleep(89 * time.Millisecond)
		if l.arrived() == 0 {
			t.Error("no answer of r0 arrived")
		}
		var got tally
		got.add(l.finish(), []change{{to: "r0"}})
		if got.Requests != 9 || got.Failed != 1 || got.Wrong < 2 || got.Stale != 0 || got.err() == nil {
			t.Errorf("%+v", got)
		}
	})
}

func TestMayAnswer(t *testing.T) {
	t.Parallel()
	changes := []change{{to: "r0"}, {to: "r1", asked: 10, live: 20}, {to: "r0", asked: 30, live: 40}}
	for _, c := range []struct {
		sent, done time.Duration
		want       string
	}{
		{0, 9, "r0"},
		{0, 10, "r0 r1"},  // asked for before the answer
		{19, 25, "r0 r1"}, // sent before the answer to the activation
		{20, 25, "r1"},
		{20, 30, "r0 r1"},
		{35, 39, "r0 r1"},
		{40, 50, "r0"},
		{5, 50, "r0 r1"},
	} {
		var got []string
		for _, revision := range []string{"r0", "r1", "r2", ""} {
			if mayAnswer(changes, revision, c.sent, c.done) {
				got = append(got, revision)
			}
		}
		if diff := cmp.Diff(strings.Fields(c.want), got); diff != "" {
			t.Errorf("sent at %d, done at %d: %s", c.sent, c.done, diff)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	changes := []change{{to: "r0"}, {to: "r1", asked: 10, live: 20}}
	var all tally
	for _, e := range []entry{
		{sent: 1, done: 2, revision: "r0"},
		{sent: 21, done: 22, revision: "r0"},
		{sent: 1, done: 2, revision: "r1"},
		{sent: 1, done: 2, fault: "refused"},
		{sent: 1, done: 2, revision: "r0", wrong: "denied"},
	} {
		var one tally
		one.add([]entry{e}, changes)
		if bad := one.Failed + one.Wrong + one.Stale; (one.err() != nil) != (bad > 0) || (bad > 0) != (one.First != "") {
			t.Errorf("%+v: %+v", e, one)
		}
		all.merge(&one, "x", 0)
	}
	want := tally{Requests: 5, Failed: 1, Wrong: 1, Stale: 2, First: all.First}
	if diff := cmp.Diff(want, all); diff != "" || !strings.HasPrefix(all.First, `x, round 1: revision "r0"`) {
		t.Errorf("%s\n%s", diff, all.First)
	}
}
