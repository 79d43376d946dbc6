package rar_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The acts oracle: an object stands for the concrete acts that it allows or
// asks for, enumerated over small domains. A need is inside a grant when every
// act that it asks for is one that the grant allows. No two objects are compared
// here. It shares with the rule oracle the reading of declarations, what a
// number is and which paths are unsafe, and nothing else.

// act is one point: of a field, or of an object (one act for each member; a
// member that is not there is not spoken of).
type act struct {
	tag     string
	amount  *big.Rat
	members map[string]act
}

// mostActs bounds the acts of one object; what asks for more is not enumerated.
const mostActs = 3000

// actWorld holds the small domains.
type actWorld struct {
	paths   []string
	strings []string
	amounts []*big.Rat
	globs   map[string]*regexp.Regexp
}

func newActWorld() *actWorld {
	w := &actWorld{globs: map[string]*regexp.Regexp{}}
	level := []string{""}
	for range 3 {
		var next []string
		for _, p := range level {
			for _, s := range []string{"a", "b", "ab"} {
				next = append(next, p+"/"+s)
			}
		}
		w.paths, level = append(w.paths, next...), next
	}
	words := []string{""}
	for range 4 {
		w.strings = append(w.strings, words...)
		var next []string
		for _, s := range words {
			next = append(next, s+"a", s+"b", s+"/", s+"\n")
		}
		words = next
	}
	for i := -4; i <= 24; i++ {
		w.amounts = append(w.amounts, big.NewRat(int64(i), 2))
	}
	return w
}

