package bundles_test

import (
	"errors"
	"maps"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
)

func diffFiles() map[string]string {
	return map[string]string{
		".manifest": `{"revision": "1", "roots": ["authz", "authz_test", "lists", "authzd_tools", "authzd_types"], "metadata": {"authzd": {"contract": 1, "sequence": 1}}}`,
		"policy.rego": `package authz

import data.authzd.v1 as authzd
import data.lists as lists

# Who may pay.
permit["pay"] := {"require": [authzd.scopes(["pay"])]} if input.resource.id == "pay"

permit["pay"] := {"require": [authzd.scopes(["pay"])]} if input.resource.id == "pay2"

forbid["blocked"] := {} if input.subject.id in lists.blocked

helper(x) := x + 1
`,
		"policy_test.rego":           "package authz_test\n\ntest_a if 1 == 1\n",
		"lists/data.json":            `{"blocked": ["mallory"], "limits": {"a": 1.0, "b/c": 2}}`,
		"authzd_tools/pay/data.json": `{"arguments": {"type": "object"}}`,
		"authzd_types/a/data.json":   `{"type": "a", "schema": {}}`,
		"cases/pay.yaml":             "cases: []\n",
	}
}

func contentOf(t *testing.T, files map[string]string) bundles.Content {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	c, err := bundles.OpenFS(fsys, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDiff(t *testing.T) {
	t.Parallel()
	const head = "package authz\n\nimport data.authzd.v1 as authzd\nimport data.lists as lists\n\n"
	const pay = `permit["pay"] := {"require": [authzd.scopes(["pay"])]} if input.resource.id == "pay"` + "\n\n"
	const pay2 = `permit["pay"] := {"require": [authzd.scopes(["pay"])]} if input.resource.id == "pay2"` + "\n\n"
	const blocked = `forbid["blocked"] := {} if input.subject.id in lists.blocked` + "\n\n"
	const helper = "helper(x) := x + 1\n"
	manifest := func(revision, roots, more string) string {
		return `{"revision": "` + revision + `", "roots": ["authz", "authz_test", "lists", "authzd_tools", "authzd_types"` + roots + `], "metadata": {"authzd": {"contract": 1` + more + `}}}`
	}
	for name, c := range map[string]struct {
		files map[string]string // "" removes
		want  []bundles.Change
	}{
		"nothing": {nil, nil},
		"layout, comments, order and files": {map[string]string{
			"policy.rego": head + pay2 + "# new words\n" + blocked, "more.rego": head + helper + pay, "lists/data.json": "", "data.json": `{"lists": {"limits": {"b/c": 2, "a": 1.0}, "blocked": ["mallory"]}}`,
		}, nil},
		"a condition": {map[string]string{"policy.rego": head + pay + blocked + helper}, []bundles.Change{{Kind: "permit", How: "changed", Name: `authz.permit.pay`}}},
		"a permit more": {map[string]string{"more.rego": head + `permit["get"] := {"require": [authzd.approval({}), data.authzd.v1.proof_of_possession()]}`}, []bundles.Change{
			{Kind: "permit", How: "added", Name: `authz.permit.get`},
			{Kind: "requirement", How: "added", Name: `authz.permit.get approval`},
			{Kind: "requirement", How: "added", Name: `authz.permit.get proof_of_possession`},
		}},
		"another requirement": {map[string]string{"policy.rego": head + `permit["pay"] := {"require": [authzd.single_use([{}])]}` + "\n" + blocked + helper}, []bundles.Change{
			{Kind: "permit", How: "changed", Name: `authz.permit.pay`},
			{Kind: "requirement", How: "removed", Name: `authz.permit.pay scopes`},
			{Kind: "requirement", How: "added", Name: `authz.permit.pay single_use`},
		}},
		"no forbid": {map[string]string{"policy.rego": head + pay + pay2 + helper}, []bundles.Change{{Kind: "forbid", How: "removed", Name: `authz.forbid.blocked`}}},
		"an import that a rule uses": {map[string]string{"policy.rego": "package authz\n\nimport data.authzd.v1 as authzd\nimport data.other as lists\n\n" + pay + pay2 + blocked + helper}, []bundles.Change{
			{Kind: "forbid", How: "changed", Name: `authz.forbid.blocked`},
		}},
		"a function": {map[string]string{"policy.rego": head + pay + pay2 + blocked + "helper(x) := x + 2\n"}, []bundles.Change{{Kind: "rule", How: "changed", Name: "authz.helper"}}},
		"metadata and roots": {map[string]string{".manifest": manifest("2", `, "more"`, `, "sequence": 2, "lax_forbids": true`)}, []bundles.Change{
			{Kind: "metadata", How: "added", Name: "/metadata/authzd/lax_forbids"},
			{Kind: "metadata", How: "changed", Name: "/metadata/authzd/sequence"},
			{Kind: "metadata", How: "changed", Name: "/revision"},
			{Kind: "root", How: "added", Name: "/more"},
		}},
		"data": {map[string]string{"lists/data.json": `{"blocked": ["mallory", "trudy"], "limits": {"b/c": 3}, "new": {"x": {}}}`}, []bundles.Change{
			{Kind: "data", How: "changed", Name: "/lists/blocked"},
			{Kind: "data", How: "removed", Name: "/lists/limits/a"},
			{Kind: "data", How: "changed", Name: "/lists/limits/b~1c"},
			{Kind: "data", How: "added", Name: "/lists/new/x"},
		}},
		"tools and types": {map[string]string{"authzd_tools/pay/data.json": `{"arguments": {"type": "object", "required": ["x"]}}`, "authzd_types/a/data.json": "", "authzd_types/b/data.json": `{"type": "b", "schema": {}}`}, []bundles.Change{
			{Kind: "type", How: "removed", Name: "a"}, {Kind: "type", How: "added", Name: "b"}, {Kind: "tool", How: "changed", Name: "pay"},
		}},
		"tests and cases": {map[string]string{"policy_test.rego": "package authz_test\n\ntest_a if 1 == 2\n", "cases/pay.yaml": "", "cases/get.yaml": "cases: []\n"}, []bundles.Change{
			{Kind: "test", How: "changed", Name: "authz_test.test_a"}, {Kind: "case", How: "added", Name: "cases/get.yaml"}, {Kind: "case", How: "removed", Name: "cases/pay.yaml"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := diffFiles()
			maps.Copy(files, c.files)
			maps.DeleteFunc(files, func(_, text string) bool { return text == "" })
			got, err := bundles.Diff(contentOf(t, diffFiles()), contentOf(t, files))
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

func TestDiffRefuses(t *testing.T) {
	t.Parallel()
	files := diffFiles()
	files["broken.rego"] = "package authz\n\npermit if\n"
	broken, fine := contentOf(t, files), contentOf(t, diffFiles())
	for _, pair := range [][2]bundles.Content{{broken, fine}, {fine, broken}} {
		var refused *engine.CompileError
		changes, err := bundles.Diff(pair[0], pair[1])
		if !errors.As(err, &refused) || changes != nil || refused.Findings[0].Code != engine.CodePolicySyntax || refused.Findings[0].File != "broken.rego" || refused.Findings[0].Row == 0 {
			t.Errorf("%v, %v", changes, err)
		}
	}
}
