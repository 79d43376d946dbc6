package contract

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// dataRead is a path of base data that a rule that decides reads.
type dataRead struct {
	file string
	rule string
	loc  *ast.Location
	path []step
	// member: it stands on the right of x in ….
	member bool
	// orders: it is compared with values of these kinds, and must be of one, or
	// it is told with severity.
	orders   types
	severity Severity
}

// CheckData judges base data against the policy, again on every change of
// data; the text needs no second look.
func (a *Analysis) CheckData(data rar.Value) []Finding {
	if data.Kind() == rar.Absent {
		data = rar.ObjectValue()
	}
	if data.Kind() != rar.Object {
		return []Finding{at(nil, "", CodeDataInvalid, Error, "", "base data must be an object, not a "+data.Kind().String())}
	}
	var found []Finding
	for i := range data.Len() {
		if name := data.Member(i).Name; reservedData(name) {
			found = append(found, at(nil, "", CodeReservedData, Error, "", "base data at "+strconv.Quote(name)+" is under a reserved root"))
		}
	}
	found = append(found, a.checkOptional()...)
	if a.policy != nil {
		found = append(found, a.policy.checkConflicts(data)...)
		found = append(found, a.checkReads(data)...)
	}
	return sorted(found)
}

func reserved(name string) bool {
	return name == "authzd" || name == "system" || strings.HasPrefix(name, "authzd_")
}

func reservedData(name string) bool {
	switch name {
	case "authzd_tools", "authzd_types", "authzd_indexes":
		return false
	}
	return reserved(name)
}

// checkModules refuses modules under reserved roots.
func checkModules(in Input) []Finding {
	var found []Finding
	for _, file := range sortedKeys(in.Modules) {
		m := in.Modules[file]
		if isLibrary(in, file, m) || len(m.Package.Path) < 2 {
			continue
		}
		if root, ok := m.Package.Path[1].Value.(ast.String); ok && reserved(string(root)) {
			found = append(found, at(m.Package.Location, file, CodeReservedPackage, Error, "",
				m.Package.Path.String()[len("data."):]+" is under a reserved root"))
		}
	}
	return found
}

// checkConflicts refuses base data where rules are: OPA merges an object of
// data into a document made of rules with constant heads, so data at
// authz.permit would be permits. In the entry point's package it is refused
// altogether.
func (p *policy) checkConflicts(data rar.Value) []Finding {
	var found []Finding
	entry := entryPlaces(p.entry)
	if v, ok := lookPlaces(data, entry); ok && (v.Kind() != rar.Object || v.Len() > 0) {
		found = append(found, at(nil, "", CodeDataConflict, Error, "",
			"base data lies in the entry point's package "+p.entry.String()+"; move it to another root"))
	}
	for _, g := range p.groups {
		if g.library {
			continue // its root is reserved
		}
		path := g.path
		if i := slices.IndexFunc(path, func(pl place) bool { return pl.dynamic }); i >= 0 {
			path = path[:i]
		}
		if _, ok := lookPlaces(data, path); ok && (len(path) < len(entry) || !slices.Equal(path[:len(entry)], entry)) {
			d := g.defs[0]
			found = append(found, at(lineOf(d.rule), d.file, CodeDataConflict, Error, g.name(p), "base data lies where this rule is defined"))
		}
	}
	return found
}

// lookPlaces finds what lies at a path, or a value that is no object on the
// way, which would stand in for it.
func lookPlaces(v rar.Value, path []place) (rar.Value, bool) {
	for _, pl := range path {
		if v.Kind() != rar.Object {
			return v, true
		}
		next, ok := v.Get(pl.name)
		if !ok {
			return rar.Value{}, false
		}
		v = next
	}
	return v, true
}

// checkReads looks up every path of base data that rules read: the longest
// prefix known before a decision must lead to a value that is not null, or
// every rule that reads it is undefined. Of what iteration visits, some element
// must have the rest of the path, if there is any element.
func (a *Analysis) checkReads(data rar.Value) []Finding {
	severity := Error
	if a.in.LaxForbids {
		severity = Warning
	}
	var found []Finding
	look := dataLooks{data: data, names: map[string]map[string]int{}, found: map[string]looked{}}
	for _, r := range a.data {
		if r.orders != 0 {
			found = append(found, r.compare(data)...)
			continue
		}
		name := pathText(r.path)
		v, ok := look.at(name, r.path)
		name = "data" + name
		switch {
		case !ok || v.Kind() == rar.Null:
			if !r.member && !a.optional(r.path) {
				what := " is missing"
				if ok {
					what = " is null"
				}
				found = append(found, at(r.loc, r.file, CodeMissingData, severity, r.rule,
					name+what+", so what reads it is undefined. Add it to the bundle, or to metadata.authzd.optional_data"))
			}
		case r.member && v.Kind() != rar.Array:
			found = append(found, at(r.loc, r.file, CodeDataNotArray, severity, r.rule,
				name+" must be an array, not "+v.Kind().String()+": in sees only the values of an object, and nothing in a scalar"))
		}
	}
	return found
}

// manyMembers is the size from which an object's names are kept, for the next look.
const manyMembers = 64

// dataLooks looks many paths up in one value, of which thousands may go through the
// same large object.
type dataLooks struct {
	data rar.Value
	// names are those of large objects, by the path of the object.
	names map[string]map[string]int
	// found is what lies at a path, by its text: many rules may read one that leads
	// through every row.
	found map[string]looked
}

