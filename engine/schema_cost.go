package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Validating arguments can neither be cancelled nor bounded from outside, and
// a schema of a few hundred bytes can ask for more work than there is time:
// references that double at every step, or a long list of choices for each of
// many elements. So the work is bounded before it begins: what a schema may ask
// of one value when it is compiled, and how many values it is asked for when a
// call comes.
const (
	// maxSchemaNodes bounds the subschemas of one schema, references expanded.
	maxSchemaNodes = 20_000
	// maxQuerySchemaNodes is for schemas that come with a query: a bundle's are
	// signed off by an administrator, these by nobody.
	maxQuerySchemaNodes = 4_000
	maxQuerySchemaBytes = 64 << 10
	// maxSchemaChain bounds how many subschemas deep one value is judged.
	maxSchemaChain = 64
	// maxPatterns and maxPatternBytes bound the regular expressions of a schema.
	maxPatterns     = 200
	maxPatternBytes = 4_000
	// maxValidationWork bounds values × subschemas a value.
	maxValidationWork = 500_000
)

// schemaCost walks a schema as validation would.
type schemaCost struct {
	root     any
	limit    int
	nodes    int
	patterns int
	bytes    int
	// width is the largest number of subschemas and choices that judge one value.
	width int
	// recursive schemas are refused where nobody vouches for them.
	admitRecursion bool
	open           []string // references being expanded
}

var (
	errSchemaTooComplex = errors.New("the schema is too complex")
	errSchemaRecursive  = errors.New("the schema refers to itself")
)

// measureSchema returns the width of a schema, or why it is refused.
func measureSchema(doc any, fromQuery bool) (int, error) {
	c := schemaCost{root: doc, limit: maxSchemaNodes, admitRecursion: !fromQuery}
	if fromQuery {
		c.limit = maxQuerySchemaNodes
	}
	width, err := c.inPlace(doc, 0)
	if err != nil {
		return 0, err
	}
	return max(width, c.width, 1), nil
}

// inPlace counts what judges one value by s: s itself, its choices, and the
// subschemas that it applies to the same value. What it applies to parts of the
// value is measured on the way, as values of their own.
func (c *schemaCost) inPlace(s any, chain int) (int, error) {
	m, ok := s.(map[string]any)
	if !ok {
		return 1, nil
	}
	if c.nodes++; c.nodes > c.limit || chain > maxSchemaChain {
		return 0, errSchemaTooComplex
	}
	width := 1
	for keyword, v := range m {
		n, err := c.keyword(keyword, v, chain)
		if err != nil {
			return 0, err
		}
		width += n
	}
	c.width = max(c.width, width)
	return width, nil
}

func (c *schemaCost) keyword(keyword string, v any, chain int) (int, error) {
	switch keyword {
	case "$ref":
		return c.reference(v, chain)
	case "allOf", "anyOf", "oneOf":
		return c.list(v, chain+1, c.inPlace)
	case "not", "if", "then", "else":
		return c.inPlace(v, chain+1)
	case "dependentSchemas":
		return c.entries(v, chain+1, c.inPlace)
	case "enum":
		list, _ := v.([]any)
		return len(list), nil
	case "pattern":
		text, _ := v.(string)
		return 1, c.pattern(text)
	case "patternProperties":
		m, _ := v.(map[string]any)
		for text := range m {
			if err := c.pattern(text); err != nil {
				return 0, err
			}
		}
		// Each name of an object is held against each pattern.
		_, err := c.entries(v, 0, c.part)
		return len(m), err
	case "properties":
		return c.entries(v, 0, c.part)
	case "prefixItems":
		return c.list(v, 0, c.part)
	case "items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "contains", "propertyNames":
		return c.part(v, 0)
	}
	return 0, nil
}

// part is a subschema of a part of the value; it costs the value itself
// nothing.
func (c *schemaCost) part(s any, _ int) (int, error) {
	_, err := c.inPlace(s, 0)
	return 0, err
}

func (c *schemaCost) list(v any, chain int, visit func(any, int) (int, error)) (int, error) {
	list, _ := v.([]any)
	total := 0
	for _, s := range list {
		n, err := visit(s, chain)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (c *schemaCost) entries(v any, chain int, visit func(any, int) (int, error)) (int, error) {
	m, _ := v.(map[string]any)
	total := 0
	for _, s := range m {
		n, err := visit(s, chain)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// reference expands a local $ref. One that is being expanded already is
// recursion: its width is counted where it was entered.
func (c *schemaCost) reference(v any, chain int) (int, error) {
	ref, _ := v.(string)
	target, ok := resolvePointer(c.root, ref)
	if !ok {
		return 0, fmt.Errorf("$ref %q: only references within the schema, by JSON Pointer, are followed", ref)
	}
	for _, open := range c.open {
		if open == ref {
			if !c.admitRecursion {
				return 0, errSchemaRecursive
			}
			return 1, nil
		}
	}
	c.open = append(c.open, ref)
	n, err := c.inPlace(target, chain+1)
	c.open = c.open[:len(c.open)-1]
	return n, err
}

func (c *schemaCost) pattern(text string) error {
	c.patterns++
	c.bytes += len(text)
	if c.patterns > maxPatterns || c.bytes > maxPatternBytes {
		return errSchemaTooComplex
	}
	return nil
}

// resolvePointer follows "#" or "#/a/b" (RFC 6901 section 6).
func resolvePointer(root any, ref string) (any, bool) {
	rest, ok := strings.CutPrefix(ref, "#")
	if !ok || (rest != "" && rest[0] != '/') {
		return nil, false
	}
	v := root
	for rest != "" {
		var token string
		token, rest, _ = strings.Cut(rest[1:], "/")
		if rest != "" {
			rest = "/" + rest
		}
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch x := v.(type) {
		case map[string]any:
			if v, ok = x[token]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.ParseUint(token, 10, 31)
			if err != nil || i >= uint64(len(x)) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}
