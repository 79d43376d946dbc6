package contract_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/rar"
)

func input(t testing.TB, policy string) contract.Input {
	t.Helper()
	in := contract.Input{Modules: libraryModules(t)}
	m, err := ast.ParseModuleWithOpts("policy.rego", policy, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	in.Modules["policy.rego"] = m
	return in
}

func codesOf(found []contract.Finding) []string {
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s %s", f.Severity, f.Code))
	}
	return out
}

const forbidBlocked = `package authz
forbid["blocked"] := {} if input.mcp.params.arguments.account in data.blocked
`

func payTool(t testing.TB, required string) contract.Tool {
	t.Helper()
	return contract.Tool{Name: "pay", Arguments: decode(t,
		`{"type": "object", "properties": {"account": {"type": "string"}}, "required": [`+required+`]}`)}
}

func TestCheckDataAgain(t *testing.T) {
	t.Parallel()
	in := input(t, forbidBlocked)
	in.Tools = []contract.Tool{payTool(t, `"account"`)}
	a := contract.Analyze(in)
	if found := a.Findings(); len(found) > 0 {
		t.Fatalf("findings: %v", found)
	}
	var many strings.Builder // members beside the one that is read, enough to be indexed
	for i := range 200 {
		fmt.Fprintf(&many, `, "m%d": 1`, i)
	}
	for data, want := range map[string][]string{
		`{"blocked": []` + many.String() + `}`:            nil,
		`{"blocked": null` + many.String() + `}`:          {"error bundle.missing_data"},
		`{"blocked": {"a": 1}` + many.String() + `}`:      {"error bundle.data_not_array"},
		`{"other": {"blocked": []}` + many.String() + `}`: {"error bundle.missing_data"},
		`{"blocked": []}`:       nil,
		`{"blocked": ["a"]}`:    nil,
		`{}`:                    {"error bundle.missing_data"},
		`{"blocked": null}`:     {"error bundle.missing_data"},
		`{"blocked": {"a": 1}}`: {"error bundle.data_not_array"},
		`[]`:                    {"error bundle.data_invalid"},
		`{"blocked": [], "system": 1}`: {
			"error bundle.reserved_root",
		},
	} {
		if diff := cmp.Diff(want, codesOf(a.CheckData(decode(t, data)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", data, diff)
		}
	}
	if diff := cmp.Diff([]string{"error bundle.missing_data"}, codesOf(a.CheckData(rar.Value{}))); diff != "" {
		t.Errorf("absent data (-want +got):\n%s", diff)
	}
}

func TestCheckTool(t *testing.T) {
	t.Parallel()
	in := input(t, forbidBlocked)
	in.Tools = []contract.Tool{payTool(t, `"account"`)}
	a := contract.Analyze(in)
	for schema, want := range map[string][]string{
		`{"type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"]}`: nil,
		`{"type": "object", "properties": {"other": {"type": "string"}}}`:                            nil,
		`{"type": "object", "properties": {"account": {"type": "string"}}}`:                          {"error engine.forbid_may_be_undefined"},
		`{"type": "object"}`: nil,
		`{"type": "object", "additionalProperties": true}`: {"error engine.forbid_may_be_undefined"},
		`{}`:   {"error engine.forbid_may_be_undefined"},
		`true`: {"error engine.forbid_may_be_undefined"},
	} {
		got := codesOf(a.CheckTool(contract.Tool{Name: "other", Arguments: decode(t, schema)}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", schema, diff)
		}
	}
	if got := a.CheckTool(contract.Tool{Name: "absent"}); !contract.Failed(got) {
		t.Errorf("a tool without any schema passes: %v", got)
	}
}

// Choices that multiply are not followed: what can not be told is refused.
func TestCheckToolIsBounded(t *testing.T) {
	t.Parallel()
	in := input(t, forbidBlocked)
	in.Tools = []contract.Tool{payTool(t, `"account"`)}
	a := contract.Analyze(in)
	many := "[" + strings.Repeat("true, ", 4000) + "true]"
	schema := `{"type": "object", "anyOf": ` + many + `, "oneOf": ` + many + `, "allOf": ` + many + `}`
	if got := a.CheckTool(contract.Tool{Name: "other", Arguments: decode(t, schema)}); !contract.Failed(got) {
		t.Errorf("it passes: %v", got)
	}
}

func TestCheckToolCompares(t *testing.T) {
	t.Parallel()
	in := input(t, `package authz
permit["x"] := {} if { input.mcp.params.arguments.amount < 100; to_number(input.mcp.params.arguments.price) < 5 }
`)
	number := `{"type": "object", "properties": {"amount": {"type": "number"}, "price": {"type": "string"}}}`
	in.Tools = []contract.Tool{{Name: "pay", Arguments: decode(t, number)}}
	a := contract.Analyze(in)
	if found := a.Findings(); len(found) > 0 {
		t.Fatalf("findings: %v", found)
	}
	for schema, want := range map[string][]string{
		number: nil,
		`{"type": "object", "properties": {"other": {}}}`:                                           nil,
		`{"type": "object", "properties": {"amount": {"type": ["integer", "null"]}}}`:               {"error engine.mixed_comparison"},
		`{"type": "object", "properties": {"price": {"type": ["string", "null"]}}}`:                 {"error engine.mixed_comparison"},
		`{"type": "object", "properties": {"amount": {"type": "number"}, "price": {"minimum": 1}}}`: {"error engine.mixed_comparison"},
	} {
		got := codesOf(a.CheckTool(contract.Tool{Name: "other", Arguments: decode(t, schema)}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", schema, diff)
		}
	}
	if got := a.CheckTool(contract.Tool{Name: "absent"}); !contract.Failed(got) {
		t.Errorf("a tool without any schema passes: %v", got)
	}
}

// A path that no declared tool has is refused; a tool known by its query only
// that may have it must not pass either.
func TestCheckToolOfUndeclaredPath(t *testing.T) {
	t.Parallel()
	in := input(t, forbidBlocked)
	in.LaxForbids = true
	in.Tools = []contract.Tool{{Name: "other", Arguments: decode(t, `{"type": "object"}`)}}
	got := codesOf(contract.Analyze(in).CheckTool(payTool(t, "")))
	if diff := cmp.Diff([]string{"warning engine.forbid_may_be_undefined"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLibraryCannotBeForged(t *testing.T) {
	t.Parallel()
	in := input(t, `package authz
import data.authzd.v1 as authzd
permit["x"] := {} if authzd.any_small(input.mcp.params.arguments.payments)
`)
	forged, err := ast.ParseModuleWithOpts("authzd/v1/more.rego", "package authzd.v1\nany_small(list) if list[_].value < 100\n",
		ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	in.Modules["authzd/v1/more.rego"] = forged
	in.IsLibrary = func(path string) bool { return path == "authzd/v1.rego" }
	got := codesOf(contract.Check(in))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"error engine.mixed_comparison", "error engine.reserved_root", "error engine.unbounded_iteration"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFindingsSayWhatToDo(t *testing.T) {
	t.Parallel()
	in := input(t, `package authz
forbid["blocked"] := {} if helper
helper if input.mcp.params.arguments.account in data.blocked
`)
	in.Tools = []contract.Tool{payTool(t, "")}
	in.Data = decode(t, `{"blocked": []}`)
	want := []contract.Finding{{
		Code: contract.CodeForbidUndefined, Severity: contract.Error, File: "policy.rego", Row: 3, Col: 11, Rule: "helper",
		Message: `input.mcp.params.arguments.account may be undefined (reached from forbid["blocked"]), which would then go unseen: ` +
			`tool "pay" may leave it out. Use object.get(input.mcp.params.arguments, "account", null)`,
	}}
	if diff := cmp.Diff(want, contract.Check(in)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCheckIsDeterministicAndLeavesModulesAlone(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/undefined.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("package authz\n")
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "args.") && !strings.Contains(line, "opa-refuses") {
			fmt.Fprintf(&rules, "forbid[\"%d\"] := {} if {\n\targs := input.mcp.params.arguments\n\t%s\n}\n", i, line)
		}
	}
	in := input(t, rules.String())
	before := in.Modules["policy.rego"].Copy()
	first := contract.Check(in)
	if len(first) < 20 {
		t.Fatalf("only %d findings", len(first))
	}
	for range 5 {
		if diff := cmp.Diff(first, contract.Check(in)); diff != "" {
			t.Fatalf("another result:\n%s", diff)
		}
	}
	if !before.Equal(in.Modules["policy.rego"]) {
		t.Error("the module was changed")
	}
	if !slices.IsSortedFunc(first, func(a, b contract.Finding) int { return a.Row - b.Row }) {
		t.Error("findings are not in order")
	}
}

func TestEveryCodeIsListedAndReached(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	reached := map[string]bool{contract.CodeDataInvalid: true} // TestCheckDataAgain
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(string(text)) {
			reached[word] = true
		}
	}
	seen := map[string]bool{}
	for _, c := range contract.Codes() {
		if !reached[c.Name] {
			t.Errorf("no case wants %s", c.Name)
		}
		if c.Meaning == "" || seen[c.Name] {
			t.Errorf("%s is listed twice or without a meaning", c.Name)
		}
		seen[c.Name] = true
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	c := contract.Capabilities()
	if c.AllowNet == nil || len(c.AllowNet) != 0 {
		t.Errorf("AllowNet %v: nil would allow every host", c.AllowNet)
	}
	allowed := map[string]bool{}
	for _, b := range c.Builtins {
		allowed[b.Name] = true
	}
	var left []string
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if !allowed[b.Name] {
			left = append(left, b.Name)
		}
	}
	want := []string{
		"bits.lsh", "crypto.parse_private_keys", "crypto.x509.parse_keypair", "crypto.x509.parse_rsa_private_key", "http.send",
		"io.jwt.encode_sign", "io.jwt.encode_sign_raw", "net.lookup_ip_addr", "opa.runtime", "providers.aws.sign_req",
		"rego.parse_module", "trace",
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	// An OPA that adds a builtin to a group that is allowed whole is looked at.
	if n := len(c.Builtins); n != 194 {
		t.Errorf("%d builtins are allowed, not 194: look at what this OPA adds", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	var policy strings.Builder
	policy.WriteString("package authz\nimport data.authzd.v1 as authzd\nargs := input.mcp.params.arguments\n")
	for i := range 100 {
		fmt.Fprintf(&policy, "permit[\"p%d\"] := {\"require\": [authzd.scopes([\"s\"])]} if {\n\tinput.resource.id == \"t%d\"\n\thelper_%d\n\tnot args.account in data.blocked\n}\n", i, i, i)
		fmt.Fprintf(&policy, "helper_%d if {\n\tevery p in args.payments { p.value < %d }\n\tsome r in data.roles[input.subject.id]\n\tr == \"payer\"\n}\n", i, i)
	}
	in := input(b, policy.String())
	in.Data = decode(b, `{"blocked": [], "roles": {}}`)
	for i := range 100 {
		in.Tools = append(in.Tools, contract.Tool{Name: fmt.Sprintf("t%d", i), Arguments: decode(b, `{"type": "object",
			"properties": {"account": {"type": "string"}, "payments": {"type": "array", "items": {"type": "object", "properties": {"value": {"type": "number"}}}}},
			"required": ["account", "payments"]}`)})
	}
	if found := contract.Check(in); len(found) > 0 {
		b.Fatal(found[0])
	}
	b.ReportAllocs()
	for b.Loop() {
		contract.Check(in)
	}
}
