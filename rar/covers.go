package rar

import (
	"errors"
	"fmt"
	"strconv"
)

// CoverOptions changes what Covers checks. The zero value is always safe.
type CoverOptions struct {
	// SingleUse gives each required object a granted object of its own, also
	// where its type is not declared for single use.
	SingleUse bool
	// GrantedValidated says that the granted objects come from Types.Granted of
	// these very Types, so that their schemas need not be checked again.
	GrantedValidated bool
	// RequiredValidated says that the required objects come from Types.Parse or
	// Types.ParseValue of these very Types.
	RequiredValidated bool
	// Skipped are the objects that Types.Granted left out. They cover nothing;
	// they only let a reason tell an invalid grant from no grant.
	Skipped []Skipped
}

// Result says whether, by what, and why not.
type Result struct {
	// Covered is the answer. The zero Result is a no.
	Covered bool
	// Because holds, on a no, the reasons of the nearest granted object for each
	// required object that is not covered.
	Because []Reason
	// Used holds for each required object the index of the granted object that
	// covers it, -1 if there is none.
	Used []int
}

// Reason is one field that fails, or one object. It may point at values of a
// token: for the log and for Explain, never for the client.
type Reason struct {
	// Required is the index of the required object; -1 is the list itself.
	Required int
	// Pointer is a JSON Pointer into the required object.
	Pointer string
	// Code says why.
	Code Code
}

// Bounds of one comparison. They are far beyond what DefaultMaxObjects and
// DefaultMaxBytes admit for honest input, and keep crafted input from holding a
// processor for more than some tens of milliseconds.
const (
	maxCompared = 1024    // objects on either side
	maxWork     = 4 << 20 // steps: bytes, members and elements looked at
)

// Covers reports whether the granted objects cover every required one: each
// required object by one granted object of its type, by the rules that the type
// declares. It is sound first: what the rules can not judge is not covered, and
// an empty need is not covered either, because a rule built from an empty
// argument would pass for the wrong reason.
//
// A required object that is undeclared or fails its schema is an error; so is a
// comparison that takes too much work. Callers deny on any error.
func (t *Types) Covers(granted, required []Value, o CoverOptions) (Result, error) {
	if len(required) == 0 {
		return Result{Because: []Reason{{Required: -1, Code: CodeRequiredEmpty}}}, nil
	}
	if len(granted) > maxCompared || len(required) > maxCompared {
		return Result{}, &Error{Code: CodeTooComplex, Err: fmt.Errorf("more than %d objects", maxCompared)}
	}
	work := maxWork
	c := coverage{
		types: t, granted: granted, required: required, options: o,
		grants: make([]grant, len(granted)),
		used:   make([]int, len(required)),
		cmp:    comparer{work: &work},
	}
	for i, r := range required {
		c.used[i] = -1
		if err := t.checkRequired(r, o.RequiredValidated); err != nil {
			err.Path = "/" + strconv.Itoa(i) + err.Path
			return Result{}, err
		}
	}
	for j, g := range granted {
		c.grants[j].typ = t.lookup(typeOf(g))
	}
	reasons := c.all()
	if work < 0 {
		return Result{}, &Error{Code: CodeTooComplex, Err: errors.New("the comparison takes too much work")}
	}
	return Result{Covered: len(reasons) == 0, Because: reasons, Used: c.used}, nil
}

// checkRequired refuses a need that no grant could be held against.
func (t *Types) checkRequired(v Value, validated bool) *Error {
	if v.kind != Object {
		return &Error{Code: CodeInvalidRequired, Err: fmt.Errorf("%s where an object belongs", v.kind)}
	}
	ty := t.lookup(typeOf(v))
	if ty == nil {
		return &Error{Code: CodeUnknownType, Path: "/type", Err: errors.New("the type is not declared")}
	}
	if validated {
		return nil
	}
	if err := ty.validate(v); err != nil {
		return &Error{Code: CodeInvalidRequired, Path: err.Path, Err: err}
	}
	return nil
}

// coverage is one call of Covers.
type coverage struct {
	types             *Types
	granted, required []Value
	options           CoverOptions
	grants            []grant
	used              []int
	cmp               comparer
	matching          *matching
}

// grant is what is known of one granted object.
type grant struct {
	typ    *typ // nil if not declared: it matches nothing
	judged bool
	valid  bool
}

// all covers each required object and returns the reasons for those left over.
func (c *coverage) all() []Reason {
	var reasons []Reason
	for i := range c.required {
		ty := c.types.lookup(typeOf(c.required[i]))
		if c.options.SingleUse || ty.singleUse {
			if c.matching == nil {
				c.matching = newMatching(c)
			}
			if c.matching.serve(i) {
				continue
			}
			if c.matching.hasEdge(i) {
				reasons = append(reasons, Reason{Required: i, Code: CodeGrantedUsedUp})
				continue
			}
		} else if c.used[i] = c.first(i); c.used[i] >= 0 {
			continue
		}
		reasons = append(reasons, c.nearest(i, ty)...)
	}
	return reasons
}

// first returns the first granted object that covers required object i, or -1.
func (c *coverage) first(i int) int {
	for j := range c.granted {
		if c.covers(j, i) {
			return j
		}
	}
	return -1
}

// covers compares one pair.
func (c *coverage) covers(j, i int) bool {
	if !c.comparable(j, i) {
		return false
	}
	return c.cmp.fields(c.grants[j].typ.rules, c.granted[j], c.required[i], nil)
}

// comparable reports whether the pair has one type and the grant is valid.
func (c *coverage) comparable(j, i int) bool {
	return c.cmp.spend(1) && c.sameType(j, i) && c.valid(j)
}

func (c *coverage) sameType(j, i int) bool {
	ty := c.grants[j].typ
	return ty != nil && ty.name == typeOf(c.required[i])
}

// valid holds a granted object against its schema, once and only when needed.
func (c *coverage) valid(j int) bool {
	g := &c.grants[j]
	if !g.judged {
		g.judged = true
		g.valid = c.options.GrantedValidated || g.typ.validate(c.granted[j]) == nil
	}
	return g.valid
}

// nearest explains why nothing covers required object i: the reasons of the
// valid granted object of its type with the fewest failing fields, the first of
// them on a tie.
func (c *coverage) nearest(i int, ty *typ) []Reason {
	var best []Reason
	invalid := false
	for j := range c.granted {
		if !c.comparable(j, i) {
			invalid = invalid || c.sameType(j, i)
			continue
		}
		explainer := comparer{work: c.cmp.work, explain: true}
		explainer.fields(ty.rules, c.granted[j], c.required[i], nil)
		if best == nil || len(explainer.reasons) < len(best) {
			best = explainer.reasons
		}
	}
	for _, s := range c.options.Skipped {
		invalid = invalid || s.Type == ty.name
	}
	switch {
	case best != nil:
		for k := range best {
			best[k].Required = i
		}
		return best
	case invalid:
		return []Reason{{Required: i, Code: CodeGrantedInvalid}}
	}
	return []Reason{{Required: i, Code: CodeNoGrantedType}}
}
