package policies_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
)

// openExampleOracle reads a worked example, its decision cases and the texts of
// its Rego tests.
func openExampleOracle(t *testing.T, name string) *oracle {
	t.Helper()
	dir := filepath.Join("examples", name)
	content, _ := openExample(t, name)
	return openOracle(t, dir, basesOf(t, content), textsOf(parseModule(t, filepath.Join(dir, "policy_test.rego"))))
}

// openSuiteOracle reads a suite of tests/failclosed and its queries.
func openSuiteOracle(t *testing.T, dir string) *oracle {
	t.Helper()
	var bases []base
	for _, q := range array(at(parseJSON(t, readFile(t, filepath.Join(dir, "queries.json"))), "queries")) {
		if tree := object(at(q, "query")); tree != nil {
			bases = append(bases, base{tree: tree, now: time.Date(2026, time.June, 1, 0, 0, 0, 0, time.UTC)})
		}
	}
	return openOracle(t, dir, bases, nil)
}

func openOracle(t *testing.T, dir string, bases []base, texts []string) *oracle {
	t.Helper()
	o := &oracle{ends: map[string]int{}, rules: map[string]int{}}
	content, err := bundles.Open(dir, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	content.Bundle.Name = "main"
	for _, to := range []struct {
		engine   **engine.Engine
		compiled bool
	}{{&o.compiled, true}, {&o.interpreted, false}} {
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{content.Bundle})
		if err != nil {
			t.Fatal(err)
		}
		*to.engine = engine.New(engine.Options{
			Now: func() time.Time { return o.now }, NewID: func() string { return "id" }, NewContextID: func() string { return "context" },
			Budget: time.Minute, VerifySample: -1, Compiled: to.compiled,
		})
		(*to.engine).Swap(s)
		(*to.engine).Prepare(s)
		if state, why := s.Evaluator(); to.compiled != (state == engine.EvaluatorCompiled) {
			t.Fatal(state, why)
		}
	}
	module := parseModule(t, filepath.Join(dir, "policy.rego"))
	o.reading = openReading(t, dir, module)
	o.permits, o.forbids = ruleNames(module, "permit"), ruleNames(module, "forbid")
	o.generator = o.newGenerator(bases, append(textsOf(module), texts...))
	o.generator.grants = func(d *draft) [][]any { return o.required(t.Context(), d) }
	return o
}

// openReading reads a bundle with nothing but stock OPA and encoding/json.
func openReading(t *testing.T, dir string, module *ast.Module) *reading {
	t.Helper()
	r := &reading{tools: map[string]*jsonschema.Schema{}, types: map[string]*detailsType{}}
	data := map[string]any{}
	if text, err := os.ReadFile(filepath.Join(dir, "data.json")); err == nil {
		data = object(parseJSON(t, text))
	}
	r.untyped, _ = at(parseJSON(t, readFile(t, filepath.Join(dir, ".manifest"))), "metadata", "authzd", "untyped_tools").(bool)
	for _, root := range []string{"authzd_tools", "authzd_types"} {
		files, err := filepath.Glob(filepath.Join(dir, root, "*", "data.json"))
		if err != nil || len(files) == 0 && !r.untyped && root == "authzd_tools" {
			t.Fatalf("nothing below %s: %v", root, err)
		}
		for _, file := range files {
			document, name := parseJSON(t, readFile(t, file)), filepath.Base(filepath.Dir(file))
			if root == "authzd_tools" {
				r.tools[name] = compile(t, closed(at(document, "arguments")))
			} else {
				r.types[name] = readType(t, document)
			}
		}
	}
	var err error
	r.policy, err = rego.New(
		rego.Query(outputQuery), rego.ParsedModule(module), rego.Module("v1.rego", string(readFile(t, "lib/authzd/v1.rego"))),
		rego.Store(inmem.NewFromObject(data)), rego.StrictBuiltinErrors(true),
	).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parseModule(t *testing.T, path string) *ast.Module {
	t.Helper()
	m, err := ast.ParseModule(path, string(readFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ruleNames are the names of permits or forbids.
func ruleNames(m *ast.Module, document string) []string {
	found := map[string]bool{}
	for _, r := range m.Rules {
		if ref := r.Head.Ref(); len(ref) == 2 && ref[0].Value.Compare(ast.Var(document)) == 0 {
			found[strings.Trim(ref[1].String(), `"`)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func textsOf(m *ast.Module) []string {
	found := map[string]bool{}
	ast.NewGenericVisitor(func(x any) bool {
		if s, ok := x.(ast.String); ok {
			found[string(s)] = true
		}
		return false
	}).Walk(m)
	return slices.Sorted(maps.Keys(found))
}

// basesOf are the questions of the decision cases.
func basesOf(t *testing.T, content bundles.Content) []base {
	t.Helper()
	var out []base
	_, err := bundles.RunCases(t.Context(), content, func(_ context.Context, query []byte, now time.Time) (bundles.Answer, error) {
		out = append(out, base{tree: object(parseJSON(t, query)), now: now})
		return bundles.Answer{Error: "unasked"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (o *oracle) newGenerator(bases []base, texts []string) *generator {
	g := &generator{bases: bases, texts: texts, byName: valuesByName(bases)}
	for _, b := range bases {
		a := (&draft{tree: b.tree, now: b.now}).question()
		if a == nil || o.malformed(a) != "" || o.arguments(a) != "" {
			continue
		}
		if w, code := o.whoAsks(a); code == "" && len(w.usable) > 0 {
			g.sound = append(g.sound, b)
		}
	}
	g.soundByName = valuesByName(g.sound)
	return g
}
