package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// entry is one request of a steady load. Times are since the load began.
type entry struct {
	// due is when it was to be sent, sent when it was: later if the server kept
	// all connections busy. Latency counts from due, so that no stall is hidden
	// by the requests that it held back.
	due, sent, done time.Duration
	// revision is what answered; empty if fault says why none did.
	revision string
	fault    string
	// wrong says what is wrong with an answer, whichever revision it is of.
	wrong string
}

// reader takes an answer apart: the revision that gave it, and whether it is all
// of that revision.
type reader func(answer) (revision string, err error)

// question is a request with its answer.
type question struct {
	body  []byte
	allow bool
}

// steadyLoad sends requests at a fixed rate, whatever becomes of those before.
type steadyLoad struct {
	open      opener
	read      reader
	questions []question
	every     time.Duration

	begin time.Time
	next  atomic.Int64
	// end is when the last request is due; stopped is closed when it is known.
	end     atomic.Int64
	stopped chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex
	entries []entry
	closes  []func()
	// awaited is a revision that somebody waits for, since when, and when its
	// first answer to a later request had come.
	awaited string
	since   time.Duration
	seen    time.Duration
}

// startLoad begins the load, on so many connections. finish ends it.
func startLoad(ctx context.Context, open opener, read reader, questions []question, rate float64, conns int) (*steadyLoad, error) {
	l := &steadyLoad{
		open: open, read: read, questions: questions, every: time.Duration(float64(time.Second) / rate),
		stopped: make(chan struct{}),
	}
	l.end.Store(math.MaxInt64)
	callers, closeAll, err := open(ctx, conns)
	if err != nil {
		return nil, err
	}
	l.closes = append(l.closes, closeAll)
	l.begin = time.Now()
	for _, call := range callers {
		l.wg.Go(func() { l.work(ctx, call) })
	}
	return l, nil
}

// now is the time since the load began.
func (l *steadyLoad) now() time.Duration { return time.Since(l.begin) }

// work takes the next request, waits until it is due, and sends it.
func (l *steadyLoad) work(ctx context.Context, call caller) {
	for {
		i := l.next.Add(1) - 1
		e := entry{due: time.Duration(i) * l.every}
		if !l.wait(ctx, e.due) {
			return
		}
		q := &l.questions[i%int64(len(l.questions))]
		e.sent = l.now()
		got, err := call(ctx, q.body)
		e.done = l.now()
		if err != nil {
			e.fault = err.Error()
			call = l.reopen(ctx, call)
		} else {
			e.revision, e.wrong = l.judge(got, q)
		}
		l.add(&e)
	}
}

func (l *steadyLoad) judge(got answer, q *question) (revision, wrong string) {
	revision, err := l.read(got)
	switch {
	case err != nil:
		return revision, err.Error()
	case got.allow != q.allow:
		const most = 600
		return revision, fmt.Sprintf("allow=%v, want %v: %q", got.allow, q.allow, got.text[:min(most, len(got.text))])
	}
	return revision, ""
}

// wait is false if the load ended before. What was due before the end is sent.
func (l *steadyLoad) wait(ctx context.Context, due time.Duration) bool {
	if d := due - l.now(); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.stopped:
		case <-ctx.Done():
		}
	}
	return due < time.Duration(l.end.Load()) && ctx.Err() == nil
}

// reopen replaces a connection that failed, if it can.
func (l *steadyLoad) reopen(ctx context.Context, call caller) caller {
	callers, closeAll, err := l.open(ctx, 1)
	if err != nil {
		return call
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closes = append(l.closes, closeAll)
	return callers[0]
}

func (l *steadyLoad) add(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, *e)
	if e.revision == l.awaited && e.sent >= l.since && (l.seen == 0 || e.done < l.seen) {
		l.seen = e.done
	}
}

// await has the load look for an answer by a revision to a request from now on.
func (l *steadyLoad) await(revision string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaited, l.since, l.seen = revision, l.now(), 0
}

