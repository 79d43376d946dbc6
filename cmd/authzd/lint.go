package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/authzd/authzd/engine"
)

// lintFinding is one finding of --lint: of the lint, or anything else that compiling found.
type lintFinding struct {
	Code     engine.Code     `json:"code"`
	Severity engine.Severity `json:"severity"`
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Column   int             `json:"column,omitempty"`
	Rule     string          `json:"rule,omitempty"`
	Message  string          `json:"message"`
	Fix      string          `json:"fix,omitempty"`
	// FailsOpen: what policy means to forbid may be allowed.
	FailsOpen bool `json:"fails_open,omitempty"`
}

// counts tells whether a finding makes --lint exit with 1: what the lint found, what fails
// open, and what refuses a bundle. Other warnings may be meant.
func (f *lintFinding) counts() bool {
	return f.Severity == engine.SeverityError || f.FailsOpen || slices.ContainsFunc(engine.LintRules(), func(r engine.LintRule) bool { return r.Code == f.Code })
}

func (r *testReport) lint(findings []engine.Finding) {
	for _, f := range findings {
		r.Findings = append(r.Findings, lintFinding{
			Code: f.Code, Severity: f.Severity, File: f.File, Line: f.Row, Column: f.Col,
			Rule: f.Rule, Message: f.Message, Fix: f.Fix, FailsOpen: f.FailsOpen,
		})
	}
}

// refused reports why a bundle does not compile, where that is policy.
func (r *testReport) refused(err error) bool {
	var refused *engine.CompileError
	if !errors.As(err, &refused) || len(refused.Findings) == 0 {
		return false
	}
	r.lint(refused.Findings)
	return true
}

func (r *testReport) lintFails() bool {
	return slices.ContainsFunc(r.Findings, func(f lintFinding) bool { return f.counts() })
}

// text writes a finding for people: the place, what is wrong, and what to write.
func (f *lintFinding) text() string {
	where := ""
	switch {
	case f.Line > 0:
		where = fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	case f.File != "":
		where = f.File + ": "
	}
	severity := string(f.Severity)
	if f.FailsOpen {
		severity += ", fails open"
	}
	text := where + string(f.Code) + " (" + severity + "): " + f.Message + "\n"
	if f.Fix != "" {
		text += "    fix: " + f.Fix + "\n"
	}
	return text
}

// lintDoc is where the rules are explained.
const lintDoc = "https://github.com/authzd/authzd/blob/main/docs/lint.md"

// testFailed is the rule of SARIF under which tests are reported that failed.
const testFailed = "test.failed"

// The parts of SARIF 2.1.0 that code scanning reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
		HelpURI          string    `json:"helpUri"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
	}
)

// writeSARIF reports findings, and tests that failed, as SARIF 2.1.0.
func writeSARIF(w io.Writer, r *testReport) error {
	log := sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: make([]sarifRun, 1)}
	run := &log.Runs[0]
	run.ColumnKind = "unicodeCodePoints"
	run.Results = []sarifResult{}
	run.Tool.Driver = sarifDriver{Name: "authzd", InformationURI: lintDoc}
	for _, rule := range engine.LintRules() {
		run.ruleOf(string(rule.Code), rule.Meaning)
	}
	for i := range r.Findings {
		run.finding(&r.Findings[i])
	}
	for i := range r.Tests {
		if c := &r.Tests[i]; c.failed() {
			run.result(testFailed, "a Rego test or decision case that did not pass", "error", c.Name+"\n"+c.explanation(""), c.File, c.Line, 0, "")
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(log)
}

func (r *sarifRun) finding(f *lintFinding) {
	level := "warning"
	if f.Severity == engine.SeverityError || f.FailsOpen {
		level = "error"
	}
	text := f.Message
	if f.Fix != "" {
		text += ". Fix: " + f.Fix
	}
	r.result(string(f.Code), "found while compiling, see docs/errors.md", level, text, f.File, f.Line, f.Column, f.Rule)
}

func (r *sarifRun) result(id, meaning, level, text, file string, line, column int, rule string) {
	result := sarifResult{RuleID: id, RuleIndex: r.ruleOf(id, meaning), Level: level, Message: sarifText{text}, Locations: []sarifLocation{}}
	if file != "" {
		var at sarifLocation
		at.Physical.Artifact.URI = (&url.URL{Path: filepath.ToSlash(file)}).String()
		if line > 0 {
			at.Physical.Region = &sarifRegion{StartLine: line, StartColumn: column}
		}
		if rule != "" {
			at.Logical = []sarifLogical{{rule}}
		}
		result.Locations = append(result.Locations, at)
	}
	r.Results = append(r.Results, result)
}

// ruleOf is the number of a rule, which is added where it is not yet there.
func (r *sarifRun) ruleOf(id, meaning string) int {
	rules := &r.Tool.Driver.Rules
	if i := slices.IndexFunc(*rules, func(x sarifRule) bool { return x.ID == id }); i >= 0 {
		return i
	}
	help := strings.TrimSuffix(lintDoc, "lint.md") + "errors.md"
	if name, ok := strings.CutPrefix(id, "lint."); ok {
		help = lintDoc + "#" + name
	}
	*rules = append(*rules, sarifRule{ID: id, ShortDescription: sarifText{meaning}, HelpURI: help})
	return len(*rules) - 1
}
