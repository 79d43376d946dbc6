// Package contract judges a policy against the static rules of the policy
// contract before any decision is made with it: permits that may be granted
// for one harmless member of many, forbids and negations that vanish when the
// input lacks what they read, data that is not there, and content that would
// reach the decision by another way than the entry point's own rules.
//
// Each rule is an allow-list over the syntax tree. What the analysis does not
// understand it reports, so an unknown construct is refused, never passed.
// It complements OPA's compiler, which the caller runs as well (with
// Capabilities and the schemas of Reduce); it never runs policy.
//
// Only package engine calls it. All functions are pure, keep no state, leave
// their arguments alone and may be called from several goroutines.
package contract

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// Tool is one declared tool. Arguments is the JSON Schema (2020-12) of its
// arguments, which the engine validates and closes against undeclared members.
type Tool struct {
	Name      string
	Arguments rar.Value
}

// Input is what Check judges.
type Input struct {
	// Modules are the parsed v1 modules of the snapshot by file path, without
	// tests. The library is among them.
	Modules map[string]*ast.Module
	// IsLibrary tells which modules are the engine's own library, which no rule
	// applies to. Default: those of package authzd.v1 with a path of
	// authzd/v1.rego or below authzd/v1/. A caller whose paths a bundle can
	// choose must set it, or a bundle could pass its own file for the library.
	IsLibrary func(path string) bool
	// Entrypoint is the package that decides; default data.authz.
	Entrypoint ast.Ref
	Tools      []Tool
	// Data is the merged base data, an object.
	Data rar.Value
	// OptionalData lists paths of data that may be missing, with dots or slashes.
	OptionalData []string
	// UntypedTools admits tools without a schema, so that no path below the
	// arguments is known to exist.
	UntypedTools bool
	// LaxForbids turns the errors on what may be undefined into warnings.
	LaxForbids bool
}

// Severity tells whether a finding refuses the policy.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing the contract says against a policy. Row and Col are 0
// where the fault is not at a place in a file.
type Finding struct {
	Code     string
	Severity Severity
	File     string
	Row, Col int
	// Rule names the rule it stands in.
	Rule    string
	Message string
}

// Check returns everything the contract says against a snapshot's content,
// sorted by file, row, column and code. A finding of severity Error refuses it.
func Check(in Input) []Finding {
	a := Analyze(in)
	return sorted(append(a.Findings(), a.CheckData(in.Data)...))
}

// Analysis is a judged policy, kept to judge what may change beneath it.
// It is immutable.
type Analysis struct {
	in       Input
	findings []Finding
	policy   *policy
	data     []dataRead
	reads    []argumentRead
	judge    *judge
}

// Analyze judges the policy's text. What depends on base data is left to
// CheckData.
func Analyze(in Input) *Analysis {
	if len(in.Entrypoint) == 0 {
		in.Entrypoint = ast.MustParseRef("data.authz")
	}
	a := &Analysis{in: in}
	p, found := resolve(in)
	a.policy = p
	a.findings = append(found, checkModules(in)...)
	if p == nil {
		a.findings = sorted(a.findings)
		return a
	}
	a.findings = append(a.findings, p.checkBuiltins()...)
	a.findings = append(a.findings, p.checkDocuments(in.LaxForbids)...)
	a.findings = append(a.findings, p.checkOutput()...)
	j := &judge{policy: p, in: in, schemas: newSchemas(in)}
	a.findings = sorted(append(a.findings, j.run()...))
	a.data, a.reads, a.judge = j.data, j.reads, j
	return a
}

// Findings returns what is wrong with the policy whatever the data.
func (a *Analysis) Findings() []Finding { return slices.Clone(a.findings) }

// Failed tells whether findings refuse a policy.
func Failed(found []Finding) bool {
	return slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == Error })
}

func sorted(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(
			strings.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col),
			strings.Compare(a.Code, b.Code), strings.Compare(string(a.Severity), string(b.Severity)),
			strings.Compare(a.Rule, b.Rule), strings.Compare(a.Message, b.Message),
		)
	})
	// One place read in two ways (by a permit and by a forbid, say) is told once,
	// at its worst: "error" sorts before "warning".
	return slices.CompactFunc(found, func(a, b Finding) bool {
		return a.Code == b.Code && a.File == b.File && a.Row == b.Row && a.Col == b.Col && (a.Row > 0 || a.Message == b.Message)
	})
}

func at(loc *ast.Location, file, code string, severity Severity, rule, message string) Finding {
	f := Finding{Code: code, Severity: severity, File: file, Rule: rule, Message: message}
	if loc != nil {
		f.Row, f.Col = loc.Row, loc.Col
	}
	return f
}
