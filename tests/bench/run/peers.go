package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// authzd beside other engines, each as its authors ship it, asked the same
// question or the nearest that it can be asked: OPA over its REST API, Cerbos and
// OpenFGA over gRPC, and a server of this program that decodes authzd's question
// and returns a fixed answer, which is what gRPC alone costs. One case is measured
// after the other, round after round, and a ratio is taken within one round.

const peersFlag = "-peers"

// Names of the peers in -without.
const (
	peerCerbos  = "cerbos"
	peerOpenFGA = "openfga"
)

// peersConfig is what the flags say.
type peersConfig struct {
	config
	// opaGOGC is of the OPA that has the same as authzd.
	opaGOGC string
	without []string
}

func parsePeersFlags(args []string) (peersConfig, error) {
	var cfg peersConfig
	var without string
	f := flag.NewFlagSet("run "+peersFlag, flag.ContinueOnError)
	f.Bool("peers", true, "measure authzd beside OPA, Cerbos and OpenFGA")
	f.IntVar(&cfg.rounds, "rounds", 5, "rounds; each measures every case once. Fewer than five tell little")
	f.DurationVar(&cfg.secs, "secs", 1200*time.Millisecond, "how long each case is measured in a round")
	f.DurationVar(&cfg.warm, "warm", 300*time.Millisecond, "load before each measurement")
	f.StringVar(&without, "without", "", "peers to leave out, a list: cerbos, openfga")
	f.StringVar(&cfg.jsonFile, "json", "", "write every sample to this file too")
	f.StringVar(&cfg.bin, "bin", ".bin", "where authzd, opa, cerbos and openfga are")
	f.StringVar(&cfg.authzdGOGC, "authzd-gogc", "", "GOGC for authzd; empty: as shipped")
	f.StringVar(&cfg.evaluator, "evaluator", "compiled", "what evaluates policy in authzd: interpreter, which is the default as shipped, or compiled")
	f.StringVar(&cfg.opaGOGC, "opa-gogc", "400", "GOGC for the OPA that is to have the same as authzd")
	f.StringVar(&cfg.pinned, "pinned", "", "set by the program itself when it has been pinned")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if without != "" {
		cfg.without = strings.Split(without, ",")
	}
	var errs []error
	for _, name := range cfg.without {
		if name != peerCerbos && name != peerOpenFGA {
			errs = append(errs, fmt.Errorf("-without %q: want %s, %s", name, peerCerbos, peerOpenFGA))
		}
	}
	if cfg.rounds < 1 || cfg.rounds > 100 || cfg.secs <= 0 || cfg.secs > time.Minute || cfg.warm < 0 || cfg.warm > time.Minute {
		errs = append(errs, errors.New("want 1 to 100 rounds of up to a minute, after up to a minute of load"))
	}
	if f.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	return cfg, errors.Join(errs...)
}

func peersMain(args []string) error {
	cfg, err := parsePeersFlags(args)
	if err != nil {
		return err
	}
	cpus := chooseCPUs(cfg.pinned)
	if cpus.pinned() && cfg.pinned == "" {
		return cpus.restart()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	const measurements = 20
	ctx, cancel := context.WithTimeout(ctx, time.Duration(cfg.rounds)*measurements*(cfg.secs+cfg.warm+2*time.Second)+5*time.Minute)
	defer cancel()
	return runPeers(ctx, &cfg, cpus, os.Stdout, os.Stderr)
}

func runPeers(ctx context.Context, cfg *peersConfig, cpus cpuPlan, out, progress io.Writer) error {
	w, err := workload.New()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "authzd-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the workload: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder, nothing to lose
	p := &peers{cfg: cfg, cpus: cpus, w: w, dir: dir}
	defer p.stop()
	if err := p.start(ctx); err != nil {
		return err
	}
	for i := range p.cases {
		if err := agree(ctx, &p.cases[i].benchCase, w); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(progress, "%d of %d requests are allowed; all %d cases gave every answer as worked out by hand\n", w.Allowed(), len(w.Requests), len(p.cases))
	r := peersReport{Environment: p.environment()}
	for round := range cfg.rounds {
		for i := range p.cases {
			c := &p.cases[i]
			for _, n := range c.inFlight {
				m, err := measure(ctx, &c.benchCase, w, n, cfg.config)
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", c.label, n, err)
				}
				m.Round = round
				r.Samples = append(r.Samples, m)
			}
		}
		_, _ = fmt.Fprintf(progress, "round %d of %d\n", round+1, cfg.rounds)
	}
	if r.Evaluated, err = p.evaluated(ctx); err != nil {
		return err
	}
	if err := r.write(out); err != nil {
		return err
	}
	if cfg.jsonFile != "" {
		return r.writeJSON(cfg.jsonFile)
	}
	return nil
}

// peerCase is a case, and the loads that it is measured under.
type peerCase struct {
	benchCase
	inFlight []int
}

// Labels of the cases.
const (
	peerOPAPlain     = "OPA REST, plain policy"
	peerOPAPlainGOGC = "OPA REST, plain policy, same GOGC"
	peerGRPCPlain    = "authzd gRPC, plain policy"
	peerRESTPlain    = "authzd REST, plain policy"
	peerEcho         = "gRPC alone: the same message, a fixed answer"
	peerCerbosGRPC   = "Cerbos gRPC"
	peerOpenFGAGRPC  = "OpenFGA gRPC"
	peerOPANeeds     = "OPA REST, requirements in Rego"
	peerGRPCNeeds    = "authzd gRPC, permit with requirements"
	peerOPAHanded    = "OPA REST, policy that is handed over"
	peerGRPCHanded   = "authzd gRPC, policy that is handed over"
	peerOPARefused   = "OPA REST, policy that is not compiled"
	peerGRPCRefused  = "authzd gRPC, policy that is not compiled"
)

// requests are the workload's in each encoding.
type requests struct{ rest, grpc, opa, opaInput [][]byte }

func encodeRequests(w *workload.Workload) (requests, error) {
	var r requests
	input := func(document []byte) []byte { return slices.Concat([]byte(`{"input":`), document, []byte{'}'}) }
	for i := range w.Requests {
		q := w.Requests[i].Query
		b, err := checkRequest(q)
		if err != nil {
			return r, err
		}
		document, err := workload.PolicyInput(q)
		if err != nil {
			return r, err
		}
		r.rest, r.grpc = append(r.rest, q), append(r.grpc, b)
		r.opa, r.opaInput = append(r.opa, input(q)), append(r.opaInput, input(document))
	}
	return r, nil
}

// plainAllows reads {"result":true}.
func plainAllows(text []byte) bool { return strings.HasPrefix(string(text), `{"result":true`) }
