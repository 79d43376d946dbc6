package rar

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// rule is how one field compares.
type rule uint8

const (
	ruleEqual  rule = iota
	ruleFields      // no rule here, rules below: member by member
	ruleSubset
	ruleMax
	ruleMin
	rulePrefix
	ruleGlob
	ruleIgnore
)

// ruleNamed returns the rule that a declaration calls name.
func ruleNamed(name string) (rule, bool) {
	switch name {
	case "equal":
		return ruleEqual, true
	case "subset":
		return ruleSubset, true
	case "max":
		return ruleMax, true
	case "min":
		return ruleMin, true
	case "prefix":
		return rulePrefix, true
	case "glob":
		return ruleGlob, true
	case "ignore":
		return ruleIgnore, true
	}
	return ruleEqual, false
}

// node is a compare rule in the tree that mirrors the object, so that comparing
// never parses a pointer. A field without node compares by equal.
type node struct {
	rule      rule
	declared  bool // by a pointer of its own
	absentAny bool
	implies   map[string]map[string]struct{} // value → all it includes
	items     *node                          // how elements of a subset compare
	kids      map[string]*node
}

// child returns the node of a member, nil where equal applies.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.kids[name]
}

// maxImplied bounds the closure of implies, which grows with the square of its
// declaration.
const maxImplied = 1 << 16

// ruleCompiler reads one object of pointers to rules.
type ruleCompiler struct {
	schema *jsonschema.Schema
	prefix []stepInto // from the object to the element that items speak of
	fault  func(path, format string, args ...any)
}

// tree compiles doc, which stands at path in the declaration.
func (c *ruleCompiler) tree(doc Value, path string) *node {
	root := &node{rule: ruleFields, kids: map[string]*node{}}
	for i := range doc.Len() {
		m := doc.Member(i)
		at := appendToken(path, m.Name)
		tokens, err := pointerTokens(m.Name)
		if err != nil {
			c.fault(at, "%v", err)
			continue
		}
		if len(c.prefix) == 0 && tokens[0] == "type" {
			c.fault(at, "type is always compared, and exactly")
			continue
		}
		n, err := root.place(tokens)
		if err != nil {
			c.fault(at, "%v", err)
			continue
		}
		c.fill(n, m.Value, at, c.steps(tokens))
	}
	return root
}

