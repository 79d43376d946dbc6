package rar_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// pairs are what Covers is asked about.
type coverCase struct {
	granted, required []any
	singleUse         bool
}

// value makes a value for a place: mostly what its rule compares.
func (m *maker) value(n *ruleNode) any {
	if n.rule == "" && n.kids != nil && !m.chance(5) {
		return m.members(n)
	}
	if m.chance(3) {
		return m.anything()
	}
	switch n.rule {
	case "subset":
		length := pick(m, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
		if m.chance(4) {
			length = 20 // long sets are compared by another way
		}
		list := make([]any, length)
		for i := range list {
			list[i] = m.memberOf(n)
		}
		return list
	case "max", "min":
		if m.chance(50) {
			return pick(m, "0", "1", "1.0", "1.5", "2", "10", "-1", "-0", "9007199254740993", "9007199254740992.5", "01", "1e1", "")
		}
		return json.Number(pick(m, "0", "-0", "1", "1.0", "1.5", "2", "20e-1", "1e1", "-1", "9007199254740993", "9007199254740992.5"))
	case "prefix":
		return m.oneOrMany(m.path)
	case "glob":
		return m.oneOrMany(m.pattern)
	default:
		return m.anything()
	}
}

func (m *maker) anything() any {
	switch m.IntN(8) {
	case 0:
		return nil
	case 1:
		return m.chance(50)
	case 2, 3:
		return json.Number(pick(m, "0", "-0.0", "1", "1.0", "10e-1", "2"))
	case 4:
		return pick(m, "", "a", "b", "1")
	case 5:
		return pick(m, []any{}, []any{"a"}, []any{json.Number("1"), "a"}, []any{"a", json.Number("1.0")})
	case 6:
		return pick(m, map[string]any{}, map[string]any{"p": json.Number("1")}, map[string]any{"p": json.Number("1.0"), "q": "a"})
	default:
		return pick[any](m, "a", "/a", "a*", []any{"/a", "a*"})
	}
}

// memberOf makes an element of a set.
func (m *maker) memberOf(n *ruleNode) any {
	switch {
	case n.items != nil && !m.chance(5):
		return m.members(n.items)
	case m.chance(90):
		return pick(m, "a", "b", "c", "d")
	}
	return m.anything()
}

func (m *maker) oneOrMany(one func() string) any {
	if m.chance(60) {
		return one()
	}
	list := make([]any, pick(m, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3))
	for i := range list {
		if list[i] = one(); m.chance(2) {
			list[i] = m.anything()
		}
	}
	return list
}

func (m *maker) path() string {
	if m.chance(25) {
		return pick(m, "", "/", "//", "a", "a/b", "https://h", "https://h/a", "https:", "https:/", "https://", "https:///a", "1s://h", "/a/..", "/a/./b", `/a\b`, "/a?b", "/a#b", "/a//b", "/a/%2E", "/a%2fb", "/a/%5C", "/..a/b.", "./a", "a//", "https://h//a")
	}
	var b strings.Builder
	for range 1 + m.IntN(3) {
		b.WriteString("/" + pick(m, "a", "b", "ab"))
	}
	if m.chance(20) {
		b.WriteString("/")
	}
	return b.String()
}

func (m *maker) pattern() string {
	var b strings.Builder
	for range m.IntN(5) {
		b.WriteString(pick(m, "a", "b", "/", "*", "**", "\n"))
	}
	return b.String()
}

// members makes an object of a node: its fields, at times one that nobody declared.
func (m *maker) members(n *ruleNode) map[string]any {
	out := map[string]any{}
	for _, name := range sortedNames(n.kids) {
		if m.chance(75) {
			out[name] = m.value(n.kids[name])
		}
	}
	if m.chance(6) {
		out[pick(m, "x", "y", "A", "type")] = m.anything() // at the top, type is overwritten
	}
	return out
}

func (m *maker) object() map[string]any {
	d := pick(m, m.types...)
	out := m.members(d.rules)
	for _, name := range d.required {
		if field, _ := name.(string); out[field] == nil && !m.chance(5) {
			out[field] = m.value(d.rules.kid(field))
		}
	}
	out["type"] = d.name
	return out
}

// mutate changes one member: dropped, made anew, or added.
func (m *maker) mutate(object map[string]any, n *ruleNode) map[string]any {
	out := maps.Clone(object)
	names := sortedNames(n.kids)
	if len(names) == 0 {
		names = []string{"x"}
	}
	name := pick(m, names...)
	inner, isObject := out[name].(map[string]any)
	_, present := out[name]
	switch {
	case isObject && n.kid(name).kids != nil && m.chance(70):
		out[name] = m.mutate(inner, n.kid(name))
	case m.chance(3):
		out["x"] = m.anything()
	case present && m.chance(25):
		delete(out, name)
	default:
		out[name] = m.value(n.kid(name))
	}
	return out
}

// narrowObject makes a need that the object should cover, members in every
// spelling and order.
func (m *maker) narrowObject(object map[string]any, n *ruleNode) map[string]any {
	out := map[string]any{}
	for _, name := range sortedNames(object) {
		if k := n.kid(name); k.rule != "ignore" || m.chance(30) {
			out[name] = m.narrow(object[name], k)
		}
	}
	for _, name := range sortedNames(n.kids) {
		k := n.kids[name]
		if _, ok := out[name]; !ok && (k.rule == "ignore" || k.absentAny) && m.chance(60) {
			out[name] = m.value(k)
		}
	}
	return out
}

func (m *maker) narrow(v any, n *ruleNode) any {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch {
	case n.rule == "ignore":
		return m.anything()
	case n.rule == "" && n.kids != nil && isObject:
		return m.narrowObject(object, n)
	case n.rule == "max" || n.rule == "min":
		return m.within(v, n)
	case isList && len(list) > 0 && (n.rule == "subset" || n.rule == "prefix" || n.rule == "glob"):
		out := make([]any, 1+m.IntN(len(list)+1))
		for i := range out {
			out[i] = m.narrowElement(pick(m, list...), n)
		}
		return out
	case n.rule == "prefix" || n.rule == "glob":
		return m.narrowElement(v, n)
	}
	return m.respell(v)
}

// within looks for a number of the same kind inside the bound.
func (m *maker) within(v any, n *ruleNode) any {
	for range 6 {
		if w := m.value(n); n.bound(v, w) == "" {
			return w
		}
	}
	return v
}

func (m *maker) narrowElement(v any, n *ruleNode) any {
	text, isText := v.(string)
	object, isObject := v.(map[string]any)
	switch {
	case isObject && n.items != nil:
		return m.narrowObject(object, n.items)
	case isText && n.rule == "subset" && len(n.implies[text]) > 0 && m.chance(50):
		return m.narrowElement(pick(m, n.implies[text]...), n)
	case isText && n.rule == "prefix" && m.chance(60):
		return strings.TrimSuffix(text, "/") + pick(m, "/a", "/b/a", "/", "/a/")
	case isText && n.rule == "glob" && m.chance(80):
		text = strings.ReplaceAll(text, "**", pick(m, "", "a", "a/b", "\n/"))
		return strings.ReplaceAll(text, "*", pick(m, "", "a", "ba", "\n"))
	}
	return m.respell(v)
}

// respell keeps the value and changes how numbers are written.
func (m *maker) respell(v any) any {
	switch v := v.(type) {
	case json.Number:
		for _, same := range [][]string{{"1", "1.0", "10e-1", "1E0"}, {"0", "-0", "-0.0", "0e3"}, {"2", "20e-1", "2.00"}} {
			if slices.Contains(same, v.String()) {
				return json.Number(pick(m, same...))
			}
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = m.respell(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range sortedNames(v) {
			out[name] = m.respell(v[name])
		}
		return out
	}
	return v
}

func (m *maker) rulesOf(object map[string]any) *ruleNode {
	for _, d := range m.types {
		if d.name == typeOf(object) {
			return d.rules
		}
	}
	return &ruleNode{}
}

// pair makes grants and needs that nearly fit, one way or the other.
func (m *maker) pair() coverCase {
	c := coverCase{singleUse: m.chance(20)}
	var objects []map[string]any
	grants := pick(m, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5)
	for range grants {
		if len(objects) > 0 && m.chance(50) {
			near := pick(m, objects...)
			objects = append(objects, m.mutate(near, m.rulesOf(near)))
			continue
		}
		objects = append(objects, m.object())
	}
	for _, g := range objects {
		c.granted = append(c.granted, g)
	}
	if len(c.granted) > 0 && m.chance(4) { // what a token may hold beside
		c.granted[m.IntN(len(c.granted))] = pick[any](m, "t", nil, map[string]any{"type": "zzz"}, map[string]any{"a": "b"})
	}
	if m.chance(1) {
		return c // nothing is needed
	}
	for range pick(m, 1, 1, 1, 2, 2, 3) {
		var need map[string]any
		if len(objects) > 0 && m.chance(90) {
			from := pick(m, objects...)
			need = m.narrowObject(from, m.rulesOf(from))
			need["type"] = from["type"]
			if m.chance(25) {
				need = m.mutate(need, m.rulesOf(from))
			}
		} else {
			need = m.object()
		}
		if m.chance(1) {
			need["type"] = pick[any](m, "zzz", json.Number("1"))
		}
		c.required = append(c.required, need)
	}
	return c
}
