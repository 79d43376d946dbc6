package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/tests/bench/workload"
)

// What becomes of decisions when there is too much to do: more requests than can
// be decided, one caller that floods, and a policy that never ends for another.
// Every answer is checked; a refusal has to be RESOURCE_EXHAUSTED, and is counted.

const (
	// overloadShare is the load of steady phases, of what can be decided.
	overloadShare = 0.7
	// overloadTimes is the load of the overload, of the same.
	overloadTimes = 5
	// fullFlight is what is in flight to learn what can be decided.
	fullFlight = 8
	// overloadFlight bounds what the generator has in flight.
	overloadFlight = 1024
	// floodFlight is what the caller that floods has, runawayFlight the one whose
	// policy never ends.
	floodFlight, runawayFlight = 256, 8
	// quietRate is how many requests a second the other caller sends.
	quietRate = 300.0
)

// loopPolicy never ends for one action.
const loopPolicy = `package authz

permit["loop"] := {} if {
	input.action.name == "loop"
	every i in numbers.range(1, 10000) {
		every j in numbers.range(1, 10000) {
			i + j > 0
		}
	}
}
`

// workPolicy never holds, and looks at so many numbers to know: a decision as it is
// where policy goes through the rows of something.
const workPolicy = `package authz

forbid["worked"] := {} if {
	input.action.name != "loop"
	count([i | some i in numbers.range(1, %[1]d); i %% 7 == 0]) > %[1]d
}
`

// flow is a load of one phase and what became of it.
type flow struct {
	done, refused atomic.Uint64
	took          time.Duration
	// busy is how many processors the server kept busy.
	busy float64
	mu   sync.Mutex
	// since is the time since a request was due, sent since it was sent.
	since, sent histogram
	err         error
}

func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// note takes one answer, so long after its request was due, and sent.
func (f *flow) note(i int, c *benchCase, w *workload.Workload, got answer, err error, since, sent time.Duration) bool {
	switch {
	case status.Code(err) == codes.ResourceExhausted:
		f.refused.Add(1)
	case err != nil:
		f.fail(fmt.Errorf("request %d: %w", i, err))
		return false
	case got.allow != c.answer(w, i):
		f.fail(fmt.Errorf("under load %w", got.wrong(i, w.Requests[i].Query)))
		return false
	default:
		f.done.Add(1)
		f.mu.Lock()
		f.since.add(since)
		f.sent.add(sent)
		f.mu.Unlock()
	}
	return true
}

// open sends at a rate, for so long, whatever becomes of those before. What is due in
// the first of it, for cfg.warm, is checked and counts for nothing else. Latency counts
// from when a request was due.
func (o *overload) open(ctx context.Context, c *benchCase, rate float64, flight int) (*flow, error) {
	callers, closeAll, err := c.open(ctx, flight)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	f, early := &flow{}, &flow{}
	var next atomic.Int64
	every := time.Duration(float64(time.Second) / rate)
	begin := time.Now()
	used, _ := c.usage()
	var wg sync.WaitGroup
	for _, call := range callers {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				due := begin.Add(time.Duration(n) * every)
				if due.Sub(begin) >= o.cfg.warm+o.cfg.secs || ctx.Err() != nil {
					return
				}
				if d := time.Until(due); d > 0 {
					time.Sleep(d)
				}
				i := int(n) % len(c.bodies)
				sent := time.Now()
				got, err := call(ctx, c.bodies[i])
				to := f
				if due.Sub(begin) < o.cfg.warm {
					to = early
				}
				if !to.note(i, c, o.w, got, err, time.Since(due), time.Since(sent)) {
					return
				}
			}
		})
	}
	wg.Wait()
	usedNow, _ := c.usage()
	f.busy = (usedNow - used).Seconds() / time.Since(begin).Seconds()
	f.took = time.Since(begin) - o.cfg.warm
	return f, errors.Join(early.err, f.err)
}

