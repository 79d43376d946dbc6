package rar_test

import (
	"encoding/json"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

// The rule oracle: a second reading of the containment rules over Go's own JSON
// values, written for obviousness and shared with nothing in the package.

// ruleNode is one place of an object and the rule that compares it. The zero
// node is the default rule, equal.
type ruleNode struct {
	rule      string // "" where no rule is declared
	absentAny bool
	implies   map[string][]string
	items     *ruleNode
	kids      map[string]*ruleNode
}

// ruleTree reads the compare member of a declaration.
func ruleTree(compare map[string]any) *ruleNode {
	root := &ruleNode{}
	for pointer, rule := range compare {
		at := root
		for _, token := range strings.Split(pointer, "/")[1:] {
			name := strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
			if at.kids == nil {
				at.kids = map[string]*ruleNode{}
			}
			if at.kids[name] == nil {
				at.kids[name] = &ruleNode{}
			}
			at = at.kids[name]
		}
		if name, ok := rule.(string); ok {
			at.rule = name
			continue
		}
		options, _ := rule.(map[string]any)
		at.rule, _ = options["rule"].(string)
		at.absentAny = options["absent"] == "any"
		implies, _ := options["implies"].(map[string]any)
		for from, list := range implies {
			for _, to := range asArray(list) {
				if at.implies == nil {
					at.implies = map[string][]string{}
				}
				name, _ := to.(string)
				at.implies[from] = append(at.implies[from], name)
			}
		}
		if items, ok := options["items"].(map[string]any); ok {
			at.items = ruleTree(items)
		}
	}
	return root
}

func asArray(v any) []any {
	list, _ := v.([]any)
	return list
}

func (n *ruleNode) kid(name string) *ruleNode {
	if k := n.kids[name]; k != nil {
		return k
	}
	return &ruleNode{}
}

// jsonKind names the JSON kind of a Go value.
func jsonKind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "no JSON"
	}
}

func rational(text string) *big.Rat {
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		panic("not a number: " + text)
	}
	return x
}

func sameJSON(a, b any) bool {
	if jsonKind(a) != jsonKind(b) {
		return false
	}
	switch a := a.(type) {
	case json.Number:
		other, _ := b.(json.Number)
		return rational(a.String()).Cmp(rational(other.String())) == 0
	case []any:
		return slices.EqualFunc(a, asArray(b), sameJSON)
	case map[string]any:
		other, _ := b.(map[string]any)
		return maps.EqualFunc(a, other, sameJSON)
	default:
		return a == b
	}
}

// finding is one failing field.
type finding struct {
	pointer string
	code    rar.Code
}

// members compares two objects member by member.
func (n *ruleNode) members(granted, required map[string]any, at string, skip string) []finding {
	names := map[string]bool{}
	for name := range granted {
		names[name] = true
	}
	for name := range required {
		names[name] = true
	}
	delete(names, skip)
	var out []finding
	for name := range names {
		g, inGranted := granted[name]
		r, inRequired := required[name]
		escaped := strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
		out = append(out, n.kid(name).field(g, inGranted, r, inRequired, at+"/"+escaped)...)
	}
	return out
}

func (n *ruleNode) field(g any, inGranted bool, r any, inRequired bool, at string) []finding {
	switch {
	case n.rule == "ignore":
		return nil
	case inGranted && !inRequired:
		return []finding{{at, rar.CodeOpenInRequired}}
	case !inGranted && !n.absentAny:
		return []finding{{at, rar.CodeMissingInGranted}}
	}
	if n.rule == "" && n.kids != nil {
		gm, okG := g.(map[string]any)
		rm, okR := r.(map[string]any)
		if okG && okR {
			return n.members(gm, rm, at, "")
		}
	}
	compared := n.alone
	if inGranted {
		compared = func(r any) rar.Code { return n.values(g, r) }
	}
	if code := compared(r); code != "" {
		return []finding{{at, code}}
	}
	return nil
}

