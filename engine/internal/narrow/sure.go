package narrow

import "github.com/open-policy-agent/opa/v1/ast"

// allSure tells whether evaluating a body can not fail, whatever there is.
func (w *walker) allSure(b ast.Body) bool {
	for _, e := range b {
		if !w.sure(e) {
			return false
		}
	}
	return true
}

// sure tells whether evaluating e can not fail, and whether it holds depends on nothing but
// its variables, input and data.
func (w *walker) sure(e *ast.Expr) bool {
	if len(e.With) > 0 {
		return false
	}
	switch x := e.Terms.(type) {
	case *ast.Term:
		return w.sureTerm(x)
	case []*ast.Term:
		switch e.Operator().String() {
		case "eq", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2", "internal.member_3", KeyBuiltin:
		default:
			return false
		}
		for _, t := range x[1:] {
			if !w.sureTerm(t) {
				return false
			}
		}
		return true
	}
	return false
}

func (w *walker) sureTerm(t *ast.Term) bool {
	sure := true
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Null, ast.Boolean, ast.Number, ast.String, ast.Var, *ast.Array, ast.Set, *ast.Term:
		case ast.Object:
			sure = sure && !x.Until(func(k, _ *ast.Term) bool { return !scalar(k.Value) })
		case ast.Ref:
			sure = sure && w.sureRef(x)
		default:
			sure = false
		}
		return !sure
	}).Walk(t)
	return sure
}

func (w *walker) sureRef(ref ast.Ref) bool {
	if _, ok := ref[0].Value.(ast.Var); !ok {
		return false
	}
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return true
	}
	if len(ref) < 2 {
		return false // all of data, with rules
	}
	root := w.compiler.RuleTree.Child(ref[0].Value)
	if root == nil {
		return true
	}
	if _, ok := ref[1].Value.(ast.String); !ok {
		return false
	}
	return root.Child(ref[1].Value) == nil || w.simpleRule(ref)
}

// simpleRule tells a reference to a rule that says nothing but what something of input is,
// or whether it equals a constant.
func (w *walker) simpleRule(ref ast.Ref) bool {
	node := w.onlyRules(ref)
	if node == nil {
		return false
	}
	var value ast.Value
	for _, r := range node.Values {
		if r.Default || r.Else != nil || len(r.Head.Args) > 0 || r.Head.RuleKind() != ast.SingleValue || !r.Ref().IsGround() || r.Head.Value == nil {
			return false
		}
		v := r.Head.Value.Value
		// Several definitions conflict unless they say the same.
		if len(node.Values) > 1 && (!scalar(v) || value != nil && value.Compare(v) != 0) {
			return false
		}
		if _, isVar := v.(ast.Var); !isVar && !scalar(v) {
			return false
		}
		value = v
		for _, e := range r.Body {
			if !simpleExpr(e) {
				return false
			}
		}
	}
	return true
}

// onlyRules are the rules of exactly a reference; nil if there are none, or others that are
// evaluated with them: below it, or above, as ids[k] is with ids.uid.
func (w *walker) onlyRules(ref ast.Ref) *ast.TreeNode {
	node := w.compiler.RuleTree
	for _, t := range ref {
		if len(node.Values) > 0 {
			return nil
		}
		if node = node.Child(t.Value); node == nil {
			return nil
		}
	}
	if len(node.Children) > 0 || len(node.Values) == 0 {
		return nil
	}
	return node
}

// simpleExpr is a constant, something of input, or an equality of such and variables.
func simpleExpr(e *ast.Expr) bool {
	if e.Negated || len(e.With) > 0 {
		return false
	}
	terms := sides(e)
	for _, t := range terms {
		switch v := t.Value.(type) {
		case ast.Var:
		case ast.Ref:
			if !v[0].Equal(ast.InputRootDocument) || !constant(v) {
				return false
			}
		default:
			if !scalar(v) {
				return false
			}
		}
	}
	return len(terms) > 0
}
