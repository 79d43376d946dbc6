package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
)

type testOptions struct {
	paths      []string
	timeout    time.Duration
	allowEmpty bool
	strict     bool
	lint       bool
	// coverage: tell which lines of policy were evaluated; threshold is the least
	// percentage of them.
	coverage  bool
	threshold float64
	format    *string
}

func newTest(std stdio) *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the Rego tests and decision cases of bundles",
		Long: "Runs the Rego tests (*_test.rego) and the decision cases (cases/*.yaml) of each bundle, a folder\n" +
			"or an archive. Each bundle must compile as serve would compile it.\n\n" +
			"With --lint, also reads policy for rules that do not do what their text says (docs/lint.md).\n\n" +
			"With --coverage, tells which lines of policy neither kind of test has evaluated; tests\n" +
			"themselves do not count. With --output json that is, once all tests pass, all that is\n" +
			"printed, in the form of \"opa test --coverage --format json\".\n\n" +
			"Exit code: 0 if all passed and --coverage-threshold is reached, 1 otherwise. No test at\n" +
			"all is an error. With --lint, 1 on any finding that the lint has a name for (lint.…), that\n" +
			"fails open, or that refuses the bundle.",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.paths = args
		o.coverage = o.coverage || cmd.Flags().Changed("coverage-threshold")
		return test(cmd.Context(), std, o)
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", bundles.DefaultTestTimeout, "time for one Rego test")
	cmd.Flags().BoolVar(&o.allowEmpty, "allow-empty", false, "a bundle without tests is no error")
	cmd.Flags().BoolVar(&o.strict, "strict-builtins", false, "a Rego test in which a builtin fails is an error, not stock OPA's undefined")
	cmd.Flags().BoolVar(&o.lint, "lint", false, "lint the policy, too; needed for -o sarif")
	cmd.Flags().BoolVar(&o.coverage, "coverage", false, "tell which lines of policy were evaluated")
	cmd.Flags().Float64Var(&o.threshold, "coverage-threshold", 0, "with --coverage, which it implies: exit code 1 if less than this percentage of lines was evaluated")
	o.format = outputFlag(cmd, "text", "json", "junit", "sarif")
	return cmd
}

// testKind tells Rego tests from decision cases.
type testKind string

const (
	kindRego testKind = "rego"
	kindCase testKind = "case"
)

// testCase is one test of either kind, as it is reported.
type testCase struct {
	Bundle      string               `json:"bundle"`
	Kind        testKind             `json:"kind"`
	File        string               `json:"file"`
	Line        int                  `json:"line,omitempty"`
	Name        string               `json:"name"`
	Outcome     bundles.Outcome      `json:"outcome"`
	Seconds     float64              `json:"seconds"`
	Message     string               `json:"message,omitempty"`
	Note        string               `json:"note,omitempty"`
	Output      string               `json:"output,omitempty"`
	Differences []bundles.Difference `json:"differences,omitempty"`
}

func (c *testCase) failed() bool {
	return c.Outcome != bundles.OutcomePass && c.Outcome != bundles.OutcomeSkip
}

// testReport is everything that ran.
type testReport struct {
	Tests    []testCase `json:"tests"`
	Passed   int        `json:"passed"`
	Failed   int        `json:"failed"`
	Skipped  int        `json:"skipped"`
	Warnings []string   `json:"warnings,omitempty"`
	// Findings are there, if none, only with --lint.
	Findings []lintFinding `json:"findings,omitzero"`

	coverage *bundles.CoverageReport // nil: not asked for
}

func (r *testReport) add(c testCase) {
	r.Tests = append(r.Tests, c)
	switch {
	case c.failed():
		r.Failed++
	case c.Outcome == bundles.OutcomeSkip:
		r.Skipped++
	default:
		r.Passed++
	}
}

func test(ctx context.Context, std stdio, o testOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	report := testReport{Tests: []testCase{}}
	if o.lint {
		report.Findings = []lintFinding{}
	}
	if o.coverage {
		report.coverage = &bundles.CoverageReport{Files: map[string]*cover.FileReport{}}
	}
	for _, where := range o.paths {
		before := len(report.Tests)
		err := testBundle(ctx, where, o, &report)
		if err != nil && o.lint && report.refused(err) {
			continue
		}
		if err != nil {
			return err
		}
		if len(report.Tests) == before && !o.allowEmpty {
			return fmt.Errorf("%s: no tests: neither *_test.rego nor cases/*.yaml (--allow-empty accepts that)", where)
		}
	}
	if err := writeReport(std.out, *o.format, &report); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if report.Failed > 0 || report.lintFails() {
		return exit{exitError}
	}
	if o.coverage && report.coverage.Coverage < o.threshold {
		return fmt.Errorf("coverage is %.2f %%, and %.2f %% are asked for (--coverage-threshold)", report.coverage.Coverage, o.threshold)
	}
	return nil
}

