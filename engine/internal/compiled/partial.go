package compiled

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// topdown evaluates a partial rule that is read by a key for that key only: it
// binds the head's variables before the body. A data.x[i] in the body, where the
// plan tries every i, is then a storage path, which is text: 42 finds "42". So a
// policy is refused in which a partial rule is read by a key that may be bound,
// and something that it reaches finds base documents by what is no constant, or a
// key of its head is composite.
// Whole documents, and iterations over all keys, come to the same both ways.

// partials looks for such rules.
type partials struct {
	compiler *ast.Compiler
	// groups are the partial rules that are planned: those of a group are read by
	// a key by the same references.
	groups map[string]*partialGroup
	// bound are the rules whose heads may be bound.
	bound map[*ast.Rule]*ast.Term
	// base remembers what reaches base documents by variables.
	base map[*ast.Rule]bool
}

// partialGroup are definitions whose heads begin with the same constants and are
// of one length.
type partialGroup struct {
	head  ast.Ref
	rules []*ast.Rule
	bound bool
}

func groupPartials(rules []*ast.Rule) map[string]*partialGroup {
	groups := map[string]*partialGroup{}
	for _, r := range rules {
		if !partial(r) {
			continue
		}
		head := r.Ref()
		name := strconv.Itoa(len(head)) + " " + head[:constants(head)].String()
		if groups[name] == nil {
			groups[name] = &partialGroup{head: head}
		}
		groups[name].rules = append(groups[name].rules, r)
	}
	return groups
}

// constants is how far a reference is made of its root and texts.
func constants(ref ast.Ref) int {
	n := 1
	for n < len(ref) {
		if _, ok := ref[n].Value.(ast.String); !ok {
			break
		}
		n++
	}
	return n
}

const wholeFix = "ask for x in RULE, or iterate: some x in RULE"

// judgePartials refuses partial rules as above among the planned rules.
func (s *safety) judgePartials(rules []*ast.Rule, query ast.Body) error {
	p := &partials{compiler: s.compiler, groups: groupPartials(rules), bound: map[*ast.Rule]*ast.Term{}, base: map[*ast.Rule]bool{}}
	if err := p.judgeOpenKeys(rules, query); err != nil {
		return err
	}
	p.readsIn(query, nil)
	for grown := -1; grown != len(p.bound); {
		grown = len(p.bound)
		for _, r := range rules {
			p.readsOf(r)
		}
	}
	for _, r := range rules {
		if by := p.bound[r]; by != nil && compositeKey(r.Head) {
			return refuseAt(by.Location, "%v reads a partial rule by a key, and the keys of that rule are made of variables", source(by.Location, by)).fix(wholeFix)
		}
		if by := p.bound[r]; by != nil && answersHead(p.compiler, r) {
			return refuseAt(by.Location, "%v reads a partial rule by a key, and a function answers with the keys of that rule", source(by.Location, by)).fix(wholeFix)
		}
		if by := p.bound[r]; by != nil && p.reachesBase(r, map[*ast.Rule]bool{}) {
			return refuseAt(by.Location, "%v reads a partial rule by a key, and that rule reads base documents by variables", source(by.Location, by)).fix(wholeFix)
		}
	}
	return nil
}

// compositeKey tells whether a key of a head is more than a variable or a
// constant. topdown unifies it with the key that is read before the body: a set
// that holds a variable, and an object with a variable for a key, then match
// nothing, though the body would make just that value.
func compositeKey(h *ast.Head) bool {
	for _, t := range headKeys(h) {
		if _, isVar := t.Value.(ast.Var); !isVar && !ast.IsScalar(t.Value) {
			return true
		}
	}
	return false
}

// headKeys are the terms of a head that may be bound before its body.
func headKeys(h *ast.Head) []*ast.Term {
	keys := append(ast.Ref{}, h.Reference...)
	if h.Key != nil {
		keys = append(keys, h.Key)
	}
	return keys
}

// partial tells whether a rule is one of those that make a set or an object.
func partial(r *ast.Rule) bool {
	return r.Head.RuleKind() == ast.MultiValue || !r.Ref().IsGround()
}

func (p *partials) readsOf(r *ast.Rule) {
	for ; r != nil; r = r.Else {
		known := ast.NewVarSet()
		for _, a := range r.Head.Args {
			known.Update(a.Vars())
		}
		if p.bound[r] != nil {
			ast.WalkVars(r.Head, func(v ast.Var) bool { known.Add(v); return false })
		}
		p.readsIn(r.Body, known)
		// What the head's own terms read comes last; all variables are bound then.
		ast.WalkTerms(r.Head, func(t *ast.Term) bool { p.readsInTerm(t, nothing); return false })
	}
}

