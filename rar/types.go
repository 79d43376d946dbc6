package rar

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Declaration is one type as a bundle declares it.
type Declaration struct {
	// Name is the name of its folder: the type, percent-encoded outside
	// [A-Za-z0-9_.-].
	Name string
	// Document is the declaration itself; its member type is authoritative.
	Document Value
}

// Warning is a doubtful spot of a declaration that is not a fault.
type Warning struct {
	// Type is the declared type.
	Type string
	// Path is a JSON Pointer into the object of all declarations, by Name.
	Path string
	// Message says what is doubtful and why it matters.
	Message string
}

// Types are the compiled types of a snapshot. The nil Types declares none.
type Types struct {
	byName map[string]*typ
	names  []string
}

// typ is one compiled type.
type typ struct {
	name      string
	document  Value
	schema    *jsonschema.Schema
	quick     *check // nil if the schema says more than check knows
	rules     *node
	singleUse bool
}

// CompileTypes compiles declarations. All faults of all declarations come back
// joined, each an *Error of CodeInvalidType whose Path starts with the name of
// the declaration; then no Types are returned.
func CompileTypes(decls []Declaration) (*Types, []Warning, error) {
	t := &Types{byName: make(map[string]*typ, len(decls))}
	var warnings []Warning
	var faults []error
	for _, d := range decls {
		c := &typeCompiler{base: appendToken("", d.Name)}
		compiled := c.compile(d)
		faults = append(faults, c.faults...)
		warnings = append(warnings, c.warnings...)
		if compiled == nil {
			continue
		}
		if _, twice := t.byName[compiled.name]; twice {
			c.fault(c.base+"/type", "type %q is declared twice", compiled.name)
			faults = append(faults, c.faults[len(c.faults)-1])
			continue
		}
		t.byName[compiled.name] = compiled
		t.names = append(t.names, compiled.name)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, warnings, err
	}
	slices.Sort(t.names)
	return t, warnings, nil
}

func (t *Types) lookup(name string) *typ {
	if t == nil {
		return nil
	}
	return t.byName[name]
}

// Names returns the declared types, sorted.
func (t *Types) Names() []string {
	if t == nil {
		return nil
	}
	return slices.Clone(t.names)
}

// Declared reports whether the type is declared.
func (t *Types) Declared(name string) bool { return t.lookup(name) != nil }

// SingleUse reports whether the type is declared for single use.
func (t *Types) SingleUse(name string) bool {
	ty := t.lookup(name)
	return ty != nil && ty.singleUse
}

// Document returns the declaration of a type, Absent if there is none.
func (t *Types) Document(name string) Value {
	if ty := t.lookup(name); ty != nil {
		return ty.document
	}
	return Value{}
}

// Schema returns the JSON Schema of a type, Absent if it is not declared.
func (t *Types) Schema(name string) Value {
	schema, _ := t.Document(name).Get("schema")
	return schema
}

// typeCompiler collects what is wrong with one declaration.
type typeCompiler struct {
	base     string
	name     string
	faults   []error
	warnings []Warning
}

func (c *typeCompiler) fault(path, format string, args ...any) {
	c.faults = append(c.faults, &Error{Code: CodeInvalidType, Path: path, Err: fmt.Errorf(format, args...)})
}

func (c *typeCompiler) warn(path, message string) {
	c.warnings = append(c.warnings, Warning{Type: c.name, Path: path, Message: message})
}

// compile returns nil if the declaration has no usable name or schema.
func (c *typeCompiler) compile(d Declaration) *typ {
	if d.Document.kind != Object {
		c.fault(c.base, "the declaration is not an object")
		return nil
	}
	c.members(d.Document)
	if !c.named(d) {
		return nil
	}
	ty := &typ{name: c.name, document: d.Document}
	single, _ := d.Document.Get("single_use")
	ty.singleUse = single.Bool()
	doc, ok := d.Document.Get("schema")
	if !ok {
		c.fault(c.base+"/schema", "the declaration has no schema")
		return nil
	}
	schema, err := compileSchema(doc)
	if err != nil {
		c.fault(c.base+"/schema", "%v", err)
		return nil
	}
	ty.schema = schema
	pinned := schema.Properties["type"]
	if pinned == nil || pinned.Const == nil || !Equal(fromAny(*pinned.Const), StringValue(c.name)) {
		c.fault(c.base+"/schema/properties/type", "the schema does not pin type to the constant %q", c.name)
	}
	if set, _ := kindsAt(schema, nil); set&kinds(Object) == 0 {
		c.fault(c.base+"/schema", "the schema admits no object")
	}
	compare, _ := d.Document.Get("compare")
	rules := ruleCompiler{schema: schema, fault: c.fault}
	ty.rules = rules.tree(compare, c.base+"/compare")
	ty.quick = compileCheck(schema)
	c.examples(ty)
	c.doubts(ty, compare)
	return ty
}

// members refuses unknown members and wrong kinds: a misspelt "single_use"
// would silently make a type reusable.
func (c *typeCompiler) members(doc Value) {
	for i := range doc.Len() {
		m := doc.Member(i)
		var want Kind
		switch m.Name {
		case "type", "version", "description", "documentation_uri":
			want = String
		case "schema", "compare":
			want = Object
		case "single_use":
			want = Bool
		case "examples":
			want = Array
		default:
			c.fault(appendToken(c.base, m.Name), "a declaration has no such member")
			continue
		}
		if m.Value.kind != want {
			c.fault(appendToken(c.base, m.Name), "%s where %s belongs", m.Value.kind, want)
		}
	}
}

