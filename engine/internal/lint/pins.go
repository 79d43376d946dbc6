package lint

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// pin is what a body demands of one thing: that it equals one of some constants.
type pin struct {
	ref    ast.Ref
	values []*ast.Term
	// from is the number of the expression of the body that demands it, loc its place.
	from int
	loc  *ast.Location
}

// pins collects, over the expressions of one body, what has to hold for all of it to
// hold. Rules and functions of one definition that it names are looked into.
type pins struct {
	l      *linter
	byText map[string]*pin
	order  []*pin
	// from and loc are those of the expression at hand, depth how far from it.
	from  int
	loc   *ast.Location
	depth int
	// conflict is called once, with why the body can not hold.
	conflict func(loc *ast.Location, why string)
}

// maxDepth is how far a body is looked into rules that it names.
const maxDepth = 4

func (p *pins) body(b ast.Body, s *scope) {
	for i, e := range b {
		if p.depth == 0 {
			p.from, p.loc = i, e.Location
		}
		p.expr(e, s)
	}
}

func (p *pins) expr(e *ast.Expr, s *scope) {
	if e.Negated || len(e.With) > 0 || !p.l.step() {
		return
	}
	switch t := e.Terms.(type) {
	case *ast.Term:
		if p.depth == 0 && t.Equal(ast.BooleanTerm(false)) {
			p.fails("false is never true")
			return
		}
		p.into(t, nil)
	case []*ast.Term:
		p.call(e, s)
	}
}

func (p *pins) call(e *ast.Expr, s *scope) {
	if a, b, ok := equality(e); ok {
		p.into(a, nil)
		p.into(b, nil)
		p.equal(a, b, s)
		return
	}
	operands := e.Operands()
	switch name := operator(e); name {
	case ast.NotEqual.Name, ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
		a, b := s.local(operands[0]), s.local(operands[1])
		if ast.IsScalar(a.Value) && ast.IsScalar(b.Value) && !holds(name, ast.Compare(a.Value, b.Value)) {
			p.fails(a.String() + " " + operator(e) + " " + b.String() + " is never true")
		}
	case ast.Member.Name:
		if values := scalarsOf(p.l.resolve(operands[1], s)); values != nil {
			p.among(operands[0], values, s)
		}
	default:
		given := make([]*ast.Term, len(operands))
		for i, t := range operands {
			given[i] = p.l.resolve(t, s)
		}
		p.into(ast.NewTerm(e.Operator()), given)
	}
}

// holds tells what a comparison says of operands that compare as c.
func holds(name string, c int) bool {
	switch name {
	case ast.LessThan.Name:
		return c < 0
	case ast.LessThanEq.Name:
		return c <= 0
	case ast.GreaterThan.Name:
		return c > 0
	case ast.GreaterThanEq.Name:
		return c >= 0
	}
	return c != 0
}

// scalarsOf are the elements of a collection of constants; nil for anything else.
func scalarsOf(t *ast.Term) []*ast.Term {
	var out []*ast.Term
	note := func(x *ast.Term) { out = append(out, x) }
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(note)
	case ast.Set:
		v.Foreach(note)
	}
	if slices.ContainsFunc(out, func(x *ast.Term) bool { return !ast.IsScalar(x.Value) }) {
		return nil
	}
	return out
}

// equal demands that a equals b. Constants are compared only where they stand in the rule,
// for a rule that is a constant is a switch, and meant to be turned.
func (p *pins) equal(a, b *ast.Term, s *scope) {
	if x, y := s.local(a), s.local(b); ast.IsScalar(x.Value) && ast.IsScalar(y.Value) {
		if x.Value.Compare(y.Value) != 0 {
			p.fails(x.String() + " never equals " + y.String())
		}
		return
	}
	x, y := p.l.resolve(a, s), p.l.resolve(b, s)
	switch ofX, ofY := ast.IsScalar(x.Value), ast.IsScalar(y.Value); {
	case ofY && !ofX:
		p.among(x, []*ast.Term{y}, s)
	case ofX && !ofY:
		p.among(y, []*ast.Term{x}, s)
	}
}

// among demands that t is one of values.
func (p *pins) among(t *ast.Term, values []*ast.Term, s *scope) {
	if x := s.local(t); ast.IsScalar(x.Value) {
		if !has(values, x) {
			p.fails(x.String() + " is not among what it is compared with")
		}
		return
	}
	ref, ok := p.l.resolve(t, s).Value.(ast.Ref)
	if !ok || p.depth > 0 && !ref.IsGround() {
		return // each call of a function may mean another element
	}
	text := ref.String()
	known := p.byText[text]
	if known == nil {
		known = &pin{ref: ref, values: values, from: p.from, loc: p.loc}
		p.byText[text] = known
		p.order = append(p.order, known)
		return
	}
	left := slices.DeleteFunc(slices.Clone(known.values), func(x *ast.Term) bool { return !has(values, x) })
	if len(left) == 0 && (p.depth == 0 || known.from != p.from) {
		p.fails(p.l.text(ref) + " can not be " + list(known.values) + " and " + list(values) + " at once")
	}
	if len(left) > 0 {
		known.values = left
	}
}

func has(values []*ast.Term, x *ast.Term) bool {
	return slices.ContainsFunc(values, func(v *ast.Term) bool { return v.Value.Compare(x.Value) == 0 })
}

// list names values, and not too many of them.
func list(values []*ast.Term) string {
	text := ""
	for i, v := range values {
		switch {
		case i == 4:
			return text + " or another"
		case i > 0:
			text += " or "
		}
		text += v.String()
	}
	return text
}

// into looks into the one definition of a rule or function that has to hold.
func (p *pins) into(t *ast.Term, given []*ast.Term) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || p.depth >= maxDepth || !ref[0].Equal(ast.DefaultRootDocument) {
		return
	}
	r, _ := p.l.onlyRule(ref)
	if r == nil || p.l.in.IsLibrary(r.Location.File) || len(given) < len(r.Head.Args) {
		return
	}
	s := p.l.scope(r)
	if len(r.Head.Args) > 0 {
		s = s.with(r, given)
	}
	p.depth++
	p.body(r.Body, s)
	p.depth--
}

func (p *pins) fails(why string) {
	if p.conflict != nil {
		p.conflict(p.loc, why)
		p.conflict = nil
	}
}

// value tells whether a body demands that the thing of input at a path, with dots, is text.
func (p *pins) value(path, text string) bool {
	pin := p.byText[path]
	return pin != nil && len(pin.values) == 1 && pin.values[0].Value.Compare(ast.String(text)) == 0
}
