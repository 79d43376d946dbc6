package contract_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

// The cases are files of testdata/*.txtar. A line of policy that the contract
// objects to ends in "# want SEVERITY CODE"; nothing else may be found. Findings
// without a line are wanted by "# want-global SEVERITY CODE" anywhere. NAME.rego
// is a module as it stands; NAME.permit, NAME.forbid, NAME.allow and NAME.deny
// are the body of one rule, with args an alias of the arguments. Options:
//
//	# lax              lax_forbids
//	# untyped          untyped_tools
//	# optional PATH    an entry of optional_data
//	# entry REF        the entry point
//	# data JSON        instead of the archive's data.json
//	# tools JSON       instead of the archive's tools.json: name to schema
//	# opa-refuses      OPA's own compiler refuses the module as well
//	# file NAME        what follows is another module
func TestCases(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		topic := strings.TrimSuffix(filepath.Base(path), ".txtar")
		shared := map[string]string{"data.json": "{}", "tools.json": "{}"}
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".json") {
				shared[f.Name] = string(f.Data)
			}
		}
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".json") {
				continue
			}
			t.Run(topic+"/"+f.Name, func(t *testing.T) {
				t.Parallel()
				c := readCase(t, f, shared)
				var got []string
				for _, x := range contract.Check(c.in) {
					got = append(got, fmt.Sprintf("%s:%d %s %s", x.File, x.Row, x.Severity, x.Code))
					t.Log(x.File, x.Row, x.Rule, x.Code, x.Message)
				}
				slices.Sort(got)
				got = slices.Compact(got)
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("findings (-want +got):\n%s", diff)
				}
				checkOPA(t, c)
			})
		}
	}
}

type testCase struct {
	in         contract.Input
	want       []string
	opaRefuses bool
}

func readCase(t *testing.T, f txtar.File, shared map[string]string) testCase {
	t.Helper()
	text := string(f.Data)
	if doc, ok := strings.CutPrefix(filepath.Ext(f.Name), "."); ok && doc != "rego" {
		head := map[string]string{
			"permit": `permit["x"] := {} if {`, "forbid": `forbid["x"] := {} if {`, "allow": "allow if {", "deny": "deny if {",
		}[doc]
		if head == "" {
			t.Fatalf("%s: unknown kind of case", f.Name)
		}
		text = "package authz\nimport data.authzd.v1 as authzd\nargs := input.mcp.params.arguments\n" +
			"uses := [authzd.scopes([\"s\"])]\n" + head + "\n" + text + "\n}\n"
	}
	c := testCase{in: contract.Input{Modules: libraryModules(t)}}
	data, tools := shared["data.json"], shared["tools.json"]
	for i, part := range regexp.MustCompile(`(?m)^# file (.*)$`).Split(text, -1) {
		name := "policy.rego"
		if i > 0 {
			name = regexp.MustCompile(`(?m)^# file (.*)$`).FindAllStringSubmatch(text, -1)[i-1][1]
		}
		for n, line := range strings.Split(part, "\n") {
			if _, want, ok := strings.Cut(line, "# want "); ok {
				for _, w := range strings.Split(want, " and ") {
					c.want = append(c.want, fmt.Sprintf("%s:%d %s", name, n+1, strings.TrimSpace(w)))
				}
			}
			if _, want, ok := strings.Cut(line, "# want-global "); ok {
				c.want = append(c.want, ":0 "+strings.TrimSpace(want))
			}
			option(&c, line, &data, &tools)
		}
		m, err := ast.ParseModuleWithOpts(name, part, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: contract.Capabilities()})
		if err != nil {
			t.Fatal(err)
		}
		c.in.Modules[name] = m
	}
	slices.Sort(c.want)
	c.in.Data = decode(t, data)
	schemas := decode(t, tools)
	for i := range schemas.Len() {
		c.in.Tools = append(c.in.Tools, contract.Tool{Name: schemas.Member(i).Name, Arguments: schemas.Member(i).Value})
	}
	return c
}

func option(c *testCase, line string, data, tools *string) {
	name, value, _ := strings.Cut(strings.TrimPrefix(line, "# "), " ")
	if !strings.HasPrefix(line, "# ") {
		return
	}
	switch name {
	case "lax":
		c.in.LaxForbids = true
	case "untyped":
		c.in.UntypedTools = true
	case "optional":
		c.in.OptionalData = append(c.in.OptionalData, value)
	case "entry":
		c.in.Entrypoint = ast.MustParseRef(value)
	case "data":
		*data = value
	case "tools":
		*tools = value
	case "opa-refuses":
		c.opaRefuses = true
	}
}

func libraryModules(t testing.TB) map[string]*ast.Module {
	t.Helper()
	text, err := fs.ReadFile(policies.FS(), policies.Library+"/authzd/v1.rego")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ast.ParseModuleWithOpts("authzd/v1.rego", string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*ast.Module{"authzd/v1.rego": m}
}

func decode(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20, MaxDepth: 64})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// checkOPA proves that a case is real Rego that OPA's compiler takes with our
// capabilities and schemas, or does not where the case says so.
func checkOPA(t *testing.T, c testCase) {
	t.Helper()
	compiler, err := compileOPA(c.in)
	if err != nil {
		t.Fatal(err)
	}
	if compiler.Failed() != c.opaRefuses {
		t.Errorf("OPA refuses: %v, want %v: %v", compiler.Failed(), c.opaRefuses, compiler.Errors)
	}
}

func compileOPA(in contract.Input) (*ast.Compiler, error) {
	schemas, err := contract.Reduce(in.Tools, in.UntypedTools)
	if err != nil {
		return nil, fmt.Errorf("reduce: %w", err)
	}
	compiler := ast.NewCompiler().WithCapabilities(contract.Capabilities()).WithSchemas(schemas)
	compiler.Compile(in.Modules)
	return compiler, nil
}

func TestExampleOfTheContract(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/contract_example.rego")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ast.ParseModuleWithOpts("policy.rego", string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	in := contract.Input{
		Modules: libraryModules(t),
		Tools: []contract.Tool{{Name: "payments.initiate", Arguments: decode(t, `{"type": "object",
			"properties": {"amount": {"type": "string"}, "currency": {"type": "string"}, "creditorAccount": {"type": "string"}},
			"required": ["amount", "currency", "creditorAccount"]}`)}},
		Data: decode(t, `{"blocked_accounts": ["DE00"]}`),
	}
	in.Modules["policy.rego"] = m
	if found := contract.Check(in); len(found) > 0 {
		t.Errorf("findings: %v", found)
	}
	if c, err := compileOPA(in); err != nil || c.Failed() {
		t.Errorf("compile: %v %v", err, c.Errors)
	}
}
