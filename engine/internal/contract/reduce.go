package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// Reduce translates what is known of input for OPA's type checker: the input
// document, in which input.sbject is a compile error, and at
// input.mcp.params.arguments the tools' schemas joined by anyOf. Each schema
// is reduced to type, properties, items and anyOf with local $ref inlined;
// recursion and every other applicator say nothing. untypedTools, or no tool
// at all, leave the arguments free-form.
func Reduce(tools []Tool, untypedTools bool) (*ast.SchemaSet, error) {
	doc, err := rar.DecodeStrict([]byte(inputSchema), rar.Limits{})
	if err != nil {
		return nil, fmt.Errorf("decode the schema of input: %w", err)
	}
	root := newReduction(doc, false).schema(doc)
	params, ok := dig(root, "mcp", "params")
	if !ok {
		return nil, errors.New("the schema of input has no mcp.params")
	}
	args := freeForm()
	if len(tools) > 0 && !untypedTools {
		args = joinTools(tools)
	}
	// params is the client's message. OPA cannot type some members of an object
	// and leave the rest free, so those that MCP has are listed.
	params["properties"] = paramsProperties(args)
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, root)
	return set, nil
}

func paramsProperties(args any) map[string]any {
	props := map[string]any{"name": map[string]any{"type": "string"}, "arguments": args}
	for _, name := range []string{
		"_meta", "argument", "context", "cursor", "inputResponses", "level", "ref", "requestState", "task", "taskId", "uri",
	} {
		props[name] = map[string]any{}
	}
	return props
}

// dig finds the reduced schema of a property.
func dig(schema any, names ...string) (map[string]any, bool) {
	m, ok := schema.(map[string]any)
	for _, n := range names {
		props, isMap := m["properties"].(map[string]any)
		if !ok || !isMap {
			return nil, false
		}
		m, ok = props[n].(map[string]any)
	}
	return m, ok
}

func joinTools(tools []Tool) any {
	var branches []any
	sorted := slices.SortedFunc(slices.Values(tools), func(a, b Tool) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range sorted {
		s := newReduction(t.Arguments, true).schema(t.Arguments)
		if m, ok := s.(map[string]any); ok && len(m) == 0 {
			s = freeForm()
		}
		branches = append(branches, s)
	}
	return anyOf(branches)
}

func freeForm() any { return map[string]any{"type": "object"} }

// anyOf joins branches. Objects without members are left out while others
// have some: OPA takes an object without properties for one with any.
func anyOf(branches []any) any {
	kept := slices.DeleteFunc(slices.Clone(branches), isMemberless)
	switch {
	case len(kept) == 0 && len(branches) > 0:
		return branches[0]
	case len(kept) == 1:
		return kept[0]
	}
	return map[string]any{"anyOf": kept}
}

// memberless is an object that can have no member, in a form that OPA does not
// take for free-form: the one name it knows cannot be meant.
func memberless() any {
	return map[string]any{"type": "object", "properties": map[string]any{noMember: map[string]any{"type": "string"}}}
}

const noMember = "(none)"

func isMemberless(s any) bool {
	m, ok := s.(map[string]any)
	if !ok {
		return false
	}
	props, ok := m["properties"].(map[string]any)
	_, none := props[noMember]
	return ok && none && len(props) == 1
}

// reduction translates one schema document.
type reduction struct {
	doc *schemaDoc
	// closes: the engine closes this document's objects.
	closes bool
	refs   []string
	budget int
}

// maxReduced bounds the size of a reduced schema: $ref inlined twice at each
// of n levels would make 2^n schemas.
const maxReduced = 5000

func newReduction(doc rar.Value, closes bool) *reduction {
	return &reduction{doc: newSchemaDoc(doc), closes: closes, budget: maxReduced}
}

func (r *reduction) schema(s rar.Value) any { return r.reduce(s, anyType) }

// reduce translates s, of which an enclosing schema already says its types.
func (r *reduction) reduce(s rar.Value, within types) any {
	r.budget--
	if s.Kind() != rar.Object || r.budget <= 0 || saysMore(s) {
		return map[string]any{}
	}
	if ref, ok := s.Get("$ref"); ok {
		return r.ref(s, ref, within)
	}
	t := within
	if _, ok := s.Get("type"); ok {
		t &= schemaTypes(s)
	} else if within == anyType && !hasAnyOf(s) {
		return map[string]any{}
	}
	if list, ok := s.Get("anyOf"); ok {
		if hasStructure(s) {
			return map[string]any{}
		}
		return r.branches(list, t)
	}
	return r.typed(s, t)
}

func (r *reduction) ref(s, ref rar.Value, within types) any {
	text := ref.Text()
	target, ok := r.doc.resolve(ref)
	if !ok || hasStructure(s) || hasAnyOf(s) || slices.Contains(r.refs, text) {
		return map[string]any{}
	}
	r.refs = append(r.refs, text)
	out := r.reduce(target, within)
	r.refs = r.refs[:len(r.refs)-1]
	return out
}

func (r *reduction) branches(list rar.Value, t types) any {
	var out []any
	for i := range list.Len() {
		b := r.reduce(list.Index(i), t)
		if m, ok := b.(map[string]any); ok && len(m) == 0 {
			return map[string]any{}
		}
		out = append(out, b)
	}
	if len(out) == 0 {
		return map[string]any{}
	}
	return anyOf(out)
}

// typed translates a schema whose types are known, one branch for each: OPA
// would take the first of a list and drop the rest.
func (r *reduction) typed(s rar.Value, t types) any {
	if t&typeNull != 0 {
		return map[string]any{} // OPA's translation knows no null.
	}
	var out []any
	for _, scalar := range []struct {
		one  types
		name string
	}{{typeBoolean, "boolean"}, {typeNumber, "number"}, {typeString, "string"}} {
		if t&scalar.one != 0 {
			out = append(out, map[string]any{"type": scalar.name})
		}
	}
	if t&typeArray != 0 {
		out = append(out, r.array(s))
	}
	if t&typeObject != 0 {
		out = append(out, r.object(s))
	}
	if len(out) == 0 {
		return map[string]any{}
	}
	return anyOf(out)
}

func (r *reduction) array(s rar.Value) any {
	out := map[string]any{"type": "array"}
	_, prefixed := s.Get("prefixItems")
	if items, ok := s.Get("items"); ok && !prefixed && items.Kind() == rar.Object {
		if sub := r.schema(items); sub != nil {
			out["items"] = sub
		}
	}
	return out
}

func (r *reduction) object(s rar.Value) any {
	alt := alternative{schemas: []rar.Value{s}}
	if r.closes {
		alt.roots = alt.schemas
	}
	if !alt.closed() {
		return freeForm()
	}
	props := make(map[string]any)
	declared, _ := s.Get("properties")
	for i := range declared.Len() {
		m := declared.Member(i)
		props[m.Name] = r.schema(m.Value)
	}
	if len(props) == 0 {
		return memberless()
	}
	return map[string]any{"type": "object", "properties": props}
}

// saysMore tells an applicator that the reduced form does not have.
func saysMore(s rar.Value) bool {
	for _, k := range []string{
		"allOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef",
	} {
		if _, ok := s.Get(k); ok {
			return true
		}
	}
	return false
}

func hasAnyOf(s rar.Value) bool { _, ok := s.Get("anyOf"); return ok }

func hasStructure(s rar.Value) bool {
	for _, k := range []string{"properties", "items", "prefixItems", "additionalProperties", "patternProperties", "unevaluatedProperties"} {
		if _, ok := s.Get(k); ok {
			return true
		}
	}
	return false
}
