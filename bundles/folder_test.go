package bundles_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

func folder(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return m
}

func TestFolderLeavesOut(t *testing.T) {
	t.Parallel()
	c, err := bundles.OpenFS(folder(map[string]string{
		"policy.rego": policy, "README.md": "x", ".policy.rego.swp": "x", ".git/data.json": "{", ".hidden.rego": "x",
		"sub/.manifest": "x", "blocked.json": `["a"]`, "lists/more.yaml": "a: 1", "cases/a.yaml": "cases: {}", "cases/q.json": "{}",
	}), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Bundle.Modules) != 1 || c.Bundle.Data.Len() != 0 || len(c.Cases) != 2 {
		t.Errorf("content %v", c)
	}
	want := []string{
		"blocked.json is not part of the bundle: data files are named data.json or data.yaml",
		"lists/more.yaml is not part of the bundle: data files are named data.json or data.yaml",
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestFolderRefuses(t *testing.T) {
	t.Parallel()
	small := bundles.Limits{MaxBytes: 150, MaxFileBytes: 120, MaxFiles: 4, MaxPathDepth: 2, MaxDataDepth: 4, MaxYAMLBytes: 100}
	tests := []struct {
		name  string
		files map[string]string
		code  bundles.Code
		path  string
	}{
		{"nothing", nil, bundles.CodeEmpty, ""},
		{"only other files", map[string]string{"README.md": "x"}, bundles.CodeEmpty, ""},
		{"Rego in another case", map[string]string{"policy.Rego": policy}, bundles.CodeUnknownFile, "policy.Rego"},
		{"data in another case", map[string]string{"DATA.json": "{}"}, bundles.CodeUnknownFile, "DATA.json"},
		{"Wasm", map[string]string{"policy.wasm": ""}, bundles.CodeUnsupported, "policy.wasm"},
		{"large file", map[string]string{"a.rego": strings.Repeat("#", 121)}, bundles.CodeTooLarge, "a.rego"},
		{"large together", map[string]string{"a.rego": strings.Repeat("#", 100), "b.rego": strings.Repeat("#", 100)}, bundles.CodeTooLarge, "b.rego"},
		{"many files", map[string]string{"a": "", "b": "", "c": "", "d": "", "e": ""}, bundles.CodeTooLarge, ""},
		{"deep", map[string]string{"a/b/c/x.rego": ""}, bundles.CodeTooLarge, "a/b/c"},
		{"data is no object", map[string]string{"data.json": "[]"}, bundles.CodeDataInvalid, "data.json"},
		{"data is no JSON", map[string]string{"data.json": "{"}, bundles.CodeDataInvalid, "data.json"},
		{"trailing data", map[string]string{"data.json": "{} {}"}, bundles.CodeDataInvalid, "data.json"},
		{"duplicate key", map[string]string{"a/data.json": `{"b":{"c":1,"c":2}}`}, bundles.CodeDataInvalid, "a/data.json#/b/c"},
		{"deep data", map[string]string{"data.json": `{"a":[[[[1]]]]}`}, bundles.CodeDataInvalid, ""},
		{"deep YAML", map[string]string{"data.yaml": `{"a":[[[[1]]]]}`}, bundles.CodeDataInvalid, "data.yaml"},
		{"large YAML", map[string]string{"data.yaml": "a: " + strings.Repeat("x", 100)}, bundles.CodeDataInvalid, "data.yaml"},
		{"one key of two files", map[string]string{"data.json": `{"a":{"b":1}}`, "a/data.json": `{"b":1}`}, bundles.CodeDataConflict, "data.json"},
		{"scalar over object", map[string]string{"data.json": `{"a":1}`, "a/b/data.json": `{}`}, bundles.CodeDataConflict, "data.json"},
		{"object over scalar", map[string]string{"data.json": `{"a":{"b":{}}}`, "a/b/data.json": `7`}, bundles.CodeDataConflict, "data.json"},
		{"null is a value", map[string]string{"data.json": `{"a":null}`, "a/data.json": `{"b":1}`}, bundles.CodeDataConflict, "data.json"},
		{"JSON beside YAML", map[string]string{"a/data.json": `[1]`, "a/data.yaml": `[1]`}, bundles.CodeDataConflict, "a/data.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := bundles.OpenFS(folder(tt.files), small)
			wantCode(t, err, tt.code, tt.path)
		})
	}
}

func TestFolderMergesData(t *testing.T) {
	t.Parallel()
	c, err := bundles.OpenFS(folder(map[string]string{
		"data.json": `{"a":{"x":{"y":1}},"b":{}}`, "a/data.yaml": "z: [1]", "a/x/data.json": `{"w":2}`, "b/c.d/data.json": `"v"`,
	}), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(c.Bundle.Data.AppendCanonical(nil)), `{"a":{"x":{"w":2,"y":1},"z":[1]},"b":{"c.d":"v"}}`; got != want {
		t.Errorf("data %s, want %s", got, want)
	}
}

func TestOpenRefusesLinksThatLeaveTheFolder(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, map[string]string{"secret.rego": policy, "folder/x.rego": policy})
	write(t, dir, map[string]string{"real/p.rego": policy, "..2026/q.rego": "package q\n"})
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// Kubernetes mounts a ConfigMap so.
	link("..2026", "..data")
	link("..data/q.rego", "q.rego")
	c, err := bundles.Open(dir, bundles.Limits{})
	if err != nil || len(c.Bundle.Modules) != 2 {
		t.Fatalf("modules %v, %v", c.Bundle.Modules, err)
	}
	link(filepath.Join(outside, "secret.rego"), "stolen.rego")
	_, err = bundles.Open(dir, bundles.Limits{})
	wantCode(t, err, bundles.CodeUnsafeEntry, "stolen.rego")
	if err := os.Remove(filepath.Join(dir, "stolen.rego")); err != nil {
		t.Fatal(err)
	}
	link("real", "folder.rego")
	_, err = bundles.Open(dir, bundles.Limits{})
	wantCode(t, err, bundles.CodeUnsafeEntry, "folder.rego")
}

func TestOpenOfNothing(t *testing.T) {
	t.Parallel()
	_, err := bundles.Open(filepath.Join(t.TempDir(), "absent"), bundles.Limits{})
	wantCode(t, err, bundles.CodeUnreadable, "")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v does not tell that nothing is there", err)
	}
}

