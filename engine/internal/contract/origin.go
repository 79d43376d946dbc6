package contract

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// origin is where a value comes from, as far as the text says.
type origin struct {
	kind originKind
	// steps lead from input or data, from the parameter, or (fromElsewhere) from
	// a value that has no path.
	steps []step
	// soft counts the steps that object.get took, so that what they lead to is
	// defined even where it is missing.
	soft  int
	param param
	// rules marks a document that rules make: looking a member up in it is
	// asking a rule.
	rules bool
}

type originKind uint8

const (
	// fromElsewhere is a computed value that may hold anything of the input.
	fromElsewhere originKind = iota
	// fromPolicy is written in the policy or computed from base data alone.
	fromPolicy
	fromData
	fromInput
	fromParam
)

type step struct {
	kind  stepKind
	name  string
	index int
}

type stepKind uint8

const (
	stepName stepKind = iota
	stepIndex
	// stepEach visits every element.
	stepEach
	// stepDynamic is one element whose name is known at run time only.
	stepDynamic
)

// param is the i-th parameter of a function.
type param struct {
	group *group
	index int
}

func (o origin) with(steps ...step) origin {
	o.steps = append(slices.Clip(o.steps), steps...)
	return o
}

// innocent values hold nothing of the input: keys looked up in them are not
// covered by the rules on what may be undefined, and the documentation says so.
func (o origin) innocent() bool { return o.kind == fromPolicy || o.kind == fromData }

// mayBeIterated is the allow-list for permits: base data, the subject and the
// credentials, none of which the caller's arguments can stretch.
func (o origin) mayBeIterated() bool {
	switch o.kind {
	case fromData:
		return true
	case fromInput:
		return len(o.steps) > 0 && o.steps[0].kind == stepName && (o.steps[0].name == "subject" || o.steps[0].name == "credentials")
	case fromElsewhere, fromPolicy, fromParam:
	}
	return false
}

func (o origin) String() string {
	root := "a computed value"
	switch o.kind {
	case fromData:
		root = "data"
	case fromInput:
		root = "input"
	case fromPolicy:
		root = "a constant"
	case fromParam:
		root = "a function's parameter"
	case fromElsewhere:
	}
	return root + pathText(o.steps)
}

func pathText(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		switch {
		case s.kind == stepEach:
			b.WriteString("[_]")
		case s.kind == stepDynamic:
			b.WriteString("[…]")
		case s.kind == stepIndex:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case plainName(s.name):
			b.WriteString("." + s.name)
		default:
			b.WriteString("[" + strconv.Quote(s.name) + "]")
		}
	}
	return b.String()
}

func plainName(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// local is what is known of one variable.
type local struct {
	origin origin
	// single variables have one value wherever they are seen, so that a
	// reference by them looks one element up: := of something that does not
	// iterate, parameters, and what every quantifies over.
	single bool
	// given lists the parameters that must be single for this to be.
	given []param
	// value is what it may be, where that says more than its origin.
	value operand
	// walks is the path whose keys a variable runs through; another path read by
	// the same variable is a lookup.
	walks string
}

// scope is the variables of a body; those of an enclosing one are seen, too.
type scope struct {
	parent *scope
	vars   map[ast.Var]*local
	checks []check
}

func newScope(parent *scope) *scope { return &scope{parent: parent, vars: make(map[ast.Var]*local)} }

func (s *scope) find(v ast.Var) *local {
	for ; s != nil; s = s.parent {
		if l, ok := s.vars[v]; ok {
			return l
		}
	}
	return nil
}

func (s *scope) declare(v ast.Var, l local) { s.vars[v] = &l }

// valued says what the variable of a term may be, if it is one.
func (s *scope) valued(t *ast.Term, o operand) {
	if v, ok := varOf(t); ok && s.vars[v] != nil {
		s.vars[v].value = o
	}
}

// implicit is the variable v, made here when nothing declared it.
func (s *scope) implicit(v ast.Var) *local {
	if l := s.find(v); l != nil {
		return l
	}
	s.declare(v, local{})
	return s.vars[v]
}

// elementStep is the step that a term takes as an element of a reference,
// for terms whose value is known.
func elementStep(t *ast.Term) step {
	switch v := t.Value.(type) {
	case ast.String:
		return step{kind: stepName, name: string(v)}
	case ast.Number:
		if i, ok := v.Int(); ok && i >= 0 {
			return step{kind: stepIndex, index: i}
		}
	}
	return step{kind: stepDynamic}
}

// originOf tells where a term's value comes from. It reports nothing.
func (p *policy) originOf(t *ast.Term, sc *scope) origin {
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return origin{kind: fromPolicy}
	case ast.Var:
		return p.originOfVar(v, sc)
	case ast.Ref:
		return p.originOfRef(v, sc)
	case ast.Call:
		return p.originOfCall(v, sc)
	}
	if p.innocent(t, sc) {
		return origin{kind: fromPolicy}
	}
	return origin{}
}

