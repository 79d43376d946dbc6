package main

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
)

func TestTestPasses(t *testing.T) {
	t.Parallel()
	code, out, stderr := command(t, "", "test", paymentsBundle)
	if code != 0 || !strings.Contains(out, " passed, 0 failed, 0 skipped\n") || strings.HasPrefix(out, "0 passed") {
		t.Errorf("code %d, %s%s", code, out, stderr)
	}
}

// sample has one passing and one failing test of each kind.
func sample(t *testing.T) string {
	t.Helper()
	return bundle(t, map[string]string{
		"policy.rego": readPolicy,
		"policy_test.rego": "package authz_test\n\nimport data.authz\n\n" +
			"test_read if authz.permit.read with input.action.name as \"read\"\n\n" +
			"test_write if {\n\tprint(\"looking\")\n\tauthz.permit.read with input.action.name as \"write\"\n}\n\n" +
			"todo_test_later if false\n",
		"cases/a.yaml": "queries:\n  q: " + callQuery + "\ncases:\n" +
			"  reading is allowed: {query: q, want: {decision: ALLOW, rule: read}}\n" +
			"  writing is allowed: {query: q, set: {/action/name: write}, want: {decision: ALLOW, remediation: {status: available}}}\n" +
			"  an empty query is an error: {query: q, remove: [/subject, /action, /resource], want: {error: request.empty}}\n",
	})
}

func TestTestReportsFailures(t *testing.T) {
	t.Parallel()
	dir := sample(t)
	code, out, _ := command(t, "", "test", dir)
	want := []string{
		"FAIL " + dir + "/policy_test.rego:7: authz_test.test_write\n    line 9: authz.permit.read with",
		"    | looking\n",
		"FAIL " + dir + "/cases/a.yaml: writing is allowed\n    /decision: want \"ALLOW\", got \"DENY\"\n    /remediation/status: want \"available\", got \"undisclosed\"\n",
		"3 passed, 2 failed, 1 skipped\n",
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in\n%s", w, out)
		}
	}
	if code != 1 {
		t.Errorf("code %d", code)
	}
}

func TestTestReportsJSON(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, "", "test", sample(t), "-o", "json")
	var r testReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	if len(r.Tests) != 6 || r.Passed != 3 || r.Failed != 2 || r.Skipped != 1 {
		t.Fatalf("report %+v", r)
	}
	last := r.Tests[4]
	if last.Name != "writing is allowed" || last.Kind != kindCase || len(last.Differences) != 2 || last.Differences[0].Path != "/decision" {
		t.Errorf("case %+v", last)
	}
}

func TestTestReportsJUnit(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, "", "test", sample(t), "-o", "junit")
	var doc junitSuites
	if err := xml.Unmarshal([]byte(out), &doc); err != nil || code != 1 {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	if len(doc.Suites) != 2 {
		t.Fatalf("suites %+v", doc)
	}
	rego, cases := doc.Suites[0], doc.Suites[1]
	if rego.Tests != 3 || rego.Failures != 1 || rego.Skipped != 1 || cases.Tests != 3 || cases.Failures != 1 {
		t.Errorf("suites %+v", doc.Suites)
	}
	if f := cases.Cases[1].Failure; f == nil || !strings.Contains(f.Text, `/decision: want "ALLOW", got "DENY"`) {
		t.Errorf("case %+v", cases.Cases[1])
	}
}

func TestTestRefuses(t *testing.T) {
	t.Parallel()
	const passing = "package authz_test\n\ntest_x if true\n"
	tests := []struct {
		name  string
		files map[string]string
		args  []string
		want  string
	}{
		{"no tests", map[string]string{"policy.rego": readPolicy}, nil, "no tests"},
		{"policy does not compile", map[string]string{"policy.rego": "package authz\n\npermit if {", "a_test.rego": passing}, nil, "/policy.rego:3:"},
		{"tests do not compile", map[string]string{"policy.rego": readPolicy, "a_test.rego": "package authz_test\n\ntest_x if data.authz.nothing(1)\n"}, nil, "bundle.test_invalid"},
		{"cases do not decode", map[string]string{"policy.rego": readPolicy, "cases/a.yaml": "case: {}"}, nil, "/cases/a.yaml#/case: bundle.case_invalid"},
		{"a builtin fails", map[string]string{"policy.rego": readPolicy, "a_test.rego": "package authz_test\n\ntest_x if not to_number(\"x\")\n"}, []string{"--strict-builtins"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, "", append([]string{"test", bundle(t, tt.files)}, tt.args...)...)
			if code != 1 || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr %q", code, out, stderr)
			}
		})
	}
	if code, out, _ := command(t, "", "test", "--allow-empty", bundle(t, map[string]string{"policy.rego": readPolicy})); code != 0 || !strings.HasSuffix(out, "\n0 passed, 0 failed, 0 skipped\n") {
		t.Errorf("code %d, %q", code, out)
	}
	note := bundle(t, map[string]string{"policy.rego": readPolicy, "a_test.rego": "package authz_test\n\ntest_x if not to_number(\"x\")\n"})
	if code, out, _ := command(t, "", "test", note); code != 0 || !strings.Contains(out, "builtins failed in 1 of the tests") {
		t.Errorf("code %d, %q", code, out)
	}
}
