package lint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// scope is what the variables of a rule stand for, in one evaluation of its body.
type scope struct {
	is    map[ast.Var]*ast.Term // by equality
	calls map[ast.Var]*ast.Expr // by a call that answers with them
	given map[ast.Var]*ast.Term // by who calls the function; resolved
	// number is the rule's own, frame the evaluation's: 0 of the rule that is read. The
	// variables of another frame are others, whatever they are called.
	number, frame int
}

// scope is that of a rule, made once.
func (l *linter) scope(r *ast.Rule) *scope {
	if s, ok := l.scopes[r]; ok {
		return s
	}
	l.frames++
	s := &scope{is: map[ast.Var]*ast.Term{}, calls: map[ast.Var]*ast.Expr{}, number: l.frames}
	d := defining{l: l, s: s}
	d.rule(r)
	l.scopes[r] = s
	return s
}

// of is the scope of a rule that has one value, where another rule names it. However often
// it is named, one evaluation of its body stands for that value.
func (l *linter) of(r *ast.Rule) *scope {
	s := *l.scope(r)
	s.frame = s.number
	return &s
}

// with is the scope of a rule in an evaluation of its own, where the parameters are what a
// call gives for them, which nothing of the rule can change.
func (l *linter) with(r *ast.Rule, given []*ast.Term) *scope {
	s := *l.scope(r)
	l.frames++
	s.frame, s.given = l.frames, map[ast.Var]*ast.Term{}
	for i, a := range r.Head.Args {
		if v, ok := a.Value.(ast.Var); ok {
			s.given[v] = given[i]
		}
	}
	return &s
}

