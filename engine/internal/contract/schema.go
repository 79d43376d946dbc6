package contract

import (
	"slices"
	"sync"

	"github.com/authzd/authzd/rar"
)

// schemaDoc answers what a JSON Schema says of the values on a path. It may
// take a value for less certain than it is, never for more.
type schemaDoc struct {
	root rar.Value
	// opaqueRefs: a nested $id moves what "#/…" means; no $ref is followed.
	opaqueRefs bool
	// open: what iteration visits need not be declared to be a list.
	open bool
	// once is of top, the forms that all of a document may have.
	once sync.Once
	top  []state
}

// forms are those of the whole document. The slice is the caller's.
func (d *schemaDoc) forms() []state {
	d.once.Do(func() { d.top = d.expand([]rar.Value{d.root}) })
	return slices.Clone(d.top)
}

func newSchemaDoc(root rar.Value) *schemaDoc {
	return &schemaDoc{root: root, opaqueRefs: hasNestedID(root, true)}
}

func hasNestedID(v rar.Value, top bool) bool {
	switch v.Kind() {
	case rar.Object:
		for i := range v.Len() {
			m := v.Member(i)
			if !top && m.Name == "$id" || hasNestedID(m.Value, false) {
				return true
			}
		}
	case rar.Array:
		for i := range v.Len() {
			if hasNestedID(v.Index(i), false) {
				return true
			}
		}
	case rar.Absent, rar.Null, rar.Bool, rar.Number, rar.String:
	}
	return false
}

// doubt is why a path may not lead to a value. 0 is certainty.
type doubt uint8

const (
	doubtAbsent doubt = 1 << iota
	doubtNull
	// doubtForm: it may be of another type than the path takes it for.
	doubtForm
	// doubtUnknown: nothing is declared of it.
	doubtUnknown
	// doubtDynamic: the name of a member is only known at run time.
	doubtDynamic
	// doubtDefault: the path looks into what object.get may have defaulted.
	doubtDefault
)

// presence is what a schema says of a path.
type presence struct {
	// undeclared: no valid document has it.
	undeclared bool
	doubt      doubt
}

// alternative is one form that a value may have: it satisfies all schemas,
// none of which has an applicator on the same place left.
type alternative struct {
	schemas []rar.Value
	// roots are the schemas that describe the place itself, which the engine
	// closes against undeclared members.
	roots []rar.Value
	// loose: some applicator is not understood and may declare more.
	loose bool
}

// state is one way that a path may have gone.
type state struct {
	alt   alternative
	doubt doubt
	// ended: in this form, no value lies here; doubtForm says that it went
	// astray in a scalar.
	ended bool
}

// maxStates bounds what combinations of alternatives are followed.
const maxStates = 256

// at follows a path from the root, an object. The first soft steps are taken
// by object.get, which answers for whatever is missing on its way.
func (d *schemaDoc) at(path []step, soft int) presence {
	states := d.forms()
	for i, s := range path {
		if i > 0 && i == soft {
			states = forget(states)
			if s.kind != stepEach {
				return presence{doubt: doubtDefault}
			}
		}
		if s.kind == stepDynamic {
			if i >= soft {
				return presence{doubt: doubtDynamic}
			}
			states = d.unknown(0)
			continue
		}
		var next []state
		for _, st := range states {
			if next = append(next, d.step(st, s, i == 0)...); len(next) > maxStates {
				return presence{doubt: doubtUnknown}
			}
		}
		if s.kind == stepEach {
			next = d.visited(next)
		}
		states = next
	}
	return conclude(states, path, soft)
}

// longer tells whether a list at the end of a path may have more members than
// one, none of them at a place of its own: no maxItems of 1, no fixed length,
// no prefixItems.
func (d *schemaDoc) longer(path []step) bool {
	states := d.forms()
	for i, s := range path {
		var next []state
		for _, st := range states {
			if next = append(next, d.step(st, s, i == 0)...); len(next) > maxStates {
				return true
			}
		}
		states = next
	}
	return slices.ContainsFunc(states, func(st state) bool {
		return !st.ended && st.alt.types()&typeArray != 0 && !st.alt.bounded()
	})
}

