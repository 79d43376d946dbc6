package engine

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/authzd/authzd/rar"
)

// toolSchemas validates the arguments of tools/call. Declared schemas are the
// bundle's; a tool without one is judged by the inputSchema of the query, whose
// compiled form is kept in a bounded cache.
type toolSchemas struct {
	declared map[string]*argumentsSchema
	// judge applies the contract's rules on what may be undefined to a schema
	// that was not there when the policy was compiled.
	judge func(name string, schema rar.Value) error

	mu     sync.Mutex
	byText map[[sha256.Size]byte]compiledSchema
}

// argumentsSchema is a compiled schema and how much one value costs by it.
type argumentsSchema struct {
	compiled *jsonschema.Schema
	width    int
	// plain admits most valid values at once; nil if the schema is not of its kind.
	plain *plainSchema
}

type compiledSchema struct {
	schema *argumentsSchema
	err    error
}

const maxCachedSchemas = 256

func newToolSchemas() *toolSchemas {
	return &toolSchemas{declared: map[string]*argumentsSchema{}, byText: map[[sha256.Size]byte]compiledSchema{}}
}

func (t *toolSchemas) declare(name string, schema rar.Value) error {
	s, err := compileArguments(schema, false)
	if err != nil {
		return err
	}
	t.declared[name] = s
	return nil
}

// fromQuery compiles the inputSchema that the PEP sent along. A schema under
// which a forbid could vanish is refused like one that does not compile. Two
// calls may compile the same schema at once; none waits for another's.
func (t *toolSchemas) fromQuery(name string, schema rar.Value) (*argumentsSchema, error) {
	text := schema.AppendJSON(nil)
	if len(text) > maxQuerySchemaBytes {
		return nil, fmt.Errorf("the schema is larger than %d bytes", maxQuerySchemaBytes)
	}
	key := sha256.Sum256(append([]byte(name+"\x00"), text...))
	t.mu.Lock()
	c, ok := t.byText[key]
	t.mu.Unlock()
	if ok {
		return c.schema, c.err
	}
	c.schema, c.err = compileArguments(schema, true)
	if c.err == nil {
		c.err = t.judge(name, schema)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byText) >= maxCachedSchemas {
		clear(t.byText)
	}
	t.byText[key] = c
	return c.schema, c.err
}

// compileArguments closes a schema against undeclared members and compiles it.
// Nothing is ever loaded from elsewhere.
func compileArguments(schema rar.Value, fromQuery bool) (*argumentsSchema, error) {
	if schema.Kind() != rar.Object {
		return nil, fmt.Errorf("a schema of arguments must be an object, not a %s", schema.Kind())
	}
	if err := checkDialect(schema); err != nil {
		return nil, err
	}
	root, _ := schema.Any().(map[string]any)
	delete(root, "$id") // names the schema; references stay within it
	doc, err := closeSchema(root, false)
	if err != nil {
		return nil, err
	}
	width, err := measureSchema(doc, fromQuery)
	if err != nil {
		return nil, err
	}
	const url = "urn:authzd:tool"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource(url, doc); err != nil {
		return nil, fmt.Errorf("not a JSON Schema: %w", err)
	}
	s, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("not a JSON Schema: %w", err)
	}
	return &argumentsSchema{compiled: s, width: width, plain: newPlain(doc)}, nil
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: only references within the schema are followed", url)
}

// checkDialect admits JSON Schema 2020-12, and draft-07 (which MCP SDKs write)
// where it means the same.
func checkDialect(schema rar.Value) error {
	v, ok := schema.Get("$schema")
	if !ok {
		return nil
	}
	switch strings.TrimSuffix(v.Text(), "#") {
	case "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema":
		return nil
	}
	return fmt.Errorf("$schema %q: write JSON Schema 2020-12", v.Text())
}

// closeSchema returns the schema with unevaluatedProperties: false at every
// place that describes an object and says nothing of further members. Within
// applicators that work on the same instance (allOf, $ref targets, …) the
// place of the instance itself is closed by the outer schema, which sees what
// they evaluated.
func closeSchema(s any, inPlace bool) (any, error) {
	m, ok := s.(map[string]any)
	if !ok {
		return s, nil
	}
	out := make(map[string]any, len(m)+1)
	for k, v := range m {
		var err error
		if out[k], err = closeKeyword(k, v); err != nil {
			return nil, err
		}
	}
	delete(out, "$schema")
	// A name that nothing can refer to: references go by JSON Pointer.
	delete(out, "$anchor")
	if !inPlace && describesObject(m) && !hasAny(m, "additionalProperties", "patternProperties", "unevaluatedProperties") {
		out["unevaluatedProperties"] = false
	}
	return out, nil
}

func closeKeyword(keyword string, v any) (any, error) {
	switch keyword {
	case "additionalItems", "dependencies", "$recursiveRef", "$dynamicRef", "$id", "$dynamicAnchor":
		return nil, fmt.Errorf("keyword %s is not supported: write JSON Schema 2020-12 without it", keyword)
	case "items":
		if _, ok := v.([]any); ok {
			return nil, errors.New("items as an array is not JSON Schema 2020-12: write prefixItems")
		}
		return closeSchema(v, false)
	case "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "contains", "propertyNames":
		return closeSchema(v, false)
	case "properties", "patternProperties":
		return closeMap(v, false)
	case "prefixItems":
		return closeList(v, false)
	case "$defs", "definitions", "dependentSchemas":
		return closeMap(v, true)
	case "allOf", "anyOf", "oneOf":
		return closeList(v, true)
	case "not", "if", "then", "else":
		return closeSchema(v, true)
	default:
		return v, nil
	}
}