func (s *scope) lookup(v ast.Var) *ast.Term {
	if t := s.given[v]; t != nil {
		return t
	}
	return s.is[v]
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
// input or data, to what they stand for; in the keys of a reference, too. What it returns
// means the same in every scope, unless it is a literal that holds variables.
func (l *linter) resolve(t *ast.Term, s *scope) *ast.Term {
	if l.nested >= maxAlias {
		return s.apart(t)
	}
	l.nested++
	defer func() { l.nested-- }()
	switch v := t.Value.(type) {
	case ast.Var:
		if to := s.given[v]; to != nil {
			return l.named(to, to)
		}
		if to := s.is[v]; to != nil {
			return l.resolve(to, s)
		}
	case ast.Ref:
		if l.step() {
			return l.resolveRef(v, t, s)
		}
	}
	return s.apart(t)
}

func (l *linter) resolveRef(v ast.Ref, t *ast.Term, s *scope) *ast.Term {
	l.spend(4 * len(v))
	out, changed := v, false
	put := func(i int, to *ast.Term) {
		if to == v[i] {
			return
		}
		if !changed {
			out, changed = slices.Clone(v), true
		}
		out[i] = to
	}
	for i, key := range v[1:] {
		switch key.Value.(type) {
		case ast.Var, ast.Ref:
			put(i+1, l.resolve(key, s))
		}
	}
	if head, ok := v[0].Value.(ast.Var); ok && !rooted(v) {
		if s.lookup(head) != nil {
			if to := joined(l.resolve(v[0], s), out[1:]); to != nil {
				return l.named(to, s.apart(t))
			}
		}
		put(0, s.apart(v[0]))
	}
	if changed {
		return l.named(&ast.Term{Value: out, Location: t.Location}, s.apart(t))
	}
	return l.named(t, t)
}

// maxResolved is how large what is put together may be: what stands for a parameter may be
// put into a reference many times, and so on in the next function.
const maxResolved = 64

// small tells whether a term has no more than maxResolved terms, of which long text counts
// as several.
func small(t *ast.Term) bool {
	n := 0
	ast.WalkTerms(t, func(x *ast.Term) bool {
		if text, ok := x.Value.(ast.String); ok {
			n += len(text) / maxResolved
		}
		n++
		return n > maxResolved
	})
	return n <= maxResolved
}

// named follows a reference that names a rule of one value to that; where it becomes too
// large, it is as it stands.
func (l *linter) named(t, stands *ast.Term) *ast.Term {
	for range maxAlias {
		if t != stands && !small(t) {
			return stands
		}
		ref, ok := t.Value.(ast.Ref)
		if !ok || !ref[0].Equal(ast.DefaultRootDocument) {
			break
		}
		r, rest := l.onlyRule(ref)
		if r == nil || len(r.Head.Args) > 0 || r.Head.Key != nil || r.Head.Value == nil {
			break
		}
		to := joined(l.resolve(r.Head.Value, l.of(r)), rest)
		if to == nil {
			break
		}
		t = to
	}
	return t
}

// rooted tells a reference to a document, whose head is no variable of a rule.
func rooted(ref ast.Ref) bool {
	return ref[0].Equal(ast.DefaultRootDocument) || ref[0].Equal(ast.InputRootDocument)
}

// frameMark parts the name of a variable from its frame.
const frameMark = "#"

// apart names the variables of a term so that those of no other frame have that name.
func (s *scope) apart(t *ast.Term) *ast.Term {
	if s.frame == 0 {
		return t
	}
	switch v := t.Value.(type) {
	case ast.Var:
		return &ast.Term{Value: ast.Var(string(v) + frameMark + strconv.Itoa(s.frame)), Location: t.Location}
	case ast.Ref:
		out := slices.Clone(v)
		for i, x := range v {
			if i > 0 || !rooted(v) {
				out[i] = s.apart(x)
			}
		}
		return &ast.Term{Value: out, Location: t.Location}
	}
	return t
}

// local follows variables alone.
func (s *scope) local(t *ast.Term) *ast.Term {
	for range maxAlias {
		v, ok := t.Value.(ast.Var)
		if !ok {
			break
		}
		if to := s.given[v]; to != nil {
			return to
		}
		to := s.is[v]
		if to == nil {
			break
		}
		t = to
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
	if r.Else != nil || r.Default || !r.Ref().IsGround() || l.isReplaced(ref[:n]) {
		return nil, nil
	}
	return r, ref[n:]
}

// isReplaced tells whether a with puts something else in the place of a document, or of a
// part of it, or of what it is part of.
func (l *linter) isReplaced(path ast.Ref) bool {
	l.spend(2 * len(l.replaced))
	return len(l.replaced) > maxReplaced || slices.ContainsFunc(l.replaced, func(target ast.Ref) bool { return target.HasPrefix(path) || path.HasPrefix(target) })
}

// maxReplaced is of how many documents it is known that a with replaces them. Where there
// are more, each may be.
const maxReplaced = 64

// replacements notes what a with of the policy replaces other than the input.
func (l *linter) replacements() {
	seen := map[string]bool{}
	for _, m := range l.in.Compiler.Modules {
		ast.WalkWiths(m, func(w *ast.With) bool {
			ref, ok := w.Target.Value.(ast.Ref)
			if ok && !ref[0].Equal(ast.InputRootDocument) && len(seen) <= maxReplaced && !seen[ref.String()] {
				seen[ref.String()] = true
				l.replaced = append(l.replaced, ref)
			}
			return false
		})
	}
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
	return l.asWritten(ref).String()
}

func (l *linter) asWritten(ref ast.Ref) ast.Ref {
	out := slices.Clone(ref)
	for i, t := range out {
		switch v := t.Value.(type) {
		case ast.Var:
			name := l.written(v)
			if i == 0 && name == "_" {
				name = "(a value)" // that a call has made, or an iteration
			}
			out[i] = ast.VarTerm(name)
		case ast.Ref:
			out[i] = ast.NewTerm(l.asWritten(v))
		}
	}
	return out
}

func (l *linter) written(v ast.Var) string {
	name, _, _ := strings.Cut(string(v), frameMark)
	v = ast.Var(name)
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
