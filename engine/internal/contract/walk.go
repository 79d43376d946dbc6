package contract

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// fact is one thing a rule does that a rule of the contract may object to.
// Whether it does depends on which of the four documents the rule serves.
type fact struct {
	kind factKind
	// hidden marks a place where undefined does not make the rule undefined: it
	// counts as a yes, or drops an element without a word.
	hidden bool
	file   string
	rule   string
	loc    *ast.Location
	text   string
	origin origin
	// key is by what factChooses looks a member of origin up.
	key origin
	// given: the fact stands only if one of these parameters has several values.
	given []param
	calls []call
	// none: factSome stands under not.
	none bool
	// within: factSome looks at any place below what it is given.
	within bool
	// left and right are what factOrders compares; factNumber has left only, as
	// has factSome (its lists), and factChooses (its key).
	left, right compared
}

type factKind uint8

const (
	// factIterates: iteration over something that is not on the allow-list.
	factIterates factKind = iota
	// factReads: a value is read by a path.
	factReads
	// factAsks: the path of an object.get, which is always defined.
	factAsks
	// factMatches: a value is taken apart by a pattern.
	factMatches
	// factChooses: a member is looked up by a key known at run time only.
	factChooses
	// factMember: a path on the right of x in ….
	factMember
	// factSome: some members of a list answer for all.
	factSome
	// factOrders: two values are compared by their order.
	factOrders
	// factNumber: to_number takes a value.
	factNumber
	factWith
	factUnknown
	// factCalls: the rule refers to other rules.
	factCalls
)

// call is a reference to a group of rules, as a document or as a function.
type call struct {
	group *group
	// vanishes: what refers does not become undefined when the group does.
	vanishes bool
	args     []argument
}

type argument struct {
	origin origin
	values values
	value  operand
}

// walker collects the facts of one group.
type walker struct {
	p     *policy
	g     *group
	file  string
	rule  string
	facts []fact
	// loc is the expression at hand, for what has no location of its own.
	loc *ast.Location
	// negated: the expression at hand is under not, where = binds nothing.
	negated bool
	// turned counts the comprehensions and blocks under not around it, whose
	// result may be turned into its opposite.
	turned int
	// iterations counts what iterates, allowed or not, at the level of the
	// innermost comprehension.
	iterations int
}

// use tells what is done with the value of a term.
type use uint8

const (
	useValue use = iota
	// useHolds: the term is a whole expression, which asks only whether it holds.
	useHolds
	// useDomain: the term's elements are visited one by one.
	useDomain
)

// collectFacts reads every rule of the policy outside the library.
func (p *policy) collectFacts() {
	for _, g := range p.groups {
		if g.library {
			continue
		}
		w := &walker{p: p, g: g, rule: g.name(p)}
		for _, d := range g.defs {
			w.file = d.file
			for r := d.rule; r != nil; r = r.Else {
				w.definition(r)
			}
		}
		g.facts = w.facts
	}
}

func (w *walker) definition(r *ast.Rule) {
	w.loc = lineOf(r)
	sc := newScope(nil)
	for i, arg := range r.Head.Args {
		o := origin{kind: fromParam, param: param{w.g, i}}
		if v, ok := arg.Value.(ast.Var); ok {
			sc.declare(v, local{origin: o, single: true, given: []param{o.param}})
			continue
		}
		w.pattern(arg, o, values{single: true, given: []param{o.param}}, sc, false)
	}
	w.body(r.Body, sc, false)
	for _, t := range r.Head.Ref()[1:] {
		if _, ok := t.Value.(ast.Var); !ok {
			w.term(t, sc, false, useValue)
		}
	}
	value := r.Head.Value
	if r.Head.Key != nil {
		w.term(r.Head.Key, sc, false, useValue)
		if w.g.set {
			value = r.Head.Key
		}
	}
	if r.Head.Value != nil {
		w.term(r.Head.Value, sc, false, useValue)
	}
	if value != nil {
		w.g.value = w.g.value.join(w.p.operandOf(value, sc))
	}
}

func (w *walker) body(b ast.Body, sc *scope, hidden bool) {
	sc.checks = append(sc.checks, checksOf(b)...)
	for _, e := range b {
		w.expr(e, sc, hidden || e.Negated)
	}
}

