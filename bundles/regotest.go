package bundles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

// DefaultTestTimeout bounds one Rego test.
const DefaultTestTimeout = 5 * time.Second

// TestOptions configure RunTests. The zero value is ready for use.
type TestOptions struct {
	// Timeout bounds each test; default DefaultTestTimeout.
	Timeout time.Duration
	// StrictBuiltins makes a test an error in which a builtin failed. Otherwise
	// its outcome is stock OPA's, where the expression is undefined, and a Note
	// tells that the server would deny: such a test may rightly show that
	// malformed input is not permitted.
	StrictBuiltins bool
	// Coverage, if there is one, is told what the tests evaluate.
	Coverage *Coverage
}

// Outcome is how a test ended.
type Outcome string

// The outcomes. Only OutcomeFail and OutcomeError count against a bundle;
// OutcomeSkip is a rule named todo_test_….
const (
	OutcomePass  Outcome = "pass"
	OutcomeFail  Outcome = "fail"
	OutcomeError Outcome = "error"
	OutcomeSkip  Outcome = "skip"
)

// TestResult is one Rego test.
type TestResult struct {
	File     string
	Row      int
	Package  string
	Name     string
	Outcome  Outcome
	Duration time.Duration
	// Message says what failed: the expression, or the error.
	Message string
	// Note says that a builtin failed on the way to the outcome.
	Note string
	// Output is what the test printed.
	Output string
}

// RunTests runs the Rego tests of b with the policy library beside it, as
// opa test does, but without reach out of the process. The results come sorted
// by file and row. The error is an *Error of files that cannot be compiled, or
// the context's.
func RunTests(ctx context.Context, b engine.Bundle, o TestOptions) ([]TestResult, error) {
	if len(b.Tests) == 0 {
		return nil, nil
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTestTimeout
	}
	results, err := runTests(ctx, b, o, true)
	if err != nil || o.StrictBuiltins || !slices.ContainsFunc(results, isError) {
		return results, err
	}
	// The runner does not tell an outcome and the errors of builtins at once.
	lax, err := runTests(ctx, b, o, false)
	if err != nil || len(lax) != len(results) {
		return results, err
	}
	for i, strict := range results {
		if isError(strict) && !isError(lax[i]) {
			results[i] = lax[i]
			results[i].Note = "a builtin failed, so the server would deny: " + strict.Message
		}
	}
	return results, nil
}

func isError(r TestResult) bool { return r.Outcome == OutcomeError }

func runTests(ctx context.Context, b engine.Bundle, o TestOptions, strict bool) ([]TestResult, error) {
	// Parsed anew each time: compiling changes the modules.
	modules, err := testModules(b)
	if err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler().WithCapabilities(testCapabilities()).WithEnablePrintStatements(true)
	store, err := dataStore(b.Data)
	if err != nil {
		return nil, errorf(CodeTestInvalid, "", "open data: %w", err)
	}
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, errorf(CodeTestInvalid, "", "open data: %w", err)
	}
	defer store.Abort(ctx, txn)
	fails := &failTracer{last: map[string][]place{}, coverage: o.Coverage}
	found, err := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(modules).
		RaiseBuiltinErrors(strict).CapturePrintOutput(true).SetTimeout(o.Timeout).
		SetCoverageQueryTracer(fails).RunTests(ctx, txn)
	if err != nil {
		return nil, errorf(CodeTestInvalid, "", "compile tests: %w", err)
	}
	var results []TestResult
	for r := range found {
		results = append(results, testResult(r, fails))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("run tests: %w", err)
	}
	slices.SortFunc(results, func(x, y TestResult) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Row, y.Row), cmp.Compare(x.Name, y.Name))
	})
	return results, nil
}

// testModules parses the bundle, its tests and the library.
func testModules(b engine.Bundle) (map[string]*ast.Module, error) {
	library, err := libraryModules()
	if err != nil {
		return nil, err
	}
	out := map[string]*ast.Module{}
	for _, m := range slices.Concat(library, b.Modules, b.Tests) {
		mod, err := parseModule(m)
		if err != nil {
			return nil, err
		}
		out[m.Path] = mod
	}
	for _, m := range b.Tests {
		pkg := packagePath(out[m.Path])
		if !inRoots(b.Roots, pkg) {
			return nil, errorf(CodeTestInvalid, m.Path, "package %s is outside the bundle's roots %q, which opa build refuses too",
				strings.ReplaceAll(pkg, "/", "."), b.Roots)
		}
	}
	return out, nil
}

func parseModule(m engine.Module) (*ast.Module, error) {
	mod, err := ast.ParseModuleWithOpts(m.Path, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, &Error{Code: CodeTestInvalid, Path: m.Path, Err: err}
	}
	if mod == nil {
		return nil, errorf(CodeTestInvalid, m.Path, "the file is empty")
	}
	return mod, nil
}

