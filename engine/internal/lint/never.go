package lint

import "github.com/open-policy-agent/opa/v1/ast"

// neverFires reports a rule whose body can not hold, and returns what the body demands.
func (l *linter) neverFires(r *ast.Rule) *pins {
	p := &pins{l: l, byText: map[string]*pin{}}
	p.conflict = func(loc *ast.Location, why string) {
		f := l.add(CodeNeverFires, loc, l.name(r)+" never holds: "+why, "remove the rule, or what contradicts itself")
		f.FailsOpen = l.forbids(r)
	}
	p.body(r.Body, l.scope(r))
	return p
}