func (o *testOptions) validate() error {
	if !(o.threshold >= 0 && o.threshold <= 100) { // also what is no number
		return errors.New("--coverage-threshold is a percentage, 0 to 100")
	}
	switch {
	case *o.format == "sarif" && !o.lint:
		return errors.New("--output sarif reports findings: it needs --lint")
	case o.coverage && *o.format != "text" && *o.format != "json":
		return fmt.Errorf("--coverage: %s has no place for it; use --output text or json", *o.format)
	case o.coverage && o.lint && *o.format == "json":
		return errors.New("--coverage --output json prints what opa test does, which has no place for findings: run --lint apart, or use --output text")
	}
	return nil
}

func testBundle(ctx context.Context, where string, o testOptions, report *testReport) error {
	set, err := openPolicies([]bundleRef{{Name: nameOf(where), Path: where}})
	if err != nil {
		return err
	}
	content := set.contents[0]
	snapshot, warnings, err := set.compile(ctx)
	if err != nil {
		return err
	}
	report.Warnings = append(report.Warnings, set.warnings()...)
	if o.lint {
		interpreted, err := snapshot.Interpreted(ctx)
		if err != nil {
			return located(where, err)
		}
		report.lint(append(warnings, set.located(interpreted)...))
	} else {
		report.Warnings = append(report.Warnings, findingTexts(warnings)...)
	}
	options, deciding := bundles.TestOptions{Timeout: o.timeout, StrictBuiltins: o.strict}, engine.Options{}
	if o.coverage {
		options.Coverage = bundles.NewCoverage()
		deciding.Tracer = options.Coverage
	}
	rego, err := bundles.RunTests(ctx, content.Bundle, options)
	if err != nil {
		return located(where, err)
	}
	for _, r := range rego {
		report.add(testCase{
			Bundle: content.Bundle.Name, Kind: kindRego, File: join(where, r.File), Line: r.Row, Name: r.Package + "." + r.Name,
			Outcome: r.Outcome, Seconds: r.Duration.Seconds(), Message: r.Message, Note: r.Note, Output: r.Output,
		})
	}
	cases, err := bundles.RunCases(ctx, content, askerWith(snapshot, deciding))
	if err != nil {
		return located(where, err)
	}
	for _, c := range cases {
		report.add(testCase{
			Bundle: content.Bundle.Name, Kind: kindCase, File: join(where, c.File), Name: c.Name,
			Outcome: c.Outcome, Seconds: c.Duration.Seconds(), Differences: c.Differences,
		})
	}
	if o.coverage {
		return report.cover(where, options.Coverage, content.Bundle)
	}
	return nil
}

// cover adds what was evaluated of a bundle.
func (r *testReport) cover(where string, c *bundles.Coverage, b engine.Bundle) error {
	one, err := c.Report(b)
	if err != nil {
		return located(where, err)
	}
	for file, lines := range one.Files {
		r.coverage.Files[join(where, file)] = lines
	}
	bundles.SumCoverage(r.coverage)
	return nil
}

func join(where, file string) string { return path.Join(filepath.ToSlash(where), file) }

// located names the bundle of a fault in one of its files.
func located(where string, err error) error {
	var e *bundles.Error
	if errors.As(err, &e) && e.Path != "" {
		return &bundles.Error{Code: e.Code, Path: join(where, e.Path), Err: e.Err}
	}
	return fmt.Errorf("%s: %w", where, err)
}

// asker decides the queries of cases on s.
func asker(s *engine.Snapshot) bundles.Ask { return askerWith(s, engine.Options{}) }

// askerWith is asker with further options for the engine.
func askerWith(s *engine.Snapshot, o engine.Options) bundles.Ask {
	return func(ctx context.Context, query []byte, now time.Time) (bundles.Answer, error) {
		o := o
		o.Now = func() time.Time { return now }
		d, response, err := decide(ctx, s, o, query)
		if err != nil {
			f, ok := faultOf(err)
			if !ok || ctx.Err() != nil {
				return bundles.Answer{}, err
			}
			return bundles.Answer{Error: f.code, ErrorText: f.message}, nil
		}
		return bundles.Answer{Response: response, Require: d.Require}, nil
	}
}
