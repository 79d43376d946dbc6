package bundles_test

import (
	"context"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// rows tells of each row of a file whether it was covered; what is in neither list is
// not among them.
func rows(t *testing.T, c *bundles.Coverage, b engine.Bundle, file string) (covered, missed []int) {
	t.Helper()
	r, err := c.Report(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Files) != len(b.Modules) {
		t.Errorf("%d files are reported, of %d of policy", len(r.Files), len(b.Modules))
	}
	for row := range 20 {
		if r.Files[file].IsCovered(row) {
			covered = append(covered, row)
		}
		if r.Files[file].IsNotCovered(row) {
			missed = append(missed, row)
		}
	}
	return covered, missed
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	b := engine.Bundle{
		Name: "b", Roots: []string{""}, Metadata: value(t, `{"contract": 1, "untyped_tools": true}`),
		Modules: []engine.Module{
			{Path: "policy.rego", Text: "package authz\n\npermit[\"read\"] := {} if input.action.name == \"read\"\n\npermit[\"write\"] := {} if input.action.name == \"write\"\n"},
			{Path: "other/rules.rego", Text: "package other\n\nx := 1\n"},
		},
		Tests: []engine.Module{{Path: "policy_test.rego", Text: "package authz_test\n\nimport data.authz\n\ntest_read if authz.permit.read with input.action.name as \"read\"\n"}},
	}
	want := func(step string, c *bundles.Coverage, covered, missed int) {
		t.Helper()
		got, not := rows(t, c, b, "policy.rego")
		if len(got) != covered || len(not) != missed {
			t.Errorf("%s: rows %v are covered and %v not, want %d and %d", step, got, not, covered, missed)
		}
	}
	c := bundles.NewCoverage()
	want("nothing ran", c, 0, 2)
	if _, err := bundles.RunTests(t.Context(), b, bundles.TestOptions{Coverage: c}); err != nil {
		t.Fatal(err)
	}
	want("the Rego tests ran", c, 1, 1)
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	content := bundles.Content{Bundle: b, Cases: []bundles.File{{Path: "cases/a.yaml", Data: []byte("queries: {q: {}}\ncases: {c: {query: q, want: {decision: ALLOW}}}")}}}
	ask := func(ctx context.Context, _ []byte, now time.Time) (bundles.Answer, error) {
		e := engine.New(engine.Options{Now: func() time.Time { return now }, Tracer: c})
		d, err := e.DecideOn(ctx, s, &engine.Query{
			Subject: &engine.Subject{Type: "identity", ID: "alice"}, Action: engine.Action{Name: "write"}, Resource: engine.Resource{Type: "file", ID: "a"},
		})
		if err != nil || !d.Allow {
			t.Fatalf("%+v, %v", d, err)
		}
		return bundles.Answer{Response: rar.ObjectValue(rar.Member{Name: "decision", Value: rar.StringValue("ALLOW")})}, nil
	}
	if _, err := bundles.RunCases(t.Context(), content, ask); err != nil {
		t.Fatal(err)
	}
	want("the case ran, too", c, 2, 0)
	r, err := c.Report(b)
	if other := r.Files["other/rules.rego"]; err != nil || other.CoveredLines != 0 || r.CoveredLines != 2 || r.NotCoveredLines != other.NotCoveredLines {
		t.Errorf("report %+v, %v", r, err)
	}
	_, err = c.Report(engine.Bundle{Modules: []engine.Module{{Path: "broken.rego", Text: "package"}}})
	wantCode(t, err, bundles.CodeTestInvalid, "broken.rego")
}