// glob reads a pattern as a regular expression, unlike the rule oracle.
func (w *actWorld) glob(pattern string) *regexp.Regexp {
	if re := w.globs[pattern]; re != nil {
		return re
	}
	text := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*\*`, `(?s:.*)`)
	re := regexp.MustCompile(`\A` + strings.ReplaceAll(text, `\*`, `[^/]*`) + `\z`)
	w.globs[pattern] = re
	return re
}

// canonical is one text for equal values.
func canonical(v any) string {
	var b strings.Builder
	switch v := v.(type) {
	case json.Number:
		return "#" + rational(v.String()).RatString()
	case string:
		return strconv.Quote(v)
	case []any:
		for _, e := range v {
			b.WriteString(canonical(e) + ",")
		}
		return "[" + b.String() + "]"
	case map[string]any:
		for _, name := range sortedNames(v) {
			b.WriteString(strconv.Quote(name) + canonical(v[name]) + ",")
		}
		return "{" + b.String() + "}"
	}
	return fmt.Sprint(v)
}

// ill is a point that nobody can tell the meaning of, such as a path that a
// server may normalise: only the very same value allows it.
func ill(v any) act { return act{tag: "ill:" + canonical(v)} }

// asks enumerates the acts that a needed value asks for.
func (w *actWorld) asks(n *ruleNode, v any) []act {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch n.rule {
	case "ignore":
		return []act{{tag: "ignored"}}
	case "max", "min":
		return w.asksAmounts(n, v)
	case "prefix", "glob":
		if isList {
			var out []act
			for _, e := range list {
				for _, a := range w.asksNames(n, e) {
					a.tag = "one of:" + a.tag
					out = append(out, a)
				}
			}
			return out
		}
		return w.asksNames(n, v)
	case "subset":
		if !isList {
			return []act{ill(v)}
		}
		var out []act
		for _, e := range list {
			if o, ok := e.(map[string]any); ok && n.items != nil {
				out = append(out, w.asksMembers(n.items, o)...)
			} else {
				out = append(out, act{tag: canonical(e)})
			}
		}
		return out
	}
	if isObject && n.kids != nil {
		return w.asksMembers(n, object)
	}
	return []act{{tag: canonical(v)}}
}

// asksMembers is the product over the members.
func (w *actWorld) asksMembers(n *ruleNode, object map[string]any) []act {
	out := []act{{tag: "object", members: map[string]act{}}}
	for _, name := range sortedNames(object) {
		var next []act
		for _, point := range w.asks(n.kid(name), object[name]) {
			for _, a := range out {
				members := map[string]act{name: point}
				for other, p := range a.members {
					members[other] = p
				}
				next = append(next, act{tag: "object", members: members})
			}
		}
		if out = next; len(out) > mostActs {
			return nil // too many to enumerate; counted as nothing asked
		}
	}
	return out
}

func (w *actWorld) asksAmounts(n *ruleNode, v any) []act {
	limit := number(v)
	if limit == nil {
		return []act{ill(v)}
	}
	out := []act{{tag: jsonKind(v), amount: limit}}
	for _, x := range w.amounts {
		if c := x.Cmp(limit); c < 0 && n.rule == "max" || c > 0 && n.rule == "min" {
			out = append(out, act{tag: jsonKind(v), amount: x})
		}
	}
	return out
}

func (w *actWorld) asksNames(n *ruleNode, v any) []act {
	s, ok := v.(string)
	switch {
	case !ok:
		return []act{ill(v)}
	case n.rule == "glob" && !strings.Contains(s, "*"):
		return []act{{tag: "name:" + s}}
	case n.rule == "glob":
		out := []act{ill(v)}
		for _, word := range w.strings {
			if w.glob(s).MatchString(word) {
				out = append(out, act{tag: "name:" + word})
			}
		}
		return out
	}
	out := []act{{tag: "name:" + s}}
	if unsafePath(s) { // the server that opens it decides where it leads
		return []act{ill(v)}
	}
	for _, p := range w.paths {
		if s != "" && slices.Contains(ancestors(p), strings.TrimSuffix(s, "/")) {
			out = append(out, act{tag: "name:" + p})
		}
	}
	return out
}

// ancestors are the directories that a path lies in, without their last slash.
func ancestors(p string) []string {
	scheme := schemeText.FindString(p)
	var out []string
	for rest := p[len(scheme):]; strings.Contains(rest, "/"); {
		rest = rest[:strings.LastIndex(rest, "/")]
		out = append(out, scheme+rest)
	}
	if scheme != "" {
		out = append(out, strings.TrimSuffix(scheme, "/"))
	}
	return out
}

// allows reports whether the granted value allows the act.
func (w *actWorld) allows(n *ruleNode, v any, a act) bool {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch n.rule {
	case "ignore":
		return true
	case "max", "min":
		limit := number(v)
		if limit == nil || a.amount == nil || a.tag != jsonKind(v) {
			return false
		}
		return n.rule == "max" && a.amount.Cmp(limit) <= 0 || n.rule == "min" && a.amount.Cmp(limit) >= 0
	case "prefix", "glob":
		tag, many := strings.CutPrefix(a.tag, "one of:")
		if !isList || !many {
			return !isList && !many && w.allowsName(n, v, tag)
		}
		return slices.ContainsFunc(list, func(e any) bool { return w.allowsName(n, e, tag) })
	case "subset":
		return isList && slices.ContainsFunc(list, func(e any) bool { return w.allowsElement(n, e, a) })
	}
	if isObject && n.kids != nil {
		return a.members != nil && w.allowsMembers(n, object, a, "")
	}
	return a.members == nil && a.tag == canonical(v)
}

// allowsElement follows implications from the granted string to the act.
func (w *actWorld) allowsElement(n *ruleNode, e any, a act) bool {
	if o, ok := e.(map[string]any); ok && n.items != nil {
		return a.members != nil && w.allowsMembers(n.items, o, a, "")
	}
	from, isText := e.(string)
	seen := map[string]bool{}
	var reach func(s string) bool
	reach = func(s string) bool {
		if a.tag == canonical(s) {
			return true
		}
		seen[s] = true
		return slices.ContainsFunc(n.implies[s], func(to string) bool { return !seen[to] && reach(to) })
	}
	if isText {
		return reach(from)
	}
	return a.members == nil && a.tag == canonical(e)
}

func (w *actWorld) allowsName(n *ruleNode, v any, tag string) bool {
	s, ok := v.(string)
	name, isName := strings.CutPrefix(tag, "name:")
	switch {
	case !isName || !ok:
		return tag == ill(v).tag
	case n.rule == "glob":
		return w.glob(s).MatchString(name)
	}
	return s == name || s != "" && slices.Contains(ancestors(name), strings.TrimSuffix(s, "/"))
}

// allowsMembers: each member that either speaks of has to agree.
func (w *actWorld) allowsMembers(n *ruleNode, object map[string]any, a act, skip string) bool {
	for name, v := range object {
		point, spoken := a.members[name]
		if name == skip || n.kid(name).rule == "ignore" {
			continue
		}
		if !spoken || !w.allows(n.kid(name), v, point) {
			return false
		}
	}
	for name, point := range a.members {
		k := n.kid(name)
		if _, limited := object[name]; limited || name == skip || k.rule == "ignore" {
			continue
		}
		if !k.absentAny || strings.HasPrefix(strings.TrimPrefix(point.tag, "one of:"), "ill:") {
			return false
		}
	}
	return true
}

// allowed reports whether each act of a need is allowed by one of the grants.
func (w *actWorld) allowed(o *oracleTypes, granted []any, need map[string]any, asked []act) bool {
	n := o.rules[typeOf(need)]
	var usable []map[string]any
	for _, g := range granted {
		if object, ok := g.(map[string]any); ok && typeOf(object) == typeOf(need) && o.valid(object) {
			usable = append(usable, object)
		}
	}
	for _, a := range asked {
		if !slices.ContainsFunc(usable, func(g map[string]any) bool { return w.allowsMembers(n, g, a, "type") }) {
			return false
		}
	}
	return true
}

// complete reports whether a grant that allows all acts of a need must also
// cover it. It need not where elements of sets are products themselves: two of
// them can allow together what neither covers.
func (n *ruleNode) complete() bool {
	for _, k := range n.kids {
		if k.items != nil || !k.complete() {
			return false
		}
	}
	return true
}