func (p *policy) originOfVar(v ast.Var, sc *scope) origin {
	if l := sc.find(v); l != nil {
		return l.origin
	}
	switch {
	case v.Equal(ast.InputRootDocument.Value):
		return origin{kind: fromInput}
	case v.Equal(ast.DefaultRootDocument.Value):
		return p.originOfData(ast.Ref{ast.DefaultRootDocument}, sc)
	}
	return origin{}
}

func (p *policy) originOfRef(r ast.Ref, sc *scope) origin {
	if len(r) == 0 {
		return origin{}
	}
	if v, ok := r[0].Value.(ast.Var); ok {
		if sc.find(v) == nil && v.Equal(ast.DefaultRootDocument.Value) {
			return p.originOfData(r, sc)
		}
		return p.extend(p.originOfVar(v, sc), r[1:], sc)
	}
	return p.extend(p.originOf(r[0], sc), r[1:], sc)
}

// extend follows the elements of a reference from o. A variable that runs
// through several values is a step over each of them, but only over what it
// runs through; over anything else it looks one up.
func (p *policy) extend(o origin, elements []*ast.Term, sc *scope) origin {
	for _, t := range elements {
		s := elementStep(t)
		if s.kind == stepDynamic && !p.oneValue(t, sc).single {
			s.kind = stepEach
			if v, ok := varOf(t); ok {
				if l := sc.find(v); l != nil && l.walks != "" && l.walks != o.String() {
					s.kind = stepDynamic
				}
			}
		}
		o = o.with(s)
	}
	return o
}

// originOfData tells base data from what rules define.
func (p *policy) originOfData(r ast.Ref, sc *scope) origin {
	found := p.matches(places(r))
	if len(found) == 0 {
		return p.extend(origin{kind: fromData}, r[1:], sc)
	}
	if m := found[0]; len(found) == 1 && !m.whole && !m.group.set && !m.group.function && !m.group.library {
		return p.extend(p.valueOrigin(m.group), r[len(r)-m.rest:], sc)
	}
	if restOf(found) > 0 {
		return origin{steps: []step{{kind: stepDynamic}}}
	}
	return origin{}
}

// restOf is how far a path looks into a value that rules define.
func restOf(found []match) int {
	rest := 0
	for _, m := range found {
		rest = max(rest, m.rest)
	}
	return rest
}

func places(r ast.Ref) []place {
	out := make([]place, 0, len(r))
	for _, t := range r[1:] {
		out = append(out, placeOf(t))
	}
	return out
}

// valueOrigin is the origin of a rule's value if the rule is nothing but that
// value, or a constant.
func (p *policy) valueOrigin(g *group) origin {
	if g.origin != nil {
		return *g.origin
	}
	if g.busy {
		return origin{}
	}
	g.busy = true
	o := p.computeOrigin(g)
	g.busy = false
	g.origin = &o
	return o
}

func (p *policy) computeOrigin(g *group) origin {
	constant := true
	for _, d := range g.defs {
		for r := d.rule; r != nil; r = r.Else {
			v := r.Head.Value
			constant = constant && v != nil && v.IsGround() && !hasRefs(v)
		}
	}
	if constant {
		return origin{kind: fromPolicy}
	}
	if len(g.defs) != 1 || g.hasElse || g.fallback != nil || !alwaysTrue(g.defs[0].rule.Body) {
		return origin{}
	}
	return p.originOf(g.defs[0].rule.Head.Value, newScope(nil))
}

func hasRefs(t *ast.Term) bool {
	found := false
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch x.Value.(type) {
		case ast.Ref, ast.Call, ast.Var, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
			found = true
		}
		return found
	})
	return found
}