func (w *walker) expr(e *ast.Expr, sc *scope, hidden bool) {
	outer := w.loc
	if e.Location != nil {
		w.loc = e.Location
	}
	under := w.negated
	w.negated = e.Negated
	defer func() { w.loc, w.negated = outer, under }()
	for _, with := range e.With {
		w.add(fact{kind: factWith, loc: with.Location, text: with.Target.String(), hidden: hidden})
		if !isFunctionName(with.Value, sc) {
			w.term(with.Value, sc, true, useValue)
		}
	}
	switch t := e.Terms.(type) {
	case *ast.Term:
		w.term(t, sc, hidden, useHolds)
	case []*ast.Term:
		w.call(t, e.Location, sc, hidden, useHolds)
	case *ast.SomeDecl:
		w.some(t, sc, hidden)
	case *ast.Every:
		w.every(t, sc, hidden)
	case *ast.Not:
		w.turned++
		w.nested(t.Body, newScope(sc), true)
		w.turned--
	case *ast.LogicalAnd:
		w.nested(t.Lhs, newScope(sc), hidden)
		w.nested(t.Rhs, newScope(sc), hidden)
	case *ast.LogicalOr:
		// What is undefined on the left makes way for the right.
		w.nested(t.Lhs, newScope(sc), true)
		w.nested(t.Rhs, newScope(sc), true)
	default:
		w.add(fact{kind: factUnknown, loc: e.Location, text: e.String()})
	}
}

// isFunctionName tells a builtin by its name, as with takes it for a value.
func isFunctionName(t *ast.Term, sc *scope) bool {
	r, ok := t.Value.(ast.Ref)
	if !ok || isRootVar(r[0], sc) {
		return false
	}
	v, ok := varOf(r[0])
	return ok && sc.find(v) == nil
}

// nested is a body whose iteration does not multiply what encloses it.
func (w *walker) nested(b ast.Body, sc *scope, hidden bool) {
	n := w.iterations
	w.body(b, sc, hidden)
	w.iterations = n
}

// every holds for all elements or not at all, and is undefined over what is
// missing or a scalar. Its variables look up one element at a time.
func (w *walker) every(e *ast.Every, sc *scope, hidden bool) {
	w.term(e.Domain, sc, hidden, useValue)
	o := w.p.originOf(e.Domain, sc)
	n := w.p.oneValue(e.Domain, sc)
	inner := newScope(sc)
	if v, ok := varOf(e.Key); ok {
		inner.declare(v, local{origin: keyOrigin(o), single: n.single, given: n.given, walks: o.String()})
	}
	if v, ok := varOf(e.Value); ok {
		inner.declare(v, local{origin: o.with(step{kind: stepEach}), single: n.single, given: n.given})
	}
	if e.Key != nil {
		inner.valued(e.Key, w.p.keysOf(o))
	}
	inner.valued(e.Value, w.p.elementsOf(e.Domain, sc))
	w.nested(e.Body, inner, hidden)
}

func keyOrigin(of origin) origin {
	if of.innocent() {
		return origin{kind: fromPolicy}
	}
	return origin{}
}

func varOf(t *ast.Term) (ast.Var, bool) {
	if t == nil {
		return "", false
	}
	v, ok := t.Value.(ast.Var)
	return v, ok
}

// some is a declaration: some x, or some … in SRC, which iterates.
func (w *walker) some(d *ast.SomeDecl, sc *scope, hidden bool) {
	for _, s := range d.Symbols {
		if v, ok := varOf(s); ok {
			sc.declare(v, local{})
			continue
		}
		c, ok := s.Value.(ast.Call)
		if !ok || len(c) < 3 || len(c) > 4 {
			w.add(fact{kind: factUnknown, loc: d.Location, text: s.String()})
			continue
		}
		w.generator(c, s.Location, sc, hidden)
	}
}

// generator is one some … in SRC.
func (w *walker) generator(c ast.Call, loc *ast.Location, sc *scope, hidden bool) {
	domain := c[len(c)-1]
	w.term(domain, sc, hidden, useDomain)
	o := w.p.originOf(domain, sc)
	if _, isRef := domain.Value.(ast.Ref); !isRef {
		w.reads(loc, o.with(step{kind: stepEach}), domain.String()+"[_]", hidden)
	}
	w.iterates(o, loc, "some … in "+domain.String(), nil, hidden)
	elements := w.p.elementsOf(domain, sc)
	if len(c) == 4 {
		w.pattern(c[1], keyOrigin(o), values{}, sc, hidden)
		sc.valued(c[1], w.p.keysOf(o))
		if v, ok := varOf(c[1]); ok && !v.IsWildcard() {
			sc.find(v).walks = o.String()
		}
	}
	w.pattern(c[len(c)-2], o.with(step{kind: stepEach}), values{}, sc, hidden)
	sc.valued(c[len(c)-2], elements)
}

