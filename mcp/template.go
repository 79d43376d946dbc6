package mcp

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/authzd/authzd/rar"
)

type nodeKind uint8

const (
	nodeLiteral nodeKind = iota
	nodeExpression
	nodeObject
	nodeArray
	nodeClaim // the value of the subject-identity claim
)

// node is a part of a mapping. What holds no expression is one literal, resolved
// when the mapping is compiled.
type node struct {
	kind    nodeKind
	path    string
	literal rar.Value
	expr    *expression
	names   []string // of an object's kids
	kids    []*node
}

// has tells whether the object n has the member, as far as that can be seen
// without evaluating.
func (n *node) has(name string) bool {
	if n.kind == nodeLiteral {
		_, ok := n.literal.Get(name)
		return ok
	}
	return contains(n.names, name)
}

// child gives a member of an object that is not one literal; nil: none.
func (n *node) child(name string) *node {
	for i := range n.names {
		if n.names[i] == name {
			return n.kids[i]
		}
	}
	return nil
}

// node compiles v. Only the first character of a string counts: one $ begins an
// expression, two are one in a literal.
func (c *mappingCompiler) node(v rar.Value, path string, depth int) (*node, error) {
	if depth > maxMappingDepth {
		return nil, invalid(path, "nests deeper than %d levels", maxMappingDepth)
	}
	n := &node{path: path}
	literal := true
	add := func(name, at string, v rar.Value) error {
		kid, err := c.node(v, at, depth+1)
		if err != nil {
			return err
		}
		literal = literal && kid.kind == nodeLiteral
		n.names, n.kids = append(n.names, name), append(n.kids, kid)
		return nil
	}
	switch v.Kind() {
	case rar.String:
		return c.text(n, v.Text())
	case rar.Object:
		n.kind = nodeObject
		for i := range v.Len() {
			m := v.Member(i)
			if err := add(m.Name, path+"/"+escape(m.Name), m.Value); err != nil {
				return nil, err
			}
		}
	case rar.Array:
		n.kind = nodeArray
		for i := range v.Len() {
			if err := add("", fmt.Sprintf("%s/%d", path, i), v.Index(i)); err != nil {
				return nil, err
			}
		}
	case rar.Absent, rar.Null, rar.Bool, rar.Number:
		n.literal = v
		return n, nil
	}
	if literal {
		n.literal = n.assemble(func(kid *node) rar.Value { return kid.literal })
		n.kind, n.names, n.kids = nodeLiteral, nil, nil
	}
	return n, nil
}

func (c *mappingCompiler) text(n *node, s string) (*node, error) {
	switch {
	case strings.HasPrefix(s, "$$"):
		n.literal = str(s[1:])
	case strings.HasPrefix(s, "$"):
		var err error
		n.kind = nodeExpression
		if n.expr, err = c.expression(s[1:], n.path); err != nil {
			return nil, err
		}
	default:
		n.literal = str(s)
		c.suspect(s, n.path)
	}
	return n, nil
}

// suspect warns about literals that earlier drafts read otherwise.
func (c *mappingCompiler) suspect(s, path string) {
	quoted := len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0]
	switch {
	case quoted:
		c.warnings = append(c.warnings, MappingWarning{Kind: WarnQuotedLiteral, Path: path})
	case c.barePath.MatchString(s):
		c.warnings = append(c.warnings, MappingWarning{Kind: WarnBarePath, Path: path})
	}
}

func barePath() *regexp.Regexp { return regexp.MustCompile(`^(token|params)[.\[]`) }

// assemble puts an object or array together; what of yields as Absent is left
// out of an object.
func (n *node) assemble(of func(*node) rar.Value) rar.Value {
	if n.kind == nodeArray {
		elements := make([]rar.Value, len(n.kids))
		for i, kid := range n.kids {
			elements[i] = of(kid)
		}
		return rar.ArrayValue(elements...)
	}
	members := make([]rar.Member, 0, len(n.kids))
	for i, kid := range n.kids {
		if v := of(kid); v.Kind() != rar.Absent {
			members = append(members, member(n.names[i], v))
		}
	}
	return object(members...)
}

