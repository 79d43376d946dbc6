package contract

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	opatypes "github.com/open-policy-agent/opa/v1/types"
)

// operand is what a term's value may be, as far as its kind goes: one of its
// sources. Without a source it never has a value.
type operand []source

// source is one place where a value comes from, and the steps taken from there.
// The first of these that is set counts.
type source struct {
	// constant is a value written in the policy.
	constant *ast.Term
	// kinds are those of a computed value.
	kinds types
	// group is a rule or a function whose value it is; whole means the document
	// itself where that is a set.
	group *group
	whole bool
	// keyOf makes it a key of what lies at origin.
	keyOf  bool
	origin origin
	rest   []step
	// any stands for more sources than are told apart: it may be all that there is, also input.
	any bool
}

// maxOperand is how many sources of one value are told apart.
const maxOperand = maxSources

// join adds sources, each once.
func (o operand) join(more operand) operand {
	o = slices.Clip(o)
	for _, s := range more {
		if len(o) == 1 && o[0].any {
			return o
		}
		if slices.ContainsFunc(o, s.same) {
			continue
		}
		if len(o) >= maxOperand/2 && s.constant != nil && len(s.rest) == 0 {
			o = o.folded()
		}
		if len(o) >= maxOperand || s.any {
			return operand{{any: true}}
		}
		o = append(o, s)
	}
	return o
}

// folded has one source for all constants, by their kinds: no input is in them.
func (o operand) folded() operand {
	out := make(operand, 0, len(o)+1)
	var k types
	for _, s := range o {
		switch {
		case s.constant != nil && len(s.rest) == 0:
			k |= kindsOfTerm(s.constant, nil)
		case s.kinds != 0 && len(s.rest) == 0:
			k |= s.kinds
		default:
			out = append(out, s)
		}
	}
	if k == 0 {
		return o
	}
	return append(out, source{kinds: k})
}

// same tells whether all that is asked of both is answered alike. Of scalars, nothing but
// their kind is asked.
func (s source) same(x source) bool {
	if s.constant != nil && x.constant != nil && ast.IsScalar(s.constant.Value) && ast.IsScalar(x.constant.Value) {
		return kindsOfTerm(s.constant, nil) == kindsOfTerm(x.constant, nil) && slices.Equal(s.rest, x.rest)
	}
	if (s.constant == nil) != (x.constant == nil) || s.constant != x.constant && s.constant.Value.Compare(x.constant.Value) != 0 {
		return false
	}
	return s.kinds == x.kinds && s.group == x.group && s.whole == x.whole && s.keyOf == x.keyOf && s.any == x.any && slices.Equal(s.rest, x.rest) &&
		s.origin.kind == x.origin.kind && s.origin.soft == x.origin.soft && s.origin.param == x.origin.param && s.origin.rules == x.origin.rules && slices.Equal(s.origin.steps, x.origin.steps)
}

// unknownOperand may hold anything of the input.
func unknownOperand() operand { return operand{{origin: origin{}}} }

func (o operand) with(steps ...step) operand {
	out := make(operand, 0, len(o))
	for _, s := range o {
		s.rest = append(slices.Clip(s.rest), steps...)
		out = append(out, s)
	}
	return out
}

// operandOf tells what a term may be. It reports nothing.
func (p *policy) operandOf(t *ast.Term, sc *scope) operand {
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return operand{{constant: t}}
	case ast.Var:
		if l := sc.find(v); l != nil && len(l.value) > 0 {
			return l.value
		}
		return operand{{origin: p.originOfVar(v, sc)}}
	case ast.Ref:
		return p.operandOfRef(v, sc)
	case ast.Call:
		return p.operandOfCall(v, t, sc)
	case *ast.TemplateString:
		return operand{{kinds: typeString}}
	case *ast.Array, ast.Object, ast.Set:
		if t.IsGround() && !hasRefs(t) {
			return operand{{constant: t}}
		}
	}
	if o := p.originOf(t, sc); o.innocent() {
		return operand{{origin: o}}
	}
	if _, ok := t.Value.(ast.Object); ok {
		return operand{{kinds: typeObject}}
	}
	return operand{{kinds: typeArray}}
}

func (p *policy) operandOfRef(r ast.Ref, sc *scope) operand {
	if len(r) == 0 {
		return unknownOperand()
	}
	if isRootVar(r[0], sc) {
		o := p.originOfRef(r, sc)
		if o.kind == fromInput || o.kind == fromData {
			return operand{{origin: o}}
		}
		return p.operandOfRules(r, o, sc)
	}
	from := origin{}
	if v, ok := varOf(r[0]); ok {
		from = p.originOfVar(v, sc)
	}
	all := p.extend(from, r[1:], sc)
	return p.operandOf(r[0], sc).with(all.steps[len(from.steps):]...)
}

// operandOfRules is what the rules that a reference may mean are worth. o is
// its origin, for what no rule defines.
func (p *policy) operandOfRules(r ast.Ref, o origin, sc *scope) operand {
	found := p.matches(places(r))
	if len(found) == 0 {
		return operand{{origin: o}}
	}
	var out operand
	for _, m := range found {
		if m.group.library || m.whole && !m.group.set || m.group.function {
			return unknownOperand()
		}
		steps := p.extend(origin{}, r[len(r)-m.rest:], sc).steps
		out = append(out, source{group: m.group, whole: m.whole, rest: steps})
	}
	return out
}

