package narrow

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/base"
)

// demand finds the expression that demands what a member of the row equals. Nothing before
// it may fail, from the beginning of the iteration on.
func (w *walker) demand(b ast.Body, n *iteration, known ast.VarSet) bool {
	rows := w.rowVars(b[n.at], n)
	for j := n.at; j < len(b); j++ {
		if e := b[j]; e.IsEquality() && !e.Negated {
			for k := range 2 {
				member, ok := w.memberOf(e.Operand(k), n, rows)
				if !ok {
					continue
				}
				if value := w.resolve(e.Operand(1-k), b[n.at:j], known); value != nil {
					n.member, n.value = member, value
					return true
				}
			}
		}
		if !w.sure(b[j]) {
			return false
		}
	}
	return false
}

// rowVars are the variables that e sets to the row.
func (w *walker) rowVars(e *ast.Expr, n *iteration) ast.VarSet {
	rows := ast.VarSet{}
	if !e.IsEquality() {
		return rows
	}
	for k := range 2 {
		ref, isRef := e.Operand(k).Value.(ast.Ref)
		v, isVar := e.Operand(1 - k).Value.(ast.Var)
		if isRef && isVar && len(ref) == len(n.document.Path)+2 && isSource(ref, n) {
			rows.Add(v)
		}
	}
	return rows
}

// isSource tells a reference that goes through the rows of n by its key.
func isSource(ref ast.Ref, n *iteration) bool {
	at := len(n.document.Path) + 1
	if len(ref) <= at || !ref[0].Equal(ast.DefaultRootDocument) || ref[at].Value.Compare(n.key) != 0 {
		return false
	}
	for i, name := range n.document.Path {
		if s, ok := ref[i+1].Value.(ast.String); !ok || string(s) != name {
			return false
		}
	}
	return true
}

// memberOf is the member of the row that a term is, if there is an index by it.
func (w *walker) memberOf(t *ast.Term, n *iteration, rows ast.VarSet) (string, bool) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || len(ref) < 2 {
		return "", false
	}
	name, ok := ref[len(ref)-1].Value.(ast.String)
	if !ok || !w.dry && !slices.Contains(n.document.Members, string(name)) || base.Positional(string(name)) {
		return "", false
	}
	if head, ok := ref[0].Value.(ast.Var); ok && len(ref) == 2 && rows.Contains(head) {
		return string(name), true
	}
	return string(name), len(ref) == len(n.document.Path)+3 && isSource(ref, n)
}

// resolve is a term that says what t is, and can be evaluated before the iteration. Between
// are the expressions from its beginning on.
func (w *walker) resolve(t *ast.Term, between ast.Body, known ast.VarSet) *ast.Term {
	switch v := t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return t
	case ast.Var:
		if known.Contains(v) {
			return t
		}
		for _, e := range between {
			if e.Negated || !e.IsEquality() {
				continue
			}
			for k := range 2 {
				if e.Operand(k).Value.Compare(v) != 0 {
					continue
				}
				if _, chain := e.Operand(1 - k).Value.(ast.Var); chain {
					continue
				}
				if u := w.resolve(e.Operand(1-k), nil, known); u != nil {
					return u
				}
			}
		}
	case ast.Ref:
		head, ok := v[0].Value.(ast.Var)
		if !ok || !constant(v) {
			return nil
		}
		if known.Contains(head) || (v[0].Equal(ast.InputRootDocument) || v[0].Equal(ast.DefaultRootDocument)) && w.sureTerm(t) {
			return t
		}
	}
	return nil
}

// keyUnused: the key of an array's row is nothing but the way to the row, so that it need
// not be the number that it was; and not within a comprehension, or what is below every or
// not, where OPA may look at variables in other ways.
func (w *walker) keyUnused(b ast.Body, n *iteration) bool {
	count := 0
	for _, e := range b[n.at:] {
		count += len(sourceRefs(e, n))
	}
	return count == w.names[n.key]
}

// sourceRefs are the terms of e, outside of closures, that go through the rows of n.
func sourceRefs(e *ast.Expr, n *iteration) (terms []*ast.Term) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every, *ast.TemplateString,
			*ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
			return true
		case *ast.Term:
			if ref, ok := x.Value.(ast.Ref); ok && isSource(ref, n) {
				terms = append(terms, x)
			}
		}
		return false
	}).Walk(e)
	return terms
}
