package contract

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// Rego orders any two values: null, false, true, numbers, strings, arrays,
// objects. So amount < 100 holds for null, and for every number against "100":
// a comparison means what it says only among values of one kind.

// compared is a value that a comparison takes.
type compared struct {
	value operand
	// checked are the kinds that conditions of the same body leave.
	checked types
}

// compares notes calls that take values by their order, or for numbers.
func (w *walker) compares(name string, args []*ast.Term, loc *ast.Location, sc *scope) {
	sign := ""
	switch name {
	case "lt":
		sign = "<"
	case "lte":
		sign = "<="
	case "gt":
		sign = ">"
	case "gte":
		sign = ">="
	case "to_number":
		if len(args) > 0 {
			w.add(fact{kind: factNumber, loc: loc, text: "to_number(" + args[0].String() + ")", left: w.compared(args[0], sc)})
		}
	}
	if sign != "" && len(args) > 1 {
		text := args[0].String() + " " + sign + " " + args[1].String()
		w.add(fact{kind: factOrders, loc: loc, text: text, left: w.compared(args[0], sc), right: w.compared(args[1], sc)})
	}
}

func (w *walker) compared(t *ast.Term, sc *scope) compared {
	return compared{value: w.p.operandOf(t, sc), checked: sc.checked(t)}
}

// values collects what callers pass for the parameters of functions.
func (p *policy) values() map[param]operand {
	out := make(map[param]operand)
	for _, g := range p.groups {
		for _, f := range g.facts {
			for _, c := range f.calls {
				for i, a := range c.args {
					k := param{c.group, i}
					out[k] = out[k].join(a.value)
				}
			}
		}
	}
	return out
}

// kinds is what is known of a value's kind.
type kinds struct {
	// known are the kinds it may have; those of base data are in data.
	known types
	data  []origin
	// foreign: it may hold part of the input.
	foreign bool
	// text: a string among them is not of the engine's own making.
	text bool
}

// maxSources bounds how many sources are followed for one value; each is one of
// an argument, an element or a rule.
const maxSources = 2048

func (j *judge) kindsOf(c compared) kinds {
	budget := maxSources
	var k kinds
	j.collect(c.value, &k, &budget)
	k.known &= c.checked
	if c.checked != anyType {
		k.data = nil
	}
	return k
}

func (j *judge) collect(o operand, k *kinds, budget *int) {
	for _, s := range o {
		if *budget--; *budget <= 0 {
			k.known, k.foreign = anyType, true
			return
		}
		j.source(s, k, budget)
	}
}

func (j *judge) source(s source, k *kinds, budget *int) {
	switch {
	case s.any:
		k.known, k.foreign = anyType, true
	case s.constant != nil:
		k.known |= kindsOfTerm(s.constant, s.rest)
	case s.kinds != 0:
		if len(s.rest) > 0 {
			k.known, k.foreign = anyType, true
			return
		}
		k.known |= s.kinds
		k.text = k.text || s.kinds&typeString != 0
	case s.group != nil:
		rest := s.rest
		if s.whole {
			if len(rest) == 0 {
				k.known |= typeArray
				return
			}
			rest = rest[1:]
		}
		j.collect(s.group.value.with(rest...), k, budget)
	case s.keyOf:
		var of kinds
		j.origin(s.origin, &of, budget)
		k.foreign = k.foreign || of.foreign
		if of.known&typeArray != 0 {
			k.known |= typeNumber
		}
		if of.known&^typeArray != 0 {
			k.known |= typeString
		}
	default:
		j.origin(s.origin.with(s.rest...), k, budget)
	}
}

func (j *judge) origin(o origin, k *kinds, budget *int) {
	switch o.kind {
	case fromPolicy:
	case fromData:
		k.data = append(k.data, o)
	case fromParam:
		j.collect(j.values[o.param].with(o.steps...), k, budget)
	case fromInput:
		k.foreign = true
		found := j.schemas.kinds(o.steps)
		k.known |= found
		k.text = k.text || found&typeString != 0 && belowArguments(o.steps)
	case fromElsewhere:
		k.known, k.foreign = anyType, true
	}
}

// orders judges a comparison: all that it may compare must be of one kind.
func (j *judge) orders(f fact, g *group, s service) {
	l, r := j.kindsOf(f.left), j.kindsOf(f.right)
	severity, by := j.strictness(s)
	all := l.known | r.known
	switch all {
	case 0:
		return // compares nothing, or base data with base data
	case typeNumber, typeString:
	default:
		j.add(f, CodeMixedComparison, severity, f.text+" compares "+l.String()+" with "+r.String()+j.reachedFrom(g, by)+
			", and Rego orders values of any kinds: null, booleans, numbers, strings, arrays, objects. "+
			"Give both sides one type in the tool's schema, or compare after checking is_number(x)")
		return
	}
	if all == typeString && (l.text || r.text) {
		j.add(f, CodeStringOrder, Warning, f.text+` compares strings by code points, in which "9" is more than "10": compare numbers, by to_number(x)`)
	}
	for _, o := range append(slices.Clip(l.data), r.data...) {
		j.data = append(j.data, dataRead{file: f.file, rule: f.rule, loc: f.loc, path: o.steps, orders: all, severity: severity})
	}
}

