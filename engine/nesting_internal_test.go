package engine

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// What is too deep is so without a place, too; what is not is none of it.
func TestTooDeep(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"allow if input" + strings.Repeat(".x", maxReference-1):                                                       false,
		"allow if input" + strings.Repeat(".x", maxReference):                                                         true,
		"a := " + strings.Repeat("[", maxNesting-1) + "1" + strings.Repeat("]", maxNesting-1):                         false,
		"a := " + strings.Repeat("[", maxNesting) + "1" + strings.Repeat("]", maxNesting):                             true,
		"s contains " + strings.Repeat("[", maxNesting) + "1" + strings.Repeat("]", maxNesting):                       true,
		"allow if true else := false if input" + strings.Repeat("[0]", maxReference):                                  true,
		"allow if input.x with input.y as " + strings.Repeat("{", maxNesting) + "1" + strings.Repeat("}", maxNesting): true,
	} {
		m, err := ast.ParseModuleWithOpts("policy.rego", "package p\n\n"+text+"\n", ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		if why, at := tooDeep(m); (why != "") != want || want && at == nil {
			t.Errorf("%.40s… of %d bytes: %q, %v", text, len(text), why, at)
		}
		ast.WalkTerms(m, func(x *ast.Term) bool {
			x.Location = nil
			return false
		})
		if why, _ := tooDeep(m); (why != "") != want {
			t.Errorf("%.40s…, without places: %q", text, why)
		}
	}
}
