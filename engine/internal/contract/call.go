package contract

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// call walks a call, an infix operator among them.
func (w *walker) call(c []*ast.Term, loc *ast.Location, sc *scope, hidden bool, as use) {
	name := operator(c)
	args := c[1:]
	switch {
	case name == "assign" && len(args) == 2:
		w.assign(args[0], args[1], sc, hidden)
		return
	case name == "eq" && len(args) == 2:
		w.unify(args[0], args[1], sc, hidden)
		return
	case (name == "internal.member_2" || name == "internal.member_3") && len(args) > 1:
		w.member(args, sc, hidden, as)
		return
	case as == useHolds && len(args) == 2 && asksForAny(name, args[0], args[1]):
		if c, ok := args[0].Value.(ast.Call); ok {
			w.term(c[1], sc, hidden, useHolds)
		}
		return
	case name == "object.get" && len(args) == 3:
		w.get(args, loc, sc, hidden)
		return
	case name == libraryRef("each").String() && len(args) == 2 && w.each(args, sc, hidden):
		return
	case name == "walk" && len(args) > 0:
		w.iterates(w.p.originOf(args[0], sc), loc, "walk("+args[0].String()+")", nil, hidden)
	}
	w.compares(name, args, loc, sc)
	w.picks(name, args, loc, sc)
	for _, a := range args {
		w.term(a, sc, hidden, useValue)
	}
	w.callsFunction(c, loc, sc, hidden, as)
}

func (w *walker) callsFunction(c []*ast.Term, loc *ast.Location, sc *scope, hidden bool, as use) {
	r, ok := c[0].Value.(ast.Ref)
	if !ok || len(r) == 0 || !r[0].Equal(ast.DefaultRootDocument) {
		return
	}
	var args []argument
	for _, a := range c[1:] {
		args = append(args, argument{origin: w.p.originOf(a, sc), values: w.p.oneValue(a, sc), value: w.p.operandOf(a, sc)})
	}
	var calls []call
	for _, m := range w.p.matches(places(r)) {
		g := m.group
		if g.library {
			continue
		}
		k := call{group: g, vanishes: hidden || m.whole, args: args}
		arity := 0
		if len(g.defs) > 0 {
			arity = len(g.defs[0].rule.Head.Args)
		}
		holds := as == useHolds && len(args) == arity
		if (g.fallback != nil || g.hasElse) && (!holds || !g.defaultsToFalse()) {
			k.vanishes = true
		}
		calls = append(calls, k)
	}
	if len(calls) > 0 {
		w.add(fact{kind: factCalls, loc: loc, text: r.String(), calls: calls})
	}
}

// assign is :=, which makes a variable single if its value is.
func (w *walker) assign(left, right *ast.Term, sc *scope, hidden bool) {
	w.term(right, sc, hidden, useValue)
	n := w.p.oneValue(right, sc)
	list, isList := left.Value.(*ast.Array)
	values, sameList := right.Value.(*ast.Array)
	if isList && sameList && list.Len() == values.Len() {
		for i := range list.Len() {
			o := w.p.operandOf(values.Elem(i), sc)
			w.pattern(list.Elem(i), w.p.originOf(values.Elem(i), sc), w.p.oneValue(values.Elem(i), sc), sc, hidden)
			sc.valued(list.Elem(i), o)
		}
		return
	}
	o := w.p.operandOf(right, sc)
	w.pattern(left, w.p.originOf(right, sc), n, sc, hidden)
	sc.valued(left, o)
}

// unify is =, which binds on either side. The variables it binds are never
// single: OPA may as well bind them elsewhere first and compare here.
func (w *walker) unify(left, right *ast.Term, sc *scope, hidden bool) {
	bound := func(a, b *ast.Term) bool {
		v, ok := varOf(a)
		if !ok || isRootVar(a, sc) || sc.find(v) != nil {
			return false
		}
		w.term(b, sc, hidden, useValue)
		l := local{}
		if !w.negated {
			l = local{origin: w.p.originOf(b, sc), value: w.p.operandOf(b, sc)}
		}
		sc.declare(v, l)
		return true
	}
	if bound(left, right) || bound(right, left) {
		return
	}
	if !w.negated {
		w.equateTo(left, w.p.operandOf(right, sc), sc)
		w.equateTo(right, w.p.operandOf(left, sc), sc)
	}
	for _, x := range [][2]*ast.Term{{left, right}, {right, left}} {
		if takesApart(x[0]) {
			w.add(fact{kind: factMatches, loc: x[0].Location, text: x[0].String(), origin: w.p.originOf(x[1], sc), hidden: hidden})
			if passesOver(x[0]) {
				w.add(fact{kind: factSome, loc: x[0].Location, text: x[0].String(), left: w.compared(x[1], sc)})
			}
		}
		w.term(x[0], sc, hidden, useValue)
	}
}

