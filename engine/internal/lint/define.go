package lint

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// defining finds what variables stand for. An expression says it of the body that it stands
// in, and of what is nested there; in a comprehension or an every it says nothing of the
// variables around.
type defining struct {
	l *linter
	s *scope
	// homes are the nested bodies that variables were found in, by number.
	homes map[ast.Var]int
	n     int
}

// rule reads the body and the head of r.
func (d *defining) rule(r *ast.Rule) {
	d.level(r.Body, nil, r.Head)
	if d.n > maxClosures { // a variable may be another one in a body that was not read
		for v := range d.homes {
			delete(d.s.is, v)
			delete(d.s.calls, v)
		}
	}
}

// maxClosures is how many nested bodies of a rule are read.
const maxClosures = 1000

// several is the home of variables that have one name and are not one.
const several = -1

// closure is a body within a rule, and the terms that know its variables.
type closure struct {
	body  ast.Body
	terms []any
}

// level reads a body, whose variables are those that are not outer.
func (d *defining) level(body ast.Body, outer ast.VarSet, terms ...any) {
	for _, e := range body {
		d.define(e, outer)
	}
	var inner []closure
	for _, x := range append(terms, body) {
		inner = append(inner, closures(x)...)
	}
	if len(inner) == 0 {
		return
	}
	known := varsOf(append(terms, body))
	known.Update(outer)
	for _, c := range inner {
		if d.n++; d.n > maxClosures {
			return
		}
		for v := range varsOf(append(c.terms, c.body)) {
			if !known.Contains(v) {
				d.settle(v, d.n)
			}
		}
		d.level(c.body, known, c.terms...)
	}
}

// settle notes that v is a variable of a nested body.
func (d *defining) settle(v ast.Var, home int) {
	if d.homes == nil {
		d.homes = map[ast.Var]int{}
	}
	if d.homes[v] == 0 {
		d.homes[v] = home
		return
	}
	d.homes[v] = several
	delete(d.s.is, v)
	delete(d.s.calls, v)
}

// varsOf are the variables of some nodes without those of bodies nested in them.
func varsOf(nodes []any) ast.VarSet {
	vis := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipClosures: true})
	for _, x := range nodes {
		vis.Walk(x)
	}
	return vis.Vars()
}

// closures are the bodies that are nested in a node, without those nested in them.
func closures(node any) []closure {
	var out []closure
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			out = append(out, closure{x.Body, []any{x.Term}})
		case *ast.SetComprehension:
			out = append(out, closure{x.Body, []any{x.Term}})
		case *ast.ObjectComprehension:
			out = append(out, closure{x.Body, []any{x.Key, x.Value}})
		case *ast.Every:
			out = append(out, closures(x.Domain)...)
			c := closure{body: x.Body}
			for _, t := range []*ast.Term{x.Key, x.Value} {
				if t != nil {
					c.terms = append(c.terms, t)
				}
			}
			out = append(out, c)
		default:
			return false
		}
		return true
	}).Walk(node)
	return out
}

// define notes what an expression gives variables that are not outer; what does not hold,
// or holds of another input only, gives them nothing.
func (d *defining) define(e *ast.Expr, outer ast.VarSet) {
	if e.Negated || len(e.With) > 0 || !e.IsCall() {
		return
	}
	if a, b, ok := equality(e); ok {
		if v, ok := d.free(a, outer); ok {
			d.s.is[v] = b
		} else if v, ok := d.free(b, outer); ok {
			d.s.is[v] = a
		}
		return
	}
	operands := e.Operands()
	if n := d.l.arity(e); n < 0 || n >= len(operands) {
		return
	}
	if v, ok := d.free(operands[len(operands)-1], outer); ok {
		d.s.calls[v] = e
	}
}

// free tells whether a term is a variable of which nothing is known yet.
func (d *defining) free(t *ast.Term, outer ast.VarSet) (ast.Var, bool) {
	v, ok := t.Value.(ast.Var)
	return v, ok && d.s.is[v] == nil && d.s.calls[v] == nil && !outer.Contains(v) && d.homes[v] != several
}
