package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/authzd/authzd/bundles"
)

func writeReport(w io.Writer, format string, r *testReport) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if r.coverage != nil && r.Failed == 0 {
			return enc.Encode(r.coverage)
		}
		return enc.Encode(r)
	case "junit":
		return writeJUnit(w, r)
	case "sarif":
		return writeSARIF(w, r)
	}
	return writeTestText(w, r)
}

// writeTestText reports failures one by one, and the rest as a sum.
func writeTestText(w io.Writer, r *testReport) error {
	var b strings.Builder
	for _, warning := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	for _, f := range r.Findings {
		b.WriteString(f.text())
	}
	for _, c := range r.Tests {
		if c.failed() {
			b.WriteString(strings.ToUpper(string(c.Outcome)) + " " + c.place() + ": " + c.Name + "\n")
			b.WriteString(c.explanation("    "))
		}
	}
	if n := r.noted(); n > 0 {
		fmt.Fprintf(&b, "note: builtins failed in %d of the tests that passed; the server would deny there (--strict-builtins makes them errors)\n", n)
	}
	if r.coverage != nil {
		writeCoverage(&b, r.coverage)
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", r.Passed, r.Failed, r.Skipped)
	_, err := io.WriteString(w, b.String())
	return err
}

// noted counts what passed although a builtin failed.
func (r *testReport) noted() int {
	n := 0
	for _, c := range r.Tests {
		if c.Note != "" && !c.failed() {
			n++
		}
	}
	return n
}

func (c *testCase) place() string {
	if c.Line > 0 {
		return c.File + ":" + strconv.Itoa(c.Line)
	}
	return c.File
}

// explanation says why a test failed, on lines that begin with indent.
func (c *testCase) explanation(indent string) string {
	var b strings.Builder
	if c.Message != "" {
		b.WriteString(indent + c.Message + "\n")
	}
	if c.Note != "" {
		b.WriteString(indent + c.Note + "\n")
	}
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "%s%s: want %s, got %s\n", indent, d.Path, orNothing(d.Want), orNothing(d.Got))
	}
	for line := range strings.Lines(c.Output) {
		b.WriteString(indent + "| " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// The JUnit form that CI systems read.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		ClassName string        `xml:"classname,attr"`
		Name      string        `xml:"name,attr"`
		File      string        `xml:"file,attr"`
		Time      string        `xml:"time,attr"`
		Failure   *junitProblem `xml:"failure"`
		Error     *junitProblem `xml:"error"`
		Skipped   *struct{}     `xml:"skipped"`
		Output    string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit makes one suite of each file. A finding of the lint is a case that fails, if it
// makes the command fail.
func writeJUnit(w io.Writer, r *testReport) error {
	var doc junitSuites
	at := map[string]int{}
	suite := func(file string) *junitSuite {
		n, ok := at[file]
		if !ok {
			n = len(doc.Suites)
			at[file] = n
			doc.Suites = append(doc.Suites, junitSuite{Name: file})
		}
		return &doc.Suites[n]
	}
	for i := range r.Findings {
		suite(r.Findings[i].File).lint(&r.Findings[i])
	}
	for i := range r.Tests {
		suite(r.Tests[i].File).add(&r.Tests[i])
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) lint(f *lintFinding) {
	s.Tests++
	j := junitCase{ClassName: "lint", Name: string(f.Code), File: f.File, Time: "0", Output: f.text()}
	if f.counts() {
		s.Failures++
		j.Failure = &junitProblem{Message: f.Message, Text: f.text()}
	}
	s.Cases = append(s.Cases, j)
}

func (s *junitSuite) add(c *testCase) {
	s.Tests++
	j := junitCase{
		ClassName: c.Bundle + "." + string(c.Kind), Name: c.Name, File: c.File,
		Time: strconv.FormatFloat(c.Seconds, 'f', 6, 64), Output: c.Output,
	}
	problem := &junitProblem{Message: c.place() + ": " + c.Name, Text: c.explanation("")}
	switch c.Outcome {
	case bundles.OutcomeFail:
		s.Failures++
		j.Failure = problem
	case bundles.OutcomeError:
		s.Errors++
		j.Error = problem
	case bundles.OutcomeSkip:
		s.Skipped++
		j.Skipped = &struct{}{}
	case bundles.OutcomePass:
	}
	s.Cases = append(s.Cases, j)
}