// overload is one run.
type overload struct {
	cfg config
	w   *workload.Workload
	// quiet is the caller that is measured, among others by their keys.
	quiet benchCase
	addr  string
	keys  map[string]string
}

func runOverload(ctx context.Context, cfg config, cpus cpuPlan, out, progress io.Writer) error {
	w, err := workload.New()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "authzd-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the workload: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder, nothing to lose
	o := &overload{cfg: cfg, w: w}
	s, err := o.start(ctx, cpus, dir)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := agree(ctx, &o.quiet, w); err != nil {
		return err
	}
	var rows []overloadRow
	for round := range cfg.rounds {
		row, err := o.round(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, row)
		_, _ = fmt.Fprintf(progress, "round %d of %d: %+v\n", round+1, cfg.rounds, row)
	}
	return writeOverload(out, rows, cpus)
}

// start serves the workload and the policy that loops to three callers.
func (o *overload) start(ctx context.Context, cpus cpuPlan, dir string) (*server, error) {
	bundle := filepath.Join(dir, "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the workload: %w", err)
	}
	if err := o.w.WriteBundle(bundle); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "loop.rego"), []byte(loopPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("write the policy that loops: %w", err)
	}
	if o.cfg.work > 0 {
		if err := os.WriteFile(filepath.Join(bundle, "work.rego"), fmt.Appendf(nil, workPolicy, o.cfg.work), 0o600); err != nil {
			return nil, fmt.Errorf("write the policy that has much to look at: %w", err)
		}
	}
	authzd, keysFile := filepath.Join(o.cfg.bin, "authzd"), filepath.Join(dir, "keys")
	keys := map[string]string{}
	for _, name := range []string{"quiet", "noisy", "looping"} {
		key, err := exec.CommandContext(ctx, authzd, "keys", "create", name, "--rights", "check,assert", "--keys-file", keysFile).Output()
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		keys[name] = strings.TrimSpace(string(key))
	}
	s, err := startReady(ctx, cpus, o.cfg.authzdGOGC, authzd, "serve", "--evaluator", o.cfg.evaluator, "--bundle", "bench="+bundle,
		"--keys-file", keysFile, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	bodies, err := questions("")
	if err != nil {
		s.stop()
		return nil, err
	}
	o.addr, o.keys = s.grpc, keys
	o.quiet = benchCase{label: "quiet", bodies: bodies, open: withKey(grpcOpener(s.grpc), keys["quiet"]), usage: s.usage}
	return s, nil
}

// withKey has calls made by the caller of a key.
func withKey(open opener, key string) opener {
	return func(ctx context.Context, n int) ([]caller, func(), error) {
		callers, closeAll, err := open(ctx, n)
		for i, call := range callers {
			callers[i] = func(ctx context.Context, body []byte) (answer, error) {
				return call(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), body)
			}
		}
		return callers, closeAll, err
	}
}

// overloadRow is one round. Rates are by second, times in microseconds.
type overloadRow struct {
	capacity, steadyP99           float64
	offered, goodput, acceptedP99 float64
	// sentP99 is acceptedP99 without what waited in the generator.
	sentP99                float64
	aloneP99, floodedP99   float64
	halfP99, besideLoopP99 float64
	// steadyBusy and halfBusy are how many processors the server kept busy.
	steadyBusy, halfBusy float64
	// refused is the part that is refused outside of the overload, on average over its
	// five phases, steadyRefused the part at 70 % load.
	refused, steadyRefused float64
}

