package engine

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Asks is what a snapshot's policy can ask of a credential, as far as its text
// tells: for metadata, never for a decision.
type Asks struct {
	// Scopes are those that policy writes out in data.authzd.v1.scopes, sorted.
	// A scope that is computed is not among them (RFC 9728 section 2 lets a
	// resource leave scopes out).
	Scopes []string
	// ProofOfPossession: some permit requires it.
	ProofOfPossession bool
}

// Asks returns what policy can ask for.
func (s *Snapshot) Asks() Asks {
	return Asks{Scopes: slices.Clone(s.asks.Scopes), ProofOfPossession: s.asks.ProofOfPossession}
}

// asksOf reads compiled modules, in which every reference is resolved. The
// library itself asks for nothing.
func asksOf(modules map[string]*ast.Module, library map[string]bool) Asks {
	var out Asks
	note := func(operator ast.Ref, operands []*ast.Term) {
		if operator.String() != "data.authzd.v1.scopes" || len(operands) == 0 {
			return
		}
		list, ok := operands[0].Value.(*ast.Array)
		if !ok {
			return
		}
		list.Foreach(func(e *ast.Term) {
			if s, ok := e.Value.(ast.String); ok && validScope(string(s)) && !slices.Contains(out.Scopes, string(s)) {
				out.Scopes = append(out.Scopes, string(s))
			}
		})
	}
	visitor := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if x.IsCall() {
				note(x.Operator(), x.Operands())
			}
		case ast.Call:
			if ref, ok := x[0].Value.(ast.Ref); ok {
				note(ref, x[1:])
			}
		case ast.Ref:
			out.ProofOfPossession = out.ProofOfPossession || x.String() == "data.authzd.v1.proof_of_possession"
		}
		return false
	})
	for path, m := range modules {
		if !library[path] {
			visitor.Walk(m)
		}
	}
	slices.Sort(out.Scopes)
	return out
}
