package weaken

import "github.com/open-policy-agent/opa/v1/ast"

// maxInline bounds how deep values are followed through definitions, and
// maxInlined how many terms one value may become: functions that call
// functions twice would double it at each step.
const (
	maxInline  = 32
	maxInlined = 4096
)

// inliner writes out a value, as far as it does not depend on arguments.
type inliner struct {
	maker *maker
	left  int
}

// scope says what the variables of one body are.
type scope struct {
	// open tells which variables have no value in the weaker policy.
	open func(ast.Var) bool
	// bound are the left-out expressions that give them one.
	bound map[ast.Var]*ast.Expr
	// args are the values of the parameters of the function that it is in.
	args map[ast.Var]*ast.Term
	// sizes are how many terms they have, those that are shared counted each time.
	sizes map[ast.Var]int
	// elsewhere: the value stands in another rule than the one that is written,
	// so nothing but constants can be taken over: what that rule looks at may be
	// undefined where another rule of its name gives the value.
	elsewhere bool
}

// inline writes out a term of the head of the weakened rule.
func (w *weakened) inline(t *ast.Term) *ast.Term {
	if t == nil {
		return Unknown()
	}
	in := inliner{maker: w.maker, left: maxInlined}
	return in.term(t, &scope{open: func(v ast.Var) bool { return w.tainted[v] }, bound: w.bound}, maxInline)
}

func (in *inliner) term(t *ast.Term, s *scope, depth int) *ast.Term {
	if in.left--; depth == 0 || in.left < 0 {
		return Unknown()
	}
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return t
	case ast.Var:
		if !s.open(v) {
			return t
		}
		if known := s.args[v]; known != nil {
			if in.left -= s.sizes[v]; in.left < 0 {
				return Unknown()
			}
			return known
		}
		if e := s.bound[v]; e != nil {
			return in.binding(e, v, s, depth-1)
		}
		return Unknown()
	case *ast.Array:
		out := make([]*ast.Term, 0, v.Len())
		v.Foreach(func(e *ast.Term) { out = append(out, in.term(e, s, depth-1)) })
		return ast.ArrayTerm(out...)
	case ast.Object:
		return in.object(v, s, depth)
	case ast.Ref:
		// What is evaluated needs no reading off.
		if s.elsewhere || in.maker.refDepends(v) {
			if known := in.document(v, depth); known != nil {
				return known
			}
		}
	}
	if s.elsewhere || in.maker.depends(t) || s.uses(t) {
		return Unknown()
	}
	return t
}

func (s *scope) uses(t *ast.Term) bool {
	for v := range varsOf(ast.NewExpr(t)) {
		if s.open(v) {
			return true
		}
	}
	return false
}

// object needs names that are written out; another could be any.
func (in *inliner) object(o ast.Object, s *scope, depth int) *ast.Term {
	out := make([][2]*ast.Term, 0, o.Len())
	known := true
	o.Foreach(func(k, v *ast.Term) {
		_, text := k.Value.(ast.String)
		known = known && text
		out = append(out, [2]*ast.Term{k, in.term(v, s, depth-1)})
	})
	if !known {
		return Unknown()
	}
	return ast.ObjectTerm(out...)
}

// document is the value of rules; nil if it can not be read off.
func (in *inliner) document(ref ast.Ref, depth int) *ast.Term {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	return in.rules(ref, nil, depth)
}

// rules is the value of the rules or the function that ref names: what all of
// them agree on.
func (in *inliner) rules(ref ast.Ref, operands []*ast.Term, depth int) *ast.Term {
	node := in.maker.nodeAt(ref)
	if node == nil || len(node.Values) == 0 || len(node.Children) > 0 {
		return nil
	}
	var out *ast.Term
	for _, r := range node.Values {
		for ; r != nil; r = r.Else {
			if r.Head.Key != nil || r.Head.Value == nil || len(r.Head.Args) != len(operands) {
				return nil
			}
			s := in.elsewhere(r.Body)
			if in.left -= len(r.Body); in.left < 0 {
				return Unknown()
			}
			s.args, s.sizes = map[ast.Var]*ast.Term{}, map[ast.Var]int{}
			for i, a := range r.Head.Args {
				if v, ok := a.Value.(ast.Var); ok {
					s.args[v], s.sizes[v] = operands[i], sizeOf(operands[i])
				}
			}
			out = agreed(out, in.term(r.Head.Value, s, depth-1))
		}
	}
	return out
}

// sizeOf counts terms, those of a shared one each time, as far as maxInlined.
func sizeOf(t *ast.Term) int {
	n := 0
	ast.WalkTerms(t, func(*ast.Term) bool {
		n++
		return n > maxInlined
	})
	return n
}

// agreed is what is known of a value that is one of two. Of objects, a member
// that one of them lacks is unknown: it may be missing.
func agreed(a, b *ast.Term) *ast.Term {
	if a == nil || a.Equal(b) {
		return b
	}
	x, object := a.Value.(ast.Object)
	y, both := b.Value.(ast.Object)
	if !object || !both {
		return Unknown()
	}
	var out [][2]*ast.Term
	x.Foreach(func(k, v *ast.Term) {
		if other := y.Get(k); other != nil {
			out = append(out, [2]*ast.Term{k, agreed(v, other)})
		} else {
			out = append(out, [2]*ast.Term{k, Unknown()})
		}
	})
	y.Foreach(func(k, _ *ast.Term) {
		if x.Get(k) == nil {
			out = append(out, [2]*ast.Term{k, Unknown()})
		}
	})
	return ast.ObjectTerm(out...)
}

