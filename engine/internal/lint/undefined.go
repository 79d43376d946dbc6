package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// forbidsMayBeUndefined reports what a forbid compares with a row of base data that a key
// of the call chooses. Without that row the forbid is undefined, and forbids nothing. What
// it reads of input is the contract's (engine.forbid_may_be_undefined).
func (l *linter) forbidsMayBeUndefined() {
	rules := l.forbidden()
	asked := map[string]bool{}
	for _, r := range l.reached(rules) {
		if l.stopped() {
			return
		}
		l.steps = maxSteps
		l.asked(r, asked)
	}
	for _, r := range rules {
		if l.stopped() {
			return
		}
		l.rule, l.steps = r, maxSteps
		for _, e := range r.Body {
			l.comparesRow(e, l.scope(r), asked)
		}
	}
}

// reached are rules with all that they name, in whatever way.
func (l *linter) reached(rules []*ast.Rule) []*ast.Rule {
	queue := slices.Clone(rules)
	seen := map[*ast.Rule]bool{}
	for _, r := range queue {
		seen[r] = true
	}
	for i := 0; i < len(queue); i++ {
		add := func(r *ast.Rule) {
			if r != nil && !seen[r] && !l.in.IsLibrary(r.Location.File) {
				seen[r] = true
				queue = append(queue, r)
			}
		}
		add(queue[i].Else)
		for next := range l.in.Compiler.Graph.Dependencies(queue[i]) {
			if r, ok := next.(*ast.Rule); ok {
				add(r)
			}
		}
	}
	return queue
}

// forbidden are the rules whose being undefined keeps a forbid from holding.
func (l *linter) forbidden() []*ast.Rule {
	var queue []*ast.Rule
	l.eachRule(func(r *ast.Rule) {
		if l.forbids(r) {
			queue = append(queue, r)
		}
	})
	seen := map[*ast.Rule]bool{}
	for _, r := range queue {
		seen[r] = true
	}
	for i := 0; i < len(queue); i++ {
		for _, e := range queue[i].Body {
			for _, r := range l.demanded(e, l.scope(queue[i])) {
				if !seen[r] {
					seen[r] = true
					queue = append(queue, r)
				}
			}
		}
	}
	return queue
}

// demanded are the rules that have to be defined for an expression to hold: those that it
// names outside of not, every and comprehensions, and that have no default or else and few definitions.
// Of rules that make a set or an object it has to ask for an element: without any that is empty.
func (l *linter) demanded(e *ast.Expr, s *scope) []*ast.Rule {
	if e.Negated || len(e.With) > 0 {
		return nil
	}
	var out []*ast.Rule
	note := func(t *ast.Term, element bool) {
		ref, ok := t.Value.(ast.Ref)
		if !ok || !ref[0].Equal(ast.DefaultRootDocument) {
			return
		}
		rules, n := l.rulesOf(ref)
		if len(rules) > maxAlias {
			return
		}
		for _, r := range rules {
			if r.Default || r.Else != nil || l.in.IsLibrary(r.Location.File) || collects(r) && n == len(ref) && !element {
				return
			}
		}
		out = append(out, rules...)
	}
	switch t := e.Terms.(type) {
	case *ast.Term:
		note(t, false)
	case []*ast.Term:
		for _, x := range t {
			note(x, false)
		}
		if operator(e) == ast.Member.Name && len(t) == 3 {
			note(s.local(t[2]), true)
		}
	}
	return out
}

// asked notes rows that a body asks for in a way that says what it means if they are
// missing: by not, by object.get, or by asking whether they are there.
func (l *linter) asked(r *ast.Rule, rows map[string]bool) {
	s := l.scope(r)
	walkExprs(r, func(e *ast.Expr) {
		operands := e.Operands()
		switch t, bare := e.Terms.(*ast.Term); {
		case bare:
			l.noteRow(t, s, rows)
		case e.IsCall() && operator(e) == ast.ObjectGet.Name && len(operands) > 2:
			key := operands[1]
			if path, ok := s.local(key).Value.(*ast.Array); ok && path.Len() > 0 {
				key = path.Elem(0)
			}
			if table := joined(l.resolve(operands[0], s), []*ast.Term{key}); table != nil {
				l.noteRow(table, s, rows)
			}
		case e.IsCall() && operator(e) == ast.Member.Name && len(operands) > 1:
			if table := l.keysOf(operands[1], s); table != nil {
				if row := joined(l.resolve(table, s), operands[:1]); row != nil {
					l.noteRow(row, s, rows)
				}
			}
		case e.Negated:
			if a, b, ok := equality(e); ok {
				l.noteRow(a, s, rows)
				l.noteRow(b, s, rows)
			}
		}
	})
}

