package lint_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/engine/internal/lint"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

const libraryFile = "authzd/v1.rego"

// input compiles policy beside the library, and reads declarations from data.
func input(tb testing.TB, policy, data string) lint.Input {
	tb.Helper()
	library, err := fs.ReadFile(policies.FS(), policies.Library+"/"+libraryFile)
	if err != nil {
		tb.Fatal(err)
	}
	modules := map[string]*ast.Module{}
	for file, text := range map[string]string{libraryFile: string(library), "policy.rego": policy} {
		m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			tb.Fatal(err)
		}
		modules[file] = m
	}
	c := ast.NewCompiler()
	if c.Compile(modules); c.Failed() {
		tb.Fatal(c.Errors)
	}
	doc, err := rar.Packing{Above: 1 << 16}.Decode(data, rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	in := lint.Input{
		Compiler: c, Entrypoint: ast.MustParseRef("data.authz"), Data: doc,
		IsLibrary: func(file string) bool { return file == libraryFile },
	}
	tools, _ := doc.Get("authzd_tools")
	for i := range tools.Len() {
		arguments, _ := tools.Member(i).Value.Get("arguments")
		in.Tools = append(in.Tools, contract.Tool{Name: tools.Member(i).Name, Arguments: arguments})
	}
	declared, _ := doc.Get("authzd_types")
	var types []rar.Declaration
	for i := range declared.Len() {
		types = append(types, rar.Declaration{Name: declared.Member(i).Name, Document: declared.Member(i).Value})
	}
	if in.Types, _, err = rar.CompileTypes(types); err != nil {
		tb.Fatal(err)
	}
	return in
}

// TestRules runs the policies of testdata. A line that ends in "# want CODE" has that
// finding, "CODE!" one that fails open; every other line has none.
func TestRules(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{"data.json": "{}"}
			for _, f := range txtar.Parse(text).Files {
				parts[f.Name] = string(f.Data)
			}
			in := input(t, parts["policy.rego"], strings.NewReplacer(
				"LONG", "["+strings.Repeat("0,", 999)+"0]", "LARGE", large(),
			).Replace(parts["data.json"]))
			var got []string
			for _, f := range lint.Run(t.Context(), in) {
				if f.Message == "" || f.Fix == "" || f.Rule == "" && f.Code != lint.CodeBadIgnore {
					t.Errorf("incomplete: %+v", f)
				}
				got = append(got, mark(f))
			}
			if diff := cmp.Diff(wanted(parts["policy.rego"]), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// large is an object that is kept as text.
func large() string {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, `"account-%d": {"x": "some text that makes this a row of some length"}, `, i)
	}
	return "{" + b.String() + `"last": {}}`
}

func mark(f lint.Finding) string {
	code := f.Code
	if f.FailsOpen {
		code += "!"
	}
	return fmt.Sprintf("%d %s", f.Row, code)
}

func wanted(policy string) []string {
	var out []string
	for i, line := range strings.Split(policy, "\n") {
		if _, codes, ok := strings.Cut(line, "# want "); ok {
			for _, code := range strings.Fields(codes) {
				out = append(out, fmt.Sprintf("%d %s", i+1, code))
			}
		}
	}
	return out
}

func TestFindingsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	got := lint.Run(t.Context(), input(t, `package authz

permit["a"] := {} if {
	calls("pay")
	some item in input.list
	item.kind == "x"
	item.kind in {"y", "z"}
}

calls(tool) if {
	input.action.name == "tools/call"
	input.resource.id == tool
}
`, `{"authzd_tools": {"pya": {"arguments": {}}, "payment": {"arguments": {}}}}`))
	want := []lint.Finding{
		{
			Code: lint.CodeUnknownTool, File: "policy.rego", Row: 4, Col: 2, Rule: `permit["a"]`,
			Message: `tool "pay" is not declared: a call of it is denied, or held to a schema that its caller brings`,
			Fix:     "declare it in authzd_tools/pay/data.json",
		},
		{
			Code: lint.CodeNeverFires, File: "policy.rego", Row: 7, Col: 2, Rule: `permit["a"]`,
			Message: `permit["a"] never holds: input.list[_].kind can not be "x" and "y" or "z" at once`,
			Fix:     "remove the rule, or what contradicts itself",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestIgnoreNeedsAReason(t *testing.T) {
	t.Parallel()
	got := lint.Run(t.Context(), input(t, "package authz\n\n# lint:ignore never_fires\npermit[\"a\"] := {} if false\n", `{}`))
	var codes []string
	for _, f := range got {
		codes = append(codes, mark(f))
	}
	if diff := cmp.Diff([]string{"3 lint.bad_ignore", "4 lint.never_fires"}, codes); diff != "" || !strings.Contains(got[0].Message, "gives no reason") {
		t.Errorf("%+v, -want +got:\n%s", got, diff)
	}
}

// The library is not read with policy, and has no findings when it is.
func TestLibraryIsClean(t *testing.T) {
	t.Parallel()
	in := input(t, "package authz\n", `{}`)
	in.IsLibrary = func(string) bool { return false }
	if got := lint.Run(t.Context(), in); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// However many forbids there are, each is looked at for what it says of a missing row.
func TestManyForbidsAskForRows(t *testing.T) {
	t.Parallel()
	var policy strings.Builder
	policy.WriteString("package authz\n")
	for i := range 2500 {
		fmt.Fprintf(&policy, "forbid[\"a\"] := {} if data.limits[input.k%d].max < 5\n", i)
		fmt.Fprintf(&policy, "forbid[\"b\"] := {} if not data.limits[input.k%d]\n", i)
	}
	if got := lint.Run(t.Context(), input(t, policy.String(), `{}`)); len(got) > 0 {
		t.Errorf("%d findings, the first %+v", len(got), got[0])
	}
}

// A variable of one of many nested bodies is not taken for one of a body that was not read.
func TestManyNestedBodies(t *testing.T) {
	t.Parallel()
	const kinds = `
permit["a"] := {"require": [authzd.authorization_details(authzd.each(input.list, [{"type": kind} | some p in input.list; kind = p.kind]))]} if {
	count([kind | kind = "u"]) == 1
`
	policy := "package authz\n\nimport data.authzd.v1 as authzd\n" + kinds + strings.Repeat("\tcount([x | x = 1]) == 1\n", 1200) + "}\n"
	if got := lint.Run(t.Context(), input(t, policy, `{}`)); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// What functions put together of their parameters is bounded: ten times as much in each.
func TestNestedParametersAreBounded(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{
		"in a value": `permit["a"] := {"require": [authzd.approval({"workflow": f1(input.subject.id), "approver": "x"})]} if input.resource.id == "pay"`,
		"in a body":  `permit["a"] := {} if f1(input.subject.id)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var policy strings.Builder
			policy.WriteString("package authz\n\nimport data.authzd.v1 as authzd\n\n")
			for i := range 12 {
				fmt.Fprintf(&policy, "f%d(x) := f%d(data.t%s)\n\n", i+1, i+2, strings.Repeat("[x]", 10))
			}
			policy.WriteString("f13(x) := y if {\n\ty := x\n\tx == 1\n}\n\n" + last + "\n")
			if found := lint.Run(t.Context(), input(t, policy.String(), `{}`)); len(found) != 0 {
				t.Errorf("found %+v", found)
			}
		})
	}
}

// What is too much to read is said to be, and large policy of a usual kind is not.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	found := lint.Run(t.Context(), input(t, many(3000), `{}`))
	if slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Code == lint.CodeIncomplete }) {
		t.Error("3000 rules are too many")
	}
	var policy strings.Builder
	policy.WriteString("package authz\n\nimport data.authzd.v1 as authzd\n\nnone := [" + strings.Repeat(`" ",`, 2000) + "\" \"]\n")
	for i := range 700 {
		fmt.Fprintf(&policy, "\npermit[\"p%d\"] := {\"require\": [authzd.scopes(none)]} if input.action.name == \"a\"\n", i)
	}
	if found := lint.Run(t.Context(), input(t, policy.String(), `{}`)); len(found) != 1 || found[0].Code != lint.CodeIncomplete {
		t.Errorf("found %d, want one, %s", len(found), lint.CodeIncomplete)
	}
}

// Findings that nobody waits for are none, so that none is half of the truth.
func TestRunIsStopped(t *testing.T) {
	t.Parallel()
	in := input(t, "package authz\n\npermit[\"a\"] := {} if false\n", `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	before := lint.Run(ctx, in)
	cancel()
	if after := lint.Run(ctx, in); len(before) != 1 || after != nil {
		t.Errorf("%+v, then %+v", before, after)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	var policy strings.Builder
	policy.WriteString("package authz\n")
	for i := range 250 {
		fmt.Fprintf(&policy, "permit[\"p%d\"] := {} if false\n", i)
	}
	got := lint.Run(t.Context(), input(t, policy.String(), `{}`))
	last := got[len(got)-1]
	if len(got) != 101 || last.Code != lint.CodeNeverFires || last.Row != 0 || !strings.Contains(last.Message, "150 more") {
		t.Errorf("%d findings, the last %+v", len(got), last)
	}
}

// TestTestdataCoversEveryCode: each code is wanted somewhere, and each file has lines that
// nearly are findings.
func TestTestdataCoversEveryCode(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range lint.Codes() {
		if code.Name == lint.CodeIncomplete {
			continue // TestWorkIsBounded
		}
		name := strings.TrimPrefix(code.Name, "lint.")
		at := slices.IndexFunc(files, func(f string) bool { return filepath.Base(f) == name+".txtar" })
		if at < 0 {
			t.Errorf("%s has no file in testdata", code.Name)
			continue
		}
		text, err := os.ReadFile(files[at])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "# want "+code.Name) {
			t.Errorf("%s has no finding in its file", code.Name)
		}
	}
}
