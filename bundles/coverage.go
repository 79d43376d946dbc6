package bundles

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/authzd/authzd/engine"
)

// Coverage collects which lines of policy were evaluated: by Rego tests as
// TestOptions.Coverage, by decisions as engine.Options.Tracer. It is of one bundle, and
// may be told of several evaluations at once.
type Coverage struct{ *cover.Cover }

// NewCoverage returns one that has seen nothing.
func NewCoverage() *Coverage { return &Coverage{cover.New()} }

// CoverageReport is what OPA reports: per file the ranges that were evaluated and
// those that were not, and the lines of both. As JSON it is what
// "opa test --coverage --format json" prints.
type CoverageReport = cover.Report

// Report tells of the policy of b, its tests and the policy library left out. A file
// in which nothing can be evaluated has no lines. The error is an *Error of a file
// that does not parse.
func (c *Coverage) Report(b engine.Bundle) (CoverageReport, error) {
	modules := map[string]*ast.Module{}
	for _, m := range b.Modules {
		mod, err := parseModule(m)
		if err != nil {
			return CoverageReport{}, err
		}
		modules[m.Path] = mod
	}
	all := c.Cover.Report(modules)
	own := CoverageReport{Files: map[string]*cover.FileReport{}}
	for path := range modules {
		own.Files[path] = all.Files[path]
	}
	SumCoverage(&own)
	return own, nil
}

// SumCoverage makes the sums of r those of its files.
func SumCoverage(r *CoverageReport) {
	r.CoveredLines, r.NotCoveredLines, r.Coverage = 0, 0, 0
	for _, f := range r.Files {
		r.CoveredLines += f.CoveredLines
		r.NotCoveredLines += f.NotCoveredLines
	}
	if lines := r.CoveredLines + r.NotCoveredLines; lines > 0 {
		r.Coverage = 100 * float64(r.CoveredLines) / float64(lines)
	}
}
