package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lintedPolicy = `package authz

permit["read"] := {} if {
	input.action.name == "read"
	input.action.name == "write"
}

forbid["write"] := {} if {
	input.action.name == "write"
	input.action.name == "read"
}
`

// linted is a bundle with two findings.
func linted(t *testing.T) string {
	t.Helper()
	return bundle(t, map[string]string{
		".manifest":        `{"revision": "r1", "metadata": {"authzd": {"contract": 1}}}`,
		"policy.rego":      lintedPolicy,
		"policy_test.rego": "package authz_test\n\nimport data.authz\n\ntest_read if authz.permit.read\n",
	})
}

func TestLintText(t *testing.T) {
	t.Parallel()
	dir := linted(t)
	code, out, stderr := command(t, "", "test", "--lint", dir)
	want := dir + `/policy.rego:5:2: lint.never_fires (warning): permit["read"] never holds: input.action.name can not be "read" and "write" at once
    fix: remove the rule, or what contradicts itself
` + dir + `/policy.rego:10:2: lint.never_fires (warning, fails open): forbid["write"] never holds: input.action.name can not be "write" and "read" at once
    fix: remove the rule, or what contradicts itself
FAIL ` + dir + `/policy_test.rego:5: authz_test.test_read
    line 5: authz.permit.read
0 passed, 1 failed, 0 skipped
`
	if diff := cmp.Diff(want, out); diff != "" || code != 1 || stderr != "" {
		t.Errorf("code %d, %q, -want +got:\n%s", code, stderr, diff)
	}
}

// What only compiled evaluation refuses is told with its place, and fails nothing.
func TestLintInterpreted(t *testing.T) {
	t.Parallel()
	const policy = `package authz

permit["all"] := {} if {
	not {"a": input.subject.id} == {"a": "mallory"}
}
`
	dir := bundle(t, map[string]string{"policy.rego": policy})
	code, out, _ := command(t, "", "test", "--lint", "--allow-empty", dir)
	if code != 0 || !strings.Contains(out, "\n"+dir+"/policy.rego:4:2: bundle.interpreted (warning): --evaluator compiled leaves all of this policy to the interpreter: ") {
		t.Errorf("code %d, %s", code, out)
	}
	code, out, _ = command(t, "", "test", "--lint", "--allow-empty", bundle(t, map[string]string{"policy.rego": strings.Replace(policy, "not ", "", 1)}))
	if code != 0 || strings.Contains(out, "bundle.interpreted") {
		t.Errorf("code %d, %s", code, out)
	}
}

// Without --lint a finding is a warning like others, and does not fail.
func TestLintWarnsWithoutTheFlag(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, "", "test", "--allow-empty", bundle(t, map[string]string{"policy.rego": lintedPolicy}))
	if code != 0 || !strings.Contains(out, "policy.rego:5:2: lint.never_fires: ") || !strings.Contains(out, ". Fix: remove") {
		t.Errorf("code %d, %s", code, out)
	}
}

// The policies that we ship have no finding that counts.
func TestLintOfShippedPolicies(t *testing.T) {
	t.Parallel()
	shipped, err := filepath.Glob("../../policies/examples/*")
	if err != nil || len(shipped) < 5 {
		t.Fatal(err, shipped)
	}
	for _, dir := range append(shipped, "../../policies/default") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			set, err := openPolicies([]bundleRef{{Name: "shipped", Path: dir}})
			if err != nil {
				t.Fatal(err)
			}
			_, findings, err := set.compile(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var r testReport
			if r.lint(findings); r.lintFails() {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

func TestLintJSON(t *testing.T) {
	t.Parallel()
	dir := linted(t)
	code, out, _ := command(t, "", "test", "--lint", "-o", "json", dir)
	var r testReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || len(r.Findings) != 2 {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	want := lintFinding{
		Code: "lint.never_fires", Severity: "warning", File: dir + "/policy.rego", Line: 10, Column: 2, Rule: `forbid["write"]`, FailsOpen: true,
		Message: `forbid["write"] never holds: input.action.name can not be "write" and "read" at once`, Fix: "remove the rule, or what contradicts itself",
	}
	if diff := cmp.Diff(want, r.Findings[1]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLintJUnit(t *testing.T) {
	t.Parallel()
	dir := linted(t)
	code, out, _ := command(t, "", "test", "--lint", "-o", "junit", dir)
	if code != 1 || strings.Count(out, "<failure ") != 3 || !strings.Contains(out, `tests="2" failures="2"`) {
		t.Errorf("code %d, %s", code, out)
	}
}

// TestLintSARIF holds the report against a golden one, and that against what SARIF 2.1.0
// requires (sections 3.13.2, 3.14, 3.19, 3.27 and 3.28).
func TestLintSARIF(t *testing.T) {
	t.Parallel()
	dir := linted(t)
	code, out, stderr := command(t, "", "test", "--lint", "-o", "sarif", dir)
	if code != 1 || stderr != "" {
		t.Fatalf("code %d, %s", code, stderr)
	}
	const golden = "testdata/lint.sarif"
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.ReplaceAll(out, dir+"/", "")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	checkSARIF(t, want)
}

func checkSARIF(t *testing.T, text []byte) {
	t.Helper()
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID               string
						ShortDescription struct{ Text string }
					}
				}
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(text, &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("log %+v", log)
	}
	run := log.Runs[0]
	levels := map[string]int{}
	for _, r := range run.Results {
		levels[r.Level]++
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID || r.Message.Text == "" {
			t.Errorf("result %+v", r)
		}
		if len(r.Locations) != 1 || r.Locations[0].PhysicalLocation.ArtifactLocation.URI == "" || r.Locations[0].PhysicalLocation.Region.StartLine < 1 {
			t.Errorf("locations of %+v", r)
		}
	}
	for _, r := range run.Tool.Driver.Rules {
		if r.ID == "" || r.ShortDescription.Text == "" {
			t.Errorf("rule %+v", r)
		}
	}
	if diff := cmp.Diff(map[string]int{"warning": 1, "error": 2}, levels); diff != "" {
		t.Errorf("levels, -want +got:\n%s", diff)
	}
}

// What refuses a bundle is a finding, too, so that code scanning shows it.
func TestLintOfRefusedBundle(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"policy.rego": "package authz\n\nforbid[\"x\"] := {} if input.mcp.params.arguments.a > 1\n"})
	code, out, stderr := command(t, "", "test", "--lint", "-o", "sarif", dir)
	if code != 1 || stderr != "" || !strings.Contains(out, `"ruleId": "engine.forbid_may_be_undefined"`) || !strings.Contains(out, `"level": "error"`) {
		t.Errorf("code %d, %s%s", code, out, stderr)
	}
	if code, _, stderr := command(t, "", "test", "-o", "sarif", dir); code != 1 || !strings.Contains(stderr, "--lint") {
		t.Errorf("code %d, %s", code, stderr)
	}
}
