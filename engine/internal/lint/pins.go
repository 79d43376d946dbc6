package lint

import (
	"slices"
	"strings"

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

// limit is what a body demands of one thing by a comparison that is no equality.
type limit struct {
	name string // of the operator
	at   *ast.Term
	from int // as of a pin
}

// admits tells whether a constant keeps to it.
func (m limit) admits(x *ast.Term) bool { return holds(m.name, ast.Compare(x.Value, m.at.Value)) }

// excludes tells whether nothing keeps to both. Values of all types have one order, by
// which a range is empty whose ends are the wrong way round; that there is no integer
// between two others is not looked at.
func (m limit) excludes(other limit) bool {
	below := func(name string) bool { return name == ast.LessThan.Name || name == ast.LessThanEq.Name }
	above := func(name string) bool { return name == ast.GreaterThan.Name || name == ast.GreaterThanEq.Name }
	if below(m.name) {
		m, other = other, m
	}
	if !above(m.name) || !below(other.name) {
		return false
	}
	return !m.admits(other.at) || !other.admits(m.at)
}

// String is the comparison without its left side.
func (m limit) String() string { return mark(m.name) + " " + m.at.String() }

// mark is an operator as it is written.
func mark(name string) string {
	return map[string]string{
		ast.LessThan.Name: ast.LessThan.Infix, ast.LessThanEq.Name: ast.LessThanEq.Infix,
		ast.GreaterThan.Name: ast.GreaterThan.Infix, ast.GreaterThanEq.Name: ast.GreaterThanEq.Infix, ast.NotEqual.Name: ast.NotEqual.Infix,
	}[name]
}

// turned is the operator that says the same with its sides exchanged.
func turned(name string) string {
	switch name {
	case ast.LessThan.Name:
		return ast.GreaterThan.Name
	case ast.LessThanEq.Name:
		return ast.GreaterThanEq.Name
	case ast.GreaterThan.Name:
		return ast.LessThan.Name
	case ast.GreaterThanEq.Name:
		return ast.LessThanEq.Name
	}
	return name
}

// pins collects, over the expressions of one body, what has to hold for all of it to
// hold. Rules and functions of one definition that it names are looked into.
type pins struct {
	l      *linter
	byText map[string]*pin
	order  []*pin
	limits map[string][]limit
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
	operands, name := e.Operands(), operator(e)
	if p.l.isReplaced(e.Operator()) {
		return
	}
	switch name {
	case ast.NotEqual.Name, ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
		if len(operands) != 2 {
			return // with a third, the answer is kept and need not be true
		}
		a, b := s.local(operands[0]), s.local(operands[1])
		if ast.IsScalar(a.Value) && ast.IsScalar(b.Value) && !holds(name, ast.Compare(a.Value, b.Value)) {
			p.fails(a.String() + " " + mark(name) + " " + b.String() + " is never true")
			return
		}
		x, y := p.l.resolve(operands[0], s), p.l.resolve(operands[1], s)
		switch ofX, ofY := ast.IsScalar(x.Value), ast.IsScalar(y.Value); {
		case ofY && !ofX:
			p.limited(x, limit{name: name, at: y})
		case ofX && !ofY:
			p.limited(y, limit{name: turned(name), at: x})
		}
	case ast.Member.Name:
		if len(operands) != 2 {
			return
		}
		values := scalarsOf(p.l.resolve(operands[1], s))
		if values == nil {
			return
		}
		if x := s.local(operands[0]); !ast.IsScalar(x.Value) {
			p.among(p.l.resolve(operands[0], s), values)
		} else if !has(values, x) {
			p.fails(x.String() + " is not among what it is compared with")
		}
	default:
		given := make([]*ast.Term, len(operands))
		for i, t := range operands {
			given[i] = p.l.resolve(t, s)
			if ast.IsScalar(given[i].Value) && !ast.IsScalar(s.local(t).Value) {
				given[i] = s.apart(s.local(t)) // a switch, as in equal
			}
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
		p.among(x, []*ast.Term{y})
	case ofX && !ofY:
		p.among(y, []*ast.Term{x})
	}
}

// among demands that t, which is resolved, is one of values.
func (p *pins) among(t *ast.Term, values []*ast.Term) {
	ref, text := p.thing(t)
	if ref == nil {
		return
	}
	for _, m := range p.limits[text] {
		if !slices.ContainsFunc(values, m.admits) && p.across(m.from) {
			p.fails(p.l.text(ref) + " can not be " + m.String() + " and " + list(values) + " at once")
			return
		}
	}
	known := p.byText[text]
	if known != nil && !p.l.spend(len(values)*len(known.values)) {
		return
	}
	if known == nil {
		known = &pin{ref: ref, values: values, from: p.from, loc: p.loc}
		p.byText[text] = known
		p.order = append(p.order, known)
		return
	}
	left := slices.DeleteFunc(slices.Clone(known.values), func(x *ast.Term) bool { return !has(values, x) })
	if len(left) == 0 && p.across(known.from) {
		p.fails(p.l.text(ref) + " can not be " + list(known.values) + " and " + list(values) + " at once")
	}
	if len(left) > 0 {
		known.values = left
	}
}

// limited demands that t keeps to a limit.
func (p *pins) limited(t *ast.Term, m limit) {
	ref, text := p.thing(t)
	if ref == nil {
		return
	}
	if known := p.byText[text]; known != nil && !slices.ContainsFunc(known.values, m.admits) && p.across(known.from) {
		p.fails(p.l.text(ref) + " can not be " + list(known.values) + " and " + m.String() + " at once")
		return
	}
	if !p.l.spend(4 * len(p.limits[text])) {
		return
	}
	for _, other := range p.limits[text] {
		if m.excludes(other) && p.across(other.from) {
			p.fails(p.l.text(ref) + " can not be " + other.String() + " and " + m.String() + " at once")
			return
		}
	}
	m.from = p.from
	p.limits[text] = append(p.limits[text], m)
}

// thing is what a demand can be made of, and the text by which it is known: the same text
// has the same value in one evaluation. nil if t is no such thing.
func (p *pins) thing(t *ast.Term) (ast.Ref, string) {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		return nil, ""
	}
	if !p.l.spend(4 * len(ref)) {
		return nil, ""
	}
	if plain(ref) {
		return ref, ref.String()
	}
	var b strings.Builder
	if !identify(&b, ref) {
		return nil, ""
	}
	return ref, b.String()
}

// plain tells a reference to a document by constants.
func plain(ref ast.Ref) bool {
	return rooted(ref) && !slices.ContainsFunc(ref[1:], func(t *ast.Term) bool { return !ast.IsScalar(t.Value) })
}

// identify writes a reference with its variables, among which each _ is one of its own. It
// does not know literals that hold variables.
func identify(b *strings.Builder, ref ast.Ref) bool {
	b.WriteByte('(')
	for _, t := range ref {
		switch v := t.Value.(type) {
		case ast.Var:
			b.WriteString(string(v))
		case ast.Ref:
			if !identify(b, v) {
				return false
			}
		default:
			if !ast.IsScalar(v) {
				return false
			}
			b.WriteString(t.String())
		}
		b.WriteByte(' ')
	}
	b.WriteByte(')')
	return true
}

// across tells whether the demand of an expression is to be held against the one at hand:
// what a rule that is named demands of itself is reported there.
func (p *pins) across(from int) bool { return p.depth == 0 || from != p.from }

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

// into looks into the one definition of a rule or function that has to hold. given are what
// a call gives and takes; nil where t is no call.
func (p *pins) into(t *ast.Term, given []*ast.Term) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || p.depth >= maxDepth || !ref[0].Equal(ast.DefaultRootDocument) {
		return
	}
	r, rest := p.l.onlyRule(ref)
	if r == nil || p.l.in.IsLibrary(r.Location.File) || len(given) < len(r.Head.Args) || collects(r) && len(rest) == 0 {
		return
	}
	s := p.l.of(r)
	if len(r.Head.Args) > 0 || collects(r) {
		s = p.l.with(r, given)
	}
	p.depth++
	p.body(r.Body, s)
	p.depth--
}

// collects tells a rule whose document is there though no body holds: it is empty then.
func collects(r *ast.Rule) bool { return r.Head.Key != nil || !r.Ref().IsGround() }

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