// keysOf is the object whose keys, by object.keys, a term is; nil if it is none.
func (l *linter) keysOf(t *ast.Term, s *scope) *ast.Term {
	v, ok := s.local(t).Value.(ast.Var)
	if !ok || s.calls[v] == nil || operator(s.calls[v]) != ast.ObjectKeys.Name {
		return nil
	}
	return s.calls[v].Operand(0)
}

func (l *linter) noteRow(t *ast.Term, s *scope, rows map[string]bool) {
	if row, n := l.row(t, s); n > 0 {
		rows[row[:n].String()] = true
	}
}

// row is a reference to base data by a key that the call decides, and how many of its
// elements name the row. 0 if there is none: of an iteration, too, which finds what is there.
func (l *linter) row(t *ast.Term, s *scope) (ast.Ref, int) {
	if !l.step() {
		return nil, 0
	}
	ref, ok := l.resolve(t, s).Value.(ast.Ref)
	if !ok || len(ref) < 3 || !ref[0].Equal(ast.DefaultRootDocument) {
		return nil, 0
	}
	for i, key := range ref[1:] {
		switch by := key.Value.(type) {
		case ast.Ref:
			if i == 0 || !l.ofCall(by, s, 0) || l.hasRules(ref[:i+1]) {
				return nil, 0
			}
			return ref, i + 2
		case ast.String, ast.Number:
		default:
			return nil, 0
		}
	}
	return nil, 0
}

// ofCall tells whether the call decides what a reference is: it is of input, a row of base
// data that the call chooses, or of what a builtin or function makes of such.
func (l *linter) ofCall(ref ast.Ref, s *scope, depth int) bool {
	switch head := ref[0].Value.(type) {
	case ast.Var:
		if ref[0].Equal(ast.InputRootDocument) {
			return true
		}
		if ref[0].Equal(ast.DefaultRootDocument) {
			for _, key := range ref[1:] {
				if by, ok := key.Value.(ast.Ref); ok && depth < maxDepth && l.ofCall(by, s, depth+1) {
					return true
				}
			}
			return false
		}
		call := s.calls[head]
		if call == nil || depth >= maxDepth {
			return false
		}
		operands := call.Operands()
		for _, x := range operands[:len(operands)-1] {
			if by, ok := l.resolve(x, s).Value.(ast.Ref); ok && l.ofCall(by, s, depth+1) {
				return true
			}
		}
	}
	return false
}

// hasRules tells whether rules are at, above or below a path of data.
func (l *linter) hasRules(path ast.Ref) bool {
	node := l.in.Compiler.RuleTree.Child(ast.DefaultRootDocument.Value)
	for _, t := range path[1:] {
		if node == nil || len(node.Values) > 0 {
			break
		}
		node = node.Child(t.Value)
	}
	return node != nil
}

// comparesRow reports an expression that would hold of some value of a row, and is undefined
// without it. Equality is left out: what is not there is not the one that is forbidden.
func (l *linter) comparesRow(e *ast.Expr, s *scope, asked map[string]bool) {
	if len(e.With) > 0 || !e.IsCall() {
		return
	}
	if _, _, ok := equality(e); ok {
		return
	}
	switch operator(e) {
	case ast.NotEqual.Name, ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
	default:
		if !e.Negated {
			return
		}
	}
	for _, t := range e.Operands() {
		row, n := l.rowIn(t, s, 0)
		if n == 0 || asked[row[:n].String()] {
			continue
		}
		f := l.add(CodeUndefined, e.Location, l.name(l.rule)+" is undefined, and forbids nothing, where "+l.text(row[:n])+" is missing",
			"say what a missing one means: "+getForm(l.asWritten(row), n))
		f.FailsOpen = true
		return
	}
}

// rowIn looks for a row in what a term is made of by builtins.
func (l *linter) rowIn(t *ast.Term, s *scope, depth int) (ast.Ref, int) {
	if row, n := l.row(t, s); n > 0 {
		return row, n
	}
	v, ok := s.local(t).Value.(ast.Var)
	if !ok || depth > maxDepth || s.calls[v] == nil {
		return nil, 0
	}
	call := s.calls[v]
	if name := operator(call); name == ast.ObjectGet.Name || ast.BuiltinMap[name] == nil {
		return nil, 0
	}
	operands := call.Operands()
	for _, x := range operands[:len(operands)-1] {
		if row, n := l.rowIn(x, s, depth+1); n > 0 {
			return row, n
		}
	}
	return nil, 0
}

// getForm writes a look-up with object.get.
func getForm(row ast.Ref, n int) string {
	keys := make([]string, 0, len(row)-n+1)
	for _, t := range row[n-1:] {
		keys = append(keys, t.String())
	}
	key := strings.Join(keys, ", ")
	if len(keys) > 1 {
		key = "[" + key + "]"
	}
	return "object.get(" + row[:n-1].String() + ", " + key + ", DEFAULT)"
}
