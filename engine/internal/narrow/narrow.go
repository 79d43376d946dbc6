// Package narrow has policy that iterates a document look rows up instead, where that
// comes to the same: an expression over data.grants[_] beside one that demands that the
// row's member equals a value known before is given the rows that may have that value.
// The demand stays, so whatever the look-up gives too much is left out as before; what it
// must never do is to give too little.
//
// It works on what OPA's compiler is nearly done with: names are resolved, variables are
// unique, and expressions are in the order in which they are evaluated. What it does not
// understand it leaves as it is, and that is always right. In particular no expression
// that can fail is evaluated for fewer rows than before, or its failure, a deny, would be
// lost.
//
// Only package engine calls it, for a compiler of its own; all functions are pure but for
// the modules of that.
package narrow

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Document is one that can be looked up by members of its rows.
type Document struct {
	Path    []string
	Members []string
	// Array, or an object.
	Array bool
}

// Name is the path with slashes.
func (d *Document) Name() string { return strings.Join(d.Path, "/") }

// Place is an iteration that is, or could be, a look-up.
type Place struct {
	File     string
	Row, Col int
	Rule     string
	// Path and Member are those of the index.
	Path   []string
	Member string
}

// Rewrite changes the modules of c, after the stage ast.StageBuildComprehensionIndices of its
// compilation: an expression that is put in must not keep OPA from evaluating a rule whose
// failure counts, and OPA must not take what a look-up needs for something that it yields.
func Rewrite(c *ast.Compiler, documents []Document) []Place {
	byName := map[string]*Document{}
	for i := range documents {
		byName[documents[i].Name()] = &documents[i]
	}
	w := &walker{compiler: c, find: func(path []string) *Document { return byName[strings.Join(path, "/")] }}
	w.run()
	return w.places
}

// Find tells where look-ups could be, in what c has compiled, if the documents that find
// gives for paths could be looked up by any member. It changes nothing.
func Find(c *ast.Compiler, find func(path []string) *Document) []Place {
	w := &walker{compiler: c, find: find, dry: true}
	w.run()
	return w.places
}

type walker struct {
	compiler *ast.Compiler
	find     func(path []string) *Document
	dry      bool
	places   []Place

	rule  *ast.Rule
	names map[ast.Var]int // how often each variable occurs in the rule
	made  int
}

func (w *walker) run() {
	if !w.plain() {
		return
	}
	for _, key := range sortedKeys(w.compiler.Modules) {
		for _, r := range w.compiler.Modules[key].Rules {
			for ; r != nil; r = r.Else {
				if !r.Default {
					w.inRule(r)
				}
			}
		}
	}
	slices.SortStableFunc(w.places, func(a, b Place) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
	})
}

// plain: no policy replaces data or builtins by with, which an index would not see, and
// none names roots of data by values, which could be the index's.
func (w *walker) plain() bool {
	plain := true
	visitor := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.With:
			target, ok := x.Target.Value.(ast.Ref)
			plain = plain && ok && target.HasPrefix(ast.InputRootRef)
		case ast.Ref:
			if len(x) > 1 && x[0].Equal(ast.DefaultRootDocument) {
				_, ok := x[1].Value.(ast.String)
				plain = plain && ok
			}
		}
		return !plain
	})
	for _, m := range w.compiler.Modules {
		visitor.Walk(m)
	}
	return plain
}

func (w *walker) inRule(r *ast.Rule) {
	w.rule, w.names = r, occurrences(r)
	with := false
	ast.WalkWiths(r, func(*ast.With) bool {
		with = true
		return true
	})
	if with {
		return
	}
	bound := ast.VarSet{}
	visitor := ast.NewVarVisitor()
	visitor.WalkArgs(r.Head.Args)
	bound.Update(visitor.Vars().Diff(ast.ReservedVars))
	if body := w.inBody(r.Body, bound); !w.dry {
		r.Body = body
	}
}

