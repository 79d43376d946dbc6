// Command run measures the built authzd beside a stock OPA: the same question
// on the same data, asked by the same load generator, in alternation.
//
//	go run ./tests/bench/run [-rounds 5] [-secs 1.2] [-c 1,16,64] [-json FILE] [-want RATIO]
//
// It needs .bin/authzd and .bin/opa (make build .bin/opa), talks to loopback
// only, and ends both servers when it ends. First every request is sent to every
// door and its answer compared with the one worked out by hand; an answer that
// differs, then or under load, fails the run. It prints a Markdown table.
//
// With -proxy it measures what authzd proxy adds to a tool call; see proxy.go. With
// -overload it measures what becomes of decisions under overload; see overload.go.
// With -bundles it measures the activation of a bundle under load, and has other
// flags (-bundles -help); see bundles.go. With -peers it measures authzd beside
// OPA, Cerbos and OpenFGA, also with flags of its own (-peers -help); see peers.go.
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// config is what the flags say.
type config struct {
	rounds     int
	secs, warm time.Duration
	inFlight   []int
	jsonFile   string
	want       float64
	bin        string
	authzdGOGC string
	evaluator  string
	pinned     string
	// proxy: measure authzd proxy, and only that.
	proxy bool
	// overload: measure what becomes of decisions when there is too much to do.
	overload bool
	// work is how many rows policy looks at for each decision of overload; 0: none.
	work int
}

func main() {
	switch err := mainErr(); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func mainErr() error {
	if len(os.Args) > 1 && os.Args[1] == helperArg {
		return serveHelper(os.Args[2:], os.Stdout)
	}
	if len(os.Args) > 1 && os.Args[1] == echoArg {
		return serveEcho(os.Stdout)
	}
	if len(os.Args) > 1 && os.Args[1] == floodArg {
		return runFlood(os.Args[2:], os.Stdout)
	}
	if slices.ContainsFunc(os.Args[1:], asksFor(bundlesFlag)) {
		return bundlesMain(os.Args[1:])
	}
	if slices.ContainsFunc(os.Args[1:], asksFor(peersFlag)) {
		return peersMain(os.Args[1:])
	}
	cfg, err := parseFlags(os.Args[1:])
	if err != nil {
		return err
	}
	cpus := chooseCPUs(cfg.pinned)
	if cpus.pinned() && cfg.pinned == "" {
		return cpus.restart()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, cfg.longest())
	defer cancel()
	if cfg.overload {
		return runOverload(ctx, cfg, cpus, os.Stdout, os.Stderr)
	}
	if cfg.proxy {
		return runProxy(ctx, cfg, cpus, os.Stdout, os.Stderr)
	}
	return run(ctx, cfg, cpus, os.Stdout, os.Stderr)
}

// asksFor tells whether an argument is the flag, in any of its spellings.
func asksFor(flag string) func(arg string) bool {
	return func(arg string) bool {
		return slices.Contains([]string{flag, "-" + flag, flag + "=true", "-" + flag + "=true"}, arg)
	}
}

func parseFlags(args []string) (config, error) {
	var cfg config
	var secs, warm float64
	var inFlight string
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.IntVar(&cfg.rounds, "rounds", 5, "rounds; each measures every case once")
	f.Float64Var(&secs, "secs", 1.2, "seconds measured for each case and round")
	f.Float64Var(&warm, "warm", 0.3, "seconds of load before each measurement")
	f.StringVar(&inFlight, "c", "1,16,64", "requests in flight, a list")
	f.StringVar(&cfg.jsonFile, "json", "", "write every sample to this file too")
	f.Float64Var(&cfg.want, "want", 0, "fail if gRPC's median ratio to OPA at the most in flight is below this; with -proxy, if authzd adds more milliseconds at the least")
	f.BoolVar(&cfg.proxy, "proxy", false, "measure what authzd proxy adds to a tool call, instead")
	f.BoolVar(&cfg.overload, "overload", false, "measure overload, a caller that floods and a policy that never ends, instead")
	f.Bool("bundles", false, "measure the activation of a bundle under load, instead; has flags of its own (-bundles -help)")
	f.Bool("peers", false, "measure authzd beside OPA, Cerbos and OpenFGA, instead; has flags of its own (-peers -help)")
	f.StringVar(&cfg.bin, "bin", ".bin", "where authzd and opa are")
	f.StringVar(&cfg.authzdGOGC, "authzd-gogc", "", "GOGC for authzd; empty: as shipped")
	f.IntVar(&cfg.work, "work", 0, "with -overload: so many rows that policy looks at for each decision, beside the usual")
	f.StringVar(&cfg.evaluator, "evaluator", "interpreter", "what evaluates policy in authzd: interpreter, which is the default as shipped, or compiled")
	f.StringVar(&cfg.pinned, "pinned", "", "set by the program itself when it has been pinned")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	cfg.secs, cfg.warm = time.Duration(secs*float64(time.Second)), time.Duration(warm*float64(time.Second))
	for _, s := range strings.Split(inFlight, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1024 {
			return cfg, fmt.Errorf("-c %q: want numbers from 1 to 1024", inFlight)
		}
		cfg.inFlight = append(cfg.inFlight, n)
	}
	// Written so that not-a-number is refused too.
	inRange := secs > 0 && secs <= 60 && warm >= 0 && warm <= 60
	if cfg.rounds < 1 || cfg.rounds > 100 || !inRange || f.NArg() > 0 {
		return cfg, errors.New("want 1 to 100 rounds of up to 60 seconds and no further arguments")
	}
	return cfg, nil
}

// longest bounds the whole run: load that hangs ends by itself.
func (c *config) longest() time.Duration {
	const cases = 4
	return time.Duration(c.rounds*len(c.inFlight)*cases)*(c.secs+c.warm+2*time.Second) + 2*time.Minute
}

func run(ctx context.Context, cfg config, cpus cpuPlan, out, progress io.Writer) error {
	w, err := workload.New()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "authzd-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the workload: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder, nothing to lose
	s, err := startAll(ctx, cfg, cpus, w, dir)
	defer s.stop()
	if err != nil {
		return err
	}
	cases, err := s.cases(w)
	if err != nil {
		return err
	}
	for i := range cases {
		if err := agree(ctx, &cases[i], w); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(progress, "%d of %d requests are allowed; every door gave every answer as worked out by hand\n", w.Allowed(), len(w.Requests))
	r := report{Environment: s.environment(ctx, cfg, cpus, w)}
	for round := range cfg.rounds {
		for _, c := range cfg.inFlight {
			for i := range cases {
				m, err := measure(ctx, &cases[i], w, c, cfg)
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", cases[i].label, c, err)
				}
				m.Round = round
				r.Samples = append(r.Samples, m)
			}
		}
		_, _ = fmt.Fprintf(progress, "round %d of %d\n", round+1, cfg.rounds)
	}
	if err := r.writeTable(out); err != nil {
		return err
	}
	if cfg.jsonFile != "" {
		if err := r.writeJSON(cfg.jsonFile); err != nil {
			return err
		}
	}
	return r.judge(cfg)
}

// servers are the processes under test.
type servers struct {
	opa, opaGC, authzd *server
}

func startAll(ctx context.Context, cfg config, cpus cpuPlan, w *workload.Workload, dir string) (*servers, error) {
	s := &servers{}
	opaDir, bundleDir := filepath.Join(dir, "opa"), filepath.Join(dir, "authzd")
	for _, d := range []string{opaDir, bundleDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return s, fmt.Errorf("make a folder for the workload: %w", err)
		}
	}
	if err := w.WriteOPA(opaDir); err != nil {
		return s, err
	}
	if err := w.WriteBundle(bundleDir); err != nil {
		return s, err
	}
	var err error
	if s.opa, err = startOPA(ctx, cfg.bin, cpus, opaDir, ""); err != nil {
		return s, err
	}
	if s.opaGC, err = startOPA(ctx, cfg.bin, cpus, opaDir, "400"); err != nil {
		return s, err
	}
	s.authzd, err = startAuthzd(ctx, cfg.bin, cpus, bundleDir, cfg.authzdGOGC, cfg.evaluator)
	return s, err
}

