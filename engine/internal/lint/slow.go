package lint

import (
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

const (
	// longList is how many elements a list of data has that x in data.list should not read.
	longList = 1000
	// manyNames is how many names of permits or forbids are too many: each is evaluated.
	manyNames = 1000
)

// slowForms reports forms that read more than they need.
func (l *linter) slowForms(r *ast.Rule) {
	s := l.scope(r)
	walkExprs(r, func(e *ast.Expr) {
		if e.IsCall() {
			l.readsWhole(e, s)
		}
	})
	l.slowLiterals(r)
}

// slowLiterals reports those of a rule.
func (l *linter) slowLiterals(r *ast.Rule) {
	computed := func(t *ast.Term) bool {
		l.computedKeys(t)
		return false
	}
	ast.WalkTerms(r.Head, computed)
	ast.WalkTerms(r.Body, computed)
}

// readsWhole reports calls that read all of a document, where a key would find what is meant.
func (l *linter) readsWhole(e *ast.Expr, s *scope) {
	name, operands := operator(e), e.Operands()
	switch {
	case name == ast.Member.Name && len(operands) > 1:
		list, v := l.wholeDocument(operands[1], s)
		if v.Kind() == rar.Array && v.Len() >= longList {
			l.add(CodeSlowForm, e.Location, fmt.Sprintf("this reads %d elements of %s in each decision", v.Len(), list),
				"make it an object whose keys are what you look for, and write "+list.String()+"[x]")
		}
	case name == ast.ObjectGet.Name && len(operands) > 2:
		if table, v := l.wholeDocument(operands[0], s); v.Packed() {
			l.add(CodeSlowForm, e.Location, table.String()+" is large, and object.get asks for all of it", "look the row up by "+table.String()+"[KEY], in a rule with a default where it may be missing")
		}
	case ast.BuiltinMap[name] != nil && name != ast.Equality.Name:
		for _, t := range operands {
			if table, v := l.wholeDocument(t, s); v.Packed() {
				l.add(CodeSlowForm, e.Location, table.String()+" is large, and "+name+" asks for all of it", "put what is asked for into data, by a key")
				return
			}
		}
	}
}

// wholeDocument is the document of base data that a term names whole, and where it is; absent
// if it names none.
func (l *linter) wholeDocument(t *ast.Term, s *scope) (ast.Ref, rar.Value) {
	if !l.step() {
		return nil, rar.Value{}
	}
	ref, ok := l.resolve(t, s).Value.(ast.Ref)
	if !ok || len(ref) < 2 || !ref[0].Equal(ast.DefaultRootDocument) || !ref.IsGround() || l.hasRules(ref) {
		return nil, rar.Value{}
	}
	v := l.in.Data
	for _, key := range ref[1:] {
		name, ok := key.Value.(ast.String)
		if !ok {
			return nil, rar.Value{}
		}
		v, _ = v.Get(string(name))
	}
	return ref, v
}

// computedKeys reports literals that --evaluator compiled leaves to the interpreter, and all
// policy with them (ADR 0022).
func (l *linter) computedKeys(t *ast.Term) {
	n, computed := 0, false
	note := func(x *ast.Term) {
		n++
		computed = computed || !ast.IsConstant(x.Value)
	}
	what := "an object with computed keys"
	switch v := t.Value.(type) {
	case ast.Object:
		v.Foreach(func(key, _ *ast.Term) { note(key) })
	case ast.Set:
		what = "a set with computed elements"
		v.Foreach(note)
	}
	if n > 1 && computed {
		l.add(CodeSlowForm, t.Location, what+" leaves all of this policy to the interpreter where --evaluator compiled is set", "write an array, or a comprehension")
	}
}

// manyRules reports names of permits and forbids that are so many that all being evaluated
// in each decision is felt.
func (l *linter) manyRules() {
	for _, document := range []string{"permit", "forbid"} {
		names := map[string]bool{}
		var first *ast.Rule
		l.eachRule(func(r *ast.Rule) {
			if l.document(r) == document {
				names[r.Ref().String()] = true
				if first == nil {
					first = r
				}
			}
		})
		if len(names) > manyNames {
			l.rule = first
			l.add(CodeSlowForm, first.Head.Location, strconv.Itoa(len(names))+" names of "+document+" are all evaluated in each decision",
				"put what differs into data, or give rules that begin with input.x == \"…\" one name")
		}
	}
}
