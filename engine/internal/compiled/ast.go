package compiled

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// fromAST converts what a builtin of OPA's answered; nil for what is no value.
func (a *arena) fromAST(v ast.Value) *node {
	switch v := v.(type) {
	case ast.Null:
		return nodeNull
	case ast.Boolean:
		return boolNode(bool(v))
	case ast.Number:
		return a.num(string(v))
	case ast.String:
		return a.str(string(v))
	case *ast.Array:
		vals := a.slice(v.Len())
		for i := range v.Len() {
			vals = append(vals, a.fromAST(v.Elem(i).Value))
		}
		return a.composite(kArr, nil, vals, true)
	case ast.Object:
		keys, vals := a.slice(v.Len()), a.slice(v.Len())
		v.Foreach(func(k, x *ast.Term) {
			keys, vals = append(keys, a.fromAST(k.Value)), append(vals, a.fromAST(x.Value))
		})
		return a.composite(kObj, keys, vals, false)
	case ast.Set:
		keys := a.slice(v.Len())
		for _, x := range v.Slice() {
			keys = append(keys, a.fromAST(x.Value))
		}
		return a.composite(kSet, keys, nil, false)
	}
	panic("not a value: " + ast.ValueName(v))
}

// toAST converts for a builtin of OPA's. The result shares no node.
func (n *node) toAST() *ast.Term {
	switch n.k {
	case kNull:
		return ast.NullTerm()
	case kBool:
		return ast.InternedTerm(n.i == 1)
	case kNum:
		if n.plain && n.i >= 0 && n.i < int64(len(smallInts)) {
			return ast.InternedTerm(int(n.i))
		}
		return &ast.Term{Value: ast.Number(n.numText())}
	case kStr:
		return &ast.Term{Value: ast.String(n.s)}
	case kArr:
		terms := make([]*ast.Term, len(n.coll().vals))
		for i, v := range n.coll().vals {
			terms[i] = v.toAST()
		}
		return &ast.Term{Value: ast.NewArray(terms...)}
	case kSet:
		terms := make([]*ast.Term, len(n.coll().keys))
		for i, v := range n.coll().keys {
			terms[i] = v.toAST()
		}
		return &ast.Term{Value: ast.NewSet(terms...)}
	case kObj:
		pairs := make([][2]*ast.Term, len(n.coll().keys))
		for i, k := range n.coll().keys {
			pairs[i] = [2]*ast.Term{k.toAST(), n.coll().vals[i].toAST()}
		}
		return &ast.Term{Value: ast.NewObject(pairs...)}
	default:
		panic("a value was used after its release")
	}
}
