package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// shape is what the engine takes for a requirement that is made of an object: its members
// and, of each, what a value has to be; "" of a check: it is.
type shape struct {
	members map[string]func(v rar.Value) string
	// all have to be there, one of any has to.
	all, any []string
}

// shapes are those of the constructors that take an object, which put its kind in it,
// whatever it says there.
func shapes() map[string]shape {
	return map[string]shape{
		"approval": {
			members: map[string]func(rar.Value) string{"kind": anything, "workflow": text, "approver": text, "title": text, "binds": texts, "expires_in": duration},
			all:     []string{"workflow", "approver"},
		},
		"authentication": {
			members: map[string]func(rar.Value) string{"kind": anything, "acr_values": someTexts, "max_age": seconds},
			any:     []string{"acr_values", "max_age"},
		},
	}
}

func anything(rar.Value) string { return "" }

func text(v rar.Value) string {
	return unless(v.Kind() == rar.String && v.Text() != "", "must be text that is not empty")
}

func texts(v rar.Value) string {
	ok := v.Kind() == rar.Array
	for i := range v.Len() {
		ok = ok && v.Index(i).Kind() == rar.String
	}
	return unless(ok, "must be an array of text")
}

func someTexts(v rar.Value) string {
	if why := texts(v); why != "" {
		return why
	}
	for i := range v.Len() {
		if v.Index(i).Text() == "" {
			return "holds an empty text"
		}
	}
	return unless(v.Len() > 0, "is empty")
}

func duration(v rar.Value) string {
	return unless(v.Kind() == rar.Number || v.Kind() == rar.String, "must be a number of seconds or a duration")
}

// maxSeconds is the engine's bound of max_age, ten years.
const maxSeconds = 10 * 365 * 24 * 3600

func seconds(v rar.Value) string {
	n, ok := 0, v.Kind() == rar.Number
	if ok {
		for _, digit := range v.AppendCanonical(nil) {
			if ok = ok && '0' <= digit && digit <= '9' && n <= maxSeconds; ok {
				n = 10*n + int(digit-'0')
			}
		}
	}
	return unless(ok && n <= maxSeconds, fmt.Sprintf("must be a whole number of seconds from 0 to %d", maxSeconds))
}

func unless(ok bool, why string) string {
	if ok {
		return ""
	}
	return why
}

// shaped reports a requirement that the engine finds malformed, whatever the call is, and
// so denies.
func (l *linter) shaped(constructor string, argument *ast.Term, s *scope) {
	t, s := l.literal(argument, s)
	if faults := l.misshapen(shapes()[constructor], t, s); len(faults) > 0 {
		l.malformed(constructor, argument, faults...)
	}
}

func (l *linter) malformed(constructor string, argument *ast.Term, faults ...string) {
	l.add(CodeUnmeetable, argument.Location, "this "+constructor+" is malformed, and the call is denied: "+strings.Join(faults, ", "), "mend it: docs/policy.md says what it is made of")
}

func (l *linter) misshapen(want shape, t *ast.Term, s *scope) (faults []string) {
	object, ok := t.Value.(ast.Object)
	if !ok {
		return nil // what is written out and none, OPA's type checker refuses
	}
	given := map[string]bool{}
	for _, key := range object.Keys() {
		name, ok := key.Value.(ast.String)
		if !ok {
			if isLiteral(key) {
				return []string{"it " + isNoJSON}
			}
			return nil
		}
		given[string(name)] = true
		check := want.members[string(name)]
		if check == nil {
			faults = append(faults, "it has no member "+name.String())
			continue
		}
		value := l.constant(object.Get(key), s)
		if name != "kind" && noJSON(value) {
			faults = append(faults, string(name)+" "+isNoJSON)
		} else if v, ok := valueOf(value); ok && check(v) != "" {
			faults = append(faults, string(name)+" "+check(v))
		}
	}
	for _, name := range want.all {
		if !given[name] {
			faults = append(faults, name+" is missing")
		}
	}
	if want.any != nil && !slices.ContainsFunc(want.any, func(name string) bool { return given[name] }) {
		faults = append(faults, "it needs "+strings.Join(want.any, " or "))
	}
	return faults
}

// listed is the array that a constructor is given, and its scope; nil if it is not
// known. What is none, and an empty one, is reported.
func (l *linter) listed(constructor string, argument *ast.Term, s *scope) (*ast.Array, *scope) {
	t, s := l.literal(argument, s)
	array, ok := t.Value.(*ast.Array)
	switch {
	case !ok && isLiteral(t):
		l.malformed(constructor, argument, "it must be an array")
	case ok && array.Len() == 0:
		l.malformed(constructor, argument, "it is empty")
	}
	return array, s
}

// isLiteral tells what is written out, and so is of the kind that it seems to be.
func isLiteral(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object, ast.Set, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return ast.IsScalar(t.Value)
}

func objects(t *ast.Term) bool {
	_, ok := t.Value.(*ast.ObjectComprehension)
	return ok
}

const isNoJSON = "has a set or a key that is no text, and so is no JSON"

// noJSON tells a literal that the engine finds no JSON in, whatever its variables are.
func noJSON(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Set, *ast.SetComprehension:
		return true
	case *ast.Array:
		return v.Until(noJSON)
	case ast.Object:
		return v.Until(func(key, value *ast.Term) bool {
			_, text := key.Value.(ast.String)
			return !text && isLiteral(key) || noJSON(value)
		})
	}
	return false
}