type looked struct {
	value rar.Value
	ok    bool
}

// at looks a path up, whose text is given, once.
func (d *dataLooks) at(text string, path []step) (rar.Value, bool) {
	l, done := d.found[text]
	if !done {
		l.value, l.ok = d.steps(path)
		d.found[text] = l
	}
	return l.value, l.ok
}

func (d *dataLooks) steps(path []step) (rar.Value, bool) {
	v, at := d.data, ""
	for i, s := range path {
		if s.kind != stepName || v.Kind() != rar.Object {
			return lookSteps(v, path[i:])
		}
		next, ok := d.member(v, at, s.name)
		if !ok {
			return rar.Value{}, false
		}
		v, at = next, at+strconv.Quote(s.name)
	}
	return v, true
}

// member finds a member of the object v, which lies at a path.
func (d *dataLooks) member(v rar.Value, at, name string) (rar.Value, bool) {
	if v.Len() < manyMembers || v.Packed() {
		return v.Get(name)
	}
	names := d.names[at]
	if names == nil {
		names = make(map[string]int, v.Len())
		for i := range v.Len() {
			names[v.Member(i).Name] = i
		}
		d.names[at] = names
	}
	i, ok := names[name]
	if !ok {
		return rar.Value{}, false
	}
	return v.Member(i).Value, true
}

func lookSteps(v rar.Value, path []step) (rar.Value, bool) {
	for i, s := range path {
		switch {
		case s.kind == stepEach && (v.Kind() == rar.Array || v.Kind() == rar.Object):
			return lookEach(v, path[i+1:])
		case s.kind == stepIndex && v.Kind() == rar.Array && s.index < v.Len():
			v = v.Index(s.index)
		case s.kind == stepName && v.Kind() == rar.Object:
			next, ok := v.Get(s.name)
			if !ok {
				return rar.Value{}, false
			}
			v = next
		default:
			return rar.Value{}, false
		}
	}
	return v, true
}

// lookEach finds the rest of a path in any element. Nothing to visit is fine.
func lookEach(v rar.Value, rest []step) (rar.Value, bool) {
	if v.Len() == 0 || len(rest) == 0 {
		return v, true
	}
	names := leadingNames(rest)
	for i := range v.Len() {
		e, ok := childAt(v, i, names)
		if !ok {
			continue
		}
		if found, ok := lookSteps(e, rest[len(names):]); ok && found.Kind() != rar.Null {
			return found, true
		}
	}
	return rar.Value{}, false
}

// leadingNames are the steps of a path as far as they are names.
func leadingNames(path []step) (names []string) {
	for _, s := range path {
		if s.kind != stepName {
			break
		}
		names = append(names, s.name)
	}
	return names
}

// longRow is the length of text, in bytes, from which on a row may be packed itself.
const longRow = 4 << 10

// childAt is what lies below child i of v, at names of members. No more than that is
// decoded: of a short row it is found in the text, and of a long one by its index.
func childAt(v rar.Value, i int, names []string) (rar.Value, bool) {
	if v.ChildSize(i) <= longRow {
		return v.ChildAt(i, names...)
	}
	child := v.Index(i)
	if v.Kind() == rar.Object {
		child = v.Member(i).Value
	}
	for _, name := range names {
		child, _ = child.Get(name)
	}
	return child, child.Kind() != rar.Absent
}

// optional tells whether optional_data excuses a path: an entry, or what lies
// below it.
func (a *Analysis) optional(path []step) bool {
	for _, o := range a.in.OptionalData {
		names := splitPath(o)
		if len(names) == 0 || len(names) > len(path) {
			continue
		}
		if !slices.ContainsFunc(path[:len(names)], func(s step) bool { return s.kind != stepName }) &&
			slices.EqualFunc(names, path[:len(names)], func(n string, s step) bool { return n == s.name }) {
			return true
		}
	}
	return false
}

// splitPath reads a/b, a.b and data.a.b alike. A name with a dot is written
// with slashes.
func splitPath(s string) []string {
	if strings.Contains(s, "/") {
		return strings.Split(strings.Trim(s, "/"), "/")
	}
	return strings.Split(strings.TrimPrefix(s, "data."), ".")
}

func (a *Analysis) checkOptional() []Finding {
	var found []Finding
	for _, o := range a.in.OptionalData {
		if names := splitPath(o); slices.Contains(names, "") || o == "data" {
			found = append(found, at(nil, "", CodeOptionalDataInvalid, Error, "",
				"optional_data "+strconv.Quote(o)+" is not the path of a document, such as \"lists/blocked\""))
		}
	}
	return found
}

// CheckTool judges a schema of arguments that came with a query, for a tool
// that no bundle declares: every read that must not be undefined has to hold
// for this tool, too, and what is compared must be of one kind. An error among the findings means that a forbid or a
// negation could go wrong for this call.
func (a *Analysis) CheckTool(t Tool) []Finding {
	doc := toolDoc{t.Name, newSchemaDoc(t.Arguments)}
	var found []Finding
	for _, r := range a.reads {
		if p := doc.presence(r.origin.steps, r.origin.soft); !p.undeclared && p.doubt != 0 {
			f := r.finding
			if f.Code == CodeUndeclaredPath {
				f.Code = CodeForbidUndefined
			}
			f.Message += doc.reason(p.doubt)
			found = append(found, f)
		}
	}
	return sorted(append(found, a.compares(t)...))
}
