package contract

import (
	"net/url"
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

// types is a set of JSON types.
type types uint8

const (
	typeNull types = 1 << iota
	typeBoolean
	typeNumber
	typeString
	typeArray
	typeObject
	anyType = typeNull | typeBoolean | typeNumber | typeString | typeArray | typeObject
)

func (a alternative) types() types {
	t := anyType
	for _, s := range a.schemas {
		t &= schemaTypes(s)
	}
	return t
}

func schemaTypes(s rar.Value) types {
	t := anyType
	if v, ok := s.Get("type"); ok {
		switch v.Kind() {
		case rar.String:
			t = typeNamed(v.Text())
		case rar.Array:
			t = 0
			for i := range v.Len() {
				t |= typeNamed(v.Index(i).Text())
			}
		case rar.Absent, rar.Null, rar.Bool, rar.Number, rar.Object:
		}
	}
	if v, ok := s.Get("const"); ok {
		t &= typeOf(v)
	}
	if v, ok := s.Get("enum"); ok && v.Kind() == rar.Array {
		var in types
		for i := range v.Len() {
			in |= typeOf(v.Index(i))
		}
		t &= in
	}
	return t
}

func typeNamed(name string) types {
	switch name {
	case "null":
		return typeNull
	case "boolean":
		return typeBoolean
	case "number", "integer":
		return typeNumber
	case "string":
		return typeString
	case "array":
		return typeArray
	case "object":
		return typeObject
	}
	return anyType
}

func typeOf(v rar.Value) types {
	switch v.Kind() {
	case rar.Null:
		return typeNull
	case rar.Bool:
		return typeBoolean
	case rar.Number:
		return typeNumber
	case rar.String:
		return typeString
	case rar.Array:
		return typeArray
	case rar.Object:
		return typeObject
	case rar.Absent:
	}
	return anyType
}

// expand resolves the applicators of schemas that all hold at one place: $ref
// and allOf join, anyOf and oneOf fork. not and contains take values away and
// declare nothing, so they are passed over.
func (d *schemaDoc) expand(roots []rar.Value) []state {
	var out []state
	e := expansion{doc: d, budget: maxStates, work: maxStates * maxStates}
	e.run(roots, alternative{roots: roots}, nil, func(a alternative) {
		for _, s := range a.schemas {
			if list, ok := s.Get("enum"); ok && !e.spend(list.Len()/8) {
				return
			}
		}
		if a.types() != 0 {
			out = append(out, state{alt: a})
		}
	})
	if e.budget <= 0 {
		return d.unknown(doubtForm)
	}
	return out
}

type expansion struct {
	doc    *schemaDoc
	budget int
	// work bounds what is copied on the way: a schema's choices multiply before any is followed.
	work int
}

// spend takes n of what is left; false if there is none.
func (e *expansion) spend(n int) bool {
	if e.work -= n; e.work <= 0 {
		e.budget = 0
	}
	return e.budget > 0
}

func (e *expansion) run(pending []rar.Value, a alternative, seen []string, yield func(alternative)) {
	if e.budget--; e.budget <= 0 || !e.spend(len(pending)) {
		return
	}
	if len(pending) == 0 {
		yield(a)
		return
	}
	s, rest := pending[0], slices.Clip(pending[1:])
	if s.Kind() != rar.Object {
		if !isFalse(s) {
			a.loose = a.loose || s.Kind() != rar.Bool
			e.run(rest, a, seen, yield)
		}
		return
	}
	a.schemas = append(slices.Clip(a.schemas), s)
	for _, k := range []string{"if", "then", "else", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef"} {
		if _, ok := s.Get(k); ok {
			a.loose = true
		}
	}
	if v, ok := s.Get("$ref"); ok {
		target, ok := e.doc.resolve(v)
		switch {
		case !ok:
			a.loose = true
		case !slices.Contains(seen, v.Text()):
			seen = append(slices.Clip(seen), v.Text())
			rest = append(rest, target)
		}
	}
	if v, ok := s.Get("allOf"); ok {
		rest = append(rest, elementsOf(v)...)
	}
	e.fork(s, []string{"anyOf", "oneOf"}, rest, a, seen, yield)
}

// fork tries each branch of the applicators in turn.
func (e *expansion) fork(s rar.Value, applicators []string, rest []rar.Value, a alternative, seen []string, yield func(alternative)) {
	for i, k := range applicators {
		v, ok := s.Get(k)
		if !ok {
			continue
		}
		for _, branch := range elementsOf(v) {
			if !e.spend(len(rest) + 1) {
				return
			}
			e.fork(s, applicators[i+1:], append(slices.Clip(rest), branch), a, seen, yield)
		}
		return
	}
	e.run(rest, a, seen, yield)
}

func elementsOf(v rar.Value) []rar.Value {
	if v.Kind() != rar.Array {
		return nil
	}
	out := make([]rar.Value, 0, v.Len())
	for i := range v.Len() {
		out = append(out, v.Index(i))
	}
	return out
}

// resolve follows a $ref within the document.
func (d *schemaDoc) resolve(ref rar.Value) (rar.Value, bool) {
	text := ref.Text()
	if d.opaqueRefs || ref.Kind() != rar.String || !strings.HasPrefix(text, "#") {
		return rar.Value{}, false
	}
	pointer, err := url.PathUnescape(text[1:])
	if err != nil || pointer != "" && pointer[0] != '/' {
		return rar.Value{}, false
	}
	return d.root.Lookup(pointer)
}
