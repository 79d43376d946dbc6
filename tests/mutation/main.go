// Command mutation tests the tests: it changes one operator, condition, constant,
// return or statement of the code at a time, and looks whether a test fails.
//
//	go run ./tests/mutation [-n 200] [-seed 1] [-with PKG,...] [-files PATTERN] [-skip PATTERN [-again]] [-json FILE] PKG...
//
// A random sample of all mutants of the packages is compiled into one test binary
// for each package, each mutant behind a condition that an environment variable
// makes true. So a mutant costs a run of some tests and no compilation. Tests run once
// each, first, to see which mutants they reach; a mutant that none reaches survives,
// and is told apart.
//
// Nothing in the tree is changed (go test -overlay). Whoever sets GOMAXPROCS or nice
// sets it for the tests, too. docs/mutation-testing.md says what to make of the report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	packages []string
	// with are further packages whose tests count.
	with []string
	// files are those to mutate, by name.
	files *regexp.Regexp
	// skip are tests that do not count, by name; nil: all do.
	skip *regexp.Regexp
	// again lets those count after all, for mutants that survive the others.
	again bool
	n     int
	seed  uint64
	// timeout is added to the three-fold time that tests take without a mutant.
	timeout  time.Duration
	jsonFile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(1)
	}
}

func parse(args []string, errs io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("mutation", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.IntVar(&c.n, "n", 200, "how many mutants, of all that there are")
	flags.Uint64Var(&c.seed, "seed", 1, "which of them")
	flags.DurationVar(&c.timeout, "timeout", 20*time.Second, "how long tests may take beyond three times what they take without a mutant")
	flags.StringVar(&c.jsonFile, "json", "", "write every mutant and what became of it to this file")
	with := flags.String("with", "", "further packages whose tests count, separated by commas")
	files := flags.String("files", ".", "a pattern of names of files to mutate")
	skip := flags.String("skip", "", "a pattern of names of tests that do not run, as the slowest")
	flags.BoolVar(&c.again, "again", false, "run the tests that -skip leaves out after all, on mutants that survive the others")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	c.packages = flags.Args()
	if len(c.packages) == 0 {
		return c, errors.New("no package")
	}
	if *with != "" {
		c.with = strings.Split(*with, ",")
	}
	var err error
	if c.files, err = regexp.Compile(*files); err != nil {
		return c, fmt.Errorf("-files: %w", err)
	}
	if *skip == "" {
		return c, nil
	}
	if c.skip, err = regexp.Compile(*skip); err != nil {
		return c, fmt.Errorf("-skip: %w", err)
	}
	return c, nil
}

// run makes the report. Its error is a fault of the run, never a mutant that survives.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	c, err := parse(args, progress)
	if err != nil {
		return err
	}
	pkgs, err := load(ctx, c.packages)
	if err != nil {
		return err
	}
	all := candidates(pkgs, c.files)
	sample := draw(all, c.n, c.seed)
	if len(sample) == 0 {
		return errors.New("there is nothing to mutate")
	}
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary anyway
	r := runner{dir: dir, timeout: c.timeout, progress: progress}
	if err := r.instrument(pkgs, sample); err != nil {
		return err
	}
	if err := r.build(ctx, append(append([]string(nil), c.packages...), c.with...)); err != nil {
		return err
	}
	skipped := func(test string) bool { return c.skip != nil && c.skip.MatchString(test) }
	if err := r.pass(ctx, sample, func(test string) bool { return !skipped(test) }); err != nil {
		return err
	}
	if c.again {
		if err := r.pass(ctx, survivors(sample), skipped); err != nil {
			return err
		}
	}
	if _, err := out.Write(report(c, len(all), sample)); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return writeJSON(c.jsonFile, sample)
}

// pass tries each of the mutants by the tests that count.
func (r *runner) pass(ctx context.Context, mutants []*Mutant, counts func(test string) bool) error {
	if err := r.reach(ctx, counts); err != nil {
		return err
	}
	for i, m := range mutants {
		if err := r.try(ctx, m); err != nil {
			return err
		}
		r.tell("%d/%d %s %s\n", i+1, len(mutants), m.Outcome, m)
	}
	return nil
}

func survivors(sample []*Mutant) []*Mutant {
	var out []*Mutant
	for _, m := range sample {
		if m.Outcome == OutcomeSurvived || m.Outcome == OutcomeUnrun {
			out = append(out, m)
		}
	}
	return out
}