// named takes the name from the document and holds the folder's against it.
func (c *typeCompiler) named(d Declaration) bool {
	name, _ := d.Document.Get("type")
	if name.kind != String || name.str() == "" {
		c.fault(c.base+"/type", "the declaration names no type")
		return false
	}
	c.name = name.str()
	decoded, err := url.PathUnescape(d.Name)
	if err != nil || decoded != c.name {
		c.fault(c.base+"/type", "type %q stands under the name %q", c.name, d.Name)
	}
	return true
}

// examples holds each example against the schema.
func (c *typeCompiler) examples(ty *typ) {
	list, _ := ty.document.Get("examples")
	for i := range list.Len() {
		if err := ty.validate(list.Index(i)); err != nil {
			c.fault(fmt.Sprintf("%s/examples/%d%s", c.base, i, err.Path), "the example is no %s: %s, %w", c.name, err.Code, err.Err)
		}
	}
}

// doubts looks for what is legal and probably meant otherwise.
func (c *typeCompiler) doubts(ty *typ, compare Value) {
	for _, r := range c.name {
		if r < 0x20 || r > 0x7e {
			c.warn(c.base+"/type", "characters outside ASCII look alike (RFC 9396 §2.1)")
			break
		}
	}
	if compare.Len() == 0 {
		c.warn(c.base+"/compare", "without any rule every field must be equal")
	}
	if !closed(ty.schema) {
		c.warn(c.base+"/schema", "additionalProperties is not false: fields that nobody declared are accepted")
	}
	c.commonFields(ty.schema)
	for i := range compare.Len() {
		m := compare.Member(i)
		tokens, err := pointerTokens(m.Name)
		n := ty.rules.at(tokens)
		if err != nil || n == nil {
			continue
		}
		at := appendToken(c.base+"/compare", m.Name)
		if (n.rule == ruleEqual || n.isLimit()) && admitsLongNumber(schemasAt(ty.schema, tokens)) {
			c.warn(at, "the schema admits JSON numbers that many authorization servers round (beyond 2^53): use decimal text, or a maximum")
		}
		if n.rule != ruleMax {
			continue
		}
		if admitsNegative(schemasAt(ty.schema, tokens)) {
			c.warn(at, "the schema admits negative values, which are below every max")
		}
		if strings.Contains(strings.ToLower(tokens[len(tokens)-1]), "amount") && !ty.hasCurrency(tokens) {
			c.warn(at, "an amount has a max, and no currency beside it must be equal")
		}
	}
}

// commonFields holds the fields that RFC 9396 section 2.2 gives a kind to: an
// authorization server refuses others, whatever the type says.
func (c *typeCompiler) commonFields(schema *jsonschema.Schema) {
	warn := func(name, want string) {
		c.warn(c.base+"/schema/properties/"+name, name+" is "+want+" in every type (RFC 9396 §2.2); authorization servers refuse another")
	}
	for _, name := range []string{"actions", "datatypes", locations, "privileges"} {
		at := stepInto{name: name}
		kinds, named := kindsAt(schema, []stepInto{at})
		if !named || kinds == 0 {
			continue // the type does not have it
		}
		if of, _ := kindsAt(schema, []stepInto{at, {element: true}}); kinds != 1<<Array || of != 1<<String {
			warn(name, "an array of strings")
		}
	}
	if kinds, named := kindsAt(schema, []stepInto{{name: "identifier"}}); named && kinds != 0 && kinds != 1<<String {
		warn("identifier", "one string")
	}
}

// at returns the node at tokens, nil if there is none.
func (n *node) at(tokens []string) *node {
	for _, t := range tokens {
		n = n.child(t)
	}
	return n
}

// hasCurrency reports whether a currency stands beside the amount at tokens and
// is compared by equal.
func (ty *typ) hasCurrency(tokens []string) bool {
	parent := tokens[:len(tokens)-1]
	for _, s := range schemasAt(ty.schema, parent) {
		for name := range s.Properties {
			if !strings.Contains(strings.ToLower(name), "currency") {
				continue
			}
			if n := ty.rules.at(parent).child(name); n == nil || n.rule == ruleEqual {
				return true
			}
		}
	}
	return false
}

// admitsLongNumber tries an integer that no double holds, on a field that takes
// no text instead; it is for a warning only.
func admitsLongNumber(schemas []*jsonschema.Schema) bool {
	admits := func(v any) bool {
		return !slices.ContainsFunc(schemas, func(s *jsonschema.Schema) bool { return s.Validate(v) != nil })
	}
	return len(schemas) > 0 && admits(json.Number("9007199254740993")) && !admits("1")
}

// admitsNegative tries a few negative amounts; it is for a warning only.
func admitsNegative(schemas []*jsonschema.Schema) bool {
	for _, literal := range []string{"-1", "-0.5", "-1.00", "-100"} {
		number, err := NumberValue(literal)
		if err != nil {
			continue
		}
		for _, v := range []Value{number, StringValue(literal)} {
			refused := slices.ContainsFunc(schemas, func(s *jsonschema.Schema) bool { return s.Validate(v.Any()) != nil })
			if !refused {
				return true
			}
		}
	}
	return false
}
