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
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/authzd/authzd/engine/internal/base"
)

// KeyBuiltin is the name of the builtin that tells in which part of an index the rows of
// a value are.
const KeyBuiltin = "authzd.index_key"

// Key is what it answers; false for what is no value.
func Key(v ast.Value) (ast.Value, bool) {
	switch v := v.(type) {
	case ast.String:
		return ast.String(base.TextKey(string(v))), true
	case ast.Var:
		return nil, false
	}
	return ast.String(base.OtherKey), v.IsGround()
}

// Declaration declares the builtin.
func Declaration() *ast.Builtin {
	return &ast.Builtin{Name: KeyBuiltin, Decl: types.NewFunction(types.Args(types.A), types.S)}
}

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
		if w.demand(b, n, known) && (!n.document.Array || w.keyUnused(b, n)) {
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

// demand finds the expression that demands what a member of the row equals. Nothing before
// it may fail, from the beginning of the iteration on.
func (w *walker) demand(b ast.Body, n *iteration, known ast.VarSet) bool {
	rows := w.rowVars(b[n.at], n)
	for j := n.at; j < len(b); j++ {
		if e := b[j]; e.IsEquality() && !e.Negated {
			for k := range 2 {
				member, ok := w.memberOf(e.Operand(k), n, rows)
				if !ok {
					continue
				}
				if value := w.resolve(e.Operand(1-k), b[n.at:j], known); value != nil {
					n.member, n.value = member, value
					return true
				}
			}
		}
		if !w.sure(b[j]) {
			return false
		}
	}
	return false
}

// rowVars are the variables that e sets to the row.
func (w *walker) rowVars(e *ast.Expr, n *iteration) ast.VarSet {
	rows := ast.VarSet{}
	if !e.IsEquality() {
		return rows
	}
	for k := range 2 {
		ref, isRef := e.Operand(k).Value.(ast.Ref)
		v, isVar := e.Operand(1 - k).Value.(ast.Var)
		if isRef && isVar && len(ref) == len(n.document.Path)+2 && isSource(ref, n) {
			rows.Add(v)
		}
	}
	return rows
}

// isSource tells a reference that goes through the rows of n by its key.
func isSource(ref ast.Ref, n *iteration) bool {
	at := len(n.document.Path) + 1
	if len(ref) <= at || !ref[0].Equal(ast.DefaultRootDocument) || ref[at].Value.Compare(n.key) != 0 {
		return false
	}
	for i, name := range n.document.Path {
		if s, ok := ref[i+1].Value.(ast.String); !ok || string(s) != name {
			return false
		}
	}
	return true
}

// memberOf is the member of the row that a term is, if there is an index by it.
func (w *walker) memberOf(t *ast.Term, n *iteration, rows ast.VarSet) (string, bool) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || len(ref) < 2 {
		return "", false
	}
	name, ok := ref[len(ref)-1].Value.(ast.String)
	if !ok || !w.dry && !slices.Contains(n.document.Members, string(name)) || base.Positional(string(name)) {
		return "", false
	}
	if head, ok := ref[0].Value.(ast.Var); ok && len(ref) == 2 && rows.Contains(head) {
		return string(name), true
	}
	return string(name), len(ref) == len(n.document.Path)+3 && isSource(ref, n)
}

// resolve is a term that says what t is, and can be evaluated before the iteration. Between
// are the expressions from its beginning on.
func (w *walker) resolve(t *ast.Term, between ast.Body, known ast.VarSet) *ast.Term {
	switch v := t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return t
	case ast.Var:
		if known.Contains(v) {
			return t
		}
		for _, e := range between {
			if e.Negated || !e.IsEquality() {
				continue
			}
			for k := range 2 {
				if e.Operand(k).Value.Compare(v) != 0 {
					continue
				}
				if _, chain := e.Operand(1 - k).Value.(ast.Var); chain {
					continue
				}
				if u := w.resolve(e.Operand(1-k), nil, known); u != nil {
					return u
				}
			}
		}
	case ast.Ref:
		head, ok := v[0].Value.(ast.Var)
		if !ok || !constant(v) {
			return nil
		}
		if known.Contains(head) || (v[0].Equal(ast.InputRootDocument) || v[0].Equal(ast.DefaultRootDocument)) && w.sureTerm(t) {
			return t
		}
	}
	return nil
}

