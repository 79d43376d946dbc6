package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// What the activation of a bundle of many rules costs those who ask meanwhile.
// Requests are sent at a fixed rate; a new revision is pushed to authzd, then
// activated, then rolled back. OPA, under the same load, is given a new revision
// by a bundle server here, which has it wait for one (long polling), and then the
// old one again. Every answer must be right, all of one revision, and of one that
// may be live at that time.

const bundlesFlag = "-bundles"

// Goals, which the report holds the figures against; no run fails on them.
const (
	goalRatio    = 1.5
	goalRollback = 200 * time.Millisecond
)

// Names of the cases in -cases.
const (
	caseGRPC = "grpc"
	caseREST = "rest"
	caseOPA  = "opa"
)

// bundlesConfig is what the flags say.
type bundlesConfig struct {
	rounds, rules, conns     int
	rows                     int
	evaluator                string
	dataMB, rate             float64
	secs, warm, after, limit time.Duration
	cases                    []string
	jsonFile, bin, pinned    string
	authzdGOGC, opaGOGC      string
	unpinned                 bool
}

func parseBundlesFlags(args []string) (bundlesConfig, error) {
	var cfg bundlesConfig
	var cases string
	f := flag.NewFlagSet("run "+bundlesFlag, flag.ContinueOnError)
	f.Bool("bundles", true, "measure the activation of a bundle under load")
	f.IntVar(&cfg.rounds, "rounds", 5, "rounds; each activates and rolls back once in every case")
	f.IntVar(&cfg.rules, "rules", 10_000, "rules of the bundle")
	f.IntVar(&cfg.rows, "rows", 0, "instead of many rules: one, over so many rows of data")
	f.StringVar(&cfg.evaluator, "evaluator", "", "evaluator of authzd; empty: as shipped")
	f.Float64Var(&cfg.dataMB, "data", 1, "megabytes of data in the bundle")
	f.Float64Var(&cfg.rate, "rate", 500, "requests a second, sent when they are due whatever became of those before")
	f.IntVar(&cfg.conns, "conns", 64, "requests in flight at most; further ones wait, and their latency counts from when they were due")
	f.DurationVar(&cfg.secs, "secs", 5*time.Second, "steady load measured before each activation")
	f.DurationVar(&cfg.warm, "warm", time.Second, "load before that")
	f.DurationVar(&cfg.after, "after", time.Second, "load measured after each step, as part of it")
	f.DurationVar(&cfg.limit, "limit", 2*time.Minute, "longest time for one step")
	f.StringVar(&cases, "cases", "grpc,rest,opa", "what to measure: authzd over grpc, over rest, opa; a list")
	f.StringVar(&cfg.jsonFile, "json", "", "write every sample to this file too")
	f.StringVar(&cfg.bin, "bin", ".bin", "where authzd and opa are")
	f.StringVar(&cfg.authzdGOGC, "authzd-gogc", "", "GOGC for authzd; empty: as shipped")
	f.StringVar(&cfg.opaGOGC, "opa-gogc", "", "GOGC for OPA; empty: as shipped")
	f.BoolVar(&cfg.unpinned, "unpinned", false, "let servers and generator share all cores, instead of a core for each")
	f.StringVar(&cfg.pinned, "pinned", "", "set by the program itself when it has been pinned")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	cfg.cases = strings.Split(cases, ",")
	return cfg, cfg.validate()
}

func (c *bundlesConfig) validate() error {
	var errs []error
	// Written so that not-a-number is refused too.
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.rounds >= 1 && c.rounds <= 100, "-rounds %d: want 1 to 100", c.rounds)
	check(c.dataMB >= 0 && c.dataMB <= 64, "-data %v: want 0 to 64", c.dataMB)
	check(c.rate >= 1 && c.rate <= 100_000, "-rate %v: want 1 to 100000", c.rate)
	check(c.conns >= 1 && c.conns <= 1024, "-conns %d: want 1 to 1024", c.conns)
	check(c.secs > 0 && c.secs <= time.Minute, "-secs %s: want more than 0, up to a minute", c.secs)
	check(c.warm >= 0 && c.warm <= time.Minute, "-warm %s: want 0 to a minute", c.warm)
	check(c.after >= 0 && c.after <= time.Minute, "-after %s: want 0 to a minute", c.after)
	check(c.limit > 0 && c.limit <= time.Hour, "-limit %s: want more than 0, up to an hour", c.limit)
	for i, name := range c.cases {
		check(slices.Contains([]string{caseGRPC, caseREST, caseOPA}, name) && !slices.Contains(c.cases[:i], name),
			"-cases: %q: want some of grpc, rest, opa, each once", name)
	}
	return errors.Join(errs...)
}

