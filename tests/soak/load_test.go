package soak_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lateLimit is how late a request may be sent. Beyond it the machine is too busy for
// the load: the request is left out, and counted.
const lateLimit = time.Second

// load is what all clients send, in stretches, and what became of it.
type load struct {
	*timeline
	asks []ask
	// fault reports; what is wrong and what failed is reported ten times at most.
	fault func(format string, args ...any)

	done, leftOut                    atomic.Int64
	allowed, denied, hinted, refused atomic.Int64
	wrong, failed, overloaded        atomic.Int64

	// possible is how many requests a second were found to be possible before each
	// stretch at a pace; paced is how long these were in all.
	possible []float64
	paced    time.Duration
	mu       sync.Mutex
	// took are the times from when a request was due to its answer, in microseconds,
	// where there was a pace.
	took []uint32
}

// stretch is a part of the load.
type stretch struct {
	*load
	// every is the time from one request to the next; 0: each client sends one when
	// it has its answer.
	every  time.Duration
	start  time.Time
	length time.Duration
	next   atomic.Int64
}

// run finds out what is possible, sends a share of that for a while, and so on until
// so much time has gone.
func (l *load) run(ctx context.Context, clients []client, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end) && ctx.Err() == nil; {
		possible := l.calibrate(ctx, clients)
		l.possible = append(l.possible, possible)
		s := &stretch{load: l, every: time.Duration(float64(time.Second) / (share * possible)), length: min(time.Until(end), calibrateEvery)}
		s.run(ctx, clients)
		l.paced += s.length
	}
}

// calibrate lets all clients ask as fast as they can, and returns how many requests a
// second are possible: with care, the lower quartile of the seconds but the first, for
// the machine may be busy elsewhere.
func (l *load) calibrate(ctx context.Context, clients []client) float64 {
	s := &stretch{load: l, length: calibration}
	var perSecond []int64
	var wg sync.WaitGroup
	wg.Go(func() {
		before := l.done.Load()
		for pause(ctx, time.Second) && len(perSecond) < int(calibration/time.Second) {
			now := l.done.Load()
			perSecond = append(perSecond, now-before)
			before = now
		}
	})
	s.run(ctx, clients)
	wg.Wait()
	perSecond = slices.Sorted(slices.Values(perSecond[1:]))
	return float64(max(perSecond[len(perSecond)/4], 1))
}

// run sends what is due, and returns once the last is answered.
func (s *stretch) run(ctx context.Context, clients []client) {
	s.start = time.Now()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			took := s.work(ctx, c)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.took = append(s.took, took...)
		})
	}
	wg.Wait()
}

// work takes the next request, waits until it is due, sends it, and judges the answer.
func (s *stretch) work(ctx context.Context, c client) (took []uint32) {
	for {
		n := s.next.Add(1) - 1
		due := s.start.Add(time.Duration(n) * s.every)
		if s.every == 0 {
			due = time.Now()
		}
		if due.Sub(s.start) >= s.length || !pause(ctx, time.Until(due)) {
			return took
		}
		if time.Since(due) > lateLimit {
			s.leftOut.Add(1)
			continue
		}
		a := &s.asks[n%int64(len(s.asks))]
		sent := time.Now()
		answers, err := c(ctx, a)
		done := time.Now()
		if s.every > 0 {
			took = append(took, uint32(done.Sub(due).Microseconds())) //nolint:gosec // below an hour
		}
		s.count(a, answers, err, sent, done)
	}
}

// count judges the answers to one request.
func (l *load) count(a *ask, answers []answer, err error, sent, done time.Time) {
	l.done.Add(1)
	if err != nil {
		l.report(&l.failed, a, fmt.Errorf("no answer after %s: %w", done.Sub(sent), err))
		return
	}
	if len(answers) == 1 && answers[0].code == "api.overloaded" {
		l.overloaded.Add(1) // report.judge says how many there may be
		return
	}
	if err := a.judge(l.timeline, answers, sent, done); err != nil {
		l.report(&l.wrong, a, err)
		return
	}
	for i := range answers {
		switch got := &answers[i]; {
		case got.code != "":
			l.refused.Add(1)
		case got.Allow:
			l.allowed.Add(1)
		default:
			l.denied.Add(1)
			if got.Hints != "" {
				l.hinted.Add(1)
			}
		}
	}
}

func (l *load) report(n *atomic.Int64, a *ask, err error) {
	if n.Add(1) <= 10 {
		l.fault("%s: %s %s\n%v", time.Now().UTC().Format(time.TimeOnly), a.path, a.body, err)
	}
}