// number judges to_number, which takes null for 0 and true for 1.
func (j *judge) number(f fact, g *group, s service) {
	k := j.kindsOf(f.left)
	if !k.foreign || k.known&(typeNull|typeBoolean) == 0 {
		return
	}
	severity, by := j.strictness(s)
	j.add(f, CodeMixedComparison, severity, f.text+" may take "+(kinds{known: k.known & (typeNull | typeBoolean)}).String()+j.reachedFrom(g, by)+
		", and makes null 0 and true 1. Give it one type in the tool's schema, or check is_string(x) or is_number(x) before")
}

// strictness is how a fault counts that can grant as well as hide.
func (j *judge) strictness(s service) (Severity, service) {
	switch {
	case s&servesAnyPermit != 0:
		return Error, s & servesAnyPermit
	case s&servesAnyForbid != 0:
		return errorUnless(j.in.LaxForbids), s & servesAnyForbid
	}
	return Warning, s & servesAnyAllow
}

func (k kinds) String() string {
	if k.known == anyType {
		return "a value of any kind"
	}
	var names []string
	for i, name := range []string{"null", "a boolean", "a number", "a string", "an array", "an object"} {
		if k.known&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "base data"
	}
	return strings.Join(names, " or ")
}

// compare looks at base data that is compared: all that lies at the path, by
// whatever name is looked up.
func (r dataRead) compare(data rar.Value) []Finding {
	v, place, found := otherAt(data, r.path, r.orders)
	if !found {
		return nil
	}
	return []Finding{at(r.loc, r.file, CodeMixedComparison, r.severity, r.rule,
		"data"+place+", "+v.Kind().String()+", is compared with "+(kinds{known: r.orders}).String()+", and Rego orders values of any kinds")}
}

// otherAt finds a value at a path, in all members where a name is not known, that is of
// none of the kinds, and its place.
func otherAt(v rar.Value, path []step, known types) (other rar.Value, place string, found bool) {
	if len(path) == 0 {
		return v, "", typeOf(v)&^known != 0
	}
	s, rest := path[0], path[1:]
	below := func(i int) (rar.Value, string, bool) {
		child, at := v.Index(i), step{kind: stepIndex, index: i}
		if v.Kind() == rar.Object {
			m := v.Member(i)
			child, at = m.Value, step{name: m.Name}
		}
		other, place, found := otherAt(child, rest, known)
		if !found {
			return rar.Value{}, "", false
		}
		return other, pathText([]step{at}) + place, true
	}
	switch {
	case s.kind == stepEach || s.kind == stepDynamic:
		names, direct := namesOf(rest)
		for i := range v.Len() {
			if direct { // large data has many rows
				if x, ok := childAt(v, i, names); !ok || typeOf(x)&^known == 0 {
					continue
				}
			}
			if other, place, found = below(i); found {
				return other, place, true
			}
		}
	case s.kind == stepName && v.Kind() == rar.Object:
		if i := v.Find(s.name); i >= 0 {
			return below(i)
		}
	case s.kind == stepIndex && v.Kind() == rar.Array && s.index >= 0 && s.index < v.Len():
		return below(s.index)
	}
	return rar.Value{}, "", false
}

// namesOf are the steps of a path, if all of them are names.
func namesOf(path []step) (names []string, ok bool) {
	for _, s := range path {
		if s.kind != stepName {
			return nil, false
		}
		names = append(names, s.name)
	}
	return names, true
}

// kinds are those that lie on a path of input.
func (s *schemas) kinds(path []step) types {
	if !belowArguments(path) {
		return s.input.kinds(path)
	}
	var k types
	for _, t := range s.tools {
		k |= t.doc.kinds(path[len(argumentsPath()):])
	}
	return k
}

// kinds are those of the values on a path, at most.
func (d *schemaDoc) kinds(path []step) types {
	states := d.forms()
	for i, s := range path {
		var next []state
		for _, st := range states {
			if len(next) > maxStates {
				return anyType
			}
			if s.kind != stepEach && s.kind != stepDynamic {
				next = append(next, d.step(st, s, i == 0)...)
			} else if !st.ended && st.alt.types()&(typeArray|typeObject) != 0 {
				next = append(next, d.each(st)...)
			}
		}
		if states = next; len(states) > maxStates {
			return anyType
		}
	}
	var k types
	for _, st := range states {
		if !st.ended {
			k |= st.alt.types()
		}
	}
	return k
}

// compares judges the comparisons for one tool alone.
func (a *Analysis) compares(t Tool) []Finding {
	if a.judge == nil {
		return nil
	}
	j := &judge{
		policy: a.policy, in: a.in, schemas: newSchemas(Input{Tools: []Tool{t}}),
		services: a.judge.services, via: a.judge.via, values: a.judge.values,
	}
	for _, g := range a.policy.groups {
		s := j.services[g]
		for _, f := range g.facts {
			if s != 0 && (f.kind == factOrders || f.kind == factNumber) {
				j.fact(f, g, s)
			}
		}
	}
	return j.found
}
