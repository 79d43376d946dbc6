package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const libraryPrefix = "data.authzd.v1."

// requirements looks at every call of a constructor of the library.
func (l *linter) requirements(r *ast.Rule) {
	s := l.scope(r)
	walkExprs(r, func(e *ast.Expr) {
		if !e.IsCall() || l.stopped() {
			return
		}
		name, ok := strings.CutPrefix(operator(e), libraryPrefix)
		if !ok || len(e.Operands()) == 0 {
			return
		}
		argument := e.Operands()[0]
		switch name {
		case "scopes":
			l.textMade(name, argument, s)
			l.scopes6749(argument, s)
		case "authorization_details", "single_use":
			l.textMade(name, argument, s)
			l.details(name, argument, s)
		case "authentication":
			l.textMade(name, argument, s)
			l.shaped(name, argument, s)
		case "approval":
			l.shaped(name, argument, s)
		}
	})
}

// textMade reports what writes values into text on its way into a requirement.
func (l *linter) textMade(constructor string, argument *ast.Term, s *scope) {
	m := &making{l: l, seen: map[*ast.Rule]bool{}}
	m.term(argument, s)
	if m.call == nil {
		return
	}
	name := operator(m.call)
	if name == ast.InternalTemplateString.Name {
		name = "a template string"
	}
	fix := "put the value itself, or authzd.decimal(x) of an amount"
	if constructor == "scopes" {
		fix = `use concat("", ["prefix:", x]), which is an error of what is no text`
	}
	l.add(CodeSprintf, m.call.Location, name+" writes what is demanded by "+constructor+": it writes 12000.50 as 12000.5, and null, numbers and objects as text like any other", fix)
}

// making follows what a term is made of, to the first call that writes text.
type making struct {
	l    *linter
	seen map[*ast.Rule]bool
	call *ast.Expr
}

func (m *making) term(t *ast.Term, s *scope) {
	if m.call != nil || !m.l.step() {
		return
	}
	each := func(x *ast.Term) { m.term(x, s) }
	switch v := t.Value.(type) {
	case ast.Var:
		if to := s.lookup(v); to != nil {
			m.term(to, s)
		} else if e := s.calls[v]; e != nil {
			m.expr(e, s)
		}
	case ast.Ref:
		rules, _ := m.l.rulesOf(v)
		m.rules(rules)
	case *ast.Array:
		v.Foreach(each)
	case ast.Set:
		v.Foreach(each)
	case ast.Object:
		v.Foreach(func(_, x *ast.Term) { m.term(x, s) })
	case *ast.ArrayComprehension:
		m.term(v.Term, s)
	case *ast.SetComprehension:
		m.term(v.Term, s)
	}
}

func (m *making) expr(e *ast.Expr, s *scope) {
	operands := e.Operands()
	operands = operands[:len(operands)-1]
	switch operator(e) {
	case ast.Sprintf.Name, ast.JSONMarshal.Name, ast.InternalTemplateString.Name:
		if slices.ContainsFunc(operands, func(t *ast.Term) bool { return !t.IsGround() }) {
			m.call = e
		}
		return
	}
	rules, _ := m.l.rulesOf(e.Operator())
	m.rules(rules)
	for _, t := range operands {
		m.term(t, s)
	}
}

// rules follows the values of some definitions, the library's excepted.
func (m *making) rules(rules []*ast.Rule) {
	for _, r := range rules[:min(len(rules), maxAlias)] {
		for ; r != nil; r = r.Else {
			if !m.seen[r] && r.Head.Value != nil && !m.l.in.IsLibrary(r.Location.File) {
				m.seen[r] = true
				m.term(r.Head.Value, m.l.scope(r))
			}
		}
	}
}