func (p *policy) operandOfCall(c ast.Call, t *ast.Term, sc *scope) operand {
	name := operator(c)
	switch {
	case name == "object.get" && len(c) == 4:
		keys := []*ast.Term{c[2]}
		if list, ok := c[2].Value.(*ast.Array); ok {
			keys = keys[:0]
			for i := range list.Len() {
				keys = append(keys, list.Elem(i))
			}
		}
		o := p.originOf(c[1], sc)
		steps := p.extend(o, keys, sc).steps[len(o.steps):]
		return p.operandOf(c[1], sc).with(steps...).join(p.operandOf(c[3], sc))
	case (name == "min" || name == "max") && len(c) == 2:
		return p.elementsOf(c[1], sc)
	case name == "minus":
		// It takes two sets as well, which nothing of the input is.
		return operand{{kinds: typeNumber}}
	}
	if b, ok := ast.BuiltinMap[name]; ok && b.Decl != nil {
		if k := kindsOfType(b.Decl.Result()); k != anyType {
			return operand{{kinds: k}}
		}
	}
	if r, ok := c[0].Value.(ast.Ref); ok && r[0].Equal(ast.DefaultRootDocument) {
		return p.operandOfFunction(r)
	}
	return operand{{origin: p.originOf(t, sc)}}
}

func (p *policy) operandOfFunction(r ast.Ref) operand {
	var out operand
	for _, m := range p.matches(places(r)) {
		if m.group.library || m.whole || !m.group.function {
			return unknownOperand()
		}
		out = append(out, source{group: m.group})
	}
	if len(out) == 0 {
		return unknownOperand()
	}
	return out
}

// elementsOf is what the elements of a term may be.
func (p *policy) elementsOf(t *ast.Term, sc *scope) operand {
	var out operand
	switch v := t.Value.(type) {
	case *ast.Array:
		for i := range v.Len() {
			out = out.join(p.operandOf(v.Elem(i), sc))
		}
		return out
	case ast.Set:
		v.Foreach(func(x *ast.Term) { out = out.join(p.operandOf(x, sc)) })
		return out
	}
	return p.operandOf(t, sc).with(step{kind: stepEach})
}

// keysOf is what the keys of a term may be.
func (p *policy) keysOf(o origin) operand { return operand{{keyOf: true, origin: o}} }

func kindsOfType(t opatypes.Type) types {
	switch v := t.(type) {
	case opatypes.Null:
		return typeNull
	case opatypes.Boolean:
		return typeBoolean
	case opatypes.Number:
		return typeNumber
	case opatypes.String:
		return typeString
	case *opatypes.Array, *opatypes.Set:
		return typeArray
	case *opatypes.Object:
		return typeObject
	case opatypes.Any:
		var k types
		for _, x := range v {
			k |= kindsOfType(x)
		}
		if k != 0 {
			return k
		}
	}
	return anyType
}

// kindsOfTerm are the kinds of what lies on a path in a constant.
func kindsOfTerm(t *ast.Term, path []step) types {
	if len(path) == 0 {
		switch t.Value.(type) {
		case ast.Null:
			return typeNull
		case ast.Boolean:
			return typeBoolean
		case ast.Number:
			return typeNumber
		case ast.String:
			return typeString
		case *ast.Array, ast.Set:
			return typeArray
		case ast.Object:
			return typeObject
		}
		return anyType
	}
	var k types
	s, rest := path[0], path[1:]
	switch v := t.Value.(type) {
	case *ast.Array:
		for i := range v.Len() {
			if s.kind == stepEach || s.kind == stepDynamic || s.kind == stepIndex && s.index == i {
				k |= kindsOfTerm(v.Elem(i), rest)
			}
		}
	case ast.Set:
		v.Foreach(func(x *ast.Term) { k |= kindsOfTerm(x, rest) })
	case ast.Object:
		v.Foreach(func(key, x *ast.Term) {
			if s.kind == stepEach || s.kind == stepDynamic || elementStep(key) == s {
				k |= kindsOfTerm(x, rest)
			}
		})
	}
	return k
}

// check is a condition of a body that a term is of one kind, such as
// is_number(x). It holds for all of the body, whatever the order.
type check struct {
	term  *ast.Term
	kinds types
}

// checksOf finds the conditions of a body on the kinds of its terms.
func checksOf(b ast.Body) []check {
	var out []check
	for _, e := range b {
		c, ok := e.Terms.([]*ast.Term)
		if !ok || e.Negated || len(e.With) > 0 || len(c) != 2 {
			continue
		}
		switch operator(c) {
		case "is_number":
			out = append(out, check{c[1], typeNumber})
		case "is_string":
			out = append(out, check{c[1], typeString})
		}
	}
	return out
}

// checked are the kinds that checks around a term leave it: those in its body
// and the enclosing ones, unless a variable means another there.
func (s *scope) checked(t *ast.Term) types {
	k := anyType
	for at := s; at != nil; at = at.parent {
		for _, c := range at.checks {
			if c.term.Equal(t) && sameVariables(t, s, at) {
				k &= c.kinds
			}
		}
	}
	return k
}

func sameVariables(t *ast.Term, a, b *scope) bool {
	same := true
	ast.WalkVars(t, func(v ast.Var) bool {
		same = same && a.find(v) == b.find(v)
		return !same
	})
	return same
}