func TestOpensTheDefaultPolicy(t *testing.T) {
	t.Parallel()
	sub, err := fs.Sub(policies.FS(), policies.Default)
	if err != nil {
		t.Fatal(err)
	}
	c, err := bundles.OpenFS(sub, bundles.Limits{})
	if err != nil || len(c.Bundle.Modules) != 1 || c.Bundle.Metadata.Kind() != rar.Object {
		t.Errorf("content %v, %v", c, err)
	}
}

// Stock OPA needs the library in the bundle; the engine brings its own.
func TestLeavesOutACopyOfTheLibrary(t *testing.T) {
	t.Parallel()
	library, err := fs.ReadFile(policies.FS(), policies.Library+"/authzd/v1.rego")
	if err != nil {
		t.Fatal(err)
	}
	c, err := bundles.OpenFS(folder(map[string]string{
		".manifest":   `{"roots":["authz","authzd"]}`,
		"policy.rego": policy, "lib/authzd/v1.rego": string(library), "lib/authzd/v1_test.rego": "package authzd.v1_test\n\ntest_x if true\n",
	}), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Bundle.Modules) != 1 || len(c.Bundle.Tests) != 0 {
		t.Errorf("modules %v tests %v", c.Bundle.Modules, c.Bundle.Tests)
	}
	if diff := cmp.Diff([]string{"authz"}, c.Bundle.Roots); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeYAML(t *testing.T) {
	t.Parallel()
	tests := []struct{ yaml, want string }{
		{"a: 1", `{"a":1}`},
		{"a: 9007199254740993", `{"a":9007199254740993}`},
		{"a: 12000.50", `{"a":12000.50}`},
		{"a: 1e3", `{"a":1e3}`},
		{"a: 12345678901234567890123", `{"a":12345678901234567890123}`},
		{"a: \"1e3\"", `{"a":"1e3"}`},
		{"a: '007'", `{"a":"007"}`},
		{"a: yes\nb: no\nc: on", `{"a":"yes","b":"no","c":"on"}`},
		{"a: true\nb: False\nc: ~\nd:\ne: null", `{"a":true,"b":false,"c":null,"d":null,"e":null}`},
		{"a: 2026-01-01\nb: 18:00\nc: 1.2.3", `{"a":"2026-01-01","b":"18:00","c":"1.2.3"}`},
		{"- 1\n- - 2\n- b: c\n  d: e", `[1,[2],{"b":"c","d":"e"}]`},
		{"{a: [1, {b: c}], \"d\": x}", `{"a":[1,{"b":"c"}],"d":"x"}`},
		{"a: |\n  one\n  two\n", `{"a":"one\ntwo\n"}`},
		{"a: >-\n  one\n  two\n", `{"a":"one two"}`},
		{"---\na: b # why\n", `{"a":"b"}`},
		{"\"1\": x", `{"1":"x"}`},
		{"/a/b: x", `{"/a/b":"x"}`},
		{"text", `"text"`},
	}
	for _, tt := range tests {
		v, err := bundles.DecodeYAML([]byte(tt.yaml), bundles.Limits{})
		if got := string(v.AppendJSON(nil)); err != nil || got != tt.want {
			t.Errorf("%q: %s, %v, want %s", tt.yaml, got, err, tt.want)
		}
	}
}

func TestDecodeYAMLRefuses(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{
		"", "# nothing", "a: 0x1F", "a: 0o17", "a: 0b11", "a: 1_000", "a: 007", "a: -007", "a: .5", "a: 5.", "a: +1", "a: +1e3", "a: 1.e3",
		"a: .inf", "a: -.inf", "a: .nan", "a: 1e999999999", "a: 1\na: 2", "a: {b: 1, b: 2}", "\"a\": 1\na: 2", "1: x", "true: x", "~: x", "? a\n: b",
		"a: &x 1\nb: *x", "<<: {a: 1}", "a: !!str 5", "!!map {a: 1}", "a: 1\n---\nb: 2", "a: [1", "a: \"x", "\xff: 1", "a:\n\t- b",
		strings.Repeat("[", 100), strings.Repeat("- ", 100) + "x", strings.Repeat("[", 100000), strings.Repeat("- ", 100000),
		strings.Repeat("{a: ", 5000), strings.Repeat("[", 65) + strings.Repeat("]", 65),
	} {
		if v, err := bundles.DecodeYAML([]byte(yaml), bundles.Limits{}); err == nil {
			t.Errorf("%.40q: accepted as %.60s", yaml, v.AppendJSON(nil))
		}
	}
}

func FuzzDecodeYAML(f *testing.F) {
	for _, s := range []string{"a: 1", "- 1\n- b: [c, {d: e}]", "a: |\n  x\n", "? a\n: b", "a: &x [*x]", "'a': \"\\u0041\"", "%YAML 1.2\n---\na: !x y"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := bundles.DecodeYAML(data, bundles.Limits{MaxYAMLBytes: 4096})
		if err != nil {
			return
		}
		// What was accepted is JSON.
		if _, err := rar.DecodeStrict(v.AppendJSON(nil), rar.Limits{MaxBytes: 1 << 20, MaxDepth: 64}); err != nil {
			t.Fatalf("%q became %s: %v", data, v.AppendJSON(nil), err)
		}
	})
}

