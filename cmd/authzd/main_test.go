package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	paymentsBundle = "../../policies/examples/payments"
	denyQuery      = "../../examples/payments/deny.json"
	allowQuery     = "../../examples/payments/allow.json"
)

// command runs authzd in this process.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, stdio{in: strings.NewReader(stdin), out: &out, err: &err}, func(string) string { return "" })
	return code, out.String(), err.String()
}

// bundle writes a bundle's files into a new folder.
func bundle(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sample")
	if _, ok := files[".manifest"]; !ok {
		files[".manifest"] = `{"revision": "r1", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const callQuery = `{"subject": {"type": "identity", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "file", "id": "a"}}`

const readPolicy = "package authz\n\npermit[\"read\"] := {} if input.action.name == \"read\"\n"

func TestCheckDecides(t *testing.T) {
	t.Parallel()
	sample := bundle(t, map[string]string{"policy.rego": readPolicy})
	tests := []struct {
		name, stdin string
		args        []string
		code        int
		decision    string
	}{
		{"allow", "", []string{"-f", allowQuery, "--bundle", paymentsBundle}, 0, "ALLOW"},
		{"deny", "", []string{"-f", denyQuery, "--bundle", "payments=" + paymentsBundle}, 2, "DENY"},
		{"no bundle", "", []string{"-f", allowQuery}, 2, "DENY"},
		{"standard input", callQuery, []string{"-f", "-", "--bundle", sample}, 0, "ALLOW"},
		{"another action", strings.Replace(callQuery, "read", "write", 1), []string{"-f", "-", "--bundle", sample}, 2, "DENY"},
		{"before the token expires", "", []string{"-f", allowQuery, "--bundle", paymentsBundle, "--now", "2099-12-31T23:59:59Z"}, 0, "ALLOW"},
		{"when the token has expired", "", []string{"-f", allowQuery, "--bundle", paymentsBundle, "--now", "2100-01-01T00:00:00Z"}, 2, "DENY"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, tt.stdin, append([]string{"check"}, tt.args...)...)
			var got struct{ Decision string }
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != tt.code || got.Decision != tt.decision {
				t.Errorf("code %d, %q, %q (%v)", code, out, stderr, err)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	broken := bundle(t, map[string]string{"policy.rego": "package authz\n\npermit[\"x\"] := {} if nothing.here\n"})
	tests := []struct {
		name, stdin string
		args        []string
		stderr      string
		stdout      string
	}{
		{"no file", "", nil, "--file is required", ""},
		{"absent file", "", []string{"-f", "absent.json"}, "absent.json", ""},
		{"empty query", "", []string{"-f", "-"}, "request.empty", `"code":"request.empty"`},
		{"malformed query", "{", []string{"-f", "-"}, "request.syntax", `"code":"request.syntax"`},
		{"unknown member", `{"mcp":{"method":"tools/call","parms":{}}}`, []string{"-f", "-"}, "request.unknown_member at /mcp/parms", `"path":"/mcp/parms"`},
		{"huge query", `{"context":"` + strings.Repeat("x", 300<<10) + `"}`, []string{"-f", "-"}, "request.too_large", `"code":"request.too_large"`},
		{"text has no body", "{", []string{"-f", "-", "-o", "text"}, "request.syntax", ""},
		{"another revision", strings.Replace(callQuery, "{", `{"require_revision":{"bundle":"default","revision":"x"},`, 1), []string{"-f", "-"}, "api.revision_not_active", `"path":"/require_revision"`},
		{"unknown format", callQuery, []string{"-f", "-", "-o", "yaml"}, `"yaml" is not one of json, text`, ""},
		{"no time", callQuery, []string{"-f", "-", "--now", "noon"}, "--now", ""},
		{"both places", callQuery, []string{"-f", "-", "--bundle", ".", "--addr", "127.0.0.1:1"}, "none of the others can be", ""},
		{"a clock for a server", callQuery, []string{"-f", "-", "--now", "2026-01-01T00:00:00Z", "--addr", "127.0.0.1:1"}, "none of the others can be", ""},
		{"absent bundle", callQuery, []string{"-f", "-", "--bundle", "absent"}, "bundle.unreadable", ""},
		{"a bundle that does not compile", callQuery, []string{"-f", "-", "--bundle", broken}, broken + "/policy.rego:3:22: engine.policy_compile: ", ""},
		{"no server", callQuery, []string{"-f", "-", "--addr", "127.0.0.1:1", "--timeout", "1s"}, "127.0.0.1:1", ""},
		{"a key for no server", callQuery, []string{"-f", "-", "--key-env", "K"}, "need --addr", ""},
		{"a CA for no server", callQuery, []string{"-f", "-", "--tls-ca", "ca"}, "need --addr", ""},
		{"an absent CA", callQuery, []string{"-f", "-", "--addr", "127.0.0.1:1", "--tls-ca", "/absent.pem"}, "/absent.pem", ""},
		{"a CA that is none", callQuery, []string{"-f", "-", "--addr", "127.0.0.1:1", "--tls-ca", "main_test.go"}, "holds no certificate", ""},
		{"a certificate without key", callQuery, []string{"-f", "-", "--addr", "127.0.0.1:1", "--cert", "c"}, "belong together", ""},
		{"an empty variable", callQuery, []string{"-f", "-", "--addr", "127.0.0.1:1", "--key-env", "UNSET"}, "the variable UNSET is empty", ""},
		{"arguments", callQuery, []string{"-f", "-", "more"}, "unknown command", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, tt.stdin, append([]string{"check"}, tt.args...)...)
			if code != 1 || !strings.Contains(stderr, tt.stderr) || !strings.Contains(out, tt.stdout) || (tt.stdout == "" && out != "") {
				t.Errorf("code %d, stdout %q, stderr %q", code, out, stderr)
			}
		})
	}
}

func TestCheckTellsPeople(t *testing.T) {
	t.Parallel()
	_, deny, _ := command(t, "", "check", "-f", denyQuery, "--bundle", paymentsBundle, "-o", "text")
	for _, want := range []string{
		"DENY\n", "rule:        initiate-payment", "requirement.unmet", "missing:     authorization_details", "123.50", "policy:      payments at payments-1",
	} {
		if !strings.Contains(deny, want) {
			t.Errorf("%q is not in\n%s", want, deny)
		}
	}
	_, allow, _ := command(t, "", "check", "-f", allowQuery, "--bundle", paymentsBundle, "-o", "text")
	for _, want := range []string{"ALLOW\n", "met:         authorization_details by credential primary"} {
		if !strings.Contains(allow, want) {
			t.Errorf("%q is not in\n%s", want, allow)
		}
	}
	// What a caller or policy wrote cannot drive the terminal.
	sample := bundle(t, map[string]string{"policy.rego": readPolicy + "\nforbid[\"x\"] := {\"message\": \"a\\u001b[2Jb\"} if input.action.name == \"read\"\n"})
	_, out, _ := command(t, callQuery, "check", "-f", "-", "--bundle", sample, "-o", "text")
	if strings.Contains(out, "\x1b") || !strings.Contains(out, "DENY\n") {
		t.Errorf("text %q", out)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	code, out, _ := command(t, "", "version", "-o", "json")
	var v versionInfo
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Version == "" || v.Go == "" || v.Platform == "" {
		t.Errorf("code %d, %q, %v", code, out, err)
	}
	if code, out, _ := command(t, "", "version"); code != 0 || !strings.HasPrefix(out, "authzd ") {
		t.Errorf("code %d, %q", code, out)
	}
}

func TestHelpAndMistakes(t *testing.T) {
	t.Parallel()
	if code, out, _ := command(t, ""); code != 0 || !strings.Contains(out, "serve") {
		t.Errorf("code %d, %q", code, out)
	}
	for _, args := range [][]string{{"srve"}, {"schema"}, {"schema", "other"}, {"check", "--explain"}, {"test"}, {"serve", "--nothing"}} {
		if code, out, stderr := command(t, "", args...); code != 1 || out != "" || !strings.HasPrefix(stderr, "authzd: ") {
			t.Errorf("%v: code %d, %q, %q", args, code, out, stderr)
		}
	}
}