func nothing(*ast.Term) bool { return false }

// readsIn goes over a body whose surroundings know some variables.
func (p *partials) readsIn(body ast.Body, known ast.VarSet) {
	known = known.Copy()
	for _, x := range body {
		p.readsInExpr(x, known)
		ast.WalkVars(x, func(v ast.Var) bool { known.Add(v); return false })
	}
}

func (p *partials) readsInExpr(x *ast.Expr, known ast.VarSet) {
	count := map[ast.Var]int{} // a variable that comes up twice may be bound by its first place
	ast.WalkVars(x, func(v ast.Var) bool { count[v]++; return false })
	free := func(t *ast.Term) bool {
		v, ok := t.Value.(ast.Var)
		return ok && !known.Contains(v) && count[v] == 1
	}
	ast.NewGenericVisitor(func(y any) bool {
		switch y := y.(type) {
		case *ast.Every:
			ast.WalkTerms(y.Domain, func(t *ast.Term) bool { p.readsInTerm(t, free); return false })
			inside := known.Copy()
			for v := range count {
				if !declared(y, v) {
					inside.Add(v)
				}
			}
			p.readsIn(y.Body, inside)
			return true
		case *ast.Term:
			p.readsInTerm(y, free)
		}
		return false
	}).Walk(x)
}

// declared tells whether a variable belongs to the body of every alone.
func declared(e *ast.Every, v ast.Var) bool {
	inBody, outside := 0, e.Domain.Vars()
	ast.WalkVars(e.Body, func(x ast.Var) bool {
		if x == v {
			inBody++
		}
		return false
	})
	for _, t := range []*ast.Term{e.Key, e.Value} {
		if t != nil {
			outside.Update(t.Vars())
		}
	}
	return inBody > 0 && !outside.Contains(v)
}

// readsInTerm notes the partial rules that a reference reads by a key.
func (p *partials) readsInTerm(t *ast.Term, free func(*ast.Term) bool) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref.HasPrefix(ast.DefaultRootRef) {
		return
	}
	ground := constants(ref)
	for _, g := range p.groups {
		if g.bound || !meets(g.head, ref, ground, free) {
			continue
		}
		g.bound = true
		for _, r := range g.rules {
			p.bound[r] = t
		}
	}
}

// meets tells whether a reference, constant up to ground, may read a part of the
// document that rules with this head are in by a key that may be bound.
func meets(head, ref ast.Ref, ground int, free func(*ast.Term) bool) bool {
	fixed := constants(head)
	for i := 1; i < min(fixed, ground); i++ {
		if !head[i].Value.(ast.String).Equal(ref[i].Value.(ast.String)) { //nolint:forcetypeassert // they are, up to there
			return false
		}
	}
	if ground < fixed && ground < len(ref) {
		return true // a variable in the place of the rule's name
	}
	// The keys of the head, and the element of a set.
	for i := fixed; i < len(ref) && i <= len(head); i++ {
		if !free(ref[i]) {
			return true
		}
	}
	return false
}

// reachesBase tells whether a rule, or one that it reads or calls, finds base
// documents by what is no constant.
func (p *partials) reachesBase(r *ast.Rule, seen map[*ast.Rule]bool) bool {
	if seen[r] {
		return false
	}
	seen[r] = true
	for at := r; at != nil; at = at.Else {
		own, known := p.base[at]
		if !known {
			own = p.readsBase(at)
			p.base[at] = own
		}
		if own {
			return true
		}
		for next := range p.compiler.Graph.Dependencies(at) {
			if next, ok := next.(*ast.Rule); ok && p.reachesBase(next, seen) {
				return true
			}
		}
	}
	return false
}

func (p *partials) readsBase(r *ast.Rule) bool {
	found := false
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		if ref.HasPrefix(ast.DefaultRootRef) && p.baseByVariable(ref) {
			found = true
		}
		return found
	})
	return found
}

func (p *partials) baseByVariable(ref ast.Ref) bool {
	node := p.compiler.RuleTree.Child(ref[0].Value)
	for _, t := range ref[1:] {
		if node != nil && len(node.Values) > 0 {
			return false // a rule's value, or a partial rule, which counts for itself
		}
		if !ast.IsScalar(t.Value) {
			return true
		}
		if node != nil {
			node = node.Child(t.Value)
		}
	}
	return false
}