func (a alternative) bounded() bool {
	least, most := 0, -1
	for _, s := range a.schemas {
		if _, ok := s.Get("prefixItems"); ok {
			return true
		}
		if m, ok := s.Get("minItems"); ok {
			least = max(least, smallInt(m))
		}
		if m, ok := s.Get("maxItems"); ok {
			most = smallInt(m)
		}
	}
	return most >= 0 && most <= max(least, 1)
}

func conclude(states []state, path []step, soft int) presence {
	var out presence
	live, ended := 0, 0
	for _, s := range states {
		if s.ended {
			ended++
			continue
		}
		live++
		out.doubt |= s.doubt
		if n := len(path); n > 0 && path[n-1].kind != stepEach && s.alt.types()&typeNull != 0 {
			out.doubt |= doubtNull
		}
	}
	if live == 0 {
		return presence{undeclared: true}
	}
	if ended > 0 {
		out.doubt |= doubtAbsent
	}
	if soft == len(path) {
		out.doubt = 0
	}
	return out
}

// forget drops what object.get makes up for.
func forget(states []state) []state {
	var out []state
	for _, s := range states {
		if !s.ended {
			s.doubt = 0
			out = append(out, s)
		}
	}
	return out
}

// visited is what iteration makes of doubts: over what is absent or null, it
// visits nothing, which is what the policy says. What is in another form than
// a list stays in doubt, unless the document is the engine's own.
func (d *schemaDoc) visited(states []state) []state {
	var out []state
	for _, s := range states {
		s.doubt &^= doubtAbsent | doubtNull
		if d.open {
			s.doubt = 0
		}
		if !s.ended || s.doubt != 0 {
			out = append(out, s)
		}
	}
	return out
}

// step follows one step from one state.
func (d *schemaDoc) step(st state, s step, top bool) []state {
	if st.ended {
		return []state{st}
	}
	switch s.kind {
	case stepName:
		return d.member(st, s.name, top)
	case stepIndex:
		return d.element(st, s.index)
	case stepEach:
		return d.each(st)
	case stepDynamic:
	}
	st.doubt |= doubtDynamic
	return []state{st}
}

func (d *schemaDoc) member(st state, name string, top bool) []state {
	t := st.alt.types()
	if top {
		t = typeObject
	}
	if t&typeObject == 0 {
		return []state{{ended: true, doubt: otherTypes(t, typeObject)}}
	}
	doubt := st.doubt | otherTypes(t, typeObject)
	var found []rar.Value
	required := false
	for _, s := range st.alt.schemas {
		if props, ok := s.Get("properties"); ok {
			if sub, ok := props.Get(name); ok {
				found = append(found, sub)
			}
		}
		required = required || listHas(s, "required", name)
	}
	if len(found) == 0 {
		switch {
		case st.alt.closed():
			return []state{{ended: true, doubt: doubt}}
		case required:
			return d.unknown(doubt)
		}
		return d.unknown(doubt | doubtAbsent)
	}
	if !required {
		doubt |= doubtAbsent
	}
	return d.states(found, doubt)
}

// otherTypes is the doubt that a value of types t is not a wanted one.
func otherTypes(t, wanted types) doubt {
	t &^= wanted
	var out doubt
	if t&typeNull != 0 {
		out |= doubtNull
	}
	if t&^typeNull != 0 {
		out |= doubtForm
	}
	return out
}

func (d *schemaDoc) unknown(doubt doubt) []state {
	return []state{{alt: alternative{loose: true}, doubt: doubt | doubtUnknown}}
}

// states are the forms of what satisfies all schemas. If nothing can, nothing
// lies here, which does not mean that the place itself cannot be.
func (d *schemaDoc) states(schemas []rar.Value, doubt doubt) []state {
	out := d.expand(schemas)
	if len(out) == 0 {
		return []state{{ended: true, doubt: doubt}}
	}
	for i := range out {
		out[i].doubt |= doubt
	}
	return out
}

func (d *schemaDoc) element(st state, n int) []state {
	t := st.alt.types()
	if t&typeArray == 0 {
		return []state{{ended: true, doubt: otherTypes(t, typeArray)}}
	}
	doubt := st.doubt | otherTypes(t, typeArray)
	found, least := []rar.Value(nil), 0
	for _, s := range st.alt.schemas {
		if m, ok := s.Get("minItems"); ok {
			least = max(least, smallInt(m))
		}
		if sub, ok := itemSchema(s, n); ok {
			found = append(found, sub)
		}
	}
	if least <= n {
		doubt |= doubtAbsent
	}
	if len(found) == 0 {
		return d.unknown(doubt)
	}
	return d.states(found, doubt)
}