// union is what object.union makes of two values.
func union(a, b *ast.Term) *ast.Term {
	x, object := a.Value.(ast.Object)
	y, both := b.Value.(ast.Object)
	if !object || !both {
		return Unknown()
	}
	out, ok := x.Merge(y)
	if !ok { // a name that both have
		out = ast.NewObject()
		x.Foreach(out.Insert)
		// A member of b that may be missing leaves the one of a; below, object.union
		// goes on into both.
		y.Foreach(func(k, v *ast.Term) {
			have := x.Get(k)
			_, deep := v.Value.(ast.Object)
			switch {
			case have == nil || !deep && !HasUnknown(v.Value):
				out.Insert(k, v)
			default:
				out.Insert(k, Unknown())
			}
		})
	}
	return ast.NewTerm(out)
}

// elsewhere is the scope of a body that is not evaluated.
func (in *inliner) elsewhere(body ast.Body) *scope {
	w := &weakened{maker: in.maker, tainted: map[ast.Var]bool{}, bound: map[ast.Var]*ast.Expr{}}
	for _, e := range body {
		w.leaveOut(e, varsOf(e))
	}
	return &scope{open: func(ast.Var) bool { return true }, bound: w.bound, elsewhere: true}
}

// binding is the value that e gives to v.
func (in *inliner) binding(e *ast.Expr, v ast.Var, s *scope, depth int) *ast.Term {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || len(terms) < 2 {
		return Unknown()
	}
	if e.IsEquality() {
		if terms[1].Value.Compare(v) == 0 {
			return in.term(terms[2], s, depth)
		}
		return in.term(terms[1], s, depth)
	}
	operator, ok := terms[0].Value.(ast.Ref)
	if !ok {
		return Unknown()
	}
	operands := terms[1 : len(terms)-1]
	if known := in.constructor(operator, operands, s, depth); known != nil {
		return known
	}
	known := make([]*ast.Term, len(operands))
	for i, t := range operands {
		known[i] = in.term(t, s, depth)
	}
	if operator.String() == "object.union" && len(known) == 2 {
		return union(known[0], known[1])
	}
	if operator[0].Equal(ast.DefaultRootDocument) {
		if value := in.rules(operator, known, depth); value != nil {
			return value
		}
	}
	return Unknown()
}

// constructor is what a function of the library makes (policies/lib). They make
// something of any operand, so nothing is lost by not calling them.
func (in *inliner) constructor(operator ast.Ref, operands []*ast.Term, s *scope, depth int) *ast.Term {
	name := operator.String()
	if name == "data.authzd.v1.each" && len(operands) == 2 {
		return in.each(operands[1], s, depth)
	}
	if len(operands) != 1 {
		return nil // a call for its own sake: it gives no variable a value
	}
	var kind string
	var members [][2]*ast.Term
	switch name {
	case "data.authzd.v1.scopes":
		kind = "scopes"
	case "data.authzd.v1.single_use":
		members = append(members, pair("single_use", ast.BooleanTerm(true)))
		kind = "authorization_details"
	case "data.authzd.v1.authorization_details":
		kind = "authorization_details"
	case "data.authzd.v1.authentication":
		return withKind("authentication", in.term(operands[0], s, depth))
	case "data.authzd.v1.approval":
		return withKind("approval", in.term(operands[0], s, depth))
	default:
		return nil
	}
	return ast.ObjectTerm(append(members, pair("kind", ast.StringTerm(kind)), pair(kind, in.term(operands[0], s, depth)))...)
}

func pair(name string, v *ast.Term) [2]*ast.Term { return [2]*ast.Term{ast.StringTerm(name), v} }

// withKind adds the kind to the members of wanted; of others no more is known
// than that there may be some.
func withKind(kind string, wanted *ast.Term) *ast.Term {
	members := [][2]*ast.Term{pair("kind", ast.StringTerm(kind))}
	o, ok := wanted.Value.(ast.Object)
	if !ok {
		return ast.ObjectTerm(append(members, pair("unknown", Unknown()))...)
	}
	o.Foreach(func(k, v *ast.Term) {
		if !k.Equal(ast.StringTerm("kind")) {
			members = append(members, [2]*ast.Term{k, v})
		}
	})
	return ast.ObjectTerm(members...)
}

// each makes a list of at least one element, all alike but for what depends on
// arguments: one of them, and an unknown rest.
func (in *inliner) each(list *ast.Term, s *scope, depth int) *ast.Term {
	if v, ok := list.Value.(ast.Var); ok && s.open(v) && s.bound[v] != nil && s.bound[v].IsEquality() {
		e := s.bound[v]
		if list = e.Operand(1); list.Value.Compare(v) == 0 {
			list = e.Operand(0)
		}
	}
	c, ok := list.Value.(*ast.ArrayComprehension)
	if !ok {
		return in.term(list, s, depth)
	}
	return ast.ArrayTerm(in.term(c.Term, in.elsewhere(c.Body), depth-1), Unknown())
}
