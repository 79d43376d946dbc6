package policies_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// detailsType is a declared type of authorization_details, read plainly
// (docs/policy.md, "Types of authorization_details").
type detailsType struct {
	schema    *jsonschema.Schema
	document  map[string]any // the schema
	rules     map[string]compareRule
	singleUse bool
}

type compareRule struct {
	name      string
	absentAny bool
	implies   map[string][]string
}

func readType(t *testing.T, document any) *detailsType {
	t.Helper()
	out := &detailsType{document: object(at(document, "schema")), rules: map[string]compareRule{}}
	out.schema = compile(t, out.document)
	out.singleUse, _ = at(document, "single_use").(bool)
	for place, v := range object(at(document, "compare")) {
		rule := compareRule{name: stringOf(v)}
		if m := object(v); m != nil {
			rule.name, rule.absentAny = stringOf(m["rule"]), m["absent"] == "any"
			rule.implies = map[string][]string{}
			for k, list := range object(m["implies"]) {
				rule.implies[k] = strs(list)
			}
		}
		out.rules[place] = rule
	}
	return out
}

// covers tells whether one granted object covers the needed one.
func (d *detailsType) covers(granted, needed map[string]any) bool {
	return granted["type"] == needed["type"] && d.fields("", granted, needed)
}

func (d *detailsType) fields(prefix string, granted, needed map[string]any) bool {
	for name, need := range needed {
		place := prefix + "/" + name
		rule := d.rules[place]
		grant, has := granted[name]
		switch {
		case place == "/type" || rule.name == "ignore":
		case !has:
			if !rule.absentAny {
				return false
			}
		case !d.value(place, grant, need):
			return false
		}
	}
	for name := range granted {
		place := prefix + "/" + name
		if _, has := needed[name]; !has && place != "/type" && d.rules[place].name != "ignore" {
			return false // the grant is limited there, and the need is not
		}
	}
	return true
}

func (d *detailsType) value(place string, granted, needed any) bool {
	rule := d.rules[place]
	switch rule.name {
	case "subset":
		return eachOf(granted, needed, func(g, n any) bool {
			return same(g, n) || isText(g) && slices.Contains(rule.implies[stringOf(g)], stringOf(n))
		})
	case "max", "min":
		return withinLimit(rule.name, granted, needed)
	case "prefix", "glob":
		covers := pathBelow
		if rule.name == "glob" {
			covers = globMatches
		}
		if isText(granted) && isText(needed) {
			return same(granted, needed) || covers(stringOf(granted), stringOf(needed))
		}
		return eachOf(granted, needed, func(g, n any) bool {
			return same(g, n) || isText(g) && isText(n) && covers(stringOf(g), stringOf(n))
		})
	}
	g, n := object(granted), object(needed)
	for other := range d.rules {
		if strings.HasPrefix(other, place+"/") && g != nil && n != nil {
			return d.fields(place, g, n)
		}
	}
	return same(granted, needed)
}

// eachOf wants for each needed element a granted one.
func eachOf(granted, needed any, covers func(g, n any) bool) bool {
	have, isList := granted.([]any)
	for _, n := range array(needed) {
		if !slices.ContainsFunc(have, func(g any) bool { return covers(g, n) }) {
			return false
		}
	}
	return isList && len(array(needed)) > 0
}

func withinLimit(rule string, granted, needed any) bool {
	number := func(v any) (json.Number, bool) {
		if s, ok := v.(string); ok {
			return json.Number(s), regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`).MatchString(s)
		}
		n, ok := v.(json.Number)
		return n, ok
	}
	g, ok1 := number(granted)
	n, ok2 := number(needed)
	if !ok1 || !ok2 || isText(granted) != isText(needed) {
		return false
	}
	order := rational(n).Cmp(rational(g))
	return rule == "max" && order <= 0 || rule == "min" && order >= 0
}

func isText(v any) bool { _, ok := v.(string); return ok }

// pathBelow: the needed path lies below the granted one.
func pathBelow(granted, needed string) bool {
	return granted != "" && strings.HasPrefix(needed, strings.TrimSuffix(granted, "/")+"/")
}

// globMatches: * is any characters but /, ** any.
func globMatches(pattern, s string) bool {
	text := regexp.QuoteMeta(pattern)
	text = regexp.MustCompile(`(\\\*){2,}`).ReplaceAllString(text, `(?s:.*)`)
	text = strings.ReplaceAll(text, `\*`, `[^/]*`)
	return regexp.MustCompile(`\A` + text + `\z`).MatchString(s)
}

// declaredPart is a granted object without what its type does not have.
func (d *detailsType) declaredPart(v map[string]any) map[string]any {
	part := object(d.strip(d.document, cloned(v)))
	if d.schema.Validate(part) != nil {
		return nil
	}
	return part
}

func (d *detailsType) strip(schema map[string]any, v any) any {
	if ref, ok := strings.CutPrefix(stringOf(schema["$ref"]), "#/$defs/"); ok {
		schema = object(at(d.document, "$defs", ref))
	}
	m, properties := object(v), object(schema["properties"])
	if m == nil || properties == nil || schema["additionalProperties"] != false {
		return v
	}
	for name, e := range m {
		if declared, ok := properties[name]; ok {
			m[name] = d.strip(object(declared), e)
		} else {
			delete(m, name)
		}
	}
	return m
}

// closed adds "additionalProperties": false where a schema of an object does
// not say what it takes (docs/policy.md, "Tool schemas").
func closed(v any) any {
	m := object(v)
	if m == nil {
		return v
	}
	for _, e := range object(m["properties"]) {
		closed(e)
	}
	closed(m["items"])
	if _, says := m["additionalProperties"]; !says && m["type"] == "object" {
		m["additionalProperties"] = false
	}
	return m
}