func closeMap(v any, inPlace bool) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return v, nil
	}
	out := make(map[string]any, len(m))
	for k, s := range m {
		var err error
		if out[k], err = closeSchema(s, inPlace); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func closeList(v any, inPlace bool) (any, error) {
	list, ok := v.([]any)
	if !ok {
		return v, nil
	}
	out := make([]any, len(list))
	for i, s := range list {
		var err error
		if out[i], err = closeSchema(s, inPlace); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// describesObject tells whether a schema is about objects, by type, by an
// object keyword, or by what it refers to.
func describesObject(m map[string]any) bool {
	switch t := m["type"].(type) {
	case string:
		return t == "object"
	case []any:
		for _, x := range t {
			if x == "object" {
				return true
			}
		}
		return false
	}
	return hasAny(m, "properties", "required", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas",
		"propertyNames", "$ref", "allOf", "anyOf", "oneOf", "if")
}

func hasAny(m map[string]any, keys ...string) bool {
	for _, k := range keys {
		if _, ok := m[k]; ok {
			return true
		}
	}
	return false
}

// checkArguments is step 3: a tool without schema, or arguments that fail it,
// are denied before any policy is evaluated.
func (s *Snapshot) checkArguments(in *input) *Fault {
	m := in.query.MCP
	if m == nil || m.Method != methodToolsCall {
		return nil
	}
	name, _ := m.Params.Get("name")
	schema, fault := s.schemaFor(name.Text(), m)
	if schema == nil || fault != nil {
		return fault
	}
	args, _ := in.params.Get("arguments")
	if work := countValues(args) * schema.width; work > maxValidationWork {
		return &Fault{
			Code: CodeBudget, Path: "/mcp/params/arguments",
			Message: "the arguments are too many to be validated against the tool's schema",
		}
	}
	if schema.plain != nil && schema.plain.admits(args) {
		return nil
	}
	err := schema.compiled.Validate(args.Any())
	if err == nil {
		return nil
	}
	f := &Fault{Code: CodeArgumentsInvalid, Path: "/mcp/params/arguments", Message: "the arguments fail the tool's schema"}
	var ve *jsonschema.ValidationError
	if errors.As(err, &ve) {
		leaf := deepest(ve)
		f.Path = printablePath(f.Path + pointer(leaf.InstanceLocation))
		f.Message += " at " + f.Path + ": " + faultWords(leaf)
	}
	return f
}

// faultWords names what failed without showing the value.
func faultWords(e *jsonschema.ValidationError) string {
	if keyword := strings.Join(e.ErrorKind.KeywordPath(), "/"); keyword != "" {
		return "keyword " + keyword
	}
	return "not a declared member"
}

// countValues counts a value and all its parts.
func countValues(v rar.Value) int {
	n := 1
	for i := range v.Len() {
		if v.Kind() == rar.Object {
			n += countValues(v.Member(i).Value)
		} else {
			n += countValues(v.Index(i))
		}
	}
	return n
}

// deepest finds a cause nearest to the fault, always the same of several.
func deepest(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	best := e
	for _, c := range e.Causes {
		if d := deepest(c); len(d.Causes) == 0 && (len(best.Causes) > 0 || before(d, best)) {
			best = d
		}
	}
	return best
}

// before puts the deeper fault first, and of two as deep the one that comes first
// by its place and keyword: the validator finds them in no order.
func before(a, b *jsonschema.ValidationError) bool {
	return cmp.Or(
		cmp.Compare(len(b.InstanceLocation), len(a.InstanceLocation)),
		slices.Compare(a.InstanceLocation, b.InstanceLocation),
		slices.Compare(a.ErrorKind.KeywordPath(), b.ErrorKind.KeywordPath()),
	) < 0
}

// schemaFor picks the declared schema, else the query's. Neither is a fault
// unless the bundle admits untyped tools.
func (s *Snapshot) schemaFor(name string, m *MCP) (*argumentsSchema, *Fault) {
	if schema, ok := s.tools.declared[name]; ok {
		return schema, nil
	}
	given, ok := m.Tool.Get("inputSchema")
	if !ok {
		if s.untypedTools {
			return nil, nil
		}
		return nil, &Fault{
			Code: CodeToolUnknown, Path: "/mcp/params/name",
			Message: fmt.Sprintf("tool %q has no schema: declare its arguments in data.authzd_tools or send mcp.tool.inputSchema", clip(name, maxPlace)),
		}
	}
	schema, err := s.tools.fromQuery(name, given)
	if err != nil {
		return nil, &Fault{Code: CodeToolUnknown, Path: "/mcp/tool/inputSchema", Message: err.Error()}
	}
	return schema, nil
}

// pointer writes a JSON Pointer (RFC 6901 section 3).
func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll(t, "~", "~0"), "/", "~1"))
	}
	return b.String()
}
