package rar_test

import (
	"encoding/json"
	"slices"

	"github.com/authzd/authzd/rar"
)

// source is where a generator takes its choices from: a seeded stream in the
// oracle's run, rapid in the properties (which can then shrink them).
type source interface{ IntN(n int) int }

// maker makes declarations, objects and pairs.
type maker struct {
	source
	types []*madeType
}

// madeType is a random declaration and what was decided about it.
type madeType struct {
	name      string
	compare   map[string]any
	rules     *ruleNode
	kinds     map[string][]any // the schema's type of a field, where it has one
	required  []any
	closed    bool
	singleUse bool
}

func (m *maker) chance(percent int) bool { return m.IntN(100) < percent }

func pick[T any](m *maker, from ...T) T { return from[m.IntN(len(from))] }

// implied maps over the tiny alphabet of subsets; the last one is a circle.
func (m *maker) implied() map[string]any {
	return pick(m,
		map[string]any{"a": []any{"b"}},
		map[string]any{"a": []any{"b", "c"}, "c": []any{"d"}},
		map[string]any{"a": []any{"b"}, "b": []any{"c"}, "c": []any{"a"}})
}

// rule makes one rule; depth bounds how items nest.
func (m *maker) rule(depth int) any {
	name := pick(m, "equal", "subset", "subset", "max", "min", "prefix", "glob", "ignore")
	if name == "ignore" || m.chance(45) {
		return name
	}
	options := map[string]any{"rule": name}
	if m.chance(50) {
		options["absent"] = "any"
	}
	switch {
	case name != "subset":
	case depth > 0 && m.chance(50):
		items := map[string]any{}
		for _, field := range []string{"/p", "/q"}[:1+m.IntN(2)] {
			items[field] = m.rule(depth - 1)
		}
		if m.chance(25) {
			items["/o/p"] = m.rule(0)
		}
		options["items"] = items
	case m.chance(60):
		options["implies"] = m.implied()
	}
	return options
}

// fieldNames has what pointers must escape.
func fieldNames() []string { return []string{"a", "b", "c~d/e"} }

func (m *maker) declare(name string) *madeType {
	d := &madeType{name: name, compare: map[string]any{}, kinds: map[string][]any{}, closed: m.chance(50), singleUse: m.chance(25)}
	for i, field := range fieldNames()[:1+m.IntN(3)] {
		pointer := []string{"/a", "/b", "/c~0d~1e"}[i]
		rule := m.rule(2)
		d.compare[pointer] = rule
		if m.chance(30) {
			d.kinds[field] = kindsFor(rule)
		}
		if m.chance(10) {
			d.required = append(d.required, field)
		}
	}
	if m.chance(40) { // an object compared member by member
		d.compare["/n/p"] = m.rule(1)
		if m.chance(30) { // special at the top only
			d.compare["/n/type"] = m.rule(0)
		}
		if m.chance(50) {
			d.compare["/n/o/q"] = m.rule(0)
		}
		if m.chance(30) {
			d.kinds["n"] = []any{"object"}
		}
	}
	d.rules = ruleTree(d.compare)
	return d
}

// kindsFor are JSON types that the rule can compare.
func kindsFor(rule any) []any {
	name, ok := rule.(string)
	if options, isObject := rule.(map[string]any); !ok && isObject {
		name, _ = options["rule"].(string)
	}
	switch name {
	case "subset":
		return []any{"array"}
	case "max", "min":
		return []any{"number", "string"}
	case "prefix", "glob":
		return []any{"string", "array"}
	default:
		return []any{"null", "boolean", "number", "string", "array", "object"}
	}
}

// valid is the naive verdict of the schemas that declare makes.
func (d *madeType) valid(object map[string]any) bool {
	for _, name := range d.required {
		field, _ := name.(string)
		if _, ok := object[field]; !ok {
			return false
		}
	}
	for name, v := range object {
		if kinds := d.kinds[name]; kinds != nil && !slices.Contains(kinds, any(jsonKind(v))) {
			return false
		}
		if d.closed && name != "type" && d.rules.kids[name] == nil {
			return false
		}
	}
	return true
}

// document is the declaration as a bundle would hold it.
func (d *madeType) document() map[string]any {
	properties := map[string]any{"type": map[string]any{"const": d.name}}
	for name := range d.rules.kids {
		schema := map[string]any{}
		if kinds := d.kinds[name]; kinds != nil {
			schema["type"] = kinds
		}
		properties[name] = schema
	}
	schema := map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": properties}
	if d.closed {
		schema["additionalProperties"] = false
	}
	if d.required != nil {
		schema["required"] = d.required
	}
	return map[string]any{"type": d.name, "schema": schema, "compare": d.compare, "single_use": d.singleUse}
}

// declareAll decides on one or two types.
func (m *maker) declareAll() {
	m.types = []*madeType{m.declare("t")}
	if m.chance(30) {
		m.types = append(m.types, m.declare("u"))
	}
}

// compiled are the types for Covers, oracle those for the oracle.
func (m *maker) compiled() (*rar.Types, error) {
	decls := make([]rar.Declaration, 0, len(m.types))
	for _, d := range m.types {
		decls = append(decls, rar.Declaration{Name: d.name, Document: rarValue(d.document(), nil)})
	}
	types, _, err := rar.CompileTypes(decls)
	return types, err
}

func (m *maker) oracle() *oracleTypes {
	o := &oracleTypes{rules: map[string]*ruleNode{}, singleUse: map[string]bool{}}
	byName := map[string]*madeType{}
	for _, d := range m.types {
		o.rules[d.name], o.singleUse[d.name], byName[d.name] = d.rules, d.singleUse, d
	}
	o.valid = func(object map[string]any) bool { return byName[typeOf(object)].valid(object) }
	return o
}

// sortedNames makes walks over maps repeatable.
func sortedNames[V any](from map[string]V) []string {
	names := make([]string, 0, len(from))
	for name := range from {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// rarValue converts; with a source the members come in any order.
func rarValue(v any, s source) rar.Value {
	switch v := v.(type) {
	case bool:
		return rar.BoolValue(v)
	case json.Number:
		n, err := rar.NumberValue(v.String())
		if err != nil {
			panic(err)
		}
		return n
	case string:
		return rar.StringValue(v)
	case []any:
		return rar.ArrayValue(rarValues(v, s)...)
	case map[string]any:
		names := sortedNames(v)
		members := make([]rar.Member, len(names))
		turn := 0
		if s != nil && len(names) > 1 {
			turn = s.IntN(len(names))
		}
		for i, name := range names {
			members[(i+turn)%len(names)] = rar.Member{Name: name, Value: rarValue(v[name], s)}
		}
		return rar.ObjectValue(members...)
	default:
		return rar.NullValue()
	}
}

func rarValues(list []any, s source) []rar.Value {
	out := make([]rar.Value, len(list))
	for i, v := range list {
		out[i] = rarValue(v, s)
	}
	return out
}
