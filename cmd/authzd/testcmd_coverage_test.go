package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/cover"
)

// coveredPolicy has a permit that Rego tests evaluate, one that decision cases
// evaluate, also by an index of data, and a rule that nothing does.
const coveredPolicy = `package authz

permit["read"] := {} if {
	input.action.name == "read"
}

permit["write"] := {} if {
	input.action.name == "write"
	some row in data.writers
	row.id == input.subject.id
	trusted(row)
}

trusted(row) if {
	row.level > 1
}

forbid["never"] := {} if {
	input.action.name == "purge"
	count(input.subject.id) > 1
}
`

func covered(t *testing.T) string {
	t.Helper()
	return bundle(t, map[string]string{
		"policy.rego":      coveredPolicy,
		"data.json":        `{"writers": [{"id": "alice", "level": 2}, {"id": "bob", "level": 1}], "authzd_indexes": {"writers": ["id"]}}`,
		"policy_test.rego": "package authz_test\n\nimport data.authz\n\ntest_read if authz.permit.read with input.action.name as \"read\"\n",
		"cases/a.yaml": "queries:\n  q: " + callQuery + "\ncases:\n" +
			"  alice writes: {query: q, set: {/action/name: write}, want: {decision: ALLOW, rule: write}}\n",
	})
}

// notCovered are the lines of the rule that nothing evaluates: no test has its action,
// so that OPA's index passes over it.
const notCovered = "18-20"

func TestTestTellsCoverage(t *testing.T) {
	t.Parallel()
	dir := covered(t)
	code, out, stderr := command(t, "", "test", dir, "--coverage")
	want := "coverage " + dir + "/policy.rego: 75.0 %, 9 of 12 lines\n    not covered: " + notCovered + "\n" +
		"coverage in all: 75.0 %, 9 of 12 lines\n2 passed, 0 failed, 0 skipped\n"
	if code != 0 || !strings.HasSuffix(out, want) {
		t.Errorf("code %d, %s%s, want the end\n%s", code, out, stderr, want)
	}
	if _, out, _ := command(t, "", "test", dir); strings.Contains(out, "coverage") {
		t.Errorf("coverage that nobody asked for: %s", out)
	}
}

func TestTestPrintsCoverageAsOPADoes(t *testing.T) {
	t.Parallel()
	dir := covered(t)
	code, out, stderr := command(t, "", "test", dir, "--coverage", "-o", "json")
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	var r cover.Report
	if err := dec.Decode(&r); err != nil || code != 0 {
		t.Fatalf("code %d, %v: %s%s", code, err, out, stderr)
	}
	f := r.Files[dir+"/policy.rego"]
	if len(r.Files) != 1 || f == nil || r.CoveredLines != 9 || r.NotCoveredLines != 3 || f.CoveredLines != 9 {
		t.Fatalf("report %+v", r)
	}
	if diff := cmp.Diff(notCovered, lineRanges(f.NotCovered)); diff != "" {
		t.Error(diff)
	}
	// While a test fails, that is what the report is about.
	if code, out, _ := command(t, "", "test", sample(t), "--coverage", "-o", "json"); code != 1 || !strings.Contains(out, `"failed": 2`) {
		t.Errorf("code %d, %s", code, out)
	}
}

func TestTestCoverageThreshold(t *testing.T) {
	t.Parallel()
	dir := covered(t)
	tests := []struct {
		args []string
		code int
		want string // in standard error
	}{
		{[]string{"--coverage-threshold=75"}, 0, ""},
		{[]string{"--coverage-threshold=75.1"}, 1, "coverage is 75.00 %, and 75.10 % are asked for"},
		{[]string{"--coverage-threshold=0"}, 0, ""},
		{[]string{"--coverage-threshold=101"}, 1, "0 to 100"},
		{[]string{"--coverage-threshold=-1"}, 1, "0 to 100"},
		{[]string{"--coverage-threshold=NaN"}, 1, "0 to 100"},
		{[]string{"--coverage", "-o", "junit"}, 1, "junit"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, "", append([]string{"test", dir}, tt.args...)...)
			if code != tt.code || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr %q", code, out, stderr)
			}
			if tt.code == 0 && !strings.Contains(out, "coverage in all") {
				t.Errorf("a threshold alone tells no coverage: %s", out)
			}
		})
	}
	// Of what there are no tests at all, nothing is covered.
	bare := bundle(t, map[string]string{"policy.rego": readPolicy})
	if code, out, stderr := command(t, "", "test", bare, "--allow-empty", "--coverage-threshold=1"); code != 1 || !strings.Contains(out, "0.0 %, 0 of 1 lines") {
		t.Errorf("code %d, %s%s", code, out, stderr)
	}
}

func TestLineRanges(t *testing.T) {
	t.Parallel()
	rows := func(pairs ...[2]int) (out []cover.Range) {
		for _, p := range pairs {
			out = append(out, cover.Range{Start: cover.Position{Row: p[0]}, End: cover.Position{Row: p[1]}})
		}
		return out
	}
	for want, ranges := range map[string][]cover.Range{
		"":              nil,
		"1":             rows([2]int{1, 1}),
		"3-4, 7":        rows([2]int{3, 3}, [2]int{4, 4}, [2]int{7, 7}),
		"3-9, 11-12":    rows([2]int{3, 9}, [2]int{4, 5}, [2]int{9, 9}, [2]int{11, 12}),
		"1-2, 4, 6-100": rows([2]int{1, 1}, [2]int{1, 2}, [2]int{4, 4}, [2]int{6, 100}),
	} {
		if got := lineRanges(ranges); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTestComparesRequirementsAndDenial(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{
		"policy.rego": "package authz\n\nimport data.authzd.v1 as authzd\n\n" +
			"permit[\"read\"] := {\"require\": [authzd.scopes([\"a\", \"b\"])]} if input.action.name == \"read\"\n",
		"cases/a.yaml": `queries: {q: {subject: {type: identity, id: alice}, action: {name: read}, resource: {type: file, id: a}, mcp: {method: read, transport: http, protocol_version: "2026-07-28", server: "https://s.example"}}}
cases:
  the requirement: {query: q, want: {decision: DENY, rule: read, requirements: [{kind: scopes, scopes: [a, b]}]}}
  another one: {query: q, want: {decision: DENY, rule: read, requirements: [{kind: scopes, scopes: [a, c]}]}}
  the wire: {query: q, want: {decision: DENY, denial: {http: {status: 401}}}}
  another wire: {query: q, want: {decision: DENY, denial: {http: {status: 403}, mcp_result: {isError: true}}}}
`,
	})
	code, out, stderr := command(t, "", "test", dir)
	for _, want := range []string{
		"another one\n    /requirements/0/scopes/1: want \"c\", got \"b\"\n",
		"another wire\n    /denial/http/status: want 403, got 401\n    /denial/mcp_result: want {\"isError\":true}, got null\n",
		"2 passed, 2 failed, 0 skipped\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s%s", want, out, stderr)
		}
	}
	if code != 1 {
		t.Errorf("code %d", code)
	}
}
