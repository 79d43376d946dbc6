package rar

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// draft2020 is the only dialect that declarations may use.
const draft2020 = "https://json-schema.org/draft/2020-12/schema"

// schemaBase is the address a type's schema is compiled under. Nothing is ever
// loaded from it, or from anywhere.
const schemaBase = "https://type.invalid/schema"

// noLoader refuses what a schema wants loaded: a declaration must be complete,
// and compiling it must never touch a file or the network.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%q is outside the schema", url)
}

// compileSchema compiles a schema of draft 2020-12 that refers to nothing
// outside itself. Formats are asserted: who writes "format": "date" expects
// other text to be refused, and refusing more is the safe reading.
func compileSchema(doc Value) (*jsonschema.Schema, error) {
	if s, _ := doc.Get("$schema"); s.Text() != draft2020 {
		return nil, fmt.Errorf("$schema is not %q", draft2020)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaBase, doc.Any()); err != nil {
		return nil, err
	}
	root, err := c.Compile(schemaBase)
	if err != nil {
		return nil, err
	}
	var faults []error
	eachSchema(root, func(s *jsonschema.Schema) {
		if !strings.HasPrefix(s.Location, schemaBase+"#") {
			faults = append(faults, fmt.Errorf("$ref to %q leaves the schema", s.Location))
		} else if s.DraftVersion != 2020 {
			faults = append(faults, fmt.Errorf("%s is of another draft", s.Location))
		}
	})
	if expansion(root, map[*jsonschema.Schema]int{}) > maxExpansion {
		faults = append(faults, fmt.Errorf("its references make more than %d schemas", maxExpansion))
	}
	return root, errors.Join(faults...)
}

// maxExpansion bounds the schemas that one validation may visit. References can
// double at every step, and the library follows each of them.
const maxExpansion = 100_000

// expansion counts the schemas below s as often as they are applied; a circle
// counts once, since the depth of the instance ends it.
func expansion(s *jsonschema.Schema, known map[*jsonschema.Schema]int) int {
	if s == nil {
		return 0
	}
	if n, ok := known[s]; ok {
		return n
	}
	known[s] = 1
	total := 1
	for _, sub := range subschemas(s) {
		total = min(total+expansion(sub, known), maxExpansion+1)
	}
	known[s] = total
	return total
}

// eachSchema calls f once for root and for every schema below it that belongs
// to the same document; of a schema elsewhere f sees the entrance only.
func eachSchema(root *jsonschema.Schema, f func(*jsonschema.Schema)) {
	seen := map[*jsonschema.Schema]bool{nil: true}
	queue := []*jsonschema.Schema{root}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if seen[s] {
			continue
		}
		seen[s] = true
		f(s)
		if strings.HasPrefix(s.Location, schemaBase+"#") {
			queue = append(queue, subschemas(s)...)
		}
	}
}

// subschemas returns every schema that s applies; some may be nil.
func subschemas(s *jsonschema.Schema) []*jsonschema.Schema {
	subs := []*jsonschema.Schema{
		s.Ref, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.UnevaluatedProperties,
		s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema, additional(s),
	}
	if s.DynamicRef != nil {
		subs = append(subs, s.DynamicRef.Ref)
	}
	subs = append(subs, slices.Concat(s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems)...)
	for _, sub := range s.Properties {
		subs = append(subs, sub)
	}
	for _, sub := range s.PatternProperties {
		subs = append(subs, sub)
	}
	for _, sub := range s.DependentSchemas {
		subs = append(subs, sub)
	}
	for _, d := range s.Dependencies {
		if sub, ok := d.(*jsonschema.Schema); ok {
			subs = append(subs, sub)
		}
	}
	return subs
}

// additional returns additionalProperties as far as it is a schema.
func additional(s *jsonschema.Schema) *jsonschema.Schema {
	sub, ok := s.AdditionalProperties.(*jsonschema.Schema)
	if !ok {
		return nil
	}
	return sub
}

// forbids reports whether s is the schema false.
func forbids(s *jsonschema.Schema) bool { return s != nil && s.Bool != nil && !*s.Bool }

// closed reports whether s admits no members but those it names.
func closed(s *jsonschema.Schema) bool {
	if open, ok := s.AdditionalProperties.(bool); ok && !open {
		return true
	}
	return forbids(additional(s)) || forbids(s.UnevaluatedProperties)
}

// kindSet is a set of JSON kinds.
type kindSet uint8

const anyKind = kindSet(1<<Null | 1<<Bool | 1<<Number | 1<<String | 1<<Array | 1<<Object)

func kinds(ks ...Kind) kindSet {
	var set kindSet
	for _, k := range ks {
		set |= 1 << k
	}
	return set
}

// stepInto is one step from a value to a part of it: to a member, or to the
// elements of an array, whichever they are.
type stepInto struct {
	name    string
	element bool
}

// schemaFuel bounds how many subschemas one question may visit: references may
// go in circles or double at every step. Beyond it anything counts as admitted.
const schemaFuel = 10_000

// kindsAt returns the kinds that s admits at the end of path, nothing if the
// path can not exist; named tells whether some schema speaks about that place.
// It may return too much, for if, not and oneOf, never too little.
func kindsAt(s *jsonschema.Schema, path []stepInto) (set kindSet, named bool) {
	w := schemaWalk{fuel: schemaFuel}
	return w.kindsAt(s, path)
}

// schemaWalk is one question about a schema.
type schemaWalk struct{ fuel int }