// values compares two values by the rule; "" means covered.
func (n *ruleNode) values(g, r any) rar.Code {
	switch n.rule {
	case "subset":
		return n.subset(g, r)
	case "max", "min":
		return n.bound(g, r)
	case "prefix", "glob":
		return n.names(g, r)
	}
	switch {
	case jsonKind(g) != jsonKind(r):
		return rar.CodeTypeMismatch
	case !sameJSON(g, r):
		return rar.CodeNotEqual
	}
	return ""
}

// alone judges a need on which the grant is silent, and silence means any:
// what has no meaning under the rule is refused all the same.
func (n *ruleNode) alone(r any) rar.Code {
	switch n.rule {
	case "subset":
		if code := (&ruleNode{rule: "subset"}).subset(r, r); code != "" {
			return code
		}
		for _, e := range asArray(r) {
			if !n.items.hasMeaning(e) {
				return rar.CodeNotSubset
			}
		}
	case "max", "min":
		if number(r) == nil {
			return rar.CodeNotANumber
		}
	case "prefix", "glob":
		list := []any{r}
		if jsonKind(r) == "array" {
			list = asArray(r)
		}
		if len(list) == 0 {
			return rar.CodeRequiredEmpty
		}
		for _, e := range list {
			s, ok := e.(string)
			if !ok {
				return rar.CodeTypeMismatch
			}
			if code := n.refused(s); code != "" {
				return code
			}
		}
	}
	return ""
}

// hasMeaning reports whether the rules of elements can judge what is in one.
func (n *ruleNode) hasMeaning(element any) bool {
	object, isObject := element.(map[string]any)
	if n == nil || !isObject {
		return true
	}
	for name, v := range object {
		k := n.kid(name)
		if k.rule == "" && k.kids != nil && !k.hasMeaning(v) || k.rule != "ignore" && k.alone(v) != "" {
			return false
		}
	}
	return true
}

func (n *ruleNode) subset(g, r any) rar.Code {
	if jsonKind(g) != "array" || jsonKind(r) != "array" {
		return rar.CodeTypeMismatch
	}
	if len(asArray(r)) == 0 {
		return rar.CodeRequiredEmpty
	}
	have := asArray(g)
	if n.implies != nil {
		have = n.closure(have)
	}
	for _, want := range asArray(r) {
		if !slices.ContainsFunc(have, func(e any) bool { return n.element(e, want) }) {
			return rar.CodeNotSubset
		}
	}
	return ""
}

// closure adds what the strings imply until nothing is new.
func (n *ruleNode) closure(list []any) []any {
	have := slices.Clone(list)
	for grown := true; grown; {
		grown = false
		for _, e := range have {
			from, _ := e.(string)
			if _, isText := e.(string); !isText {
				continue
			}
			for _, to := range n.implies[from] {
				if !slices.ContainsFunc(have, func(e any) bool { return sameJSON(e, to) }) {
					have, grown = append(have, to), true
				}
			}
		}
	}
	return have
}

func (n *ruleNode) element(g, r any) bool {
	gm, okG := g.(map[string]any)
	rm, okR := r.(map[string]any)
	if n.items != nil && okG && okR {
		return len(n.items.members(gm, rm, "", "")) == 0
	}
	return sameJSON(g, r)
}

// number is the value of a JSON number or a plain decimal string, else nil.
func number(v any) *big.Rat {
	switch v := v.(type) {
	case json.Number:
		return rational(v.String())
	case string:
		if decimalText.MatchString(v) {
			return rational(v)
		}
	}
	return nil
}

var decimalText = regexp.MustCompile(`\A-?(0|[1-9][0-9]*)(\.[0-9]+)?\z`)

func (n *ruleNode) bound(g, r any) rar.Code {
	if jsonKind(g) != jsonKind(r) {
		return rar.CodeTypeMismatch
	}
	limit, want := number(g), number(r)
	switch {
	case limit == nil || want == nil:
		return rar.CodeNotANumber
	case n.rule == "max" && want.Cmp(limit) > 0:
		return rar.CodeAboveMax
	case n.rule == "min" && want.Cmp(limit) < 0:
		return rar.CodeBelowMin
	}
	return ""
}
