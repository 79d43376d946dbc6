package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// benchCase is one door of one server.
type benchCase struct {
	label  string
	bodies [][]byte
	// want are the answers; nil: the workload's.
	want []bool
	open opener
	// usage is the server's processor time so far, and its memory in MB.
	usage func() (time.Duration, float64)
}

// answer is what request i must be answered.
func (c *benchCase) answer(w *workload.Workload, i int) bool {
	if c.want != nil {
		return c.want[i]
	}
	return w.Requests[i].Allow
}

// opener makes n callers; close ends their connections.
type opener func(ctx context.Context, n int) (callers []caller, closeAll func(), err error)

// caller sends one request and reads the answer. It serves one goroutine.
type caller func(ctx context.Context, body []byte) (answer, error)

// answer is what a door said. Its text is overwritten by the next call.
type answer struct {
	allow bool
	text  []byte
}

// wrong words an answer that differs from the one worked out by hand.
func (a answer) wrong(i int, query []byte) error {
	const most = 600
	return fmt.Errorf("request %d is answered allow=%v:\n%s\n%q", i, a.allow, query, a.text[:min(most, len(a.text))])
}

// agree sends every request once and compares the answer.
func agree(ctx context.Context, c *benchCase, w *workload.Workload) error {
	callers, closeAll, err := c.open(ctx, 1)
	if err != nil {
		return fmt.Errorf("%s: %w", c.label, err)
	}
	defer closeAll()
	for i, body := range c.bodies {
		got, err := callers[0](ctx, body)
		if err != nil {
			return fmt.Errorf("%s: request %d: %w", c.label, i, err)
		}
		if got.allow != c.answer(w, i) {
			return fmt.Errorf("%s: %w", c.label, got.wrong(i, w.Requests[i].Query))
		}
	}
	return nil
}

// sample is one measurement. Times are in microseconds.
type sample struct {
	Case      string  `json:"case"`
	Round     int     `json:"round"`
	InFlight  int     `json:"in_flight"`
	Requests  uint64  `json:"requests"`
	RPS       float64 `json:"requests_per_second"`
	ServerCPU float64 `json:"server_cpu_us"`
	ClientCPU float64 `json:"client_cpu_us"`
	ServerRSS float64 `json:"server_rss_mb"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Max       float64 `json:"max_us"`
}

// phase of a measurement, read by every worker.
const (
	warming = iota
	measuring
	stopped
)

// load is the state that the workers of one measurement share.
type load struct {
	c     *benchCase
	w     *workload.Workload
	phase atomic.Int32
	next  atomic.Uint64
}

// measure keeps n requests in flight, the workload's in turn, and checks every
// answer.
func measure(ctx context.Context, c *benchCase, w *workload.Workload, n int, cfg config) (sample, error) {
	// No call outlives its measurement: a server that hangs is an error.
	ctx, cancel := context.WithTimeout(ctx, cfg.warm+cfg.secs+5*time.Second)
	defer cancel()
	callers, closeAll, err := c.open(ctx, n)
	if err != nil {
		return sample{}, err
	}
	defer closeAll()
	l := &load{c: c, w: w}
	hists, errs := make([]histogram, n), make([]error, n)
	var wg sync.WaitGroup
	for i, call := range callers {
		wg.Go(func() {
			errs[i] = l.work(ctx, call, &hists[i])
		})
	}
	pause(ctx, cfg.warm)
	server0, _ := c.usage()
	client0, _ := processUsage(os.Getpid())
	start := time.Now()
	l.phase.Store(measuring)
	pause(ctx, cfg.secs)
	l.phase.Store(stopped)
	elapsed := time.Since(start)
	server1, rss := c.usage()
	client1, _ := processUsage(os.Getpid())
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	var h histogram
	for i := range hists {
		h.merge(&hists[i])
	}
	if h.count == 0 {
		return sample{}, errors.New("no request was answered in time")
	}
	perRequest := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(h.count) }
	return sample{
		Case: c.label, InFlight: n, Requests: h.count, RPS: float64(h.count) / elapsed.Seconds(),
		ServerCPU: perRequest(server1 - server0), ClientCPU: perRequest(client1 - client0), ServerRSS: rss,
		P50: h.quantile(0.5), P99: h.quantile(0.99), P999: h.quantile(0.999), Max: float64(h.max) / 1e3,
	}, nil
}

func (l *load) work(ctx context.Context, call caller, h *histogram) error {
	for l.phase.Load() != stopped {
		i := int(l.next.Add(1)-1) % len(l.c.bodies) //nolint:gosec // a counter of requests, far below the limit
		start := time.Now()
		got, err := call(ctx, l.c.bodies[i])
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		if got.allow != l.c.answer(l.w, i) {
			return fmt.Errorf("under load %w", got.wrong(i, l.w.Requests[i].Query))
		}
		if l.phase.Load() == measuring {
			h.add(time.Since(start))
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
