package compiled

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// OPA's objects keep the hash from when their members were put in. topdown puts an
// empty set or object into the document of rules such as p[k] contains v or
// p[k][l] := v, and fills it afterwards: no set finds such a document, nor what
// holds it, and a set may hold it beside its equals. The like come of a with that
// replaces something further down in the input or in data, and of builtins
// (object.union_n). So these values are marked as stale, and where their hash would
// matter the evaluation is handed over: as an element of a set, as a key, in a
// with, and in most builtins.

// staleLevels is how many levels of objects of a document are stale.
func (c *compilation) staleLevels(f *ir.Func) int {
	return staleLevels(c.o.Compiler.GetRulesWithPrefix(functionRef(f)), len(f.Path))
}

// staleLevels of a document of rules, whose own reference is of this length.
func staleLevels(rules []*ast.Rule, length int) int {
	levels := 0
	for _, r := range rules {
		n := len(r.Ref()) - length - 1
		if r.Head.RuleKind() == ast.MultiValue {
			n++
		}
		levels = max(levels, n)
	}
	return levels
}

// age marks a document that a function just made.
func (m *machine) age(n *node, levels int) bool {
	if n == nil || n.k != kObj || levels <= 0 || n.stale {
		return true
	}
	if !n.own || !m.charge(1+n.size()/8) {
		m.fail(Unhashed)
		return false
	}
	n.stale = true
	for _, v := range n.coll().vals {
		if !m.age(v, levels-1) {
			return false
		}
	}
	return true
}

// hashed tells whether OPA finds values by their hashes; else it fails.
func (m *machine) hashed(list ...*node) bool {
	for _, n := range list {
		if n != nil && n.stale {
			m.fail(Unhashed)
			return false
		}
	}
	return true
}

// takesStale tells whether a builtin asks for no hash of its operand, the first one
// if there are several.
func takesStale(name string) bool {
	switch name {
	case "count", "type_name", "object.get", "object.keys", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string":
		return true
	}
	return false
}

// wellHashed tells whether a value that a builtin made has the hash of its equals.
func wellHashed(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case *ast.Array:
		return !v.Until(func(x *ast.Term) bool { return !wellHashed(x) })
	case ast.Set:
		return !v.Until(func(x *ast.Term) bool { return !wellHashed(x) })
	case ast.Object:
		sum := 0
		bad := v.Until(func(k, x *ast.Term) bool {
			sum += k.Hash() + x.Hash()
			return !wellHashed(k) || !wellHashed(x)
		})
		return !bad && sum == v.Hash()
	}
	return true
}
