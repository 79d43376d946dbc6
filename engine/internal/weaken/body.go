package weaken

import "github.com/open-policy-agent/opa/v1/ast"

// weakened is what is left of a body.
type weakened struct {
	maker *maker
	kept  ast.Body
	// tainted are the variables that only left-out expressions bind; bound says
	// by which, where it gives them a value that can be read off.
	tainted map[ast.Var]bool
	bound   map[ast.Var]*ast.Expr
}

// weaken leaves out what depends on arguments. The compiler has put a body into
// an order in which each variable is bound before it is used, so one pass in
// that order finds every use of a variable that is no longer bound.
func (m *maker) weaken(body ast.Body) *weakened {
	w := &weakened{maker: m, tainted: map[ast.Var]bool{}, bound: map[ast.Var]*ast.Expr{}}
	safe := ast.VarSet{}
	for _, e := range body {
		vars := varsOf(e)
		if kept := m.weakenExpr(e); kept != nil && !w.uses(vars) {
			w.kept.Append(kept.Copy())
			safe.Update(vars)
			continue
		}
		w.leaveOut(e, vars.Diff(safe))
	}
	return w
}

// weakenExpr is e, or what stands for it in the weaker policy; nil if nothing
// does.
func (m *maker) weakenExpr(e *ast.Expr) *ast.Expr {
	if !m.depends(e) {
		return e
	}
	term, ok := e.Terms.(*ast.Term)
	if !ok || e.Negated || len(e.With) > 0 {
		return nil
	}
	ref, ok := term.Value.(ast.Ref)
	if !ok || !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	if to, ok := m.helper(ref); ok {
		return ast.NewExpr(to.Copy())
	}
	return nil
}

func (w *weakened) uses(vars ast.VarSet) bool {
	for v := range vars {
		if w.tainted[v] {
			return true
		}
	}
	return false
}

// leaveOut notes the variables of an expression that is not evaluated, and which
// of them it gives a value. Those that it only uses were bound before it.
func (w *weakened) leaveOut(e *ast.Expr, vars ast.VarSet) {
	fresh := ast.VarSet{}
	for v := range vars {
		if !w.tainted[v] {
			w.tainted[v] = true
			fresh.Add(v)
		}
	}
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || e.Negated || len(e.With) > 0 || len(terms) < 2 {
		return
	}
	places := terms[len(terms)-1:]
	if e.IsEquality() {
		places = terms[1:]
	}
	for _, t := range places {
		if v, ok := t.Value.(ast.Var); ok && fresh.Contains(v) {
			w.bound[v] = e
			return
		}
	}
}

func varsOf(e *ast.Expr) ast.VarSet {
	visit := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefCallHead: true})
	visit.Walk(e)
	vars := visit.Vars()
	if vars == nil {
		return ast.VarSet{}
	}
	for _, root := range []*ast.Term{ast.InputRootDocument, ast.DefaultRootDocument} {
		if v, ok := root.Value.(ast.Var); ok {
			delete(vars, v)
		}
	}
	return vars
}

// withoutClock copies a body and leaves out what takes the time, which is always there, for a
// comparison that was left out: else the answer would seem to hang on it.
func withoutClock(head *ast.Head, body ast.Body) ast.Body {
	var out ast.Body
	for i, e := range body {
		if v, ok := takesTime(e); ok && !usedBeside(v, i, head, body) {
			continue
		}
		out.Append(e.Copy()) // Append numbers what it is given
	}
	return out
}

// takesTime tells which variable an expression sets to the time, if that is all.
func takesTime(e *ast.Expr) (ast.Var, bool) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || !e.IsEquality() || e.Negated || len(e.With) > 0 || len(terms) != 3 {
		return "", false
	}
	v, ok := terms[1].Value.(ast.Var)
	ref, isRef := terms[2].Value.(ast.Ref)
	if !ok || !isRef || len(ref) != 2 || !ref[0].Equal(ast.InputRootDocument) {
		return "", false
	}
	step, _ := stepAt(ref, 1)
	return v, step == "now"
}

func usedBeside(v ast.Var, place int, head *ast.Head, body ast.Body) bool {
	if head.Key != nil && varsOf(ast.NewExpr(head.Key)).Contains(v) {
		return true
	}
	for i, e := range body {
		if i != place && varsOf(e).Contains(v) {
			return true
		}
	}
	return false
}
