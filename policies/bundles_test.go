package policies_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// minCases is how many decision cases an example has at least; most refuse.
const minCases = 15

// TestBundles holds every worked example to what newcomers may expect of what
// they copy: no warning, tests and cases that pass, examples that are of their
// type, and hints that work.
func TestBundles(t *testing.T) {
	t.Parallel()
	for _, name := range exampleNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, snapshot := openExample(t, name)
			t.Run("rego", func(t *testing.T) {
				t.Parallel()
				checkRegoTests(t, content)
			})
			t.Run("types", func(t *testing.T) {
				t.Parallel()
				checkTypes(t, content)
			})
			t.Run("cases", func(t *testing.T) {
				t.Parallel()
				asked := runCases(t, content, snapshot)
				checkCases(t, asked)
				checkRoundTrips(t, content, snapshot, asked)
			})
		})
	}
}

// TestRefusalsTellNothing: who asks for a blocked patient's record, or for a kind
// of data that is restricted, reads what he would read without any permit.
func TestRefusalsTellNothing(t *testing.T) {
	t.Parallel()
	content, snapshot := openExample(t, "medical-records")
	asked := runCases(t, content, snapshot)
	denial := func(name string) string {
		i := slices.IndexFunc(asked, func(a asking) bool { return a.result.Name == name })
		if i < 0 {
			t.Fatalf("no case has the name %q", name)
		}
		v, ok := asked[i].response.Get("denial")
		if !ok {
			t.Fatalf("%s: no denial in %s", name, asked[i].response.AppendJSON(nil))
		}
		return string(v.AppendJSON(nil))
	}
	want := denial("who is not assigned exports nothing")
	for _, name := range []string{
		"a blocked patient is refused without a word",
		"a restricted kind of data is refused in the same way",
		"a restricted kind of data among others is refused in the same way",
	} {
		if diff := cmp.Diff(want, denial(name)); diff != "" {
			t.Errorf("%s (-no permit +refused):\n%s", name, diff)
		}
	}
}

func exampleNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	// A listing that lost one would check less without a word.
	want := []string{"data-query", "files", "medical-records", "payments", "repositories"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("folders below examples (-want +got):\n%s", diff)
	}
	return names
}