func alwaysTrue(b ast.Body) bool {
	if len(b) == 0 {
		return true
	}
	if len(b) != 1 || b[0].Negated || len(b[0].With) > 0 {
		return false
	}
	t, ok := b[0].Terms.(*ast.Term)
	if !ok {
		return false
	}
	v, ok := t.Value.(ast.Boolean)
	return ok && bool(v)
}

func (p *policy) originOfCall(c ast.Call, sc *scope) origin {
	name := operator(c)
	if name == "object.get" && len(c) == 4 {
		return p.originOfGet(c[1], c[2], c[3], sc)
	}
	if strings.HasPrefix(name, "data.") {
		return origin{}
	}
	for _, arg := range c[1:] {
		if !p.originOf(arg, sc).innocent() {
			return origin{}
		}
	}
	return origin{kind: fromPolicy}
}

// originOfGet follows object.get(OBJECT, KEY, DEFAULT) with a default from the
// policy, as a path whose end is always defined.
func (p *policy) originOfGet(object, key, byDefault *ast.Term, sc *scope) origin {
	if p.originOf(byDefault, sc).kind != fromPolicy {
		return origin{}
	}
	o := p.originOf(object, sc)
	keys := []*ast.Term{key}
	if list, ok := key.Value.(*ast.Array); ok {
		keys = keys[:0]
		for i := range list.Len() {
			keys = append(keys, list.Elem(i))
		}
	}
	o = p.extend(o, keys, sc)
	o.soft = len(o.steps)
	return o
}

// innocent tells that a composite term or a comprehension holds nothing of the
// input: all it refers to is constants and base data.
func (p *policy) innocent(t *ast.Term, sc *scope) bool {
	ok := true
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch v := x.Value.(type) {
		case ast.Ref:
			if head, isVar := v[0].Value.(ast.Var); isVar && sc.find(head) == nil {
				switch {
				case v[0].Equal(ast.InputRootDocument):
					ok = false
				case v[0].Equal(ast.DefaultRootDocument):
					ok = ok && p.originOfData(v, sc).innocent()
				}
			}
		case ast.Var:
			if l := sc.find(v); l != nil {
				ok = ok && l.origin.innocent()
			} else if v.Equal(ast.InputRootDocument.Value) {
				ok = false
			}
		case ast.Call:
			ok = ok && !strings.HasPrefix(operator(v), "data.")
		case *ast.TemplateString:
			ok = false
		}
		return !ok
	})
	return ok
}

// operator is the full name of what a call calls.
func operator(c ast.Call) string {
	if len(c) == 0 {
		return ""
	}
	return c[0].Value.String()
}

// values tells how many values a term has where it stands.
type values struct {
	single bool
	given  []param
}

// give adds parameters, each once.
func (v *values) give(params []param) {
	for _, p := range params {
		if !slices.Contains(v.given, p) {
			v.given = append(v.given, p)
		}
	}
}

// oneValue tells whether a term has one value for each value of the
// parameters: nothing in it runs through several.
func (p *policy) oneValue(t *ast.Term, sc *scope) values {
	out := values{single: true}
	p.countValues(t, sc, &out)
	return out
}

func (p *policy) countValues(t *ast.Term, sc *scope, out *values) {
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch v := x.Value.(type) {
		case ast.Ref:
			for i, e := range v {
				if i > 0 || !isRootVar(e, sc) {
					p.countValues(e, sc, out)
				}
			}
			return true
		case ast.Call:
			for _, arg := range v[1:] {
				p.countValues(arg, sc, out)
			}
			return true
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
			countClosure(x, sc, out)
			return true
		case ast.Var:
			l := sc.find(v)
			switch {
			case l != nil:
				out.single = out.single && l.single
				out.give(l.given)
			case !isRootVar(x, sc):
				out.single = false
			}
		}
		return false
	})
}

// countClosure looks at the outer variables in a comprehension, whose own ones
// do not make it several values.
func countClosure(t *ast.Term, sc *scope, out *values) {
	ast.WalkVars(t, func(v ast.Var) bool {
		if l := sc.find(v); l != nil {
			out.single = out.single && l.single
			out.give(l.given)
		}
		return false
	})
}

func isRootVar(t *ast.Term, sc *scope) bool {
	v, ok := t.Value.(ast.Var)
	return ok && sc.find(v) == nil && (t.Equal(ast.InputRootDocument) || t.Equal(ast.DefaultRootDocument))
}
