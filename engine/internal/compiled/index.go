package compiled

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// topdown asks an index which definitions may hold, and the plan asks each. Where the
// index leaves a definition out that holds, topdown finds it undefined. It does so
// after v in input.list, if nothing has told it what v is: it takes v for input.list
// from there on, so that v == 1, or v.name == "x", asks that of the list. Such policy is
// refused. So is a variable that is called as the one that the index uses itself.
//
// And it splits patterns of glob.match, and what they are held against, by the
// delimiters alone, of which it knows no escapes, none of several bytes, and none that
// mean something in patterns. Where it matters is seen when glob.match is called, see
// oddGlob.

// anyVar is the variable that the index uses for "any value".
const anyVar = ast.Var("__any__")

// judgeIndex refuses definitions that OPA's index may leave out though they hold.
func judgeIndex(r *ast.Rule) error {
	stray := ast.NewVarSet() // what the index mistakes for a collection
	known := ast.NewVarSet() // what it knows to be a part of the input
	arguments := ast.NewVarSet()
	for _, a := range r.Head.Args {
		if v, ok := a.Value.(ast.Var); ok {
			arguments.Add(v)
		}
	}
	for _, x := range r.Body {
		if x.Negated || len(x.With) > 0 || !indexed(x) {
			continue
		}
		for v := range outerVars(x) {
			if v == anyVar || stray.Contains(v) {
				return refuseAt(x.Location, "OPA's index mistakes %v for something else in %v", v, source(x.Location, x))
			}
		}
		if v, ok := partOfInput(x); ok {
			known.Add(v)
			continue
		}
		v, ok := memberVar(x)
		if !ok {
			clear(known) // a constant takes the place of a variable
		} else if !known.Contains(v) && !arguments.Contains(v) {
			stray.Add(v)
		}
	}
	return nil
}

// indexed tells whether OPA's index looks at an expression of this form.
func indexed(x *ast.Expr) bool {
	switch x.Terms.(type) {
	case *ast.Term:
		return true
	case []*ast.Term:
		switch x.Operator().String() {
		case "eq", "equal", "glob.match", "internal.member_2", "startswith", "endswith", "strings.any_prefix_match", "strings.any_suffix_match":
			return true
		}
	}
	return false
}

// partOfInput is the variable that an expression sets equal to a part of the input,
// which is how the index comes to know it.
func partOfInput(x *ast.Expr) (v ast.Var, ok bool) {
	if !x.IsEquality() || len(x.Operands()) != 2 {
		return "", false
	}
	a, b := x.Operand(0).Value, x.Operand(1).Value
	if _, isVar := a.(ast.Var); !isVar {
		a, b = b, a
	}
	v, isVar := a.(ast.Var)
	ref, isRef := b.(ast.Ref)
	if !isVar || !isRef || !ref.HasPrefix(ast.InputRootRef) {
		return "", false
	}
	return v, constants(ref) == len(ref)
}

// memberVar is the variable of which an expression asks whether it is in a collection
// that is no literal.
func memberVar(x *ast.Expr) (v ast.Var, ok bool) {
	if !x.IsCall() || x.Operator().String() != "internal.member_2" || len(x.Operands()) != 2 {
		return "", false
	}
	switch x.Operand(1).Value.(type) {
	case ast.Var, ast.Ref:
		v, ok = x.Operand(0).Value.(ast.Var)
	}
	return v, ok
}

// oddGlob tells whether OPA's index may leave out what this call of glob.match finds to
// hold: of escapes, and of delimiters that are more than one usual character.
func oddGlob(operands []*ast.Term) bool {
	for i, t := range operands {
		switch v := t.Value.(type) {
		case ast.String:
			if strings.Contains(string(v), `\`) {
				return true
			}
		case *ast.Array:
			if i == 1 && v.Until(func(d *ast.Term) bool { s, ok := d.Value.(ast.String); return !ok || oddDelimiter(string(s)) }) {
				return true
			}
		}
	}
	return false
}

func oddDelimiter(s string) bool {
	return len(s) != 1 || s[0] >= 0x80 || strings.Contains(`\*?[]{}!`, s)
}