func TestRunTests(t *testing.T) {
	t.Parallel()
	open := func(test string) bundles.Content {
		c, err := bundles.OpenFS(folder(map[string]string{
			"policy.rego": "package authz\n\nimport data.authzd.v1 as authzd\n\npermit[\"x\"] := {\"require\": [authzd.scopes([\"s\"])]} if input.a == data.limit\n",
			"data.json":   `{"limit": 9007199254740993}`,
			"p_test.rego": "package authz_test\n\nimport data.authz\n\n" + test,
		}), bundles.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(`test_exact if authz.permit.x with input.a as 9007199254740993

test_near if not authz.permit.x with input.a as 9007199254740992

test_wrong if {
	print("looking")
	authz.permit.y
}

test_builtin if to_number("x") == 1

todo_test_later if false
`)
	got, err := bundles.RunTests(t.Context(), c.Bundle, bundles.TestOptions{StrictBuiltins: true})
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Name    string
		Row     int
		Outcome bundles.Outcome
	}
	var rows []row
	for _, r := range got {
		rows = append(rows, row{r.Name, r.Row, r.Outcome})
		if r.File != "p_test.rego" || r.Package != "authz_test" {
			t.Errorf("%s is in file %q, package %q", r.Name, r.File, r.Package)
		}
	}
	want := []row{
		{"test_exact", 5, bundles.OutcomePass},
		{"test_near", 7, bundles.OutcomePass},
		{"test_wrong", 9, bundles.OutcomeFail},
		{"test_builtin", 14, bundles.OutcomeError},
		{"todo_test_later", 16, bundles.OutcomeSkip},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Fatal(diff)
	}
	if r := got[2]; r.Output != "looking\n" || r.Message != "line 11: authz.permit.y" {
		t.Errorf("output %q, message %q", r.Output, r.Message)
	}
	if !strings.Contains(got[3].Message, "to_number") {
		t.Errorf("message %q", got[3].Message)
	}
	// As stock OPA judges it, with a note.
	lax, err := bundles.RunTests(t.Context(), c.Bundle, bundles.TestOptions{})
	if err != nil || len(lax) != len(got) || lax[3].Outcome != bundles.OutcomeFail || !strings.Contains(lax[3].Note, "to_number") {
		t.Errorf("results %v, %v", lax, err)
	}
}

func TestRunTestsRefuses(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"syntax":          {"a_test.rego": "package authz_test\n\ntest_x if {"},
		"network":         {"a_test.rego": "package authz_test\n\ntest_x if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"}).status_code == 200\n"},
		"runtime":         {"a_test.rego": "package authz_test\n\ntest_x if opa.runtime().env\n"},
		"name resolution": {"a_test.rego": "package authz_test\n\ntest_x if net.lookup_ip_addr(\"localhost\")\n"},
		"outside roots":   {"a_test.rego": "package other\n\ntest_x if true\n", ".manifest": `{"roots":["authz","authz_test"]}`},
		"empty":           {"a_test.rego": "# nothing\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files["policy.rego"] = policy
			c, err := bundles.OpenFS(folder(files), bundles.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = bundles.RunTests(t.Context(), c.Bundle, bundles.TestOptions{})
			wantCode(t, err, bundles.CodeTestInvalid, "")
		})
	}
}

func TestRunTestsStops(t *testing.T) {
	t.Parallel()
	c, err := bundles.OpenFS(folder(map[string]string{
		"policy.rego": policy,
		"a_test.rego": "package authz_test\n\ntest_endless if count([x | some a in numbers.range(1, 30000); some b in numbers.range(1, 30000); x := a * b]) == 0\n",
	}), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := bundles.RunTests(t.Context(), c.Bundle, bundles.TestOptions{Timeout: 50 * time.Millisecond})
	if err != nil || len(got) != 1 || got[0].Outcome != bundles.OutcomeError {
		t.Errorf("results %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := bundles.RunTests(ctx, c.Bundle, bundles.TestOptions{}); err == nil {
		t.Errorf("results %v of a cancelled run", got)
	}
}

func TestCodesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[bundles.Code]bool{}
	for _, c := range bundles.Codes() {
		if seen[c] || !strings.HasPrefix(string(c), "bundle.") {
			t.Errorf("code %q", c)
		}
		seen[c] = true
	}
}
