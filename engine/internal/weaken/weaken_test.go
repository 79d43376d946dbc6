package weaken_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/weaken"
)

// TestMake shows a policy and what is left of it. What a weaker policy answers is
// tested in package engine, against the decisions of the policy itself.
func TestMake(t *testing.T) {
	t.Parallel()
	const policy = `package authz

permit["write"] := {"require": [{"kind": "scopes", "scopes": ["write", args.more]}], "priority": 7} if {
	input.resource.id == "write"
	who := input.subject.id
	startswith(args.path, who)
	who in data.writers
	may_write
	not args.dangerous
}

default may_write := false

may_write if {
	args.size < 10
	input.context.mode == "rw"
}

allow if {
	input.subject.id == "root"
} else := false if {
	args.x
}

forbid["frozen"] := {} if data.frozen[input.resource.id]

forbid["big"] := {} if args.size > 99

args := input.mcp.params.arguments
`
	const want = `
h0 = true if { input.context.mode = "rw" }
permits contains ["permit", "write", {"priority": 7, "require": [{"kind": "scopes", "scopes": ["write", {"authzd: unknown"}]}]}] if { input.resource.id = "write"; V = input.subject.id; V = data.writers; internal.member_2(V, V); data.authzd_filter.h0 }
permits contains ["allow", "allow", true] if { input.subject.id = "root" }
permits contains ["allow", "allow", false] if { true }
forbids contains ["forbid", "frozen", {}] if { V = input.resource.id; data.frozen[V] }`
	compiled := compile(t, policy)
	before := compiled.Modules["policy.rego"].String()
	made := weaken.Make(compiled, ast.MustParseRef("data.authz"))
	if compiled.Modules["policy.rego"].String() != before {
		t.Error("the policy itself was changed")
	}
	var got strings.Builder
	for _, r := range made.Module.Rules {
		got.WriteString("\n" + r.String())
	}
	text := regexp.MustCompile(`__local\d+__`).ReplaceAllString(got.String(), "V")
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if made.ReadsTime {
		t.Error("the policy does not read the clock")
	}
}

// TestMakeReadsTime: only what is left counts.
func TestMakeReadsTime(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]bool{
		`allow if input.now > "x"`:                                    true,
		`allow if time.now_ns() > 1`:                                  true,
		"allow if early\n\nearly if input.now > \"x\"":                true,
		`allow if input.mcp.params.arguments.until > input.now`:       false,
		`allow if input.subject.id == "x"`:                            false,
		"allow if true\n\nother if input.now > \"x\"":                 false,
		"allow if true\n\ndeny if input.now > input.mcp.params.until": false,
	} {
		if got := weaken.Make(compile(t, "package authz\n\n"+policy), ast.MustParseRef("data.authz")).ReadsTime; got != want {
			t.Errorf("%s: %v", policy, got)
		}
	}
}

func TestHasUnknown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{`{"a": [1, "x"]}`: false, `{"a": [1, {2}]}`: true, `{1}`: true, `null`: false} {
		if got := weaken.HasUnknown(ast.MustParseTerm(text).Value); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if !weaken.HasUnknown(ast.ArrayTerm(weaken.Unknown()).Value) {
		t.Error("an unknown part is not found")
	}
}

func compile(t *testing.T, policy string) *ast.Compiler {
	t.Helper()
	m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	c := ast.NewCompiler()
	if c.Compile(map[string]*ast.Module{"policy.rego": m}); c.Failed() {
		t.Fatal(c.Errors)
	}
	return c
}