func (w *schemaWalk) kindsAt(s *jsonschema.Schema, path []stepInto) (set kindSet, named bool) {
	if w.fuel--; s == nil || w.fuel < 0 {
		return anyKind, false
	}
	if s.Bool != nil {
		if *s.Bool {
			return anyKind, false
		}
		return 0, false
	}
	if len(path) == 0 {
		set, named = ownKinds(s), true
	} else {
		container := kinds(Object)
		if path[0].element {
			container = kinds(Array)
		}
		if ownKinds(s)&container == 0 {
			return 0, true
		}
		set, named = w.partKinds(s, path)
	}
	also := func(subs ...*jsonschema.Schema) { // all of them apply
		for _, sub := range subs {
			if sub != nil {
				k, n := w.kindsAt(sub, path)
				set, named = set&k, named || n
			}
		}
	}
	either := func(subs ...*jsonschema.Schema) { // one of them applies
		if len(subs) == 0 {
			return
		}
		var union kindSet
		for _, sub := range subs {
			k, n := w.kindsAt(sub, path)
			union, named = union|k, named || n
		}
		set &= union
	}
	also(s.Ref)
	also(s.AllOf...)
	either(s.AnyOf...)
	either(s.OneOf...)
	if s.If != nil {
		either(s.Then, s.Else)
	}
	if len(path) > 0 && !path[0].element && !named && s.UnevaluatedProperties != nil {
		k, n := w.kindsAt(s.UnevaluatedProperties, path[1:])
		set, named = set&k, named || n
	}
	return set, named
}

// ownKinds returns what type, const and enum of s itself admit.
func ownKinds(s *jsonschema.Schema) kindSet {
	set := anyKind
	if s.Types != nil && !s.Types.IsEmpty() {
		set = 0
		for _, name := range s.Types.ToStrings() {
			set |= kindNamed(name)
		}
	}
	if s.Const != nil {
		set &= kinds(fromAny(*s.Const).kind)
	}
	if s.Enum != nil {
		var union kindSet
		for _, v := range s.Enum.Values {
			union |= kinds(fromAny(v).kind)
		}
		set &= union
	}
	return set
}

// kindNamed maps a type name of JSON Schema.
func kindNamed(name string) kindSet {
	if name == "integer" {
		return kinds(Number)
	}
	for k := Null; k <= Object; k++ {
		if k.String() == name {
			return kinds(k)
		}
	}
	return 0
}

// partKinds goes down the first step of path by the keywords of s itself.
func (w *schemaWalk) partKinds(s *jsonschema.Schema, path []stepInto) (set kindSet, named bool) {
	if path[0].element {
		return w.elementKinds(s, path[1:])
	}
	set = anyKind
	into := func(sub *jsonschema.Schema) {
		k, _ := w.kindsAt(sub, path[1:])
		set, named = set&k, true
	}
	if sub, ok := s.Properties[path[0].name]; ok {
		into(sub)
	}
	if w.fuel -= len(s.PatternProperties) * (1 + len(path[0].name)/64); w.fuel < 0 {
		return anyKind, false
	}
	for re, sub := range s.PatternProperties {
		if re.MatchString(path[0].name) {
			into(sub)
		}
	}
	if named {
		return set, true
	}
	switch more := s.AdditionalProperties.(type) {
	case bool:
		if !more {
			return 0, true
		}
		named = true
	case *jsonschema.Schema:
		into(more)
	}
	return set, named
}

// elementKinds returns what any element of an array may be.
func (w *schemaWalk) elementKinds(s *jsonschema.Schema, rest []stepInto) (set kindSet, named bool) {
	if s.Items2020 == nil {
		return anyKind, false
	}
	set, _ = w.kindsAt(s.Items2020, rest)
	for _, sub := range s.PrefixItems {
		k, _ := w.kindsAt(sub, rest)
		set |= k
	}
	return set, true
}

// schemasAt returns the schemas that must hold at the end of path, as far as
// properties, $ref and allOf name them.
func schemasAt(s *jsonschema.Schema, path []string) []*jsonschema.Schema {
	w := schemaWalk{fuel: schemaFuel}
	return w.schemasAt(s, path)
}

func (w *schemaWalk) schemasAt(s *jsonschema.Schema, path []string) []*jsonschema.Schema {
	if w.fuel--; s == nil || w.fuel < 0 {
		return nil
	}
	var found []*jsonschema.Schema
	if len(path) == 0 {
		found = append(found, s)
	} else if sub, ok := s.Properties[path[0]]; ok {
		found = w.schemasAt(sub, path[1:])
	}
	for _, sub := range append([]*jsonschema.Schema{s.Ref}, s.AllOf...) {
		found = append(found, w.schemasAt(sub, path)...)
	}
	return found
}

// fromAny is the inverse of Value.Any, for the constants of compiled schemas.
func fromAny(x any) Value {
	switch x := x.(type) {
	case nil:
		return NullValue()
	case bool:
		return BoolValue(x)
	case string:
		return StringValue(x)
	case json.Number:
		return textValue(Number, x.String())
	case []any:
		list := make([]Value, len(x))
		for i, e := range x {
			list[i] = fromAny(e)
		}
		return listValue(Array, list)
	case map[string]any:
		members := make([]Member, 0, len(x))
		for name, e := range x {
			members = append(members, Member{Name: name, Value: fromAny(e)})
		}
		return ObjectValue(members...)
	}
	return Value{}
}
