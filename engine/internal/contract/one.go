package contract

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A permit for one member of a list is a permit for all of them: the first
// payment, the least amount, or that some operation is harmless says nothing of
// the others (contract, "No unbounded iteration under a permit").

// picks notes calls of builtins that make less of a list than the list.
func (w *walker) picks(name string, args []*ast.Term, loc *ast.Location, sc *scope) {
	var lists []*ast.Term
	switch name {
	case "min", "max", "sort", "array.slice", "array.reverse", "json.filter", "object.subset":
		lists = args[:min(1, len(args))]
	case "array.concat", "concat", "strings.any_prefix_match", "strings.any_suffix_match":
		lists = args[:min(2, len(args))]
	}
	for _, t := range lists {
		w.add(fact{
			kind: factSome, loc: loc, text: name + "(… " + t.String() + " …)", left: w.compared(t, sc), within: name == "json.filter",
		})
	}
}

// passesOver tells a pattern for a list with members that it does not look at.
func passesOver(t *ast.Term) bool {
	list, ok := t.Value.(*ast.Array)
	if !ok {
		return false
	}
	for i := range list.Len() {
		if v, ok := varOf(list.Elem(i)); ok && v.IsWildcard() {
			return true
		}
	}
	return false
}

// oneOfMany judges what looks at one member, at a place the policy names, of an
// argument list that may be longer.
func (j *judge) oneOfMany(f fact, g *group, s service) {
	severity, by := Error, s&servesAnyPermit
	if by == 0 {
		severity, by = Warning, s&servesAnyAllow
	}
	if by == 0 || !j.picksOne(f, by) {
		return
	}
	j.add(f, CodeOneOfMany, severity, f.text+" looks at one member of a list that may have more"+j.reachedFrom(g, by)+
		": use every, or bound the list by maxItems in the tool's schema")
}

// picksOne tells whether it does, or whether that can not be told.
func (j *judge) picksOne(f fact, by service) bool {
	budget := maxSources
	//nolint:exhaustive // the other kinds pick nothing
	switch f.kind {
	case factSome:
		if f.none && by&(servesPermitHidden|servesAllowHidden) == 0 {
			return false
		}
		return slices.ContainsFunc(j.placesOf(f.left.value, &budget), func(path []step) bool {
			return f.within && meetsArguments(path) || j.schemas.longer(path)
		}) || budget <= 0
	case factChooses:
		if k := j.kindsOf(f.left); k.known != 0 && k.known&typeNumber == 0 && len(k.data) == 0 {
			return false // no index
		}
		return slices.ContainsFunc(j.placesOf(operand{{origin: f.origin}}, &budget), j.schemas.longer) || budget <= 0
	case factReads, factAsks:
		return slices.ContainsFunc(j.placesOf(operand{{origin: f.origin}}, &budget), func(path []step) bool {
			for i, st := range path {
				if st.kind == stepIndex && j.schemas.longer(path[:i]) {
					return true
				}
			}
			return false
		}) || budget <= 0
	}
	return false
}

// placesOf are the paths of input that a value may come from, all of them if any of the
// budget is left. Constants cost nothing.
func (j *judge) placesOf(o operand, budget *int) [][]step {
	var out [][]step
	for _, s := range o {
		if s.constant != nil || s.kinds != 0 || s.keyOf || s.whole || s.group != nil && s.group.value.fixed() {
			continue
		}
		if *budget--; *budget <= 0 {
			break
		}
		switch {
		case s.any:
			*budget = 0
			return out
		case s.group != nil:
			out = append(out, j.placesOf(s.group.value.with(s.rest...), budget)...)
		case s.origin.kind == fromInput:
			out = append(out, s.origin.with(s.rest...).steps)
		case s.origin.kind == fromParam:
			out = append(out, j.placesOf(j.values[s.origin.param].with(slices.Concat(s.origin.steps, s.rest)...), budget)...)
		}
	}
	return out
}

// fixed tells whether a value holds constants only.
func (o operand) fixed() bool {
	return !slices.ContainsFunc(o, func(s source) bool { return s.constant == nil && s.kinds == 0 })
}

// meetsArguments: the value holds arguments, or is part of them.
func meetsArguments(path []step) bool {
	prefix := argumentsPath()
	n := min(len(path), len(prefix))
	return slices.Equal(path[:n], prefix[:n])
}