// smallInt reads a count; what is no small number counts for nothing.
func smallInt(v rar.Value) int {
	n := 0
	for _, r := range v.Text() {
		if r < '0' || r > '9' || n > 1<<20 {
			return 0
		}
		n = n*10 + int(r-'0')
	}
	return n
}

func itemSchema(s rar.Value, n int) (rar.Value, bool) {
	prefix, _ := s.Get("prefixItems")
	if n < prefix.Len() {
		return prefix.Index(n), true
	}
	return s.Get("items")
}

// each visits the elements of an array or the values of an object.
func (d *schemaDoc) each(st state) []state {
	t := st.alt.types()
	doubt := st.doubt | otherTypes(t, typeArray|typeObject)
	if t&(typeArray|typeObject) == 0 {
		st.doubt = doubt
		return []state{st}
	}
	var out []state
	if t&typeArray != 0 {
		out = append(out, d.elements(st.alt, doubt)...)
	}
	if t&typeObject != 0 {
		out = append(out, d.memberValues(st.alt, doubt)...)
	}
	return out
}

func (d *schemaDoc) elements(alt alternative, doubt doubt) []state {
	longest := 0
	for _, s := range alt.schemas {
		if prefix, ok := s.Get("prefixItems"); ok {
			longest = max(longest, prefix.Len())
		}
	}
	var out []state
	for n := range longest + 1 {
		if len(out) > maxStates {
			break // who asks gives up
		}
		var found []rar.Value
		for _, s := range alt.schemas {
			if sub, ok := itemSchema(s, n); ok {
				found = append(found, sub)
			}
		}
		if len(found) == 0 {
			out = append(out, d.unknown(doubt)...)
			continue
		}
		out = append(out, d.states(found, doubt)...)
	}
	return out
}

func (d *schemaDoc) memberValues(alt alternative, doubt doubt) []state {
	var names []string
	for _, s := range alt.schemas {
		props, _ := s.Get("properties")
		for i := range props.Len() {
			names = append(names, props.Member(i).Name)
		}
	}
	slices.Sort(names)
	var out []state
	for _, name := range slices.Compact(names) {
		if len(out) > maxStates {
			break // who asks gives up
		}
		st := state{alt: alt, doubt: doubt}
		for _, x := range d.member(st, name, true) {
			x.doubt &^= doubtAbsent
			out = append(out, x)
		}
	}
	if !alt.closed() {
		out = append(out, d.unknown(doubt)...)
	}
	return out
}

// closed tells that no member but the declared ones is possible: the schema
// says so, or the engine closes it as one that describes an object and says
// nothing of further members (contract, "Arguments have schemas").
func (a alternative) closed() bool {
	if a.loose {
		return false
	}
	for _, s := range a.schemas {
		for _, k := range []string{"additionalProperties", "unevaluatedProperties"} {
			if v, ok := s.Get(k); ok && !isFalse(v) {
				return false
			}
		}
		if _, ok := s.Get("patternProperties"); ok {
			return false
		}
	}
	for _, s := range a.schemas {
		if isFalse(get(s, "additionalProperties")) || isFalse(get(s, "unevaluatedProperties")) {
			return true
		}
	}
	return slices.ContainsFunc(a.roots, describesObject)
}

func get(v rar.Value, name string) rar.Value {
	m, _ := v.Get(name)
	return m
}

func isFalse(v rar.Value) bool { return v.Kind() == rar.Bool && !v.Bool() }

// describesObject is the engine's test for which schemas it closes.
func describesObject(s rar.Value) bool {
	if t, ok := s.Get("type"); ok {
		return schemaTypes(s)&typeObject != 0 && (t.Kind() == rar.String || t.Kind() == rar.Array)
	}
	for _, k := range []string{
		"properties", "required", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas",
		"propertyNames", "$ref", "allOf", "anyOf", "oneOf", "if",
	} {
		if _, ok := s.Get(k); ok {
			return true
		}
	}
	return false
}

func listHas(s rar.Value, keyword, name string) bool {
	list := get(s, keyword)
	for i := range list.Len() {
		if list.Kind() == rar.Array && list.Index(i).Kind() == rar.String && list.Index(i).Text() == name {
			return true
		}
	}
	return false
}
