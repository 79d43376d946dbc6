package rar

import (
	"math/big"
	"slices"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// check is a schema in a form that can be held against a Value directly. It
// exists for speed: the library wants maps and slices of any, whose making
// costs more than the comparison that follows.
//
// It knows the keywords that declarations use; a schema with any other has no
// check. It only ever says that a value is valid. Everything else, each refusal
// included, is decided and explained by the library, so the two can not
// disagree about what an error is.
type check struct {
	never    bool
	kinds    kindSet
	integer  bool // numbers must be whole
	consts   []Value
	enum     []Value
	hasEnum  bool
	all      []*check
	required []string
	props    map[string]*check
	other    *check // of members not in props
	items    *check
	minItems int
	maxItems int
	minLen   int
	maxLen   int
	minProps int
	maxProps int
	pattern  jsonschema.Regexp
	lowest   *bound
	highest  *bound
}

// bound is a limit of a number.
type bound struct {
	value     decimal
	exclusive bool
}

const unbounded = int(^uint(0) >> 1)

// compileCheck returns nil if s uses what check does not know.
func compileCheck(s *jsonschema.Schema) *check {
	c := checkCompiler{done: map[*jsonschema.Schema]*check{}}
	root := c.compile(s)
	if c.unknown {
		return nil
	}
	return root
}

type checkCompiler struct {
	unknown bool
	// done holds each schema's check, nil while it is being made.
	done map[*jsonschema.Schema]*check
}

func (c *checkCompiler) compile(s *jsonschema.Schema) *check {
	if s == nil {
		return nil
	}
	n, met := c.done[s]
	// A schema within itself is left to the library, which watches for circles.
	if c.unknown = c.unknown || (met && n == nil) || beyondCheck(s); c.unknown || met {
		return n
	}
	c.done[s] = nil
	n = c.make(s)
	c.done[s] = n
	return n
}

func (c *checkCompiler) make(s *jsonschema.Schema) *check {
	if s.Bool != nil {
		return &check{never: !*s.Bool, kinds: anyKind, maxItems: unbounded, maxLen: unbounded, maxProps: unbounded}
	}
	n := &check{
		kinds:    anyKind,
		required: s.Required,
		minItems: orBound(s.MinItems, 0),
		maxItems: orBound(s.MaxItems, unbounded),
		minLen:   orBound(s.MinLength, 0),
		maxLen:   orBound(s.MaxLength, unbounded),
		minProps: orBound(s.MinProperties, 0),
		maxProps: orBound(s.MaxProperties, unbounded),
		pattern:  s.Pattern,
		items:    c.compile(s.Items2020),
	}
	c.kinds(n, s)
	c.members(n, s)
	for _, sub := range append([]*jsonschema.Schema{s.Ref}, s.AllOf...) {
		if sub != nil {
			n.all = append(n.all, c.compile(sub))
		}
	}
	n.lowest = c.bound(s.Minimum, s.ExclusiveMinimum)
	n.highest = c.bound(s.Maximum, s.ExclusiveMaximum)
	return n
}

// beyondCheck reports keywords that are left to the library.
func beyondCheck(s *jsonschema.Schema) bool {
	return logicBeyond(s) || objectBeyond(s) || arrayBeyond(s) ||
		s.Format != nil || s.MultipleOf != nil || len(s.Extensions) > 0 ||
		s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil
}

func logicBeyond(s *jsonschema.Schema) bool {
	return s.DynamicRef != nil || s.RecursiveRef != nil || s.Not != nil || s.If != nil ||
		len(s.AnyOf) > 0 || len(s.OneOf) > 0
}

func objectBeyond(s *jsonschema.Schema) bool {
	return s.PropertyNames != nil || s.UnevaluatedProperties != nil || len(s.PatternProperties) > 0 ||
		len(s.Dependencies) > 0 || len(s.DependentRequired) > 0 || len(s.DependentSchemas) > 0
}

func arrayBeyond(s *jsonschema.Schema) bool {
	return s.Contains != nil || s.UniqueItems || s.UnevaluatedItems != nil || len(s.PrefixItems) > 0
}

func orBound(n *int, byDefault int) int {
	if n == nil {
		return byDefault
	}
	return *n
}

func (c *checkCompiler) kinds(n *check, s *jsonschema.Schema) {
	if s.Types != nil && !s.Types.IsEmpty() {
		n.kinds = 0
		names := s.Types.ToStrings()
		for _, name := range names {
			n.kinds |= kindNamed(name)
		}
		n.integer = slices.Contains(names, "integer") && !slices.Contains(names, "number")
	}
	if s.Const != nil {
		n.consts = []Value{fromAny(*s.Const)}
	}
	if s.Enum != nil {
		n.hasEnum = true
		for _, v := range s.Enum.Values {
			n.enum = append(n.enum, fromAny(v))
		}
	}
}

func (c *checkCompiler) members(n *check, s *jsonschema.Schema) {
	n.props = make(map[string]*check, len(s.Properties))
	for name, sub := range s.Properties {
		n.props[name] = c.compile(sub)
	}
	switch more := s.AdditionalProperties.(type) {
	case bool:
		if !more {
			n.other = &check{never: true}
		}
	case *jsonschema.Schema:
		n.other = c.compile(more)
	}
}

// bound takes over one limit exactly; two at once are left to the library.
func (c *checkCompiler) bound(inclusive, exclusive *big.Rat) *bound {
	limit := inclusive
	switch {
	case inclusive != nil && exclusive != nil:
		c.unknown = true
		return nil
	case exclusive != nil:
		limit = exclusive
	case inclusive == nil:
		return nil
	}
	digits, _ := limit.FloatPrec() // exact: the limit was a JSON number
	return &bound{value: parseDecimal(limit.FloatString(digits)), exclusive: exclusive != nil}
}

// valid reports whether v surely satisfies the schema; false means "ask the
// library".
func (n *check) valid(v Value) bool {
	if n == nil {
		return true
	}
	if n.never || n.kinds&kinds(v.kind) == 0 {
		return false
	}
	equal := func(c Value) bool { return Equal(c, v) }
	if n.consts != nil && !slices.ContainsFunc(n.consts, equal) {
		return false
	}
	if n.hasEnum && !slices.ContainsFunc(n.enum, equal) {
		return false
	}
	for _, sub := range n.all {
		if !sub.valid(v) {
			return false
		}
	}
	switch v.kind {
	case Object:
		return n.validObject(v)
	case Array:
		if v.Len() < n.minItems || v.Len() > n.maxItems {
			return false
		}
		for _, e := range v.list() {
			if !n.items.valid(e) {
				return false
			}
		}
	case String:
		return n.validString(v.str())
	case Number:
		return n.validNumber(v.str())
	case Absent, Null, Bool:
	}
	return true
}

func (n *check) validObject(v Value) bool {
	if v.Len() < n.minProps || v.Len() > n.maxProps {
		return false
	}
	for _, name := range n.required {
		if _, ok := v.Get(name); !ok {
			return false
		}
	}
	kids := v.list()
	for i := 0; i < len(kids); i += 2 {
		sub, ok := n.props[kids[i].str()]
		if !ok {
			sub = n.other
		}
		if !sub.valid(kids[i+1]) {
			return false
		}
	}
	return true
}

func (n *check) validString(s string) bool {
	if n.minLen > 0 || n.maxLen < len(s) {
		if count := utf8.RuneCountInString(s); count < n.minLen || count > n.maxLen {
			return false
		}
	}
	return n.pattern == nil || n.pattern.MatchString(s)
}

func (n *check) validNumber(literal string) bool {
	if !n.integer && n.lowest == nil && n.highest == nil {
		return true
	}
	d := parseDecimal(literal)
	if n.integer && d.point < d.digits() {
		return false // digits remain behind the decimal point
	}
	return within(n.lowest, d, -1) && within(n.highest, d, 1)
}

// within reports whether d does not lie on the given side of the bound.
func within(b *bound, d decimal, side int) bool {
	if b == nil {
		return true
	}
	c := compareDecimals(d, b.value)
	return c != side && (c != 0 || !b.exclusive)
}