// equateTo notes what variables of this very body may be that are yet to be
// bound: what equals them.
func (w *walker) equateTo(t *ast.Term, o operand, sc *scope) {
	switch v := t.Value.(type) {
	case ast.Var:
		if isRootVar(t, sc) || v.IsWildcard() {
			return
		}
		sc.implicit(v)
		if l := sc.vars[v]; l != nil && len(l.value) == 0 && l.origin.kind == fromElsewhere && len(l.origin.steps) == 0 {
			l.value = o
		}
	case *ast.Array:
		for i := range v.Len() {
			w.equateTo(v.Elem(i), o.with(step{kind: stepIndex, index: i}), sc)
		}
	case ast.Object:
		v.Foreach(func(key, x *ast.Term) { w.equateTo(x, o.with(elementStep(key)), sc) })
	}
}

// takesApart tells a composite with variables, which matches the other side
// only if that has its form.
func takesApart(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object:
		return !t.IsGround()
	}
	return false
}

// asksForAny is count(X) > 0 in its spellings, which holds by what is defined
// and not by what is not.
func asksForAny(name string, left, right *ast.Term) bool {
	c, ok := left.Value.(ast.Call)
	n, isNumber := right.Value.(ast.Number)
	if !ok || !isNumber || len(c) != 2 || operator(c) != "count" {
		return false
	}
	i, ok := n.Int()
	return ok && (i == 0 && (name == "gt" || name == "neq") || i == 1 && name == "gte")
}

// member is x in SRC, which asks and does not iterate. As a whole expression
// over a set that rules make, it fails as they become undefined; as a value it
// is true or false either way.
func (w *walker) member(args []*ast.Term, sc *scope, hidden bool, as use) {
	for _, a := range args[:len(args)-1] {
		w.term(a, sc, hidden, useValue)
	}
	list := args[len(args)-1]
	// Under not, none of them is; but of a rule that is itself negated, some is.
	none := w.negated && as == useHolds && w.turned == 0
	w.add(fact{kind: factSome, loc: list.Location, text: "in " + list.String(), left: w.compared(list, sc), none: none})
	if as != useHolds {
		as = useValue
	}
	w.term(list, sc, hidden, as)
	if len(args) == 2 {
		w.add(fact{kind: factMember, loc: list.Location, text: list.String(), origin: w.p.originOf(list, sc)})
	}
}

// get is object.get: a key is as good as an element of a reference, except that
// it is never undefined.
func (w *walker) get(args []*ast.Term, loc *ast.Location, sc *scope, hidden bool) {
	for _, a := range args {
		w.term(a, sc, hidden, useValue)
	}
	before := w.p.originOf(args[0], sc)
	text := "object.get(" + args[0].String() + ", " + args[1].String() + ", …)"
	if !args[1].IsGround() || hasRefs(args[1]) {
		w.looksUp(before, args[1], w.p.oneValue(args[1], sc), loc, text, sc, hidden)
	}
	if o := w.p.originOfGet(args[0], args[1], ast.NullTerm(), sc); o.kind == fromInput {
		w.add(fact{kind: factAsks, loc: loc, text: text, origin: o})
	}
}

// each is the one generator that a permit may have over what the caller
// chooses: authzd.each(SRC, [ELEMENT | some x in SRC]), which is undefined
// unless every element of SRC yields one.
func (w *walker) each(args []*ast.Term, sc *scope, hidden bool) bool {
	list, ok := args[1].Value.(*ast.ArrayComprehension)
	if !ok || len(list.Body) != 1 || list.Body[0].Negated || len(list.Body[0].With) > 0 {
		return false
	}
	d, ok := list.Body[0].Terms.(*ast.SomeDecl)
	if !ok || len(d.Symbols) != 1 {
		return false
	}
	c, ok := d.Symbols[0].Value.(ast.Call)
	if !ok || len(c) < 3 || len(c) > 4 || !c[len(c)-1].Equal(args[0]) || !w.plainSource(args[0], sc) {
		return false
	}
	inner := newScope(sc)
	o := w.p.originOf(args[0], sc).with(step{kind: stepEach})
	for i, t := range c[1 : len(c)-1] {
		v, ok := varOf(t)
		if !ok || args[0].Vars().Contains(v) {
			return false
		}
		l := local{}
		if i == len(c)-3 {
			l.origin = o
		}
		inner.declare(v, l)
	}
	w.term(args[0], sc, hidden, useValue)
	w.term(list.Term, inner, hidden, useValue)
	return true
}

// plainSource is a variable or a reference by names and single variables.
func (w *walker) plainSource(t *ast.Term, sc *scope) bool {
	if !w.p.oneValue(t, sc).single {
		return false
	}
	r, ok := t.Value.(ast.Ref)
	if !ok {
		_, ok = varOf(t)
		return ok
	}
	return !slices.ContainsFunc(r, func(e *ast.Term) bool {
		switch e.Value.(type) {
		case ast.Var, ast.String, ast.Number:
			return false
		}
		return true
	})
}