// keyUnused: the key of an array's row is nothing but the way to the row, so that it need
// not be the number that it was; and not within a comprehension, or what is below every or
// not, where OPA may look at variables in other ways.
func (w *walker) keyUnused(b ast.Body, n *iteration) bool {
	count := 0
	for _, e := range b[n.at:] {
		count += len(sourceRefs(e, n))
	}
	return count == w.names[n.key]
}

// sourceRefs are the terms of e, outside of closures, that go through the rows of n.
func sourceRefs(e *ast.Expr, n *iteration) (terms []*ast.Term) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every, *ast.TemplateString,
			*ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
			return true
		case *ast.Term:
			if ref, ok := x.Value.(ast.Ref); ok && isSource(ref, n) {
				terms = append(terms, x)
			}
		}
		return false
	}).Walk(e)
	return terms
}

func (w *walker) place(n *iteration, loc *ast.Location) Place {
	p := Place{Rule: w.rule.Ref().String(), Path: n.document.Path, Member: n.member}
	if loc != nil {
		p.File, p.Row, p.Col = loc.File, loc.Row, loc.Col
	}
	return p
}

// occurrences counts variables.
func occurrences(x any) map[ast.Var]int {
	n := map[ast.Var]int{}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			n[x]++
		case *ast.Head: // of which the visitor does not see all
			ast.WalkVars(x.Reference, func(v ast.Var) bool {
				n[v]++
				return false
			})
		}
		return false
	}).Walk(x)
	return n
}

func sides(e *ast.Expr) []*ast.Term {
	if t, ok := e.Terms.(*ast.Term); ok {
		return []*ast.Term{t}
	}
	if e.IsEquality() {
		return e.Operands()
	}
	return nil
}

// binds are the variables that are bound when e has been evaluated. Of what is below not,
// every or a comprehension nothing is.
func binds(e *ast.Expr) ast.VarSet {
	switch e.Terms.(type) {
	case *ast.Term, []*ast.Term:
	default:
		return nil
	}
	if e.Negated {
		return nil
	}
	visitor := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipClosures: true, SkipRefCallHead: true})
	visitor.Walk(e)
	return visitor.Vars().Diff(ast.ReservedVars)
}

// constant tells a reference of nothing but scalars behind its head.
func constant(ref ast.Ref) bool {
	return !slices.ContainsFunc(ref[1:], func(t *ast.Term) bool { return !scalar(t.Value) })
}

func scalar(v ast.Value) bool {
	switch v.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// narrow puts the look-up into a body, and returns where the iteration is now.
func (w *walker) narrow(b ast.Body, n *iteration) (ast.Body, int) {
	loc := b[n.at].Location
	out := slices.Clone(b[:n.at])
	add := func(e *ast.Expr) {
		e.Location, e.Generated = loc, true
		out = append(out, e)
	}
	key, value := n.value, n.value
	if scalar(value.Value) {
		k, _ := Key(value.Value)
		key = ast.NewTerm(k)
	} else {
		if _, isRef := value.Value.(ast.Ref); isRef {
			value = w.newVar()
			add(ast.Equality.Expr(value, n.value.Copy()))
		}
		key = w.newVar()
		add(ast.NewExpr([]*ast.Term{ast.NewTerm(Declaration().Ref()), ast.NewTerm(value.Value), ast.NewTerm(key.Value)}))
	}
	at := len(out)
	for i, e := range b[n.at:] {
		if (i == 0 || n.document.Array) && len(sourceRefs(e, n)) > 0 {
			e = e.Copy() // its terms may be those of others
			for _, t := range sourceRefs(e, n) {
				t.Value = n.lookUp(t, key)
			}
		}
		out = append(out, e)
	}
	return ast.NewBody(out...), at
}

// lookUp is a reference into the index for one into the document.
func (n *iteration) lookUp(t *ast.Term, key *ast.Term) ast.Ref {
	ref, _ := t.Value.(ast.Ref)
	out := ast.Ref{ref[0]}
	for _, v := range []ast.Value{ast.String(base.IndexRoot), ast.String(n.document.Name()), ast.String(n.member), key.Value} {
		out = append(out, &ast.Term{Value: v, Location: t.Location})
	}
	return append(out, ref[len(n.document.Path)+1:]...)
}

func (w *walker) newVar() *ast.Term {
	for {
		v := ast.Var("__local_authzd" + strconv.Itoa(w.made) + "__")
		w.made++
		if w.names[v] == 0 {
			return ast.NewTerm(v)
		}
	}
}