// pattern declares the variables of a term on the left of :=, in some … in, or
// among a function's parameters.
func (w *walker) pattern(t *ast.Term, o origin, n values, sc *scope, hidden bool) {
	switch v := t.Value.(type) {
	case ast.Var:
		if !v.IsWildcard() {
			sc.declare(v, local{origin: o, single: n.single, given: n.given})
		}
		return
	case *ast.Array:
		w.add(fact{kind: factMatches, loc: t.Location, text: t.String(), origin: o, hidden: hidden})
		if passesOver(t) {
			w.add(fact{kind: factSome, loc: t.Location, text: t.String(), left: compared{value: operand{{origin: o}}}})
		}
		for i := range v.Len() {
			w.pattern(v.Elem(i), o.with(step{kind: stepIndex, index: i}), n, sc, hidden)
		}
		return
	case ast.Object:
		w.add(fact{kind: factMatches, loc: t.Location, text: t.String(), origin: o, hidden: hidden})
		v.Foreach(func(key, x *ast.Term) {
			w.term(key, sc, hidden, useValue)
			w.pattern(x, o.with(elementStep(key)), n, sc, hidden)
		})
		return
	}
	w.term(t, sc, hidden, useValue)
}

func (w *walker) term(t *ast.Term, sc *scope, hidden bool, as use) {
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
	case ast.Var:
		if !isRootVar(t, sc) {
			sc.implicit(v)
		}
	case ast.Ref:
		w.ref(v, t.Location, sc, hidden, as)
	case ast.Call:
		w.call(v, t.Location, sc, hidden, useValue)
	case *ast.Array:
		for i := range v.Len() {
			w.term(v.Elem(i), sc, hidden, useValue)
		}
	case ast.Object:
		v.Foreach(func(key, x *ast.Term) {
			w.term(key, sc, hidden, useValue)
			w.term(x, sc, hidden, useValue)
		})
	case ast.Set:
		v.Foreach(func(x *ast.Term) { w.term(x, sc, hidden, useValue) })
	case *ast.ArrayComprehension:
		w.comprehension(t, sc, hidden, as != useHolds, v.Body, v.Term)
	case *ast.SetComprehension:
		w.comprehension(t, sc, hidden, as != useHolds, v.Body, v.Term)
	case *ast.ObjectComprehension:
		w.comprehension(t, sc, hidden, as != useHolds, v.Body, v.Key, v.Value)
	case *ast.TemplateString:
		w.template(v, t, sc)
	default:
		w.add(fact{kind: factUnknown, loc: t.Location, text: t.String()})
	}
}

// template prints <undefined> for what is undefined.
func (w *walker) template(ts *ast.TemplateString, t *ast.Term, sc *scope) {
	for _, part := range ts.Parts {
		switch x := part.(type) {
		case *ast.Term:
			w.term(x, sc, true, useValue)
		case *ast.Expr:
			w.expr(x, newScope(sc), true)
		default:
			w.add(fact{kind: factUnknown, loc: t.Location, text: t.String()})
		}
	}
}

// comprehension collects what is defined and drops the rest, unless all that
// is asked of it is whether it holds anything (hides is false then). One that
// iterates over nothing is a condition whose failing goes unseen.
func (w *walker) comprehension(t *ast.Term, sc *scope, hidden, hides bool, b ast.Body, heads ...*ast.Term) {
	outer := w.iterations
	w.iterations = 0
	inner := newScope(sc)
	first := len(w.facts)
	w.turned++
	defer func() { w.turned-- }()
	w.body(b, inner, hidden || hides)
	if takesAll(b) {
		// It drops nothing, so its iteration hides nothing; its reads may.
		for i := range w.facts[first:] {
			if f := &w.facts[first+i]; f.kind == factIterates {
				f.hidden = hidden
			}
		}
	}
	for _, h := range heads {
		w.term(h, inner, hidden || hides, useValue)
	}
	if w.iterations == 0 {
		w.add(fact{kind: factIterates, loc: t.Location, text: emptyComprehension, origin: origin{kind: fromPolicy}})
	}
	w.iterations = outer
}

const emptyComprehension = "a comprehension"

// takesAll tells a body that is one generator and nothing else.
func takesAll(b ast.Body) bool {
	if len(b) != 1 || b[0].Negated || len(b[0].With) > 0 {
		return false
	}
	d, ok := b[0].Terms.(*ast.SomeDecl)
	if !ok || len(d.Symbols) != 1 {
		return false
	}
	c, ok := d.Symbols[0].Value.(ast.Call)
	if !ok || len(c) < 3 {
		return false
	}
	for _, t := range c[1 : len(c)-1] {
		if _, ok := varOf(t); !ok {
			return false
		}
	}
	return true
}

