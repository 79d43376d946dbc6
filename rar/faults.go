package rar

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// fault is one finding of the schema, in the words of RFC 9396 §5. Its text
// names keywords and kinds, never values of the input.
type fault struct {
	code  Code
	at    []string
	what  string
	place []int // at, as positions in the document
}

// schemaFault maps the library's verdict on v to the first fault in document
// order; the library itself reports in the random order of its maps.
func schemaFault(v Value, err error) *Error {
	var ve *jsonschema.ValidationError
	if !errors.As(err, &ve) {
		return &Error{Code: CodeInvalidValue, Err: err}
	}
	faults := collectFaults(v, ve, nil)
	if len(faults) == 0 {
		return &Error{Code: CodeInvalidValue, Err: errors.New("the schema refuses it")}
	}
	l := locator{}
	for i := range faults {
		faults[i].place = l.places(v, faults[i].at)
	}
	first := slices.MinFunc(faults, func(a, b fault) int {
		return cmp.Or(
			slices.Compare(a.place, b.place),
			cmp.Compare(codeRank(a.code), codeRank(b.code)),
			slices.Compare(a.at, b.at),
			strings.Compare(a.what, b.what))
	})
	pointer := ""
	for _, token := range first.at {
		pointer = appendToken(pointer, token)
	}
	return &Error{Code: first.code, Path: pointer, Err: errors.New(first.what)}
}

// codeRank orders faults at one place as RFC 9396 §5 lists them.
func codeRank(c Code) int {
	return slices.Index([]Code{CodeUnknownField, CodeWrongType, CodeInvalidValue, CodeMissingField}, c)
}

// locator finds places in a document. It indexes large objects once, so that a
// document of many faults does not cost the square of its size.
type locator map[*Value]finder

// places turns a path into the position of each step in its container. A member
// that is not there comes after those that are.
func (l locator) places(v Value, path []string) []int {
	at := make([]int, 0, len(path))
	for _, token := range path {
		i := len(v.list())
		next := Value{}
		switch {
		case v.kind == Array:
			if n, err := strconv.Atoi(token); err == nil {
				i = n
			}
			next, _ = v.step(token)
		case v.kind == Object && len(v.list()) > 0:
			f, ok := l[&v.list()[0]]
			if !ok {
				f = newFinder(v)
				l[&v.list()[0]] = f
			}
			if j, ok := find(v.list(), token, f.index); ok {
				i, next = j, v.list()[j]
			}
		}
		at = append(at, i)
		v = next
	}
	return at
}

// collectFaults appends the leaves of the library's tree.
func collectFaults(root Value, e *jsonschema.ValidationError, faults []fault) []fault {
	at := e.InstanceLocation
	member := func(code Code, what string, names ...string) {
		for _, name := range names {
			faults = append(faults, fault{code: code, at: append(slices.Clip(at), name), what: what})
		}
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		member(CodeUnknownField, "the type has no such field", k.Properties...)
	case *kind.PropertyNames:
		at = holder(root, len(at), k.Property)
		member(CodeUnknownField, "the type admits no field of this name", k.Property)
	case *kind.Required:
		member(CodeMissingField, "the type requires this field", k.Missing...)
	case *kind.DependentRequired:
		member(CodeMissingField, "another field requires this one", k.Missing...)
	case *kind.Dependency:
		member(CodeMissingField, "another field requires this one", k.Missing...)
	case *kind.FalseSchema:
		return append(faults, falseFault(root, at))
	case *kind.Type:
		what := fmt.Sprintf("%s where the type has %s", k.Got, strings.Join(k.Want, " or "))
		return append(faults, fault{code: CodeWrongType, at: at, what: what})
	case *kind.Enum:
		return append(faults, constantFault(at, k.Got, k.Want))
	case *kind.Const:
		return append(faults, constantFault(at, k.Got, []any{k.Want}))
	case *kind.AnyOf, *kind.OneOf:
		return append(faults, choiceFault(root, e))
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range e.Causes {
			faults = collectFaults(root, cause, faults)
		}
	default:
		keyword := strings.Join(e.ErrorKind.KeywordPath(), "/")
		if keyword == "" {
			keyword = "not"
		}
		return append(faults, fault{code: CodeInvalidValue, at: at, what: "the type's schema refuses it by " + keyword})
	}
	return faults
}

// holder returns the way to the first object at this depth that has the member.
// The library does not copy the location of a refused name and overwrites it
// while it goes on; only the length of the location can be trusted.
func holder(v Value, depth int, member string) []string {
	if depth == 0 {
		if _, ok := v.Get(member); ok {
			return []string{}
		}
		return nil
	}
	for i := range v.Len() {
		token, e := strconv.Itoa(i), v.Index(i)
		if v.kind == Object {
			token, e = v.Member(i).Name, v.Member(i).Value
		}
		if below := holder(e, depth-1, member); below != nil {
			return append([]string{token}, below...)
		}
	}
	return nil
}

// falseFault is what the schema false says: no such field, or no such element.
func falseFault(root Value, at []string) fault {
	parent := root
	for i := 0; i+1 < len(at); i++ {
		parent, _ = parent.step(at[i])
	}
	if len(at) > 0 && parent.kind == Object {
		return fault{code: CodeUnknownField, at: at, what: "the type has no such field"}
	}
	return fault{code: CodeInvalidValue, at: at, what: "the type admits nothing here"}
}

// constantFault tells a wrong JSON type from a wrong value under enum and const.
func constantFault(at []string, got any, want []any) fault {
	for _, w := range want {
		if fromAny(w).kind == fromAny(got).kind {
			return fault{code: CodeInvalidValue, at: at, what: "not one of the values that the type lists"}
		}
	}
	return fault{code: CodeWrongType, at: at, what: "not of the JSON type of the values that the type lists"}
}

// choiceFault judges anyOf and oneOf as a whole: which alternative was meant
// can not be told. It is a wrong type only if no alternative has that type.
func choiceFault(root Value, e *jsonschema.ValidationError) fault {
	at := e.InstanceLocation
	var below []fault
	for _, cause := range e.Causes {
		below = collectFaults(root, cause, below)
	}
	for _, f := range below {
		if f.code != CodeWrongType || !slices.Equal(f.at, at) {
			return fault{code: CodeInvalidValue, at: at, what: "none of the alternatives of the type, or several at once"}
		}
	}
	if len(below) == 0 {
		return fault{code: CodeInvalidValue, at: at, what: "several of the alternatives of the type at once"}
	}
	return fault{code: CodeWrongType, at: at, what: "not of the JSON type of any alternative"}
}
