package narrow

import (
	"slices"
	"strconv"

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

// narrow puts the look-up into a body, and returns where the iteration is now.
func (w *walker) narrow(b ast.Body, n *iteration) (ast.Body, int) {
	loc := b[n.at].Location
	out := slices.Clone(b[:n.at])
	add := func(e *ast.Expr) {
		e.Location, e.Generated = loc, true
		out = append(out, e)
	}
	var key *ast.Term
	if value := n.value; scalar(value.Value) {
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
	for _, e := range b[n.at:] {
		if n.isIn(e, b) {
			e = e.Copy() // its terms may be those of others
			for _, t := range sourceRefs(e, n) {
				t.Value = n.lookUp(t, key)
			}
		}
		out = append(out, e)
	}
	return ast.NewBody(out...), at
}

// isIn tells whether an expression of b, from the iteration on, is rewritten.
func (n *iteration) isIn(e *ast.Expr, b ast.Body) bool {
	return (e == b[n.at] || n.document.Array) && len(sourceRefs(e, n)) > 0
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
