package engine

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// vocabulary holds the terms of strings that a snapshot's policy and data
// schemas mention, so that a decision need not make them again. Terms are
// immutable; it is complete before it is shared.
type vocabulary struct {
	known map[string]*ast.Term
	fixed [wordCount]*ast.Term
}

// newVocabulary collects the string constants of modules.
func newVocabulary(modules map[string]*ast.Module) vocabulary {
	v := vocabulary{known: map[string]*ast.Term{}}
	for _, m := range modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				v.learn(string(s))
			}
			return false
		})
	}
	for i, s := range wordTexts() {
		v.fixed[i] = v.learn(s)
	}
	for _, s := range []string{"_meta", "annotations", "inputSchema", "identity", "http", "stdio", "pep", "pdp", "introspection", DefaultTenant, ""} {
		v.learn(s)
	}
	return v
}

func (v vocabulary) learn(s string) *ast.Term {
	t, ok := v.known[s]
	if !ok {
		t = ast.StringTerm(s)
		v.known[s] = t
	}
	return t
}

func (v vocabulary) text(s string) *ast.Term {
	if t, ok := v.known[s]; ok {
		return t
	}
	return ast.StringTerm(s)
}

// term converts JSON to OPA's values; number literals stay letter by letter.
// Absent becomes null (callers leave absent members out).
func (v vocabulary) term(x rar.Value) *ast.Term {
	switch x.Kind() {
	case rar.Bool:
		return ast.InternedTerm(x.Bool())
	case rar.String:
		return v.text(x.Text())
	case rar.Number:
		if t := ast.InternedIntNumberTermFromString(x.Text()); t != nil {
			return t
		}
		return ast.NewTerm(ast.Number(x.Text()))
	case rar.Array:
		terms := make([]*ast.Term, x.Len())
		for i := range terms {
			terms[i] = v.term(x.Index(i))
		}
		return ast.ArrayTerm(terms...)
	case rar.Object:
		kv := make([][2]*ast.Term, x.Len())
		for i := range kv {
			m := x.Member(i)
			kv[i] = [2]*ast.Term{v.text(m.Name), v.term(m.Value)}
		}
		return ast.NewTerm(ast.NewObject(kv...))
	case rar.Absent, rar.Null:
	}
	return ast.NullTerm()
}

// readDocument converts a value of policy to JSON; only its top may be a set.
func readDocument(v ast.Value) (document, error) {
	set, ok := v.(ast.Set)
	if !ok {
		j, err := jsonValue(v, 0)
		return document{value: j}, err
	}
	elems := make([]rar.Value, 0, set.Len())
	for _, t := range set.Slice() {
		j, err := jsonValue(t.Value, 1)
		if err != nil {
			return document{}, err
		}
		elems = append(elems, j)
	}
	return document{value: rar.ArrayValue(elems...), set: true}, nil
}

// maxOutputDepth bounds what policy may return.
const maxOutputDepth = 64

func jsonValue(v ast.Value, depth int) (rar.Value, error) {
	if depth > maxOutputDepth {
		return rar.Value{}, fmt.Errorf("deeper than %d levels", maxOutputDepth)
	}
	switch x := v.(type) {
	case ast.Null:
		return rar.NullValue(), nil
	case ast.Boolean:
		return rar.BoolValue(bool(x)), nil
	case ast.Number:
		n, err := rar.NumberValue(string(x))
		if err != nil {
			return rar.Value{}, fmt.Errorf("number %q: %w", string(x), err)
		}
		return n, nil
	case ast.String:
		return rar.StringValue(string(x)), nil
	case *ast.Array:
		elems := make([]rar.Value, x.Len())
		for i := range elems {
			e, err := jsonValue(x.Elem(i).Value, depth+1)
			if err != nil {
				return rar.Value{}, err
			}
			elems[i] = e
		}
		return rar.ArrayValue(elems...), nil
	case ast.Object:
		return jsonObject(x, depth)
	default:
		return rar.Value{}, fmt.Errorf("a %s is not JSON", ast.ValueName(v))
	}
}

func jsonObject(x ast.Object, depth int) (rar.Value, error) {
	members := make([]rar.Member, 0, x.Len())
	for _, k := range x.Keys() {
		name, ok := k.Value.(ast.String)
		if !ok {
			return rar.Value{}, fmt.Errorf("an object has a key that is a %s", ast.ValueName(k.Value))
		}
		e, err := jsonValue(x.Get(k).Value, depth+1)
		if err != nil {
			return rar.Value{}, err
		}
		members = append(members, rar.Member{Name: string(name), Value: e})
	}
	return rar.ObjectValue(members...), nil
}