// resolve gives the value of n, Absent where an expression says so. A value that
// came from the caller is never looked at again: a $ in it is text.
func (n *node) resolve(ctx context.Context, e *evaluating) (rar.Value, error) {
	switch n.kind {
	case nodeLiteral:
		return n.literal, nil
	case nodeExpression:
		return e.expression(ctx, n.expr, n.path)
	case nodeClaim:
		return str(e.claim), nil
	case nodeObject, nodeArray:
	}
	var failed error
	v := n.assemble(func(kid *node) rar.Value {
		if failed != nil {
			return rar.Value{}
		}
		v, err := kid.resolve(ctx, e)
		switch {
		case err != nil:
			failed = err
		case v.Kind() == rar.Absent && n.kind == nodeArray:
			// A list that closes up would move the others to places not meant.
			failed = fail(CodeMapping, kid.path, "an element of a list is absent")
		}
		return v
	})
	return v, failed
}

// shape is what an entity of AuthZEN holds besides properties; custom attributes
// stand below properties only.
type shape struct {
	texts    []string
	required bool // of texts
}

func subjectShape() *shape  { return &shape{texts: []string{"type", "id"}} }
func actionShape() *shape   { return &shape{texts: []string{"name"}, required: true} }
func resourceShape() *shape { return &shape{texts: []string{"type", "id"}, required: true} }

// checkStatic finds what no evaluation can mend; s nil: a context.
func checkStatic(n *node, s *shape) error {
	switch n.kind {
	case nodeLiteral:
		return recoded(s.check(n.literal, n.path), CodeMappingInvalid)
	case nodeArray:
		return invalid(n.path, "must be an object")
	case nodeExpression, nodeClaim:
		return nil
	case nodeObject:
	}
	if s == nil {
		return reserved(n.has(contextMember), n.path, CodeMappingInvalid)
	}
	for i, name := range n.names {
		kid := n.kids[i]
		switch {
		case name != "properties" && !contains(s.texts, name):
			return invalid(kid.path, "is not a member of this object; further attributes stand in properties")
		case kid.kind == nodeExpression || kid.kind == nodeClaim:
		case kid.kind == nodeLiteral:
			if err := checkMember(name, kid.literal, kid.path); err != nil {
				return recoded(err, CodeMappingInvalid)
			}
		case name != "properties" || kid.kind != nodeObject:
			return invalid(kid.path, "has the wrong type")
		}
	}
	for _, name := range s.texts {
		if s.required && n.child(name) == nil {
			return invalid(n.path+"/"+name, "is required")
		}
	}
	return nil
}

// check holds a resolved entity, or with s nil a context, against its shape.
func (s *shape) check(v rar.Value, path string) error {
	if v.Kind() != rar.Object {
		return fail(CodeMapping, path, "must be an object")
	}
	if s == nil {
		_, has := v.Get(contextMember)
		return reserved(has, path, CodeMapping)
	}
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name != "properties" && !contains(s.texts, m.Name) {
			return fail(CodeMapping, path+"/"+escape(m.Name), "is not a member of this object; further attributes stand in properties")
		}
		if err := checkMember(m.Name, m.Value, path+"/"+m.Name); err != nil {
			return err
		}
	}
	for _, name := range s.texts {
		if _, has := v.Get(name); s.required && !has {
			return fail(CodeMapping, path+"/"+name, "is required, and absent")
		}
	}
	return nil
}

// checkMember: an identifier is a string or an error; nothing is coerced.
func checkMember(name string, v rar.Value, path string) error {
	switch {
	case name == "properties" && v.Kind() != rar.Object:
		return fail(CodeMapping, path, "must be an object")
	case name != "properties" && (v.Kind() != rar.String || v.Text() == ""):
		return fail(CodeMapping, path, "must be a string that is not empty")
	}
	return nil
}

// contextMember of the context tells policy what the mapping was and was not
// held against; a mapping cannot say it of itself.
const contextMember = "coaz"

func reserved(has bool, path string, code Code) error {
	if has {
		return fail(code, path+"/"+contextMember, "is not a mapping's to set")
	}
	return nil
}

func recoded(err error, code Code) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // made here, never wrapped
		return &Error{Code: code, Path: e.Path, Err: e.Err}
	}
	return err
}

// escape makes a token of a JSON Pointer.
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
