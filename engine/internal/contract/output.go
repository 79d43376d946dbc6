package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// outputLint warns of policy output that can be seen to be malformed. It is
// help only: at run time malformed output denies.
type outputLint struct {
	p     *policy
	g     *group
	d     definition
	found []Finding
}

func (p *policy) checkOutput() []Finding {
	var found []Finding
	for _, doc := range documents() {
		path := p.documentPath(doc)
		for _, m := range p.matches(path) {
			if m.group.library || len(m.group.path) < len(path) {
				continue
			}
			for _, d := range m.group.defs {
				l := &outputLint{p: p, g: m.group, d: d}
				for r := d.rule; r != nil; r = r.Else {
					l.document(doc, len(m.group.path)-len(path), r)
				}
				found = append(found, l.found...)
			}
		}
	}
	for _, g := range p.groups {
		for _, d := range g.defs {
			if !g.library {
				l := &outputLint{p: p, g: g, d: d}
				ast.WalkTerms(d.rule, l.constructor)
				found = append(found, l.found...)
			}
		}
	}
	return found
}

func (l *outputLint) warn(t *ast.Term, format string, args ...any) {
	loc := lineOf(l.d.rule)
	if t != nil && t.Location != nil && len(t.Location.Text) > 0 {
		loc = t.Location
	}
	l.found = append(l.found, at(loc, l.d.file, CodeStaticMalformed, Warning, l.g.name(l.p), fmt.Sprintf(format, args...)))
}

// document judges the head of one rule, deeper places below the document.
func (l *outputLint) document(doc string, deeper int, r *ast.Rule) {
	v := r.Head.Value
	switch {
	case l.g.function:
		l.warn(nil, "%s is a function here; the engine reads a document", doc)
	case doc == "permit" || doc == "forbid":
		l.named(doc, deeper, v)
	case deeper > 0:
		l.warn(v, "%s must be true or false%s, not an object", doc, orSet(doc))
	case l.g.set && doc == "allow":
		l.warn(r.Head.Key, "allow must be true or false, not a set")
	case l.g.set:
		l.denial(r.Head.Key)
	case doc == "deny":
		l.plainDeny(v)
	default:
		if v != nil && !maybe(v, isBoolean) {
			l.warn(v, "allow must be true or false")
		}
	}
}

func orSet(doc string) string {
	if doc == "deny" {
		return ", or a set"
	}
	return ""
}

// named judges permit and forbid, which are objects by rule name.
func (l *outputLint) named(doc string, deeper int, v *ast.Term) {
	member := l.permit
	if doc == "forbid" {
		member = l.forbid
	}
	switch {
	case l.g.set && deeper == 0:
		l.warn(nil, "%s is a set here; write %s[NAME] := {…}", doc, doc)
	case v == nil || deeper > 1:
	case deeper == 1:
		member(v)
	case isObject(v.Value):
		object(v, func(_ string, x *ast.Term) { member(x) })
	case !maybe(v, isObject):
		l.warn(v, "%s must be an object of rules: %s[NAME] := {…}", doc, doc)
	}
}

func (l *outputLint) permit(v *ast.Term) {
	if c, ok := v.Value.(ast.Call); ok && strings.HasPrefix(operator(c), libraryRef("").String()+".") {
		l.warn(v, "a permit is an object: {\"require\": [%s(…)]}", strings.TrimPrefix(operator(c), libraryRef("").String()+"."))
		return
	}
	if !maybe(v, isObject) {
		l.warn(v, "a permit must be an object such as {} or {\"require\": […]}")
		return
	}
	object(v, func(name string, x *ast.Term) {
		switch name {
		case "require":
			l.requirements(x)
		case "obligations":
			l.obligations(x)
		case "priority":
			l.priority(x)
		default:
			l.warn(x, "%q is not a member of a permit: require, obligations, priority", name)
		}
	})
}

func (l *outputLint) requirements(v *ast.Term) {
	if !maybe(v, isArray) {
		l.warn(v, "require must be an array of requirements")
		return
	}
	list, ok := v.Value.(*ast.Array)
	if !ok {
		return
	}
	if list.Len() == 0 {
		l.warn(v, "require is empty: leave it out if nothing is required")
	}
	for i := range list.Len() {
		x := list.Elem(i)
		if o, ok := x.Value.(ast.Object); ok && o.Get(ast.StringTerm("kind")) == nil || !maybe(x, isObject) {
			l.warn(x, "a requirement is an object with a kind, best made by the library: authzd.scopes([…])")
		}
	}
}

func (l *outputLint) obligations(v *ast.Term) {
	if !maybe(v, isArray) {
		l.warn(v, "obligations must be an array of objects with an id")
		return
	}
	list, ok := v.Value.(*ast.Array)
	if !ok {
		return
	}
	for i := range list.Len() {
		x := list.Elem(i)
		o, isObj := x.Value.(ast.Object)
		if isObj && o.Get(ast.StringTerm("id")) == nil || !maybe(x, isObject) {
			l.warn(x, "an obligation must be an object with an id")
		}
	}
}

func (l *outputLint) priority(v *ast.Term) {
	n, ok := v.Value.(ast.Number)
	if ok {
		i, whole := n.Int()
		ok = whole && i >= 0 && i <= 1000
	} else {
		ok = maybe(v, func(ast.Value) bool { return false })
	}
	if !ok {
		l.warn(v, "priority must be an integer from 0 to 1000")
	}
}

