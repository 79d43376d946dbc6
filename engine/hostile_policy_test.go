package engine_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
)

// TestHostilePolicies: what a policy costs to compile, and to prepare, grows with its size.
// Each of these took minutes, or all memory.
func TestHostilePolicies(t *testing.T) {
	t.Parallel()
	chain := func(n int, step string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.NewReplacer("NEXT", fmt.Sprintf("x%d", i+1), "THIS", fmt.Sprintf("x%d", i)).Replace(step) + "\n")
		}
		return b.String()
	}
	many := func(n int, rule string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(rule, "N", strconv.Itoa(i)) + "\n\n")
		}
		return b.String()
	}
	nested := func(n int, before, in, after string) string {
		return strings.Repeat(before, n) + in + strings.Repeat(after, n)
	}
	var rules strings.Builder
	for i := range 60 {
		fmt.Fprintf(&rules, "r%d := %d if input.action.name == \"r%d\"\n", i, i, i)
	}
	for name, c := range map[string]struct {
		policy string
		code   engine.Code // "": it is taken
		why    string      // it is interpreted; "": it is not
	}{
		"defaults of defaults":             {"permit[\"a\"] := {} if {\nx0 := {\"k\": input.subject.id}\n" + chain(30, `NEXT := object.get(THIS, "k", THIS)`) + "x30 == \"a\"\n}", "", ""},
		"sums of sums":                     {"permit[\"a\"] := {} if f(1) == 2\nf(x0) := x32 if {\n" + chain(32, `NEXT := THIS + THIS`) + "}", "", ""},
		"the least of the least":           {"permit[\"a\"] := {} if {\nx0 := 1\n" + chain(30, `NEXT := min([THIS, THIS])`) + "x30 == 1\n}", "", ""},
		"a long reference":                 {"permit[\"a\"] := {} if input" + strings.Repeat("[_]", 3000), engine.CodePolicyTooDeep, ""},
		"a reference that may be taken":    {"permit[\"a\"] := {} if input.context" + strings.Repeat(".y", 100), "", ""},
		"nested calls":                     {"permit[\"a\"] := {} if " + nested(1000, "object.get(", "input.subject", `, "a", 1)`) + " == 1", engine.CodePolicyTooDeep, ""},
		"nested every":                     {"permit[\"a\"] := {} if {\n" + nested(300, "every x in [1] {\n", "true\n", "}\n") + "}", engine.CodePolicyTooDeep, ""},
		"nested calls of a key":            {"s contains " + nested(1000, "object.get(", "input.subject", `, "a", 1)`) + " if true\nallow if 1 in s", engine.CodePolicyTooDeep, ""},
		"a long reference in a template":   {"allow if $\"{input" + strings.Repeat("[_]", 1000) + "}\" == \"a\"", engine.CodePolicyTooDeep, ""},
		"a chain of operators":             {"permit[\"a\"] := {} if input.context.n == 1" + strings.Repeat(" + 1", 100), "", ""},
		"permits that call with constants": {"permit[\"a\"] := {} if one_of([\"x\"])\n" + many(2100, `permit["pN"] := {} if one_of(["admin", "rN"])`) + "one_of(list) if input.subject.type in list", "", ""},
		"permits that call with objects":   {many(2100, `permit["pN"] := {} if allowed({"tool": "tN", "role": "rN"})`) + "allowed(x) if {\ninput.resource.id == x.tool\ninput.subject.type == x.role\n}", "", ""},
		"a table of rules":                 {many(2100, `roles["tN"] := ["admin", "rN"]`) + "permit[\"a\"] := {} if input.subject.type in roles[input.action.name]", "", ""},
		"lookups in tables of rules":       {many(300, `roles["tN"] := "rN"`) + many(300, `owner["tN"] := "rN"`) + "permit[\"a\"] := {} if {\nroles[input.action.name] == \"a\"\nowner[input.action.name] == \"b\"\n}", "", ""},
		"nested arrays that may be":        {"permit[\"a\"] := {} if " + nested(50, "[", "1", "]") + " != input.subject.id", "", ""},
		"values that the filter inlines":   {"f(x) := [x, x, x, x]\npermit[\"a\"] := {\"require\": y} if {\ny := " + nested(25, "f(", "input.mcp.params.arguments.a", ")") + "\n}", "", ""},
		"rules that many references may find": {
			"allow if {\n" + strings.Repeat("data.more[_] == 1\n", 6) + "}\n", "", "may find many rules",
		},
		"one of a list, behind more than can be followed": {
			"permit[\"a\"] := {} if {\n" + chain(2100, `any_of(input.context.THIS)`) + "any_of(input.mcp.params.arguments.items)\n}\nany_of(list) if \"a\" in list\n", "engine.one_of_many", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bundle(t, "package authz\n\n"+c.policy, `{}`, `{"contract": 1, "untyped_tools": true}`)
			b.Modules = append(b.Modules, engine.Module{Path: "more.rego", Text: "package more\n\n" + rules.String()})
			s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
			switch {
			case c.code == "" && err != nil, c.code != "" && (err == nil || !strings.Contains(err.Error(), string(c.code))):
				t.Error(err)
			case err == nil:
				engine.New(engine.Options{Compiled: true}).Prepare(s)
				if state, why := s.Evaluator(); (c.why != "") != (state == engine.EvaluatorRefused) || !strings.Contains(why, c.why) {
					t.Errorf("evaluator: %s, %s; want it refused for %q", state, why, c.why)
				}
			}
		})
	}
}
