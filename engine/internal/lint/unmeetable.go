package lint

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// scopes6749 reports scopes that no token can hold (RFC 6749 section 3.3).
func (l *linter) scopes6749(argument *ast.Term, s *scope) {
	list, s := l.literal(argument, s)
	array, ok := list.Value.(*ast.Array)
	if !ok {
		return
	}
	array.Foreach(func(t *ast.Term) {
		text, ok := s.local(t).Value.(ast.String)
		if !ok || text != "" && !strings.ContainsFunc(string(text), func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return
		}
		l.add(CodeUnmeetable, t.Location, "no token has the scope "+text.String()+": a scope is of ASCII without spaces, quotes and backslashes", "write one scope an element of the array")
	})
}

// details reports objects that are not of a declared type, which no grant covers.
func (l *linter) details(argument *ast.Term, s *scope) {
	list, s := l.literal(argument, s)
	switch v := list.Value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { l.detail(t, s) })
	case *ast.ArrayComprehension:
		l.detail(v.Term, s)
	}
}

func (l *linter) detail(t *ast.Term, s *scope) {
	loc := t.Location
	t, s = l.literal(t, s)
	object, ok := t.Value.(ast.Object)
	if !ok {
		return
	}
	if t.Location != nil {
		loc = t.Location
	}
	known := map[string]rar.Value{}
	ground := true
	for _, key := range object.Keys() {
		name, ok := key.Value.(ast.String)
		if !ok {
			return
		}
		value, ok := valueOf(l.constant(object.Get(key), s))
		ground = ground && ok
		known[string(name)] = value
	}
	if why := l.unfit(known, ground); why != "" {
		l.add(CodeUnmeetable, loc, "no grant can cover these authorization_details: "+why, "mend them, or declare it in authzd_types")
	}
}

// unfit tells why an object does not satisfy its type; "" if that can not be seen. known are
// its members, those that are not constant absent.
func (l *linter) unfit(known map[string]rar.Value, ground bool) string {
	name := known["type"].Text()
	if name == "" {
		if _, ok := known["type"]; !ok {
			return "they have no type"
		}
		return ""
	}
	if !l.in.Types.Declared(name) {
		return "the type " + strconv.Quote(name) + " is not declared"
	}
	if ground {
		return l.invalid(known)
	}
	schema := l.in.Types.Schema(name)
	if !plainObject(schema) {
		return ""
	}
	return misfit(known, schema)
}

// invalid validates an object that is known whole.
func (l *linter) invalid(known map[string]rar.Value) string {
	var members []rar.Member
	for _, name := range slices.Sorted(maps.Keys(known)) {
		members = append(members, rar.Member{Name: name, Value: known[name]})
	}
	faults := l.in.Types.Validate(rar.ArrayValue(rar.ObjectValue(members...)))
	if len(faults) == 0 {
		return ""
	}
	return strings.TrimPrefix(faults[0].Path, "/0") + " " + faults[0].Err.Error()
}

// misfit holds what is known of an object against a schema of properties.
func misfit(known map[string]rar.Value, schema rar.Value) string {
	required, _ := schema.Get("required")
	for i := range required.Len() {
		if _, ok := known[required.Index(i).Text()]; !ok {
			return "the member " + strconv.Quote(required.Index(i).Text()) + " is required by the type"
		}
	}
	properties, _ := schema.Get("properties")
	_, patterns := schema.Get("patternProperties")
	more, _ := schema.Get("additionalProperties")
	closed := !patterns && more.Kind() == rar.Bool && !more.Bool()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		property, declared := properties.Get(name)
		switch {
		case !declared && closed:
			return "the type has no member " + strconv.Quote(name)
		case declared && !among(known[name], property):
			return "the type does not admit this value of " + strconv.Quote(name)
		}
	}
	return ""
}

// among tells whether a schema's const or enum admits a value, and those of its items the
// elements; true where that can not be seen.
func among(v, schema rar.Value) bool {
	if v.Kind() == rar.Absent {
		return true
	}
	if only, ok := schema.Get("const"); ok && !rar.Equal(only, v) {
		return false
	}
	if list, ok := schema.Get("enum"); ok {
		found := false
		for i := range list.Len() {
			found = found || rar.Equal(list.Index(i), v)
		}
		if !found {
			return false
		}
	}
	if items, ok := schema.Get("items"); ok && v.Kind() == rar.Array {
		for i := range v.Len() {
			if !among(v.Index(i), items) {
				return false
			}
		}
	}
	return true
}

// literal follows variables, and rules and functions of one definition, to what is written
// out, with the variables that it is written in. authzd.each is its list.
func (l *linter) literal(t *ast.Term, s *scope) (*ast.Term, *scope) {
	for range maxAlias {
		next, in := l.writtenOut(t, s)
		if next == nil {
			break
		}
		t, s = next, in
	}
	return t, s
}

func (l *linter) writtenOut(t *ast.Term, s *scope) (*ast.Term, *scope) {
	var ref ast.Ref
	var given []*ast.Term
	switch v := t.Value.(type) {
	case ast.Var:
		if next := s.lookup(v); next != nil {
			return next, s
		}
		e := s.calls[v]
		if e == nil {
			return nil, nil
		}
		ref, given = e.Operator(), e.Operands()
		if ref.String() == libraryPrefix+"each" && len(given) > 1 {
			return given[1], s
		}
	case ast.Ref:
		ref = v
	default:
		return nil, nil
	}
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return nil, nil
	}
	r, rest := l.onlyRule(ref)
	if r == nil || len(rest) > 0 || r.Head.Key != nil || r.Head.Value == nil || l.in.IsLibrary(r.Location.File) || len(given) < len(r.Head.Args) {
		return nil, nil
	}
	in := l.scope(r)
	if len(r.Head.Args) > 0 {
		resolved := make([]*ast.Term, len(given))
		for i, x := range given {
			resolved[i] = l.resolve(x, s)
		}
		in = in.with(r, resolved)
	}
	return r.Head.Value, in
}

// constant is a term with what its variables stand for, as far as they are constants.
func (l *linter) constant(t *ast.Term, s *scope) *ast.Term {
	t, s = l.literal(t, s)
	array, ok := t.Value.(*ast.Array)
	if !ok {
		return t
	}
	elements := make([]*ast.Term, array.Len())
	for i := range array.Len() {
		elements[i], _ = l.literal(array.Elem(i), s)
	}
	return ast.ArrayTerm(elements...)
}

// valueOf is the value of a term that is a constant.
func valueOf(t *ast.Term) (rar.Value, bool) {
	if !t.IsGround() || holdsRefs(t) {
		return rar.Value{}, false
	}
	plain, err := ast.JSON(t.Value)
	if err != nil {
		return rar.Value{}, false
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return rar.Value{}, false
	}
	v, err := rar.DecodeStrict(text, rar.Limits{})
	return v, err == nil
}

func holdsRefs(t *ast.Term) bool {
	found := false
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch x.Value.(type) {
		case ast.Ref, ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
			found = true
		}
		return found
	})
	return found
}
