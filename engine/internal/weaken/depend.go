package weaken

import "github.com/open-policy-agent/opa/v1/ast"

// dependence tells which rules of a compiled policy depend on the arguments of a
// call.
type dependence struct {
	tree      *ast.TreeNode
	dependent map[*ast.Rule]bool
}

func newDependence(c *ast.Compiler) *dependence {
	d := &dependence{tree: c.RuleTree, dependent: map[*ast.Rule]bool{}}
	// A rule depends if one that it looks at depends: to a fixed point, since
	// modules come in no order.
	for changed := true; changed; {
		changed = false
		for _, m := range c.Modules {
			for _, r := range m.Rules {
				if !d.dependent[r] && d.depends(r) {
					d.dependent[r], changed = true, true
				}
			}
		}
	}
	return d
}

// depends tells whether a piece of compiled policy depends on arguments, as far
// as it is known now.
func (d *dependence) depends(x any) bool {
	found := false
	var visit *ast.GenericVisitor
	visit = ast.NewGenericVisitor(func(x any) bool {
		if found {
			return true
		}
		switch x := x.(type) {
		case *ast.Expr:
			found = len(x.With) > 0 || !knownForm(x)
		case *ast.TemplateString, *ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
			found = true
		case ast.Var:
			found = x == ast.InputRootDocument.Value || x == ast.DefaultRootDocument.Value
		case ast.Ref:
			if found = d.refDepends(x); found {
				return true
			}
			// The root was looked at; the places of the path may hold more.
			start := 0
			if _, root := x[0].Value.(ast.Var); root {
				start = 1
			}
			for _, t := range x[start:] {
				visit.Walk(t)
			}
			return true
		}
		return found
	})
	visit.Walk(x)
	return found
}

// knownForm: a term, a call, or every.
func knownForm(e *ast.Expr) bool {
	switch e.Terms.(type) {
	case *ast.Term, []*ast.Term, *ast.Every:
		return true
	}
	return false
}

func (d *dependence) refDepends(ref ast.Ref) bool {
	head, ok := ref[0].Value.(ast.Var)
	switch {
	case !ok:
		return false // its parts are looked at
	case head == ast.InputRootDocument.Value:
		return !independentInput(ref)
	case head == ast.DefaultRootDocument.Value:
		for _, r := range d.rulesAt(ref) {
			if d.dependent[r] {
				return true
			}
		}
		return false
	}
	return changing(ref)
}

// independentInput: only what lies at input.mcp.params, but for the name, is
// the caller's arguments; a step that is not written out could lead there.
func independentInput(ref ast.Ref) bool {
	for i, name := range []string{"mcp", "params"} {
		step, ok := stepAt(ref, i+1)
		if !ok {
			return false
		}
		if step != name {
			return true
		}
	}
	step, ok := stepAt(ref, 3)
	return ok && step == "name"
}

// stepAt is step i of a reference, if there is one and it is written out.
func stepAt(ref ast.Ref, i int) (string, bool) {
	if i >= len(ref) {
		return "", false
	}
	s, ok := ref[i].Value.(ast.String)
	return string(s), ok
}

// changing builtins give another result each time. Those that read schemas from
// the network are none here: the engine lets them read nothing.
func changing(ref ast.Ref) bool {
	name := ref.String()
	b, ok := ast.BuiltinMap[name]
	return ok && b.Nondeterministic && !timely(name) && name != "json.match_schema" && name != "json.verify_schema"
}

// timely builtins read the clock.
func timely(name string) bool {
	switch name {
	case "time.now_ns", "io.jwt.decode_verify",
		"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options":
		return true
	}
	return false
}

// rulesAt are all rules that a reference below data may look at: those on its
// way, and all below the place where it is no longer written out.
func (d *dependence) rulesAt(ref ast.Ref) []*ast.Rule {
	var out []*ast.Rule
	node := d.tree
	for i, t := range ref {
		if i > 0 && !written(t) {
			break
		}
		if node = node.Child(t.Value); node == nil {
			return out
		}
		if i < len(ref)-1 {
			out = append(out, node.Values...)
		}
	}
	return below(node, out)
}

func below(n *ast.TreeNode, out []*ast.Rule) []*ast.Rule {
	out = append(out, n.Values...)
	// In a fixed order, so that the same policy is always weakened alike.
	for _, key := range n.Sorted {
		out = below(n.Children[key], out)
	}
	return out
}

// nodeAt is the node of the rules with exactly this name.
func (d *dependence) nodeAt(ref ast.Ref) *ast.TreeNode {
	node := d.tree
	for i, t := range ref {
		if i > 0 && !written(t) || node == nil {
			return nil
		}
		node = node.Child(t.Value)
	}
	return node
}

func written(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// readsTime tells whether rules, or any that they look at, read the clock.
func (d *dependence) readsTime(rules []*ast.Rule) bool {
	seen := map[*ast.Rule]bool{}
	found := false
	for len(rules) > 0 && !found {
		r := rules[0]
		rules = rules[1:]
		if seen[r] {
			continue
		}
		seen[r] = true
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			switch {
			case ref[0].Equal(ast.InputRootDocument):
				// A reference that ends before, or goes anywhere, may hold it.
				step, ok := stepAt(ref, 1)
				found = found || !ok || step == "now"
			case ref[0].Equal(ast.DefaultRootDocument):
				rules = append(rules, d.rulesAt(ref)...)
			default:
				found = found || timely(ref.String())
			}
			return false
		})
	}
	return found
}