func (s *servers) stop() {
	for _, p := range []*server{s.authzd, s.opaGC, s.opa} {
		if p != nil {
			p.stop()
		}
	}
}

// Labels of the cases; the first is what ratios refer to.
const (
	labelOPA   = "OPA REST, as shipped"
	labelOPAGC = "OPA REST, GOGC=400"
	labelGRPC  = "authzd gRPC"
	labelREST  = "authzd REST"
)

func (s *servers) cases(w *workload.Workload) ([]benchCase, error) {
	var opa, rest, grpc [][]byte
	for i := range w.Requests {
		q := w.Requests[i].Query
		opa = append(opa, append(append([]byte(`{"input":`), q...), '}'))
		rest = append(rest, q)
		b, err := checkRequest(q)
		if err != nil {
			return nil, err
		}
		grpc = append(grpc, b)
	}
	const opaPath, restPath = "/v1/data/bench/decision", "/v1/check"
	return []benchCase{
		{label: labelOPA, usage: s.opa.usage, bodies: opa, open: httpOpener(s.opa.http, opaPath, opaAllows)},
		{label: labelOPAGC, usage: s.opaGC.usage, bodies: opa, open: httpOpener(s.opaGC.http, opaPath, opaAllows)},
		{label: labelGRPC, usage: s.authzd.usage, bodies: grpc, open: grpcOpener(s.authzd.grpc)},
		{label: labelREST, usage: s.authzd.usage, bodies: rest, open: httpOpener(s.authzd.http, restPath, restAllows)},
	}, nil
}
