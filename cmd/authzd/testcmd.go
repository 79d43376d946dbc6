package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"time"

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
	format     *string
}

func newTest(std stdio) *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the Rego tests and decision cases of bundles",
		Long: "Runs the Rego tests (*_test.rego) and the decision cases (cases/*.yaml) of each bundle, a folder\n" +
			"or an archive. Each bundle must compile as serve would compile it.\n\n" +
			"With --lint, also reads policy for rules that do not do what their text says (docs/lint.md).\n\n" +
			"Exit code: 0 if all passed, 1 otherwise. No test at all is an error. With --lint, 1 on any finding\n" +
			"that the lint has a name for (lint.…), that fails open, or that refuses the bundle.",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.paths = args
		return test(cmd.Context(), std, o)
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", bundles.DefaultTestTimeout, "time for one Rego test")
	cmd.Flags().BoolVar(&o.allowEmpty, "allow-empty", false, "a bundle without tests is no error")
	cmd.Flags().BoolVar(&o.strict, "strict-builtins", false, "a Rego test in which a builtin fails is an error, not stock OPA's undefined")
	cmd.Flags().BoolVar(&o.lint, "lint", false, "lint the policy, too; needed for -o sarif")
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
	Tests    []testCase    `json:"tests"`
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Warnings []string      `json:"warnings,omitempty"`
	Findings []lintFinding `json:"findings,omitempty"`
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
	if *o.format == "sarif" && !o.lint {
		return errors.New("--output sarif reports findings: it needs --lint")
	}
	report := testReport{Tests: []testCase{}}
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
		report.lint(warnings)
	} else {
		report.Warnings = append(report.Warnings, findingTexts(warnings)...)
	}
	rego, err := bundles.RunTests(ctx, content.Bundle, bundles.TestOptions{Timeout: o.timeout, StrictBuiltins: o.strict})
	if err != nil {
		return located(where, err)
	}
	for _, r := range rego {
		report.add(testCase{
			Bundle: content.Bundle.Name, Kind: kindRego, File: join(where, r.File), Line: r.Row, Name: r.Package + "." + r.Name,
			Outcome: r.Outcome, Seconds: r.Duration.Seconds(), Message: r.Message, Note: r.Note, Output: r.Output,
		})
	}
	cases, err := bundles.RunCases(ctx, content, asker(snapshot))
	if err != nil {
		return located(where, err)
	}
	for _, c := range cases {
		report.add(testCase{
			Bundle: content.Bundle.Name, Kind: kindCase, File: join(where, c.File), Name: c.Name,
			Outcome: c.Outcome, Seconds: c.Duration.Seconds(), Differences: c.Differences,
		})
	}
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
func asker(s *engine.Snapshot) bundles.Ask {
	return func(ctx context.Context, query []byte, now time.Time) (bundles.Answer, error) {
		response, err := decide(ctx, s, func() time.Time { return now }, query)
		if err != nil {
			f, ok := faultOf(err)
			if !ok || ctx.Err() != nil {
				return bundles.Answer{}, err
			}
			return bundles.Answer{Error: f.code, ErrorText: f.message}, nil
		}
		return bundles.Answer{Response: response}, nil
	}
}
