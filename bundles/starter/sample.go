package starter

import (
	"strconv"
	"strings"

	"github.com/authzd/authzd/rar"
)

const (
	maxSampleBytes = 2 << 10
	maxSampleDepth = 8
	maxSampleItems = 16
	// maxSampleParts bounds the work: references may double at every step.
	maxSampleParts = 500
)

// sampleOf guesses a value that fits a schema: the least that it requires. The
// guess may be wrong, and is absent where there is none; the engine judges it.
func sampleOf(schema rar.Value) rar.Value {
	s := sampler{root: schema}
	return s.value(schema, 0)
}

type sampler struct {
	root  rar.Value
	parts int
}

func (s *sampler) value(schema rar.Value, depth int) rar.Value {
	if s.parts++; s.parts > maxSampleParts || depth > maxSampleDepth {
		return rar.Value{}
	}
	if schema.Kind() == rar.Bool {
		return rar.StringValue("a")
	}
	if v, ok := given(schema); ok {
		return v
	}
	if v, ok := s.elsewhere(schema, depth); ok {
		return v
	}
	switch typeOf(schema) {
	case "object":
		return s.object(schema, depth)
	case "array":
		return s.array(schema, depth)
	case "integer", "number":
		return number(schema)
	case "boolean":
		return rar.BoolValue(false)
	case "null":
		return rar.NullValue()
	}
	return text(schema)
}

// given is a value that the schema names itself.
func given(schema rar.Value) (rar.Value, bool) {
	if v, ok := schema.Get("const"); ok {
		return v, true
	}
	for _, keyword := range []string{"enum", "examples"} {
		if list, _ := schema.Get(keyword); list.Kind() == rar.Array && list.Len() > 0 {
			return list.Index(0), true
		}
	}
	if v, ok := schema.Get("default"); ok {
		return v, true
	}
	return rar.Value{}, false
}

// elsewhere follows a reference, or the first of several choices.
func (s *sampler) elsewhere(schema rar.Value, depth int) (rar.Value, bool) {
	if ref, ok := schema.Get("$ref"); ok {
		pointer, local := strings.CutPrefix(ref.Text(), "#")
		target, found := s.root.Lookup(pointer)
		if !local || !found {
			return rar.Value{}, true
		}
		return s.value(target, depth+1), true
	}
	if _, typed := schema.Get("type"); typed {
		return rar.Value{}, false
	}
	for _, keyword := range []string{"anyOf", "oneOf", "allOf"} {
		if list, _ := schema.Get(keyword); list.Kind() == rar.Array && list.Len() > 0 {
			return s.value(list.Index(0), depth+1), true
		}
	}
	return rar.Value{}, false
}

func typeOf(schema rar.Value) string {
	t, _ := schema.Get("type")
	if t.Kind() == rar.Array {
		t = t.Index(0)
	}
	if t.Text() != "" {
		return t.Text()
	}
	for _, keyword := range []string{"properties", "required"} {
		if _, ok := schema.Get(keyword); ok {
			return "object"
		}
	}
	if _, ok := schema.Get("items"); ok {
		return "array"
	}
	return "string"
}

func (s *sampler) object(schema rar.Value, depth int) rar.Value {
	required, _ := schema.Get("required")
	properties, _ := schema.Get("properties")
	var members []rar.Member
	for i := range required.Len() {
		name := required.Index(i).Text()
		property, ok := properties.Get(name)
		if !ok {
			property = rar.ObjectValue()
		}
		v := s.value(property, depth+1)
		if v.Kind() == rar.Absent {
			return v
		}
		members = append(members, rar.Member{Name: name, Value: v})
	}
	return rar.ObjectValue(members...)
}

func (s *sampler) array(schema rar.Value, depth int) rar.Value {
	items, _ := schema.Get("items")
	n := atLeast(schema, "minItems")
	if n > maxSampleItems {
		return rar.Value{}
	}
	list := make([]rar.Value, n)
	for i := range list {
		if list[i] = s.value(items, depth+1); list[i].Kind() == rar.Absent {
			return rar.Value{}
		}
	}
	return rar.ArrayValue(list...)
}

func number(schema rar.Value) rar.Value {
	if v, ok := schema.Get("minimum"); ok {
		return v
	}
	if v, ok := schema.Get("exclusiveMinimum"); ok {
		if n, err := strconv.ParseInt(v.Text(), 10, 32); err == nil {
			return rar.IntValue(n + 1)
		}
	}
	if v, ok := schema.Get("maximum"); ok {
		return v
	}
	return rar.IntValue(1)
}

func text(schema rar.Value) rar.Value {
	format, _ := schema.Get("format")
	switch format.Text() {
	case "uri", "url":
		return rar.StringValue("https://example.com/a")
	case "email":
		return rar.StringValue("alice@example.com")
	case "date":
		return rar.StringValue("2026-01-01")
	case "date-time":
		return rar.StringValue("2026-01-01T00:00:00Z")
	case "uuid":
		return rar.StringValue("00000000-0000-4000-8000-000000000000")
	}
	n := max(1, atLeast(schema, "minLength"))
	if n > maxSampleBytes {
		return rar.Value{}
	}
	return rar.StringValue(strings.Repeat("a", n))
}

// atLeast reads a bound that is a small integer; 0 where it is none.
func atLeast(schema rar.Value, keyword string) int {
	v, _ := schema.Get(keyword)
	n, err := strconv.ParseUint(v.Text(), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// maxExact is the largest integer below which a double holds every integer.
const maxExact = 1 << 53

// beyondDoubles finds a number that a JSON library with doubles may have
// changed. Bounds that are meant as the end of the 64-bit range are common, and
// nobody's calls come near.
func beyondDoubles(v rar.Value) (string, bool) {
	switch v.Kind() { //nolint:exhaustive // other kinds hold no numbers
	case rar.Number:
		f, err := strconv.ParseFloat(v.Text(), 64)
		return v.Text(), err != nil || ((f > maxExact || f < -maxExact) && f > -1e18 && f < 1e18)
	case rar.Array:
		for i := range v.Len() {
			if n, lossy := beyondDoubles(v.Index(i)); lossy {
				return n, true
			}
		}
	case rar.Object:
		for i := range v.Len() {
			if n, lossy := beyondDoubles(v.Member(i).Value); lossy {
				return n, true
			}
		}
	}
	return "", false
}
