package engine

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// maxNesting is how deep terms and every may be nested, a chain of operators too: what
	// judges a policy, ours and OPA's, takes time that grows with the square of it and more.
	maxNesting = 128
	// maxReference is how many elements a reference may have.
	maxReference = 128
)

// tooDeep finds what is nested deeper, or is longer, than a policy may have it.
func tooDeep(m *ast.Module) (at *ast.Location, why string) {
	depth := 0
	var last *ast.Location
	nests := func(x any) bool {
		switch x := x.(type) {
		case *ast.Term:
			if x.Location != nil {
				last = x.Location
			}
			return true
		case *ast.Every:
			return true
		}
		return false
	}
	var walk *ast.BeforeAfterVisitor
	walk = ast.NewBeforeAfterVisitor(func(x any) bool {
		switch x := x.(type) { // what it passes over
		case *ast.Head:
			if x.Key != nil {
				walk.Walk(x.Key)
			}
		case *ast.TemplateString:
			for _, part := range x.Parts {
				walk.Walk(part)
			}
		}
		if ref, ok := x.(ast.Ref); ok && len(ref) > maxReference && at == nil {
			at, why = last, fmt.Sprintf("a reference has more than %d elements", maxReference)
		}
		if nests(x) {
			if depth++; depth > maxNesting && at == nil {
				at, why = last, fmt.Sprintf("terms are nested more than %d deep", maxNesting)
			}
		}
		return at != nil
	}, func(x any) {
		if nests(x) {
			depth--
		}
	})
	walk.Walk(m)
	return at, why
}
