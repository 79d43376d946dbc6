package narrow

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// occurrences counts variables.
func occurrences(x any) map[ast.Var]int {
	n := map[ast.Var]int{}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			n[x]++
		case *ast.Head: // of which the visitor does not see all
			ast.WalkVars(x.Reference, func(v ast.Var) bool {
				n[v]++
				return false
			})
		}
		return false
	}).Walk(x)
	return n
}

func sides(e *ast.Expr) []*ast.Term {
	if t, ok := e.Terms.(*ast.Term); ok {
		return []*ast.Term{t}
	}
	if e.IsEquality() {
		return e.Operands()
	}
	return nil
}

// binds are the variables that are bound when e has been evaluated. Of what is below not,
// every or a comprehension nothing is.
func binds(e *ast.Expr) ast.VarSet {
	switch e.Terms.(type) {
	case *ast.Term, []*ast.Term:
	default:
		return nil
	}
	if e.Negated {
		return nil
	}
	visitor := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipClosures: true, SkipRefCallHead: true})
	visitor.Walk(e)
	return visitor.Vars().Diff(ast.ReservedVars)
}

// holdsClosure tells an expression that a copy changes: OPA may evaluate a comprehension
// for all values of the variables around it at once, and knows it by where it is in memory.
// A copy is evaluated for one value, and a failure with another value would be lost.
func holdsClosure(e *ast.Expr) bool {
	found := false
	ast.WalkClosures(e, func(any) bool {
		found = true
		return true
	})
	return found
}

// constant tells a reference of nothing but scalars behind its head.
func constant(ref ast.Ref) bool {
	return !slices.ContainsFunc(ref[1:], func(t *ast.Term) bool { return !scalar(t.Value) })
}

func scalar(v ast.Value) bool {
	switch v.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
