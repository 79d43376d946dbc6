package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// scope is what the variables of a rule stand for. OPA's compiler gives each variable of
// the policy a name of its own, so one scope serves a rule and all that is nested in it.
type scope struct {
	is    map[ast.Var]*ast.Term // by equality
	calls map[ast.Var]*ast.Expr // by a call that answers with them
	given map[ast.Var]*ast.Term // by who calls the function
}

// scope is that of a rule, made once.
func (l *linter) scope(r *ast.Rule) *scope {
	if s, ok := l.scopes[r]; ok {
		return s
	}
	s := &scope{is: map[ast.Var]*ast.Term{}, calls: map[ast.Var]*ast.Expr{}}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		l.define(e, s)
		return false
	})
	l.scopes[r] = s
	return s
}

// with is s where the parameters of r are what a call gives for them, which nothing of s
// can change.
func (s *scope) with(r *ast.Rule, given []*ast.Term) *scope {
	out := &scope{is: s.is, calls: s.calls, given: map[ast.Var]*ast.Term{}}
	for i, a := range r.Head.Args {
		if v, ok := a.Value.(ast.Var); ok {
			out.given[v] = given[i]
		}
	}
	return out
}

func (s *scope) lookup(v ast.Var) *ast.Term {
	if t := s.given[v]; t != nil {
		return t
	}
	return s.is[v]
}

// define notes what an expression gives variables; what does not hold, or holds of
// another input only, gives them nothing.
func (l *linter) define(e *ast.Expr, s *scope) {
	if e.Negated || len(e.With) > 0 || !e.IsCall() {
		return
	}
	if a, b, ok := equality(e); ok {
		if !s.set(a, b) {
			s.set(b, a)
		}
		return
	}
	operands := e.Operands()
	if n := l.arity(e); n < 0 || n >= len(operands) {
		return
	}
	if v, ok := operands[len(operands)-1].Value.(ast.Var); ok && s.is[v] == nil && s.calls[v] == nil {
		s.calls[v] = e
	}
}

// arity is how many operands a call takes; one more is its answer. -1 if that is not known.
func (l *linter) arity(e *ast.Expr) int {
	if rules, _ := l.rulesOf(e.Operator()); len(rules) > 0 {
		return len(rules[0].Head.Args)
	}
	if b, ok := ast.BuiltinMap[operator(e)]; ok {
		return b.Decl.Arity()
	}
	return -1
}

func (s *scope) set(a, b *ast.Term) bool {
	v, ok := a.Value.(ast.Var)
	if !ok || s.is[v] != nil || s.calls[v] != nil {
		return false
	}
	s.is[v] = b
	return true
}

// operator is the name of what an expression calls.
func operator(e *ast.Expr) string {
	ref := e.Operator()
	if len(ref) == 1 {
		if v, ok := ref[0].Value.(ast.Var); ok {
			return string(v) // as String does, which copies
		}
	}
	return ref.String()
}

// equality takes an expression a = b apart.
func equality(e *ast.Expr) (a, b *ast.Term, ok bool) {
	if !e.IsCall() {
		return nil, nil, false
	}
	name, operands := operator(e), e.Operands()
	if name != ast.Equality.Name && name != ast.Equal.Name || len(operands) != 2 {
		return nil, nil, false
	}
	return operands[0], operands[1], true
}

// maxAlias bounds how often one name may stand for another.
const maxAlias = 16

// resolve follows variables, and rules that are nothing but a name for something of
// input or data, to what they stand for; in the keys of a reference, too.
func (l *linter) resolve(t *ast.Term, s *scope) *ast.Term {
	for range maxAlias {
		next := l.follow(t, s)
		if next == nil {
			break
		}
		t = next
	}
	ref, ok := t.Value.(ast.Ref)
	if !ok || l.nested >= maxDepth {
		return t
	}
	l.nested++
	defer func() { l.nested-- }()
	out := ref
	for i, key := range ref {
		switch key.Value.(type) {
		case ast.Var, ast.Ref:
			if next := l.resolve(key, s); i > 0 && next != key {
				if &out[0] == &ref[0] {
					out = slices.Clone(ref)
				}
				out[i] = next
			}
		}
	}
	return &ast.Term{Value: out, Location: t.Location}
}

func (l *linter) follow(t *ast.Term, s *scope) *ast.Term {
	if next := s.follow(t); next != nil {
		return next
	}
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	r, rest := l.onlyRule(ref)
	if r == nil || len(r.Head.Args) > 0 || r.Head.Key != nil || r.Head.Value == nil {
		return nil
	}
	return joined(l.resolve(r.Head.Value, l.scope(r)), rest)
}

// follow takes one step from a variable to what it stands for; nil if there is none.
func (s *scope) follow(t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.Var:
		return s.lookup(v)
	case ast.Ref:
		if head, ok := v[0].Value.(ast.Var); ok {
			if base := s.lookup(head); base != nil {
				return joined(base, v[1:])
			}
		}
	}
	return nil
}

// local follows variables alone.
func (s *scope) local(t *ast.Term) *ast.Term {
	for range maxAlias {
		next := s.follow(t)
		if next == nil {
			break
		}
		t = next
	}
	return t
}

// joined is a reference that goes on from base; nil if base is none.
func joined(base *ast.Term, rest []*ast.Term) *ast.Term {
	if len(rest) == 0 {
		return base
	}
	switch v := base.Value.(type) {
	case ast.Ref:
		return &ast.Term{Value: v.Concat(rest), Location: base.Location}
	case ast.Var:
		return &ast.Term{Value: ast.Ref{base}.Concat(rest), Location: base.Location}
	}
	return nil
}

// onlyRule is the one definition of the rule that a reference names, or looks into.
func (l *linter) onlyRule(ref ast.Ref) (*ast.Rule, []*ast.Term) {
	rules, n := l.rulesOf(ref)
	if len(rules) != 1 {
		return nil, nil
	}
	r := rules[0]
	if r.Else != nil || r.Default || !r.Ref().IsGround() {
		return nil, nil
	}
	return r, ref[n:]
}

// rulesOf are the definitions of the rule that a reference names or looks into, and how
// many elements of the reference name it. None for what lies above rules.
func (l *linter) rulesOf(ref ast.Ref) ([]*ast.Rule, int) {
	node := l.in.Compiler.RuleTree.Child(ast.DefaultRootDocument.Value)
	for i := 1; i < len(ref) && node != nil; i++ {
		if node = node.Child(ref[i].Value); node != nil && len(node.Values) > 0 {
			if len(node.Children) > 0 {
				return nil, 0
			}
			return node.Values, i + 1
		}
	}
	return nil, 0
}

// text is a reference as it was written, as far as that is known.
func (l *linter) text(ref ast.Ref) string {
	out := ref.Copy()
	for i, t := range out {
		if v, ok := t.Value.(ast.Var); ok {
			out[i] = ast.VarTerm(l.written(v))
		}
	}
	return out.String()
}

func (l *linter) written(v ast.Var) string {
	for range maxAlias {
		from, ok := l.in.Compiler.RewrittenVars[v]
		if !ok {
			break
		}
		v = from
	}
	if v.IsGenerated() || strings.HasPrefix(string(v), "__local") {
		return "_"
	}
	return string(v)
}