func (l *outputLint) forbid(v *ast.Term) {
	if !maybe(v, isObject) {
		l.warn(v, "a forbid must be an object such as {} or {\"message\": \"…\"}")
		return
	}
	object(v, func(name string, x *ast.Term) {
		text, constant := x.Value.(ast.String)
		if !maybe(x, isString) {
			l.warn(x, "%s of a forbid must be a string", name)
			return
		}
		switch name {
		case "code":
			if constant && !validForbidCode(string(text)) {
				l.warn(x, "code must match [a-z0-9_.]+ and not begin with a prefix of authzd")
			}
		case "message", "message_admin":
			if !constant {
				l.warn(x, "%s must be a constant, or what it is made of could undefine the forbid: write {/mcp/params/arguments/…}", name)
				return
			}
			l.places(x, name, string(text))
		case "remediation":
			if constant && text != "undisclosed" && text != "unavailable" {
				l.warn(x, "remediation must be \"undisclosed\" or \"unavailable\"")
			}
		default:
			l.warn(x, "%q is not a member of a forbid: code, message, message_admin, remediation", name)
		}
	})
}

// places judges the {/json/pointer} places of a message.
func (l *outputLint) places(t *ast.Term, name, text string) {
	for {
		start := strings.Index(text, "{/")
		if start < 0 {
			return
		}
		text = text[start+1:]
		end := strings.IndexByte(text, '}')
		if end < 0 {
			return
		}
		if pointer := text[:end]; !placeAllowed(name, pointer) {
			l.warn(t, "%s cannot show {%s}", name, pointer)
		}
		text = text[end:]
	}
}

func placeAllowed(name, pointer string) bool {
	if name == "message_admin" {
		return !slices.Contains(strings.Split(pointer, "/"), "claims")
	}
	for _, root := range []string{"/mcp/params/arguments", "/action", "/resource"} {
		if pointer == root || strings.HasPrefix(pointer, root+"/") {
			return true
		}
	}
	return false
}

func validForbidCode(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	prefix, _, dotted := strings.Cut(s, ".")
	if !dotted {
		return s != ""
	}
	switch prefix {
	case "request", "engine", "requirement", "rar", "token", "bundle", "approval", "mcp", "api":
		return false
	}
	return true
}

func (l *outputLint) plainDeny(v *ast.Term) {
	switch {
	case v == nil:
	case isSet(v.Value):
		if s, ok := v.Value.(ast.Set); ok {
			s.Foreach(l.denial)
		}
	case !maybe(v, isBoolean):
		l.warn(v, "deny must be true or false, or a set of strings or forbid objects")
	}
}

// denial is an element of deny.
func (l *outputLint) denial(t *ast.Term) {
	switch {
	case t == nil:
	case isObject(t.Value):
		l.forbid(t)
	case !maybe(t, isString):
		l.warn(t, "deny holds strings or forbid objects")
	}
}

// constructor judges a call of the library, wherever it stands.
func (l *outputLint) constructor(t *ast.Term) bool {
	c, ok := t.Value.(ast.Call)
	if !ok || len(c) != 2 {
		return false
	}
	name, ok := strings.CutPrefix(operator(c), libraryRef("").String()+".")
	if !ok {
		return false
	}
	switch name {
	case "scopes", "authorization_details", "single_use":
		list, isList := c[1].Value.(*ast.Array)
		if isList && list.Len() == 0 || !maybe(c[1], isArray) {
			l.warn(t, "%s needs a non-empty array", name)
		}
	case "authentication":
		o, isObj := c[1].Value.(ast.Object)
		if isObj && o.Get(ast.StringTerm("acr_values")) == nil && o.Get(ast.StringTerm("max_age")) == nil || !maybe(c[1], isObject) {
			l.warn(t, "authentication needs an object with acr_values or max_age")
		}
	}
	return false
}

// object calls f for the members of an object literal with constant names.
func object(t *ast.Term, f func(string, *ast.Term)) {
	o, ok := t.Value.(ast.Object)
	if !ok {
		return
	}
	o.Foreach(func(k, v *ast.Term) {
		if name, ok := k.Value.(ast.String); ok {
			f(string(name), v)
		}
	})
}

// maybe tells whether a term may have a value of a type, as far as its form
// says: what is computed may be anything.
func maybe(t *ast.Term, is func(ast.Value) bool) bool {
	switch t.Value.(type) {
	case ast.Var, ast.Ref, ast.Call:
		return true
	}
	return is(t.Value)
}

func isBoolean(v ast.Value) bool { _, ok := v.(ast.Boolean); return ok }

func isString(v ast.Value) bool {
	switch v.(type) {
	case ast.String, *ast.TemplateString:
		return true
	}
	return false
}

func isObject(v ast.Value) bool {
	switch v.(type) {
	case ast.Object, *ast.ObjectComprehension:
		return true
	}
	return false
}

func isArray(v ast.Value) bool {
	switch v.(type) {
	case *ast.Array, *ast.ArrayComprehension:
		return true
	}
	return false
}

func isSet(v ast.Value) bool {
	switch v.(type) {
	case ast.Set, *ast.SetComprehension:
		return true
	}
	return false
}