// pointerTokens splits a JSON Pointer that names something below the root.
func pointerTokens(pointer string) ([]string, error) {
	if !strings.HasPrefix(pointer, "/") {
		return nil, errors.New("not a JSON Pointer to a field")
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, t := range tokens {
		name, ok := unescapeToken(t)
		if !ok {
			return nil, errors.New("not a JSON Pointer: ~ escapes nothing")
		}
		tokens[i] = name
	}
	return tokens, nil
}

// place makes the node at tokens. A rule both at a pointer and below it would
// leave open which of them counts.
func (n *node) place(tokens []string) (*node, error) {
	for _, t := range tokens {
		if n.declared {
			return nil, errors.New("a rule stands at a pointer above this one")
		}
		if n.kids == nil {
			n.rule, n.kids = ruleFields, map[string]*node{}
		}
		next := n.kids[t]
		if next == nil {
			next = &node{}
			n.kids[t] = next
		}
		n = next
	}
	if n.kids != nil {
		return nil, errors.New("a rule stands at a pointer below this one")
	}
	n.declared = true
	return n, nil
}

func (c *ruleCompiler) steps(tokens []string) []stepInto {
	steps := append([]stepInto(nil), c.prefix...)
	for _, t := range tokens {
		steps = append(steps, stepInto{name: t})
	}
	return steps
}

// fill reads one rule, a name or an object with options, into n.
func (c *ruleCompiler) fill(n *node, doc Value, at string, steps []stepInto) {
	name := doc
	if doc.kind == Object {
		name, _ = doc.Get("rule")
	}
	r, ok := ruleNamed(name.Text())
	if !ok {
		c.fault(at, "not the name of a rule: equal, subset, max, min, prefix, glob, ignore")
		return
	}
	n.rule = r
	found, _ := kindsAt(c.schema, steps)
	if found == 0 {
		c.fault(at, "the schema can not reach this field")
		return
	}
	if !c.suits(r, found, steps) {
		c.fault(at, "rule %s is at odds with what the schema admits here", name.Text())
	}
	for i := range doc.Len() {
		c.option(n, doc.Member(i), at, steps)
	}
	if n.implies != nil && n.items != nil {
		c.fault(at, "implies and items exclude each other")
	}
}

// suits reports whether the rule can compare anything that the schema admits.
func (c *ruleCompiler) suits(r rule, found kindSet, steps []stepInto) bool {
	switch r {
	case ruleSubset:
		return found&kinds(Array) != 0
	case ruleMax, ruleMin:
		return found&kinds(Number, String) != 0
	case rulePrefix, ruleGlob:
		return found&kinds(String) != 0 || c.elements(found, steps)&kinds(String) != 0
	case ruleEqual, ruleFields, ruleIgnore:
	}
	return true
}

// elements returns what the elements may be if the value may be an array.
func (c *ruleCompiler) elements(found kindSet, steps []stepInto) kindSet {
	if found&kinds(Array) == 0 {
		return 0
	}
	set, _ := kindsAt(c.schema, append(steps[:len(steps):len(steps)], stepInto{element: true}))
	return set
}

// option reads one member of a rule in its long form.
func (c *ruleCompiler) option(n *node, m Member, at string, steps []stepInto) {
	at = appendToken(at, m.Name)
	switch {
	case m.Name == "rule":
	case m.Name == "absent" && n.rule != ruleIgnore:
		if m.Value.Text() != "any" {
			c.fault(at, `absent can only be "any"`)
		}
		n.absentAny = true
	case m.Name == "implies" && n.rule == ruleSubset:
		if c.elements(anyKind, steps)&kinds(String) == 0 {
			c.fault(at, "implies is at odds with the elements that the schema admits")
		}
		n.implies = c.implications(m.Value, at)
	case m.Name == "items" && n.rule == ruleSubset:
		if m.Value.kind != Object || m.Value.Len() == 0 {
			c.fault(at, "items is not an object of rules")
			return
		}
		into := append(steps[:len(steps):len(steps)], stepInto{element: true})
		inner := ruleCompiler{schema: c.schema, prefix: into, fault: c.fault}
		n.items = inner.tree(m.Value, at)
	default:
		c.fault(at, "not an option of this rule")
	}
}

// implications reads value → values and closes it transitively.
func (c *ruleCompiler) implications(doc Value, at string) map[string]map[string]struct{} {
	direct := map[string][]string{}
	if doc.kind != Object {
		c.fault(at, "implies is not an object of strings to arrays of strings")
		return nil
	}
	for i := range doc.Len() {
		m := doc.Member(i)
		if m.Value.kind != Array {
			c.fault(appendToken(at, m.Name), "not an array of strings")
			continue
		}
		for j := range m.Value.Len() {
			e := m.Value.Index(j)
			if e.kind != String {
				c.fault(appendToken(at, m.Name), "not an array of strings")
				break
			}
			direct[m.Name] = append(direct[m.Name], e.str())
		}
	}
	closure, err := closeOver(direct)
	if err != nil {
		c.fault(at, "%v", err)
	}
	return closure
}

// closeOver returns all that each value includes, by any number of steps.
func closeOver(direct map[string][]string) (map[string]map[string]struct{}, error) {
	closure := make(map[string]map[string]struct{}, len(direct))
	total := 0
	for from := range direct {
		reached := map[string]struct{}{}
		queue := []string{from}
		for len(queue) > 0 {
			next := direct[queue[0]]
			queue = queue[1:]
			for _, to := range next {
				if _, ok := reached[to]; ok {
					continue
				}
				if total++; total > maxImplied {
					return nil, fmt.Errorf("implies includes more than %d pairs", maxImplied)
				}
				reached[to] = struct{}{}
				queue = append(queue, to)
			}
		}
		closure[from] = reached
	}
	return closure, nil
}