func (o *overload) round(ctx context.Context) (row overloadRow, err error) {
	full, err := measure(ctx, &o.quiet, o.w, fullFlight, o.cfg)
	if err != nil {
		return row, err
	}
	row.capacity = full.RPS
	var busy float64
	p99 := func(rate float64, flight int) float64 {
		if err != nil {
			return 0
		}
		var f *flow
		if f, err = o.open(ctx, &o.quiet, rate, flight); err != nil {
			return 0
		}
		busy = f.busy
		row.refused += float64(f.refused.Load()) / float64(f.refused.Load()+f.done.Load()) / 5
		return f.since.quantile(0.99)
	}
	row.steadyP99 = p99(overloadShare*row.capacity, overloadFlight)
	if err != nil {
		return row, err
	}
	row.steadyBusy, row.steadyRefused = busy, 5*row.refused
	f, err := o.open(ctx, &o.quiet, overloadTimes*row.capacity, overloadFlight)
	if err != nil {
		return row, err
	}
	row.goodput = float64(f.done.Load()) / f.took.Seconds()
	row.offered = float64(f.done.Load()+f.refused.Load()) / f.took.Seconds()
	row.acceptedP99, row.sentP99 = f.since.quantile(0.99), f.sent.quantile(0.99)
	row.aloneP99 = p99(quietRate, 64)
	for _, beside := range []struct {
		by, what string
		flight   int
		rate     float64
		p99      *float64
	}{{"noisy", "", floodFlight, quietRate, &row.floodedP99}, {"looping", loopQuestion, runawayFlight, row.capacity / 2, &row.besideLoopP99}} {
		if beside.what == loopQuestion {
			row.halfP99 = p99(beside.rate, overloadFlight)
			row.halfBusy = busy
		}
		if err != nil {
			return row, err
		}
		end, startErr := floodAs(ctx, o.addr, o.keys[beside.by], beside.flight, beside.what)
		if startErr != nil {
			return row, startErr
		}
		pause(ctx, o.cfg.warm)
		*beside.p99 = p99(beside.rate, overloadFlight)
		if err := end(); err != nil {
			return row, err
		}
	}
	return row, err
}

// writeOverload prints each figure as least, median and greatest of the rounds.
func writeOverload(out io.Writer, rows []overloadRow, cpus cpuPlan) error {
	cell := func(f func(overloadRow) float64) string {
		var v []float64
		for _, r := range rows {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return fmt.Sprintf("%.2f / %.2f / %.2f", v[0], v[len(v)/2], v[len(v)-1])
	}
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "machine: %s; %d rounds; min / median / max\n\n| what | measured |\n|---|---|\n", cpus, len(rows))
	for _, line := range []struct {
		what string
		f    func(overloadRow) float64
	}{
		{"requests per second that can be decided", func(r overloadRow) float64 { return r.capacity }},
		{"requests per second that were sent under overload", func(r overloadRow) float64 { return r.offered }},
		{"of what can be decided", func(r overloadRow) float64 { return r.offered / r.capacity }},
		{"goodput of accepted requests against capacity", func(r overloadRow) float64 { return r.goodput / r.capacity }},
		{"p99 at 70 % load, µs", func(r overloadRow) float64 { return r.steadyP99 }},
		{"processors that the server kept busy at 70 % load", func(r overloadRow) float64 { return r.steadyBusy }},
		{"refused at 70 % load, %", func(r overloadRow) float64 { return 100 * r.steadyRefused }},
		{"p99 of accepted requests against that", func(r overloadRow) float64 { return r.acceptedP99 / r.steadyP99 }},
		{"the same since they were sent", func(r overloadRow) float64 { return r.sentP99 / r.steadyP99 }},
		{"p99 of a caller alone, 300 requests a second, µs", func(r overloadRow) float64 { return r.aloneP99 }},
		{"beside one that floods, against that", func(r overloadRow) float64 { return r.floodedP99 / r.aloneP99 }},
		{"refused in the other phases, %", func(r overloadRow) float64 { return 100 * r.refused }},
		{"p99 at 50 % load, µs", func(r overloadRow) float64 { return r.halfP99 }},
		{"processors that the server kept busy at 50 % load", func(r overloadRow) float64 { return r.halfBusy }},
		{"beside a policy that never ends, against that", func(r overloadRow) float64 { return r.besideLoopP99 / r.halfP99 }},
	} {
		_, _ = fmt.Fprintf(&text, "| %s | %s |\n", line.what, cell(line.f))
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
