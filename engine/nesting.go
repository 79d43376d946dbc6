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

// tooDeep says what is nested deeper, or is longer, than a policy may have it, and where;
// "" if nothing is.
func tooDeep(m *ast.Module) (why string, at *ast.Location) {
	depth, last := 0, m.Package.Location
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
		if ref, ok := x.(ast.Ref); ok && len(ref) > maxReference && why == "" {
			why, at = fmt.Sprintf("a reference has more than %d elements", maxReference), last
		}
		if nests(x) {
			if depth++; depth > maxNesting && why == "" {
				why, at = fmt.Sprintf("terms are nested more than %d deep", maxNesting), last
			}
		}
		return why != ""
	}, func(x any) {
		if nests(x) {
			depth--
		}
	})
	walk.Walk(m)
	return why, at
}
