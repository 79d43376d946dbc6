package compiled

import "github.com/open-policy-agent/opa/v1/ast"

// topdown unifies the key that a partial rule is read by with its head before the
// body. If that key is an array, object or set with variables that nothing has
// bound, the variables of the head stand for no value while the body runs, and
// topdown looks arrays up by them as if they were free, or panics. So such
// reads of partial rules are refused.
//
// So are reads by a variable that comes up twice (p.a[i][i]): topdown evaluates the
// rules for equal keys only, and keeps what it found as all of p.a.
//
// And so are calls of functions that say what they shall answer: f(x, 1), or 1 = f(x)
// where x is bound later. topdown unifies that with the value of a definition before
// its body, takes a definition of another value for one that does not hold, goes on
// to its else or to the default, and keeps what it found for all calls of f(x).

// openKeys looks for such reads and calls.
type openKeys struct {
	compiler *ast.Compiler
	groups   map[string]*partialGroup
	err      error
}

// judgeOpenKeys refuses them.
func (p *partials) judgeOpenKeys(rules []*ast.Rule, query ast.Body) error {
	o := &openKeys{compiler: p.compiler, groups: p.groups}
	o.body(query, ast.NewVarSet())
	for _, r := range rules {
		for ; r != nil; r = r.Else {
			known := ast.NewVarSet()
			for _, a := range r.Head.Args {
				known.Update(a.Vars())
			}
			known = o.body(r.Body, known)
			o.terms(r.Head, known)
		}
	}
	return o.err
}

// outerVars are the variables of an expression that are not those of a
// comprehension or an every in it alone.
func outerVars(x any) ast.VarSet {
	v := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipClosures: true})
	v.Walk(x)
	return v.Vars()
}

// body goes over a body, whose expressions OPA has put in an order in which each
// variable is bound where it must be. It answers what is known after it.
func (o *openKeys) body(body ast.Body, known ast.VarSet) ast.VarSet {
	known = known.Copy()
	for _, x := range body {
		o.terms(x, known)
		known.Update(outerVars(x))
	}
	return known
}

// terms goes over the terms of an expression or a head.
func (o *openKeys) terms(x any, known ast.VarSet) {
	inner := func(head []*ast.Term, body ast.Body) bool {
		after := o.body(body, known)
		for _, t := range head {
			o.terms(t, after)
		}
		return true
	}
	ast.NewGenericVisitor(func(y any) bool {
		switch y := y.(type) {
		case *ast.Every:
			o.terms(y.Domain, known)
			inside := known.Copy()
			for _, t := range []*ast.Term{y.Key, y.Value} {
				if t != nil {
					inside.Update(t.Vars())
				}
			}
			o.body(y.Body, inside)
			return true
		case *ast.ArrayComprehension:
			return inner([]*ast.Term{y.Term}, y.Body)
		case *ast.SetComprehension:
			return inner([]*ast.Term{y.Term}, y.Body)
		case *ast.ObjectComprehension:
			return inner([]*ast.Term{y.Key, y.Value}, y.Body)
		case *ast.Expr:
			o.call(y, known)
		case *ast.Term:
			o.term(y, known)
		}
		return o.err != nil
	}).Walk(x)
}

// call refuses a call whose answer is not just a variable that nothing has bound.
func (o *openKeys) call(x *ast.Expr, known ast.VarSet) {
	if o.err == nil && answerBound(o.compiler, x, known) {
		o.err = refuseAt(x.Location, "%v says what the function shall answer", source(x.Location, x)).fix("write y := f(x), and compare y")
	}
}

// answerBound tells whether an expression calls a function of the policy and its last
// operand, which the answer goes to, is more than a variable that is not known.
func answerBound(compiler *ast.Compiler, x *ast.Expr, known ast.VarSet) bool {
	if !x.IsCall() || !x.Operator().HasPrefix(ast.DefaultRootRef) {
		return false
	}
	args := x.Operands()
	if len(args) == 0 || len(args) <= compiler.GetArity(x.Operator()) {
		return false
	}
	v, ok := args[len(args)-1].Value.(ast.Var)
	return !ok || known.Contains(v)
}

// answersHead tells whether a call in the body of a rule answers with a variable of
// the keys of its head, as that of x contains f(y) does: if the rule is read by a key, that
// is bound before the body.
func answersHead(compiler *ast.Compiler, r *ast.Rule) bool {
	head, found := ast.NewVarSet(), false
	for _, t := range headKeys(r.Head) {
		head.Update(t.Vars())
	}
	ast.WalkExprs(r.Body, func(x *ast.Expr) bool {
		found = found || answerBound(compiler, x, head)
		return found
	})
	return found
}

func (o *openKeys) term(t *ast.Term, known ast.VarSet) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref.HasPrefix(ast.DefaultRootRef) || !openKey(ref, known) {
		return
	}
	for _, g := range o.groups {
		if meets(g.head, ref, constants(ref), nothing) {
			o.err = refuseAt(t.Location, "%v reads a partial rule by keys of variables that may not be bound", source(t.Location, t)).fix("iterate, some x in RULE, and compare the parts of x")
		}
	}
}

// openKey tells whether an element of a reference is an array, object or set with
// variables that are not known, or such a variable comes up twice.
func openKey(ref ast.Ref, known ast.VarSet) bool {
	seen := ast.NewVarSet()
	for _, t := range ref[1:] {
		switch v := t.Value.(type) {
		case ast.Var:
			if seen.Contains(v) && !known.Contains(v) {
				return true
			}
			seen.Add(v)
		case *ast.Array, ast.Object, ast.Set:
			for v := range t.Vars() {
				if !known.Contains(v) {
					return true
				}
			}
		}
	}
	return false
}
