package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheckExplains(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		code  int
		want  []string
	}{
		{denyQuery, 2, []string{
			"DENY\n", "\nPolicy was asked about tools/call of tool payments.initiate, and interpreted\n",
			"  permit initiate-payment holds (priority 100)\n    met: scopes by credential primary\n    unmet: authorization_details: ",
			"      - /0: rar.no_granted_type\n", "stops at line 40: amount >= large_amount\n", "  true       data.authz.calls\n", "is held (evaluated 2 times)\n",
		}},
		{allowQuery, 0, []string{"ALLOW\n", "    met: authorization_details by credential primary\n"}},
	} {
		code, out, stderr := command(t, "", "check", "-f", c.query, "--bundle", paymentsBundle, "--explain", "-o", "text")
		if code != c.code || stderr != "" || strings.Contains(out, "  | ") {
			t.Errorf("%s: code %d, %q", c.query, code, stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", c.query, want, out)
			}
		}
		code, out, _ = command(t, "", "check", "-f", c.query, "--bundle", paymentsBundle, "--explain", "--trace")
		var got struct {
			Check       struct{ Decision string }
			Evaluations []struct{ Trace []string }
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != c.code || len(got.Evaluations) != 1 || len(got.Evaluations[0].Trace) == 0 {
			t.Errorf("%s: code %d, %v, %q", c.query, code, err, out)
		}
		if allowed := got.Check.Decision == "ALLOW"; allowed != (c.code == 0) {
			t.Errorf("%s: %s", c.query, got.Check.Decision)
		}
	}
	failing := bundle(t, map[string]string{"policy.rego": "package authz\n\npermit[\"x\"] := {} if to_number(input.subject.id) == 1\n\nforbid[\"y\"] := {} if input.action.name == \"read\"\n"})
	code, out, _ := command(t, callQuery, "check", "-f", "-", "--bundle", failing, "--explain", "--trace", "-o", "text")
	for _, want := range []string{"policy.rego:3 fails: to_number: ", "  | policy.rego:3"} {
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("code %d, %q is not in\n%s", code, want, out)
		}
	}
	forbidden := bundle(t, map[string]string{"policy.rego": readPolicy + "\nforbid[\"y\"] := {} if input.action.name == \"read\"\n"})
	if code, out, _ := command(t, callQuery, "check", "-f", "-", "--bundle", forbidden, "--explain", "-o", "text"); code != 2 || !strings.Contains(out, "  permit read holds") || !strings.Contains(out, "  forbid y holds\n") {
		t.Errorf("code %d\n%s", code, out)
	}
	if code, out, stderr := command(t, callQuery, "check", "-f", "-", "--trace"); code != 1 || out != "" || !strings.Contains(stderr, "--trace needs --explain") {
		t.Errorf("code %d, %q, %q", code, out, stderr)
	}
}