// packagePath spells a module's package as roots are spelt.
func packagePath(m *ast.Module) string {
	steps := make([]string, 0, len(m.Package.Path))
	for _, t := range m.Package.Path[1:] {
		if s, ok := t.Value.(ast.String); ok {
			steps = append(steps, string(s))
		}
	}
	return strings.Join(steps, "/")
}

func inRoots(roots []string, pkg string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return root == "" || pkg == root || strings.HasPrefix(pkg, root+"/")
	})
}

// libraryModules returns the policy library as the engine reads it.
func libraryModules() ([]engine.Module, error) {
	var out []engine.Module
	err := fs.WalkDir(policies.FS(), policies.Library, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, regoSuffix) {
			return err
		}
		text, err := fs.ReadFile(policies.FS(), name)
		// The prefix keeps it apart from a bundle's file of the same name.
		out = append(out, engine.Module{Path: "authzd:" + name, Text: string(text)})
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, errorf(CodeTestInvalid, "", "read the policy library: %w", err)
	}
	return out, nil
}

// testCapabilities is everything OPA has but what reaches out of the process:
// tests of a bundle that somebody pushed run on the server.
func testCapabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{}
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return b.Name == "http.send" || b.Name == "opa.runtime" || strings.HasPrefix(b.Name, "net.lookup")
	})
	return c
}

// dataStore holds base data with its numbers as they were written.
func dataStore(data rar.Value) (storage.Store, error) {
	if data.Kind() != rar.Object {
		data = rar.ObjectValue()
	}
	return engine.NewDataStore(data) //nolint:wrapcheck // wrapped by the caller
}

func testResult(r *tester.Result, fails *failTracer) TestResult {
	t := TestResult{
		Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name,
		Outcome: OutcomePass, Duration: r.Duration, Output: string(r.Output),
	}
	if r.Location != nil {
		t.File, t.Row = r.Location.File, r.Location.Row
	}
	switch {
	case r.Error != nil:
		t.Outcome, t.Message = OutcomeError, errorText(r.Error)
	case r.Skip:
		t.Outcome = OutcomeSkip
	case r.Fail:
		t.Outcome, t.Message = OutcomeFail, failure(r, fails)
	}
	return t
}

// errorText is the error as Rego's users know it. Several errors of builtins
// come in a form that only tells that there were several.
func errorText(err error) string {
	var one *topdown.Error
	if errors.As(err, &one) {
		return one.Error()
	}
	if strings.HasPrefix(err.Error(), "[{eval_") {
		return "several builtins failed"
	}
	return err.Error()
}

// failure names the expression that did not hold, and failed cases of a
// table test.
func failure(r *tester.Result, fails *failTracer) string {
	var parts []string
	if at, ok := fails.within(r.Location); ok {
		parts = append(parts, fmt.Sprintf("line %d: %s", at.row, at.text))
	}
	for name, sub := range r.SubResults.Iter {
		if sub.Fail {
			parts = append(parts, "case "+strings.Join(name, " / "))
		}
	}
	if len(parts) == 0 {
		return "the rule is undefined or false"
	}
	return strings.Join(parts, "; ")
}

// failTracer notes which expressions of test files did not hold: OPA's runner
// itself only tells that a test failed. Tests run in parallel.
type failTracer struct {
	mu   sync.Mutex
	last map[string][]place // by file
	// coverage, if there is one, sees everything: the runner has room for one tracer.
	coverage *Coverage
}

type place struct {
	row  int
	text string
}

// Enabled is topdown.QueryTracer's.
func (f *failTracer) Enabled() bool { return true }

// Config is topdown.QueryTracer's.
func (f *failTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is topdown.QueryTracer's.
func (f *failTracer) TraceEvent(e topdown.Event) {
	if f.coverage != nil {
		f.coverage.TraceEvent(e)
	}
	expr, ok := e.Node.(*ast.Expr)
	if e.Op != topdown.FailOp || !ok || expr.Location == nil || !strings.HasSuffix(expr.Location.File, testSuffix) {
		return
	}
	p := place{row: expr.Location.Row, text: strings.TrimSpace(string(expr.Location.Text))}
	f.mu.Lock()
	defer f.mu.Unlock()
	if file := expr.Location.File; !slices.Contains(f.last[file], p) {
		f.last[file] = append(f.last[file], p)
	}
}

// within returns the last expression of the rule at loc that failed: what
// stands before it held.
func (f *failTracer) within(loc *ast.Location) (place, bool) {
	if loc == nil {
		return place{}, false
	}
	end := loc.Row + strings.Count(string(loc.Text), "\n")
	f.mu.Lock()
	defer f.mu.Unlock()
	var found place
	for _, p := range f.last[loc.File] {
		if p.row >= loc.Row && p.row <= end && p.row > found.row {
			found = p
		}
	}
	return found, found.row > 0
}