// ref walks a reference: what its elements do, what it iterates over, which
// rules it refers to and what it reads.
func (w *walker) ref(r ast.Ref, loc *ast.Location, sc *scope, hidden bool, as use) {
	if loc == nil && len(r) > 0 {
		loc = r[0].Location
	}
	if v, ok := r[0].Value.(ast.Var); ok {
		if !isRootVar(r[0], sc) {
			sc.implicit(v)
		}
	} else {
		w.term(r[0], sc, hidden, useValue)
	}
	for i, t := range r {
		if i > 0 {
			w.element(r, i, t, loc, sc, hidden)
		}
	}
	found := w.refersTo(r, loc, sc, hidden, as)
	if len(found) > 0 && restOf(found) == 0 && as != useDomain {
		return // the rule's own text is judged
	}
	o := w.p.originOfRef(r, sc)
	text := r.String()
	if as == useDomain {
		o, text = o.with(step{kind: stepEach}), text+"[_]"
	}
	if len(r) > 1 || as == useDomain {
		w.reads(loc, o, text, hidden)
	}
}

// element is one bracket of a reference. By several values, it iterates over
// what stands before it.
func (w *walker) element(r ast.Ref, i int, t *ast.Term, loc *ast.Location, sc *scope, hidden bool) {
	if elementStep(t).kind != stepDynamic {
		return
	}
	before := w.p.originOfRef(r[:i], sc)
	before.rules = isRootVar(r[0], sc) && r[0].Equal(ast.DefaultRootDocument) && allWhole(w.p.matches(places(r[:i])))
	if v, ok := varOf(t); ok {
		l := sc.implicit(v)
		if l.walks == "" && !l.single {
			l.walks = before.String()
			if len(l.value) == 0 {
				l.value = w.p.keysOf(before)
			}
		}
	} else {
		w.term(t, sc, hidden, useValue)
	}
	n := w.p.oneValue(t, sc)
	w.looksUp(before, t, n, loc, r.String(), sc, hidden)
}

// looksUp is one element by a key that is not written in the policy: iteration
// if the key has several values, else a choice, which may be the caller's.
func (w *walker) looksUp(before origin, key *ast.Term, n values, loc *ast.Location, text string, sc *scope, hidden bool) {
	if !n.single {
		w.iterates(before, loc, text, nil, hidden)
		return
	}
	if len(n.given) > 0 {
		w.iterates(before, loc, text, n.given, hidden)
	}
	if v, ok := varOf(key); ok {
		if l := sc.find(v); l != nil && l.walks == before.String() {
			return // every runs through these very keys
		}
	}
	w.add(fact{kind: factChooses, loc: loc, text: text, origin: before, key: w.p.originOf(key, sc), hidden: hidden, left: w.compared(key, sc)})
}

// allWhole tells a document whose members are rules of their own.
func allWhole(found []match) bool {
	for _, m := range found {
		if !m.whole {
			return false
		}
	}
	return len(found) > 0
}

// refersTo notes the rules that a reference may mean.
func (w *walker) refersTo(r ast.Ref, loc *ast.Location, sc *scope, hidden bool, as use) []match {
	if !isRootVar(r[0], sc) || !r[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	var calls []call
	found := w.p.matches(places(r))
	for _, m := range found {
		if m.group.library {
			continue
		}
		c := call{group: m.group, vanishes: hidden}
		if m.whole && as == useValue {
			c.vanishes = true
		}
		if (m.group.fallback != nil || m.group.hasElse) && (as != useHolds || !m.group.defaultsToFalse()) {
			c.vanishes = true
		}
		calls = append(calls, c)
	}
	if len(calls) > 0 {
		w.add(fact{kind: factCalls, loc: loc, text: r.String(), calls: calls})
	}
	return found
}

func (w *walker) add(f fact) {
	f.file, f.rule = w.file, w.rule
	if f.loc == nil || f.loc.Row == 0 {
		f.loc = w.loc
	}
	w.facts = append(w.facts, f)
}

func (w *walker) reads(loc *ast.Location, o origin, text string, hidden bool) {
	w.add(fact{kind: factReads, loc: loc, text: text, origin: o, hidden: hidden})
}

// iterates notes iteration. given, it is one only if a parameter among them
// has several values.
func (w *walker) iterates(over origin, loc *ast.Location, text string, given []param, hidden bool) {
	if given == nil {
		w.iterations++
	}
	if !over.mayBeIterated() {
		w.add(fact{kind: factIterates, loc: loc, text: text, origin: over, given: given, hidden: hidden})
	}
}
