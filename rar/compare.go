package rar

import "strings"

// comparer applies the compare rules to one granted and one required object. A
// run without explain stops at the first field that fails and allocates next to
// nothing; a run with explain visits every field and notes each reason.
type comparer struct {
	work    *int // what is left of the budget
	explain bool
	reasons []Reason
}

// place is a position in the required object. It is nil unless reasons are
// asked for; pointers are made of it only then.
type place struct {
	parent *place
	name   string
}

func (p *place) pointer() string {
	if p == nil {
		return ""
	}
	return appendToken(p.parent.pointer(), p.name)
}

func (c *comparer) at(parent *place, name string) *place {
	if !c.explain {
		return nil
	}
	return &place{parent: parent, name: name}
}

// because is the verdict "no" at p, or "yes" for the empty code.
func (c *comparer) because(p *place, code Code) bool {
	if code == "" {
		return true
	}
	if c.explain {
		c.reasons = append(c.reasons, Reason{Pointer: p.pointer(), Code: code})
	}
	return false
}

// spend takes n from the budget. Once that is used up every verdict is void;
// Covers checks it before it answers.
func (c *comparer) spend(n int) bool {
	*c.work -= n
	return *c.work >= 0
}

// finder finds members by name without scanning large objects again and again.
type finder struct {
	v     Value
	index map[string]int
}

func newFinder(v Value) finder {
	f := finder{v: v}
	if v.Len() > fewMembers {
		f.index = make(map[string]int, v.Len())
		for i := 0; i < len(v.list()); i += 2 {
			f.index[v.list()[i].str()] = i + 1
		}
	}
	return f
}

func (f finder) get(name string) (Value, bool) {
	i, ok := find(f.v.list(), name, f.index)
	if !ok {
		return Value{}, false
	}
	return f.v.list()[i], true
}

// fields compares two objects member by member. The type of the whole object has
// no rule, and so is one that must be equal.
func (c *comparer) fields(n *node, granted, required Value, p *place) bool {
	if !c.spend(granted.Len() + required.Len()) {
		return false
	}
	inGranted, inRequired := newFinder(granted), newFinder(required)
	ok := true
	for i := 0; i < len(required.list()) && (ok || c.explain); i += 2 {
		name := required.list()[i].str()
		rule, at := n.child(name), c.at(p, name)
		if value, present := inGranted.get(name); present {
			ok = c.value(rule, value, required.list()[i+1], at) && ok
		} else {
			ok = c.because(at, absentInGranted(rule, required.list()[i+1])) && ok
		}
	}
	for i := 0; i < len(granted.list()) && (ok || c.explain); i += 2 {
		name := granted.list()[i].str()
		if _, present := inRequired.get(name); present {
			continue
		}
		if rule := n.child(name); rule == nil || rule.rule != ruleIgnore {
			ok = c.because(c.at(p, name), CodeOpenInRequired) && ok
		}
	}
	return ok
}

// absentInGranted judges a field on which the grant is silent. Where silence
// means "any" the required value must still be one that its rule could judge:
// an empty set or an unsafe path does not get through because nobody looked.
func absentInGranted(n *node, required Value) Code {
	switch {
	case n != nil && n.rule == ruleIgnore:
		return ""
	case n == nil || !n.absentAny:
		return CodeMissingInGranted
	}
	return n.alone(required)
}

// alone judges a required value without anything granted.
func (n *node) alone(required Value) Code {
	switch n.rule {
	case ruleSubset:
		switch {
		case required.kind != Array:
			return CodeTypeMismatch
		case required.Len() == 0:
			return CodeRequiredEmpty
		}
		for _, e := range required.list() {
			if !n.items.membersAlone(e) {
				return CodeNotSubset
			}
		}
	case ruleMax, ruleMin:
		if required.kind != Number && (required.kind != String || !isDecimalText(required.str())) {
			return CodeNotANumber
		}
	case rulePrefix, ruleGlob:
		return textsAlone(n.rule, required)
	case ruleEqual, ruleFields, ruleIgnore:
	}
	return ""
}

// membersAlone reports whether the rules of an element could judge what is in
// it; n is nil if elements have no rules.
func (n *node) membersAlone(element Value) bool {
	if n == nil || element.kind != Object {
		return true
	}
	for i := 0; i < len(element.list()); i += 2 {
		member := n.child(element.list()[i].str())
		switch {
		case member == nil:
		case member.rule == ruleFields && !member.membersAlone(element.list()[i+1]):
			return false
		case member.alone(element.list()[i+1]) != "":
			return false
		}
	}
	return true
}

// textsAlone judges required paths or values without anything granted.
func textsAlone(r rule, required Value) Code {
	if required.kind == String {
		return textAlone(r, required.str())
	}
	if required.kind != Array {
		return CodeTypeMismatch
	}
	if required.Len() == 0 {
		return CodeRequiredEmpty
	}
	for _, e := range required.list() {
		if e.kind != String {
			return CodeTypeMismatch
		}
		if code := textAlone(r, e.str()); code != "" {
			return code
		}
	}
	return ""
}

// textAlone refuses what is covered by equality only.
func textAlone(r rule, s string) Code {
	switch {
	case r == rulePrefix && unsafePath(s):
		return CodeUnsafePath
	case r == ruleGlob && strings.Contains(s, "*"):
		return CodePatternInRequired
	}
	return ""
}

