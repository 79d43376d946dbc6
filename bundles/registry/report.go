package registry

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// Report says what was found in a bundle, for whoever pushed it.
type Report struct {
	// Code is why the bundle was rejected, "" if it was not.
	Code bundles.Code `json:"code,omitempty"`
	// Problems are all reasons that were found, Warnings did not reject it.
	Problems []Problem `json:"problems,omitempty"`
	Warnings []Problem `json:"warnings,omitempty"`
	// Omitted counts problems and warnings beyond what a report holds.
	Omitted int `json:"omitted,omitempty"`
	// Passed, Failed and Skipped count Rego tests and decision cases.
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	// size is the bytes of text of Problems and Warnings.
	size int
}

// Problem is one fault, warning or failed test.
type Problem struct {
	Code string `json:"code"`
	// File, within the bundle, and Line; "" and 0 where no place is known.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Test is the Rego test or decision case that failed; Path, Expected and Got
	// say where an answer differs.
	Test     string `json:"test,omitempty"`
	Path     string `json:"path,omitempty"`
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Message  string `json:"message,omitempty"`
}

const (
	maxProblems = 50
	maxText     = 1000
	// maxReport bounds the text of problems and warnings together.
	maxReport = 64 << 10
)

func (r *Report) problem(p Problem) { r.add(&r.Problems, p.clipped()) }

func (r *Report) warning(p Problem) { r.add(&r.Warnings, p.clipped()) }

func (r *Report) add(to *[]Problem, p Problem) {
	size := len(p.Code) + len(p.File) + len(p.Test) + len(p.Path) + len(p.Expected) + len(p.Got) + len(p.Message)
	if len(*to) >= maxProblems || r.size+size > maxReport {
		r.Omitted++
		return
	}
	r.size += size
	*to = append(*to, p)
}

// Brief is the report for lists: its first problem, with the others counted.
func (r *Report) Brief() *Report {
	if r == nil {
		return nil
	}
	brief := *r
	brief.Problems, brief.Warnings = r.Problems[:min(1, len(r.Problems))], nil
	brief.Omitted += len(r.Problems) + len(r.Warnings) - len(brief.Problems)
	return &brief
}

func (p Problem) clipped() Problem {
	p.File, p.Test, p.Path = clip(p.File), clip(p.Test), clip(p.Path)
	p.Expected, p.Got, p.Message = clip(p.Expected), clip(p.Got), clip(p.Message)
	return p
}

// text is the report as it is stored.
func (r *Report) text() string {
	out, err := json.Marshal(r)
	if err != nil {
		return "" // strings and numbers always encode
	}
	return string(out)
}

// ParseReport reads back the report of a stored bundle or event; nil: it has
// none.
func ParseReport(text string) *Report {
	if text == "" {
		return nil
	}
	var r Report
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&r); err != nil {
		return nil
	}
	return &r
}

// RejectedError is the cause within the *bundles.Error of a bundle that was
// rejected.
type RejectedError struct {
	Report Report
	text   string
}

// Error is the first problem in words.
func (r *RejectedError) Error() string { return r.text }

// ReportOf finds the report in an error.
func ReportOf(err error) (*Report, bool) {
	var r *RejectedError
	if !errors.As(err, &r) {
		return nil, false
	}
	return &r.Report, true
}

// reject makes the error of a report that has problems: its code is the first
// problem's, if it is one of a bundle.
func (r *Report) reject(byDefault bundles.Code) *bundles.Error {
	first := r.Problems[0]
	r.Code = byDefault
	if strings.HasPrefix(first.Code, "bundle.") {
		r.Code = bundles.Code(first.Code)
	}
	var text strings.Builder
	if first.Code != string(r.Code) {
		text.WriteString(first.Code + ": ")
	}
	if first.Test != "" {
		text.WriteString(first.Test + ": ")
	}
	text.WriteString(first.Message)
	if n := len(r.Problems) + r.Omitted - 1; n > 0 {
		text.WriteString(" (and more; see the report)")
	}
	return &bundles.Error{Code: r.Code, Path: first.File, Err: &RejectedError{Report: *r, text: text.String()}}
}

// fault reports an error of package bundles.
func (r *Report) fault(err *bundles.Error) *bundles.Error {
	message := ""
	if err.Err != nil {
		message = err.Err.Error()
	}
	r.problem(Problem{Code: string(err.Code), File: err.Path, Message: message})
	return r.reject(err.Code)
}

// compiled reports what the compiler said. Names of files come as they are in
// the bundle, where they are in this one.
func (r *Report) compiled(name string, faults, warnings []engine.Finding) {
	of := func(f engine.Finding) Problem {
		message := f.Text()
		if f.Rule != "" {
			message = f.Rule + ": " + message
		}
		return Problem{Code: string(f.Code), File: strings.TrimPrefix(f.File, name+"/"), Line: f.Row, Message: message}
	}
	for _, f := range faults {
		r.problem(of(f))
	}
	for _, f := range warnings {
		r.warning(of(f))
	}
}

func (r *Report) count(o bundles.Outcome) {
	switch o {
	case bundles.OutcomePass:
		r.Passed++
	case bundles.OutcomeSkip:
		r.Skipped++
	case bundles.OutcomeFail, bundles.OutcomeError:
		r.Failed++
	}
}

func (r *Report) rego(results []bundles.TestResult) {
	for _, t := range results {
		r.count(t.Outcome)
		if t.Outcome == bundles.OutcomePass || t.Outcome == bundles.OutcomeSkip {
			continue
		}
		r.problem(Problem{Code: string(bundles.CodeTestFailed), File: t.File, Line: t.Row, Test: t.Package + "." + t.Name, Message: t.Message})
	}
}

func (r *Report) cases(results []bundles.CaseResult) {
	for _, c := range results {
		r.count(c.Outcome)
		for _, d := range c.Differences {
			r.problem(Problem{
				Code: string(bundles.CodeTestFailed), File: c.File, Test: c.Name, Path: d.Path, Expected: d.Want, Got: d.Got,
				Message: d.Path + ": want " + orNothing(d.Want) + ", got " + orNothing(d.Got),
			})
		}
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// sequenceOf reads metadata.authzd.sequence; absent is 0.
func sequenceOf(b *engine.Bundle) (int64, error) {
	v, ok := b.Metadata.Get("sequence")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(v.Text(), 10, 64)
	if v.Kind() != rar.Number || err != nil || n < 0 {
		return 0, errorf(bundles.Code(engine.CodeBundleMetadata), ".manifest#/metadata/authzd/sequence", "must be a whole number from 0 to 9223372036854775807")
	}
	return n, nil
}