// longest bounds one round of one case: what hangs ends by itself.
func (c *bundlesConfig) longest() time.Duration {
	const steps = 3
	return c.warm + c.secs + steps*(c.limit+c.after) + 10*time.Second
}

func bundlesMain(args []string) error {
	cfg, err := parseBundlesFlags(args)
	if err != nil {
		return err
	}
	var cpus cpuPlan
	if !cfg.unpinned {
		cpus = chooseCPUs(cfg.pinned)
		if cpus.pinned() && cfg.pinned == "" {
			return cpus.restart()
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return runBundles(ctx, &cfg, cpus, os.Stdout, os.Stderr)
}

func runBundles(ctx context.Context, cfg *bundlesConfig, cpus cpuPlan, out, progress io.Writer) error {
	for _, name := range []string{"authzd", "opa"} {
		if _, err := os.Stat(filepath.Join(cfg.bin, name)); err != nil {
			return fmt.Errorf("look for %s: %w (make build .bin/opa)", name, err)
		}
	}
	rules, err := cfg.work()
	if err != nil {
		return err
	}
	const distinct = 2000
	requests, err := rules.Requests(distinct)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "authzd-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the bundles: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder, nothing to lose
	t := &bundleTargets{cfg: cfg, cpus: cpus, rules: rules, requests: requests, dir: dir}
	defer t.stop()
	_, _ = fmt.Fprintf(progress, "starting: bundles of %s\n", rules)
	cases, err := t.start(ctx)
	if err != nil {
		return err
	}
	r := bundlesReport{Environment: t.environment(ctx), dataMB: float64(rules.DataBytes()) / 1e6, large: cfg.rows > 0}
	for round := range cfg.rounds {
		for i := range cases {
			if err := r.measure(ctx, cfg, &cases[i], round); err != nil {
				return fmt.Errorf("%s, round %d: %w", cases[i].label, round+1, err)
			}
			_, _ = fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, cfg.rounds, cases[i].label)
		}
	}
	if err := r.writeTable(out); err != nil {
		return err
	}
	if cfg.jsonFile != "" {
		if err := r.writeJSON(cfg.jsonFile); err != nil {
			return err
		}
	}
	return r.Tally.err()
}

// bundleWork is what bundles hold, and what is asked.
type bundleWork interface {
	fmt.Stringer
	WriteBundle(dir, revision string) error
	WriteOPA(dir, revision string) error
	Requests(n int) ([]workload.Request, error)
	DataBytes() int
}

func (c *bundlesConfig) work() (bundleWork, error) {
	if c.rows > 0 {
		return workload.NewRows(c.rows) //nolint:wrapcheck // ours
	}
	return workload.NewRules(c.rules, int(c.dataMB*1e6)) //nolint:wrapcheck // ours
}

// baseRevision is live at the beginning and at the end of every round.
const baseRevision = "r0"

// bundleCase is one door of one server.
type bundleCase struct {
	label     string
	open      opener
	read      reader
	questions []question
	steps     []bundleStep
	usage     func() (time.Duration, float64)
	peak      func() float64
	// prepare makes a new revision for the next round; it is not measured.
	prepare func(ctx context.Context, revision string) error
}

// bundleStep is done once a round.
type bundleStep struct {
	label string
	// do has been done when it returns, unless seen; then it is when the first
	// answer of the revision has come.
	do   func(ctx context.Context, revision string) error
	seen bool
	// fresh and base: after it the new revision is live, or the base again.
	fresh, base bool
}

// Labels of stretches that are not of one step.
const (
	phaseSteady     = "steady"
	phaseActivation = "push and activate"
)

// measure is one round of one case.
func (r *bundlesReport) measure(ctx context.Context, cfg *bundlesConfig, c *bundleCase, round int) error {
	revision := "r" + strconv.Itoa(r.made+1)
	r.made++
	if err := c.prepare(ctx, revision); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.longest())
	defer cancel()
	_, rest := c.usage()
	l, err := startLoad(ctx, c.open, c.read, c.questions, cfg.rate, cfg.conns)
	if err != nil {
		return err
	}
	stretches, changes, err := c.walk(ctx, cfg, l, revision)
	entries := l.finish()
	_, rss := c.usage()
	var t tally
	t.add(entries, changes)
	r.Tally.merge(&t, c.label, round)
	if err != nil {
		return errors.Join(err, r.Tally.err())
	}
	for i := range stretches {
		o := stretches[i].outcome(entries)
		o.Case, o.Round, o.RSS, o.Peak, o.Rest = c.label, round, rss, c.peak(), rest
		r.Samples = append(r.Samples, o)
	}
	return nil
}