// value compares a field that both sides have.
func (c *comparer) value(n *node, granted, required Value, p *place) bool {
	if !c.spend(1 + len(granted.str()) + len(required.str())) {
		return false
	}
	r := ruleEqual
	if n != nil {
		r = n.rule
	}
	switch r {
	case ruleIgnore:
		return true
	case ruleFields:
		if granted.kind == Object && required.kind == Object {
			return c.fields(n, granted, required, p)
		}
	case ruleSubset:
		return c.because(p, c.subset(n, granted, required))
	case ruleMax, ruleMin:
		return c.because(p, limit(r, granted, required))
	case rulePrefix, ruleGlob:
		return c.because(p, c.texts(r, granted, required))
	case ruleEqual:
	}
	switch {
	case granted.kind != required.kind:
		return c.because(p, CodeTypeMismatch)
	case !Equal(granted, required):
		return c.because(p, CodeNotEqual)
	}
	return true
}

// limit compares under max and min: two JSON numbers or two decimal strings.
func limit(r rule, granted, required Value) Code {
	switch {
	case granted.kind != required.kind:
		return CodeTypeMismatch
	case granted.kind == String:
		if !isDecimalText(granted.str()) || !isDecimalText(required.str()) {
			return CodeNotANumber
		}
	case granted.kind != Number:
		return CodeNotANumber
	}
	order := compareDecimals(parseDecimal(required.str()), parseDecimal(granted.str()))
	switch {
	case r == ruleMax && order > 0:
		return CodeAboveMax
	case r == ruleMin && order < 0:
		return CodeBelowMin
	}
	return ""
}

// fewPairs is the number of comparisons up to which hashing does not pay.
const fewPairs = 256

// subset requires each required element among the granted ones.
func (c *comparer) subset(n *node, granted, required Value) Code {
	switch {
	case granted.kind != Array || required.kind != Array:
		return CodeTypeMismatch
	case required.Len() == 0:
		return CodeRequiredEmpty
	case n.items != nil:
		return c.itemsSubset(n.items, granted, required)
	}
	if required.Len() > fewPairs/(granted.Len()+1) {
		return c.hashedSubset(n, granted, required)
	}
	for _, r := range required.list() {
		found := false
		for _, g := range granted.list() {
			if found = Equal(g, r) || n.includes(g, r); found {
				break
			}
		}
		if !found {
			return CodeNotSubset
		}
	}
	return ""
}

// includes reports whether implies makes the granted value include the required.
func (n *node) includes(granted, required Value) bool {
	if granted.kind != String || required.kind != String {
		return false
	}
	_, ok := n.implies[granted.str()][required.str()]
	return ok
}

// hashedSubset is subset for long arrays; canonical text is equal exactly when
// values are.
func (c *comparer) hashedSubset(n *node, granted, required Value) Code {
	have := make(map[string]struct{}, granted.Len())
	var buf []byte
	for _, g := range granted.list() {
		buf = g.AppendCanonical(buf[:0])
		have[string(buf)] = struct{}{}
		if !c.spend(len(buf)) {
			return CodeNotSubset
		}
		if g.kind != String {
			continue
		}
		if !c.spend(len(n.implies[g.str()])) {
			return CodeNotSubset
		}
		for implied := range n.implies[g.str()] {
			buf = appendQuoted(buf[:0], implied)
			have[string(buf)] = struct{}{}
		}
	}
	for _, r := range required.list() {
		buf = r.AppendCanonical(buf[:0])
		if _, ok := have[string(buf)]; !ok || !c.spend(len(buf)) {
			return CodeNotSubset
		}
	}
	return ""
}

// itemsSubset requires for each required element one granted element that
// covers it alone: parts of two elements never combine.
func (c *comparer) itemsSubset(items *node, granted, required Value) Code {
	inner := comparer{work: c.work}
	for _, r := range required.list() {
		found := false
		for _, g := range granted.list() {
			if g.kind == Object && r.kind == Object {
				found = inner.fields(items, g, r, nil)
			} else {
				found = Equal(g, r)
			}
			if found || !c.spend(1) {
				break
			}
		}
		if !found {
			return CodeNotSubset
		}
	}
	return ""
}

// texts compares under prefix and glob: two strings, or two arrays in which
// each required element needs one granted element.
func (c *comparer) texts(r rule, granted, required Value) Code {
	switch {
	case granted.kind != required.kind:
		return CodeTypeMismatch
	case granted.kind != Array:
		return c.oneOfTexts(r, []Value{granted}, required)
	case required.Len() == 0:
		return CodeRequiredEmpty
	}
	for _, e := range required.list() {
		if code := c.oneOfTexts(r, granted.list(), e); code != "" {
			return code
		}
	}
	return ""
}

// oneOfTexts looks for a granted value that covers the required one.
func (c *comparer) oneOfTexts(r rule, granted []Value, required Value) Code {
	for _, g := range granted {
		if !c.spend(1) {
			break
		}
		if Equal(g, required) {
			return ""
		}
	}
	no := CodeNotPrefix
	if r == ruleGlob {
		no = CodeNoGlobMatch
	}
	if required.kind != String || !c.spend(len(required.str())) {
		return no
	}
	if code := textAlone(r, required.str()); code != "" {
		return code
	}
	for _, g := range granted {
		if g.kind == String && c.textCovers(r, g.str(), required.str()) {
			return ""
		}
	}
	return no
}

func (c *comparer) textCovers(r rule, granted, required string) bool {
	if r == rulePrefix {
		return c.spend(len(granted)) && pathCovers(granted, required)
	}
	return c.globMatches(granted, required)
}