// inBody narrows what it can of a body that is evaluated when the variables of bound are
// bound.
func (w *walker) inBody(b ast.Body, bound ast.VarSet) ast.Body {
	known := bound.Copy()
	for i := 0; i < len(b); i++ {
		if n := w.iteration(b, i, known); n != nil {
			w.places = append(w.places, w.place(n, b[i].Location))
			if !w.dry {
				b, i = w.narrow(b, n)
			}
		}
		w.inComprehension(b[i], known)
		known.Update(binds(b[i]))
	}
	return b
}

// inComprehension looks into the body of a comprehension that a variable is set to. OPA may
// evaluate one for all values of the variables around it at once. Where nothing of it can
// fail, it comes to the same to evaluate it for one.
func (w *walker) inComprehension(e *ast.Expr, known ast.VarSet) {
	if e.Negated || !e.IsEquality() {
		return
	}
	for k, t := range e.Operands() {
		var body *ast.Body
		object := false
		switch x := t.Value.(type) {
		case *ast.ArrayComprehension:
			body = &x.Body
		case *ast.SetComprehension:
			body = &x.Body
		case *ast.ObjectComprehension: // whose keys may conflict
			body, object = &x.Body, true
		default:
			continue
		}
		atOnce := w.compiler.ComprehensionIndex(t) != nil
		if atOnce && (object || !w.allSure(*body)) {
			continue
		}
		before := len(w.places)
		b := w.inBody(*body, known)
		if w.dry || len(w.places) == before {
			continue
		}
		*body = b
		if terms, ok := e.Terms.([]*ast.Term); ok && atOnce {
			terms[k+1] = &ast.Term{Value: t.Value, Location: t.Location} // which OPA does not know
		}
	}
}

// iteration is one that can be narrowed.
type iteration struct {
	document *Document
	member   string
	// at is the number of the expression that begins it, key the variable that is bound
	// to where the row is.
	at  int
	key ast.Var
	// value is what the member has to equal: a constant, a variable that is bound before,
	// or a reference.
	value *ast.Term
}

func (w *walker) iteration(b ast.Body, i int, known ast.VarSet) *iteration {
	if b[i].Negated {
		return nil
	}
	for _, t := range sides(b[i]) {
		ref, ok := t.Value.(ast.Ref)
		if !ok {
			continue
		}
		n := w.source(ref)
		if n == nil || known.Contains(n.key) {
			continue
		}
		n.at = i
		if w.demand(b, n, known) && (!n.document.Array || w.keyUnused(b, n)) && !slices.ContainsFunc(b[i:], func(e *ast.Expr) bool { return n.isIn(e, b) && holdsClosure(e) }) {
			return n
		}
	}
	return nil
}

// source is the document whose rows a reference goes through.
func (w *walker) source(ref ast.Ref) *iteration {
	if len(ref) < 3 || !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	var path []string
	for _, t := range ref[1:] {
		switch v := t.Value.(type) {
		case ast.String:
			path = append(path, string(v))
			continue
		case ast.Var:
			if len(path) == 0 || w.hasRules(path) {
				return nil
			}
			if d := w.find(path); d != nil {
				return &iteration{document: d, key: v}
			}
		}
		return nil
	}
	return nil
}

// hasRules tells whether rules are at, above or below a path of data.
func (w *walker) hasRules(path []string) bool {
	node := w.compiler.RuleTree.Child(ast.DefaultRootDocument.Value)
	for _, name := range path {
		if node == nil {
			return false
		}
		if len(node.Values) > 0 {
			return true
		}
		node = node.Child(ast.String(name))
	}
	return node != nil
}

func (w *walker) place(n *iteration, loc *ast.Location) Place {
	p := Place{Rule: w.rule.Ref().String(), Path: n.document.Path, Member: n.member}
	if loc != nil {
		p.File, p.Row, p.Col = loc.File, loc.Row, loc.Col
	}
	return p
}
