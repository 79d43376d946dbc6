// Package weaken makes of a policy a weaker one that does not look at the
// arguments of a call: whatever the policy permits with some arguments, the
// weaker one permits, and whatever the weaker one forbids, the policy forbids
// with all arguments.
//
// A body expression of a permit that depends on arguments is left out as a
// whole, and with it every later one that uses a variable which it bound; what
// is left holds in more cases. A rule of a forbid that depends on arguments
// anywhere is left out as a whole, because a forbid that lost a condition would
// hold in more cases too. Nothing inside not, every or a comprehension is ever
// taken apart, and rules that an expression looks at are either independent, and
// then evaluated as they are, or the expression is left out. The one exception
// is a rule that is nothing but true, standing alone as an expression: it is
// weakened like a permit.
//
// What the package does not understand depends on arguments. It refuses
// nothing and runs nothing. Only package engine calls it; all functions are
// pure and leave the compiled policy alone.
package weaken

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Package is where the weaker policy lies below data. Bundles can not define
// it: the contract reserves authzd_* for the engine.
const Package = "authzd_filter"

// Documents of the weaker policy, both sets of [document, name, value]: the
// document and the name are those of the rule that holds. Where Unknown stands,
// alone or within, a part depends on arguments.
const (
	Permits = "permits"
	Forbids = "forbids"
)

// Policy is a weaker policy.
type Policy struct {
	// Module is to be compiled beside the modules that it was made of.
	Module *ast.Module
	// ReadsTime: an answer may change with nothing but time.
	ReadsTime bool
}

// Unknown stands for a value that depends on arguments. It is a set, which
// neither JSON nor a valid output of policy can hold.
func Unknown() *ast.Term { return ast.SetTerm(ast.StringTerm("authzd: unknown")) }

// HasUnknown tells whether v is or holds an unknown part.
func HasUnknown(v ast.Value) bool {
	found := false
	ast.NewGenericVisitor(func(x any) bool {
		_, set := x.(ast.Set)
		found = found || set
		return found
	}).Walk(v)
	return found
}

// maker builds the weaker policy of one compiled policy.
type maker struct {
	*dependence
	entry ast.Ref
	out   *ast.Module
	// helpers are the weakened rules that are nothing but true, by the node of
	// the compiled policy.
	helpers map[*ast.TreeNode]*ast.Term
}

// Make makes the weaker policy of what c has compiled. The documents permit,
// forbid, allow and deny are those of the package entry.
func Make(c *ast.Compiler, entry ast.Ref) *Policy {
	m := &maker{
		dependence: newDependence(c), entry: entry, helpers: map[*ast.TreeNode]*ast.Term{},
		out: &ast.Module{Package: &ast.Package{Path: ast.Ref{ast.DefaultRootDocument, ast.StringTerm(Package)}}},
	}
	for _, document := range []string{"permit", "allow"} {
		for _, r := range m.rulesOf(document) {
			m.permit(document, r)
		}
	}
	for _, document := range []string{"forbid", "deny"} {
		for _, r := range m.rulesOf(document) {
			m.forbid(document, r)
		}
	}
	return &Policy{Module: m.out, ReadsTime: m.readsTime(m.out.Rules)}
}

// rulesOf are the rules at and below a document of the entry point.
func (m *maker) rulesOf(document string) []*ast.Rule {
	return m.rulesAt(m.entry.Append(ast.StringTerm(document)))
}

// rest is what the name of a rule says beyond its document.
func (m *maker) rest(r *ast.Rule) ast.Ref {
	ref := r.Ref()
	return ref[min(len(m.entry)+1, len(ref)):]
}

// permit adds what is left of a rule. Each branch of an else stands for itself:
// that the ones before it do not hold is a condition that may go. So does a
// default.
func (m *maker) permit(document string, r *ast.Rule) {
	rest := m.rest(r)
	for ; r != nil; r = r.Else {
		if len(r.Head.Args) > 0 {
			continue // a function is no permit
		}
		w := m.weaken(r.Body)
		name, value := Unknown(), Unknown()
		switch {
		case r.Head.Value == nil: // a partial set, which no decision allows by
		case document == "allow" && len(rest) == 0:
			name, value = ast.StringTerm(document), w.inline(r.Head.Value)
		case document == "permit" && len(rest) == 1:
			name, value = w.inline(rest[0]), w.inline(r.Head.Value)
		}
		m.emit(Permits, w.kept, document, name, value)
	}
}

// forbid adds a rule that does not depend on arguments, as it is. A default and
// the further branches of an else hang on other rules and are left out: fewer
// forbids hide less.
func (m *maker) forbid(document string, r *ast.Rule) {
	if m.dependent[r] || r.Default || len(r.Head.Args) > 0 {
		return
	}
	rest := m.rest(r)
	name, value := ast.StringTerm(document), r.Head.Value
	switch {
	case document == "deny" && r.Head.Key != nil && r.Head.Value == nil && len(rest) == 0:
		value = r.Head.Key // an element of the set
	case document == "deny" && r.Head.Key == nil && len(rest) == 0:
	case document == "forbid" && r.Head.Value != nil && len(rest) == 1:
		name = rest[0]
	default:
		return // of no form that forbids
	}
	m.emit(Forbids, r.Body, document, name, value)
}

// emit adds "set contains [document, name, value] if body".
func (m *maker) emit(set string, body ast.Body, document string, name, value *ast.Term) {
	key := ast.ArrayTerm(ast.StringTerm(document), name.Copy(), value.Copy())
	m.add(&ast.Head{Name: ast.Var(set), Reference: ast.Ref{ast.VarTerm(set)}, Key: key}, body)
}

func (m *maker) add(head *ast.Head, body ast.Body) {
	body = withoutClock(head, body)
	if len(body) == 0 {
		body = ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))
	}
	loc := ast.NewLocation(nil, Package, len(m.out.Rules)+1, 1)
	head.Location = loc
	m.out.Rules = append(m.out.Rules, &ast.Rule{Location: loc, Head: head, Body: body, Module: m.out})
}

// helper returns a reference to the weakened form of the rule that ref names,
// if that is true or undefined, or true or false, and nothing else.
func (m *maker) helper(ref ast.Ref) (*ast.Term, bool) {
	node := m.nodeAt(ref)
	if node == nil || len(node.Values) == 0 || len(node.Children) > 0 {
		return nil, false
	}
	if to, done := m.helpers[node]; done {
		return to, true
	}
	for _, r := range node.Values {
		h := r.Head
		if h.Key != nil || len(h.Args) > 0 || r.Else != nil || h.Value == nil {
			return nil, false
		}
		if yes, ok := h.Value.Value.(ast.Boolean); !ok || bool(yes) == r.Default {
			return nil, false
		}
	}
	name := "h" + strconv.Itoa(len(m.helpers))
	to := ast.NewTerm(ast.Ref{ast.DefaultRootDocument, ast.StringTerm(Package), ast.StringTerm(name)})
	m.helpers[node] = to
	for _, r := range node.Values {
		if !r.Default {
			m.add(&ast.Head{Name: ast.Var(name), Reference: ast.Ref{ast.VarTerm(name)}, Value: ast.BooleanTerm(true)}, m.weaken(r.Body).kept)
		}
	}
	return to, true
}