// walk goes through the steps while the load runs.
func (c *bundleCase) walk(ctx context.Context, cfg *bundlesConfig, l *steadyLoad, revision string) ([]stretch, []change, error) {
	changes := []change{{to: baseRevision}}
	pause(ctx, cfg.warm)
	steady := stretch{label: phaseSteady, from: l.now()}
	pause(ctx, cfg.secs)
	steady.to = l.now()
	out := []stretch{steady}
	for i, s := range c.steps {
		ch := change{to: revision, asked: l.now()}
		if s.base {
			ch.to = baseRevision
		}
		live, err := s.run(ctx, cfg, l, revision, ch.to)
		if s.fresh || s.base {
			ch.live = live
			changes = append(changes, ch)
		}
		if err != nil {
			return out, changes, fmt.Errorf("%s: %w", s.label, err)
		}
		pause(ctx, cfg.after)
		out = append(out, stretch{label: s.label, from: ch.asked, to: l.now(), took: live - ch.asked})
		if s.fresh && i > 0 { // what went before it is part of the activation
			first := out[1]
			out = append(out, stretch{label: phaseActivation, from: first.from, to: l.now(), took: first.took + live - ch.asked})
		}
	}
	return out, changes, ctx.Err()
}

// run does the step and returns when it had been done.
func (s *bundleStep) run(ctx context.Context, cfg *bundlesConfig, l *steadyLoad, revision, to string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.limit)
	defer cancel()
	l.await(to)
	if err := s.do(ctx, revision); err != nil {
		return l.now(), err
	}
	if !s.seen {
		return l.now(), nil
	}
	for {
		if at := l.arrived(); at > 0 {
			return at, nil
		}
		if ctx.Err() != nil {
			return l.now(), fmt.Errorf("no answer by revision %s within %s", to, cfg.limit)
		}
		pause(ctx, time.Millisecond)
	}
}

// bundleTargets are the processes under test.
type bundleTargets struct {
	cfg      *bundlesConfig
	cpus     cpuPlan
	rules    bundleWork
	requests []workload.Request
	dir      string

	authzd *authzdTarget
	opa    *opaTarget
}

func (t *bundleTargets) start(ctx context.Context) ([]bundleCase, error) {
	var out []bundleCase
	for _, name := range t.cfg.cases {
		var err error
		if name == caseOPA {
			t.opa, err = t.startOPA(ctx)
		} else if t.authzd == nil {
			t.authzd, err = t.startAuthzd(ctx)
		}
		if err != nil {
			return nil, err
		}
		c, err := t.newCase(name)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (t *bundleTargets) newCase(name string) (bundleCase, error) {
	var c bundleCase
	switch name {
	case caseGRPC:
		c = t.authzd.newCase(labelGRPC, grpcOpener(t.authzd.grpc), readCheckResponse)
	case caseREST:
		c = t.authzd.newCase(labelREST, httpOpener(t.authzd.http, "/v1/check", restAllows), readCheckJSON)
	default:
		c = t.opa.newCase()
	}
	for i := range t.requests {
		q := question{body: t.requests[i].Query, allow: t.requests[i].Allow}
		switch name {
		case caseGRPC:
			var err error
			if q.body, err = checkRequest(q.body); err != nil {
				return c, err
			}
		case caseOPA:
			q.body = slices.Concat([]byte(`{"input":`), q.body, []byte(`}`))
		}
		c.questions = append(c.questions, q)
	}
	return c, nil
}

func (t *bundleTargets) stop() {
	if t.authzd != nil {
		t.authzd.stop()
	}
	if t.opa != nil {
		t.opa.stop()
		t.opa.source.close()
	}
}

// folder makes a folder for a revision of one of the two.
func (t *bundleTargets) folder(of, revision string) (string, error) {
	dir := filepath.Join(t.dir, of, revision)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for a bundle: %w", err)
	}
	return dir, nil
}

func (t *bundleTargets) environment(ctx context.Context) bundlesEnvironment {
	gogc := func(set string) string {
		if set == "" {
			return "as shipped"
		}
		return set
	}
	return bundlesEnvironment{
		Machine: fmt.Sprintf("%s, %s/%s", cpuModel(), runtime.GOOS, runtime.GOARCH),
		Pinning: t.cpus.String(), Go: runtime.Version(),
		OPA:    versionOf(ctx, filepath.Join(t.cfg.bin, "opa")),
		Authzd: versionOf(ctx, filepath.Join(t.cfg.bin, "authzd")),
		GOGC:   "authzd " + gogc(t.cfg.authzdGOGC) + ", OPA " + gogc(t.cfg.opaGOGC),
		Bundle: t.rules.String(),
		Load:   fmt.Sprintf("%g requests/s, %d in flight at most", t.cfg.rate, t.cfg.conns),
		Rounds: fmt.Sprintf("%d, of %s of steady load after %s, then each step and %s after it", t.cfg.rounds, t.cfg.secs, t.cfg.warm, t.cfg.after),
	}
}
