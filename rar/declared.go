package rar

import (
	"strconv"
	"strings"
)

// maxUnknown bounds how many members DeclaredPart takes away.
const maxUnknown = 8

// DeclaredPart returns a granted object without the members that its type does
// not have, if it is valid then. It grants nothing by that: it shows what an
// authorization server made of a request that it enriched beyond the type's
// definition (RFC 9396 section 7.1), and so that it will do so again.
func (t *Types) DeclaredPart(v Value) (Value, bool) {
	if v.kind != Object {
		return Value{}, false
	}
	for range maxUnknown {
		err := t.validate(v)
		switch {
		case err == nil:
			return v, true
		case err.Code != CodeUnknownField:
			return Value{}, false
		}
		v = withoutPlace(v, err.Path)
	}
	return Value{}, false
}

// withoutPlace returns v without the member at a JSON Pointer that exists.
func withoutPlace(v Value, pointer string) Value {
	token, rest, deeper := strings.Cut(pointer[1:], "/")
	name, _ := unescapeToken(token)
	if v.kind == Array {
		list := append([]Value(nil), v.list()...)
		if i, err := strconv.Atoi(name); err == nil && deeper && i >= 0 && i < len(list) {
			list[i] = withoutPlace(list[i], "/"+rest)
		}
		return listValue(Array, list)
	}
	kids := make([]Value, 0, len(v.list()))
	for i := 0; i < len(v.list()); i += 2 {
		switch {
		case v.list()[i].str() != name:
			kids = append(kids, v.list()[i], v.list()[i+1])
		case deeper:
			kids = append(kids, v.list()[i], withoutPlace(v.list()[i+1], "/"+rest))
		}
	}
	return listValue(Object, kids)
}
