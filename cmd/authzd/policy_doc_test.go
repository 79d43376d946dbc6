package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

func policyDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocPolicyFirstBundle writes the first bundle of docs/policy.md to disk
// and tests it as its reader would.
func TestDocPolicyFirstBundle(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(policyDoc(t), "## A first bundle")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	files := regexp.MustCompile("(?m)^`([^`\n]+)`[^\n]*:\n\n```(?:json|rego)\n((?s:.*?))```").FindAllStringSubmatch(section, -1)
	if len(files) != 5 {
		t.Fatalf("the section shows %d files, want 5", len(files))
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f[1]))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := command(t, "", "test", dir)
	if code != 0 || !strings.Contains(stdout, "4 passed, 0 failed") {
		t.Errorf("authzd test: exit %d\n%s%s", code, stdout, stderr)
	}
}

// TestDocPolicyTraps compiles the forms that docs/policy.md calls wrong and
// says are caught at compile time, and the right forms beside them.
func TestDocPolicyTraps(t *testing.T) {
	t.Parallel()
	data, err := rar.DecodeStrict([]byte(`{"authzd_tools": {"pay": {"arguments": {"type": "object", "required": ["payments"], "properties": {
		"payments": {"type": "array", "items": {"type": "object", "required": ["amount", "currency"],
			"properties": {"amount": {"type": "string"}, "currency": {"type": "string"}}}},
		"external": {"type": "boolean"}, "path": {"type": "string"}, "amount": {"type": "string"}}}}}}`), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := rar.DecodeStrict([]byte(`{"contract": 1}`), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]engine.Code{
		"1.": "engine.unbounded_iteration", "2.": "engine.negation_may_be_undefined",
		"3.": "engine.forbid_may_be_undefined", "4.": "engine.negation_may_be_undefined",
	}
	for _, trap := range strings.Split(policyDoc(t), "\n### ") {
		trap, _, _ = strings.Cut(trap, "\n## ")
		number, _, _ := strings.Cut(trap, " ")
		want, ok := wrong[number]
		if !ok {
			continue
		}
		delete(wrong, number)
		for _, b := range regexp.MustCompile("(?s)```rego\n# (Wrong|Right)(.*?)```").FindAllStringSubmatch(trap, -1) {
			policy := "package authz\n\nimport data.authzd.v1 as authzd\n\nargs := input.mcp.params.arguments\n\nused := authzd.decimal(\"1\")\n\n#" + b[2]
			_, _, err := engine.Compile(t.Context(), []engine.Bundle{{
				Name: "doc", Revision: "1", Roots: []string{""}, Metadata: metadata, Data: data,
				Modules: []engine.Module{{Path: "policy.rego", Text: policy}},
			}})
			refused := err != nil && strings.Contains(err.Error(), string(want))
			if (b[1] == "Wrong") != refused || (b[1] == "Right" && err != nil) {
				t.Errorf("%s form of trap %s: %v", b[1], number, err)
			}
		}
	}
	if len(wrong) != 0 {
		t.Errorf("traps not found: %v", wrong)
	}
}
