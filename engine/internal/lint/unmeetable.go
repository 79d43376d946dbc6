package lint

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// scopes6749 reports scopes that no token can hold (RFC 6749 section 3.3).
func (l *linter) scopes6749(argument *ast.Term, s *scope) {
	array, s := l.listed("scopes", argument, s)
	if array == nil {
		return
	}
	array.Foreach(func(t *ast.Term) {
		x := s.local(t)
		if !isLiteral(x) {
			return
		}
		text, ok := x.Value.(ast.String)
		if ok && text != "" && !strings.ContainsFunc(string(text), func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return
		}
		l.add(CodeUnmeetable, t.Location, "no token has the scope "+x.String()+": a scope is text, of ASCII without spaces, quotes and backslashes", "write one scope an element of the array")
	})
}

// details reports objects that are not of a declared type, which no grant covers.
func (l *linter) details(constructor string, argument *ast.Term, s *scope) {
	array, in := l.listed(constructor, argument, s)
	if array == nil {
		list, s := l.literal(argument, s)
		if v, ok := list.Value.(*ast.ArrayComprehension); ok {
			l.detail(v.Term, s)
		}
		return
	}
	if array.Len() > rar.DefaultMaxObjects {
		l.malformed(constructor, argument, fmt.Sprintf("it has %d objects where %d are allowed", array.Len(), rar.DefaultMaxObjects))
		return
	}
	array.Foreach(func(t *ast.Term) {
		if !l.stopped() {
			l.detail(t, in)
		}
	})
}

func (l *linter) detail(t *ast.Term, s *scope) {
	loc := t.Location
	t, s = l.literal(t, s)
	if t.Location != nil {
		loc = t.Location
	}
	why := l.amiss(t, s)
	if why != "" {
		l.add(CodeUnmeetable, loc, "no grant can cover these authorization_details: "+why, "mend them, or declare it in authzd_types")
	}
}

// amiss tells why what is written out is no object of its type; "" if that can not be seen.
func (l *linter) amiss(t *ast.Term, s *scope) string {
	object, ok := t.Value.(ast.Object)
	if !ok {
		return unless(!isLiteral(t) || objects(t), "each must be an object")
	}
	known := map[string]rar.Value{}
	ground := true
	for _, key := range object.Keys() {
		name, ok := key.Value.(ast.String)
		if !ok {
			return unless(!isLiteral(key), "one "+isNoJSON)
		}
		constant := l.constant(object.Get(key), s)
		if noJSON(constant) {
			return "the member " + strconv.Quote(string(name)) + " " + isNoJSON
		}
		value, ok := valueOf(constant)
		ground = ground && ok
		known[string(name)] = value
	}
	return l.unfit(known, ground)
}

// unfit tells why an object does not satisfy its type; "" if that can not be seen. known are
// its members, those that are not constant absent.
func (l *linter) unfit(known map[string]rar.Value, ground bool) string {
	typ, ok := known["type"]
	switch {
	case !ok:
		return "they have no type"
	case typ.Kind() == rar.Absent:
		return ""
	case typ.Kind() != rar.String:
		return "the type must be text"
	}
	name := typ.Text()
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
	if _, tuple := schema.Get("prefixItems"); tuple {
		return true // items are those after it
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
		if next := s.given[v]; next != nil {
			return next, &scope{} // whose variables are those of who calls
		}
		if next := s.is[v]; next != nil {
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
	if len(r.Head.Args) == 0 {
		return r.Head.Value, l.of(r)
	}
	resolved := make([]*ast.Term, len(given))
	for i, x := range given {
		resolved[i] = l.resolve(x, s)
	}
	return r.Head.Value, l.with(r, resolved)
}

// constant is a term with what its variables stand for, as far as they are constants.
func (l *linter) constant(t *ast.Term, s *scope) *ast.Term {
	t, s = l.literal(t, s)
	array, ok := t.Value.(*ast.Array)
	if !ok {
		return t
	}
	if !l.spend(50 * array.Len()) {
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
