package lint

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// guardOrder reports a condition that asks something of the call for a constant and stands
// behind an iteration: it is asked once for each element, and the elements are read for
// calls that it rules out. A body that compares something of input with a constant itself
// is left alone, because OPA's rule index asks that first wherever it stands.
func (l *linter) guardOrder(r *ast.Rule) {
	s := l.scope(r)
	for _, e := range r.Body {
		if l.indexed(e) {
			return
		}
	}
	start := bodyStart(r)
	var loop *ast.Expr
	for _, e := range r.Body {
		switch {
		case e.Location == nil || e.Location.Offset < start:
		case loop == nil && l.iterates(e, s):
			loop = e
		case loop != nil && l.guards(e, s):
			l.add(CodeGuardOrder, e.Location, "this is asked of each element of the iteration before it, and does not depend on it", "put it first in the body")
			return
		}
	}
}

// indexed tells an expression that OPA's rule index asks before the body: a field of input
// is a constant.
func (l *linter) indexed(e *ast.Expr) bool {
	if e.Negated || len(e.With) > 0 {
		return false
	}
	a, b, ok := equality(e)
	return ok && (ofInput(a) && ast.IsScalar(b.Value) || ofInput(b) && ast.IsScalar(a.Value))
}

func ofInput(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && len(ref) > 1 && ref[0].Equal(ast.InputRootDocument) && ref.IsGround()
}

// iterates tells an expression that runs through the elements of input or of base data.
func (l *linter) iterates(e *ast.Expr, s *scope) bool {
	if _, ok := e.Terms.(*ast.Every); ok {
		return true
	}
	a, b, ok := equality(e)
	if !ok || e.Negated || len(e.With) > 0 {
		return false
	}
	for _, t := range []*ast.Term{a, b} {
		if _, ok := t.Value.(ast.Ref); !ok {
			continue // a variable that was bound before
		}
		ref, ok := l.resolve(t, s).Value.(ast.Ref)
		if !ok || !ref[0].Equal(ast.InputRootDocument) && !ref[0].Equal(ast.DefaultRootDocument) {
			continue
		}
		for _, key := range ref[1:] {
			if v, ok := key.Value.(ast.Var); ok && !l.parameter(v) && s.calls[v] == nil {
				return true
			}
		}
	}
	return false
}

// parameter tells a variable that the rule at hand is given.
func (l *linter) parameter(v ast.Var) bool {
	for _, a := range l.rule.Head.Args {
		if a.Equal(ast.NewTerm(v)) {
			return true
		}
	}
	return false
}

// guards tells an expression that compares something of input with constants, through a name
// or a function of one definition, and nothing else.
func (l *linter) guards(e *ast.Expr, s *scope) bool {
	if e.Negated || len(e.With) > 0 {
		return false
	}
	if a, b, ok := equality(e); ok {
		x, y := l.resolve(a, s), l.resolve(b, s)
		_, viaA := a.Value.(ast.Ref)
		_, viaB := b.Value.(ast.Ref)
		return viaA && ofInput(x) && ast.IsScalar(y.Value) || viaB && ofInput(y) && ast.IsScalar(x.Value)
	}
	switch t := e.Terms.(type) {
	case *ast.Term:
		ref, ok := t.Value.(ast.Ref)
		return ok && l.onlyGuards(ref)
	case []*ast.Term:
		constants := !slices.ContainsFunc(e.Operands(), func(t *ast.Term) bool { return !ast.IsScalar(s.local(t).Value) })
		return constants && l.onlyGuards(e.Operator())
	}
	return false
}

// onlyGuards tells a rule or function of one definition whose body is comparisons of input
// by ==.
func (l *linter) onlyGuards(ref ast.Ref) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return false
	}
	r, rest := l.onlyRule(ref)
	if r == nil || len(rest) > 0 {
		return false
	}
	s := l.scope(r)
	return len(r.Body) > 0 && !slices.ContainsFunc(r.Body, func(e *ast.Expr) bool {
		a, b, ok := equality(e)
		return !ok || e.Negated || len(e.With) > 0 || !ofInput(l.resolve(a, s)) && !ofInput(l.resolve(b, s))
	})
}