// arrived is when that answer had come, 0 if it has not.
func (l *steadyLoad) arrived() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// finish ends the load and returns what was asked, in order.
func (l *steadyLoad) finish() []entry {
	l.end.Store(int64(l.now()))
	close(l.stopped)
	l.wg.Wait()
	for _, c := range l.closes {
		c()
	}
	slices.SortFunc(l.entries, func(a, b entry) int { return cmp.Compare(a.due, b.due) })
	return l.entries
}

// change is a revision that was asked for, and was live at the latest when the
// server had said so.
type change struct {
	to          string
	asked, live time.Duration
}

// mayAnswer tells whether a request that was under way from sent to done may
// have been answered by the revision: by the last that was live before it was
// sent, or one that was asked for before it was done.
func mayAnswer(changes []change, revision string, sent, done time.Duration) bool {
	for _, c := range slices.Backward(changes) {
		if c.to == revision && c.asked <= done {
			return true
		}
		if c.live <= sent {
			return false
		}
	}
	return false
}

// stretch is a part of a load.
type stretch struct {
	label    string
	from, to time.Duration
	// took is how long the step took that it is about; none for steady load.
	took time.Duration
}

// outcome is what became of the requests that were due in a stretch. Times are
// in microseconds, but took is in milliseconds.
type outcome struct {
	Case     string  `json:"case"`
	Round    int     `json:"round"`
	Phase    string  `json:"phase"`
	Took     float64 `json:"took_ms"`
	Requests uint64  `json:"requests"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	Max      float64 `json:"max_us"`
	RSS      float64 `json:"server_rss_mb"`
	// Peak is the most that RSS has been, Rest what it was before the round's changes.
	Peak float64 `json:"server_peak_mb"`
	Rest float64 `json:"server_rest_mb"`
}

func (s *stretch) outcome(entries []entry) outcome {
	var h histogram
	for i := range entries {
		if e := &entries[i]; e.due >= s.from && e.due < s.to {
			h.add(e.done - e.due)
		}
	}
	return outcome{
		Phase: s.label, Took: float64(s.took.Microseconds()) / 1e3, Requests: h.count,
		P50: h.quantile(0.5), P99: h.quantile(0.99), Max: float64(h.max) / 1e3,
	}
}

// tally is what fails a run.
type tally struct {
	Requests int `json:"requests"`
	// Failed got no answer; Wrong got an answer that is not the expected one, or
	// of parts of two revisions; Stale got one of a revision that was not live.
	Failed int `json:"failed"`
	Wrong  int `json:"wrong"`
	Stale  int `json:"stale"`
	// First describes the first of them.
	First string `json:"first,omitempty"`
}

func (t *tally) add(entries []entry, changes []change) {
	for i := range entries {
		e := &entries[i]
		var text string
		switch {
		case e.fault != "":
			t.Failed++
			text = "no answer: " + e.fault
		case e.wrong != "":
			t.Wrong++
			text = "a wrong answer: " + e.wrong
		case !mayAnswer(changes, e.revision, e.sent, e.done):
			t.Stale++
			text = fmt.Sprintf("revision %q answered a request sent at %s and answered at %s; asked and live were %v", e.revision, e.sent, e.done, changes)
		}
		if text != "" && t.First == "" {
			t.First = text
		}
	}
	t.Requests += len(entries)
}

// merge adds the tally of one round of one case.
func (t *tally) merge(o *tally, label string, round int) {
	t.Requests += o.Requests
	t.Failed += o.Failed
	t.Wrong += o.Wrong
	t.Stale += o.Stale
	if t.First == "" && o.First != "" {
		t.First = fmt.Sprintf("%s, round %d: %s", label, round+1, o.First)
	}
}

func (t *tally) err() error {
	if t.Failed+t.Wrong+t.Stale == 0 {
		return nil
	}
	return fmt.Errorf("of %d requests %d failed, %d were answered wrongly, %d by a revision that was not live; the first: %s",
		t.Requests, t.Failed, t.Wrong, t.Stale, t.First)
}