func openExample(t *testing.T, name string) (bundles.Content, *engine.Snapshot) {
	t.Helper()
	content, err := bundles.Open(filepath.Join("examples", name), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	content.Bundle.Name = name
	snapshot, findings, err := engine.Compile(t.Context(), []engine.Bundle{content.Bundle})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range content.Warnings {
		t.Errorf("warning: %s", w)
	}
	for _, f := range findings {
		t.Errorf("warning: %s:%d: %s: %s", f.File, f.Row, f.Code, f.Message)
	}
	return content, snapshot
}

func checkRegoTests(t *testing.T, content bundles.Content) {
	t.Helper()
	results, err := bundles.RunTests(t.Context(), content.Bundle, bundles.TestOptions{})
	if err != nil || len(results) == 0 {
		t.Fatalf("%d tests, %v", len(results), err)
	}
	for _, r := range results {
		if r.Outcome != bundles.OutcomePass {
			t.Errorf("%s: %s %s", r.Name, r.Outcome, r.Message)
		}
	}
}

// checkTypes: each type has examples that it accepts, and what is granted as the
// example covers the need that the example states.
func checkTypes(t *testing.T, content bundles.Content) {
	t.Helper()
	declared, _ := content.Bundle.Data.Get("authzd_types")
	var list []rar.Declaration
	for i := range declared.Len() {
		list = append(list, rar.Declaration{Name: declared.Member(i).Name, Document: declared.Member(i).Value})
	}
	types, warnings, err := rar.CompileTypes(list)
	if err != nil || len(warnings) > 0 || len(list) == 0 {
		t.Fatalf("%d types, warnings %v, %v", len(list), warnings, err)
	}
	for _, name := range types.Names() {
		examples, _ := types.Document(name).Get("examples")
		if examples.Len() == 0 {
			t.Errorf("%s has no examples", name)
		}
		for i := range examples.Len() {
			one := []rar.Value{examples.Index(i)}
			if result, err := types.Covers(one, one, rar.CoverOptions{}); err != nil || !result.Covered {
				t.Errorf("%s: example %d does not cover itself: %v, %v", name, i, result.Because, err)
			}
			checkFields(t, types, name, examples.Index(i))
		}
	}
}

// checkFields leaves out one field of the example at a time. As a grant the rest
// covers the example, and as a need it is covered by it, only where the type
// says that this field does not matter.
func checkFields(t *testing.T, types *rar.Types, name string, example rar.Value) {
	t.Helper()
	compare, _ := types.Document(name).Get("compare")
	for i := range example.Len() {
		field := example.Member(i).Name
		rule, _ := compare.Get("/" + field)
		absent, _ := rule.Get("absent")
		ignored := rule.Text() == "ignore"

		var members []rar.Member
		for j := range example.Len() {
			if j != i {
				members = append(members, example.Member(j))
			}
		}
		rest := []rar.Value{rar.ObjectValue(members...)}
		whole := []rar.Value{example}
		granted, err := types.Covers(rest, whole, rar.CoverOptions{})
		if want := ignored || absent.Text() == "any"; err != nil || granted.Covered != want {
			t.Errorf("%s: a grant without %s covers: %v, want %v (%v)", name, field, granted.Covered, want, err)
		}
		// A need without a required field is an error, and covered by nothing.
		needed, err := types.Covers(whole, rest, rar.CoverOptions{})
		if needed.Covered != ignored || ignored && err != nil {
			t.Errorf("%s: a need without %s is covered: %v, want %v (%v)", name, field, needed.Covered, ignored, err)
		}
	}
}

// asking is one decision case, and what came of it.
type asking struct {
	result   bundles.CaseResult
	query    []byte
	now      time.Time
	response rar.Value // absent if the answer was an error
}

func runCases(t *testing.T, content bundles.Content, s *engine.Snapshot) []asking {
	t.Helper()
	var asked []asking
	results, err := bundles.RunCases(t.Context(), content, func(ctx context.Context, query []byte, now time.Time) (bundles.Answer, error) {
		a := answer(ctx, t, s, query, now)
		asked = append(asked, asking{query: query, now: now, response: a.Response})
		return a, nil
	})
	if err != nil || len(results) != len(asked) {
		t.Fatalf("%d results of %d cases: %v", len(results), len(asked), err)
	}
	for i, r := range results {
		asked[i].result = r
		if r.Outcome != bundles.OutcomePass {
			t.Errorf("%s: %s: %+v", r.File, r.Name, r.Differences)
		}
	}
	return asked
}

// answer decides as the doors do, with ids that are the same in every answer.
func answer(ctx context.Context, t *testing.T, s *engine.Snapshot, query []byte, now time.Time) bundles.Answer {
	t.Helper()
	r, err := api.DecodeQuery(query, api.Limits{})
	var d engine.Decision
	if err == nil {
		e := engine.New(engine.Options{Now: func() time.Time { return now }, NewContextID: func() string { return "authzctx_example" }})
		e.Swap(s)
		d, err = e.Decide(ctx, r.Query)
	}
	if err != nil {
		return bundles.Answer{Error: errorCode(t, err), ErrorText: err.Error()}
	}
	response := api.Respond(d, r, api.DenialOptions{})
	v, err := rar.DecodeStrict(response.AppendJSON(nil), rar.Limits{})
	if err != nil {
		t.Fatalf("read back the response: %v", err)
	}
	return bundles.Answer{Response: v}
}

func errorCode(t *testing.T, err error) string {
	t.Helper()
	var (
		byAPI    *api.Error
		byEngine *engine.Error
		byMCP    *mcp.Error
	)
	switch {
	case errors.As(err, &byAPI):
		return string(byAPI.Code)
	case errors.As(err, &byEngine):
		return string(byEngine.Code)
	case errors.As(err, &byMCP):
		return string(byMCP.Code)
	}
	t.Fatal(err)
	return ""
}

func checkCases(t *testing.T, asked []asking) {
	t.Helper()
	refused := 0
	for _, a := range asked {
		if decision, _ := a.response.Get("decision"); decision.Text() != "ALLOW" {
			refused++
		}
	}
	if len(asked) < minCases || 2*refused <= len(asked) {
		t.Errorf("%d cases, of which %d refuse; want %d at least, and more refusals than grants", len(asked), refused, minCases)
	}
}
