package contract

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/authzd/authzd/rar"
)

func TestInputSchemaDecodes(t *testing.T) {
	t.Parallel()
	s := newSchemas(Input{})
	for _, path := range [][]step{argumentsPath(), {{name: "subject"}, {name: "id"}}, {{name: "now"}}} {
		if p := s.input.at(path, 0); p != (presence{}) {
			t.Errorf("%s: %+v", pathText(path), p)
		}
	}
	if p := s.input.at([]step{{name: "sbject"}}, 0); !p.undeclared {
		t.Errorf("input.sbject: %+v", p)
	}
}

// TestPresenceIsSound generates schemas, documents that satisfy them (closed as
// the engine closes them) and paths: what the analysis takes for certain has to
// be there, not null, and what it takes for undeclared must not be.
func TestPresenceIsSound(t *testing.T) {
	t.Parallel()
	certain, undeclared := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		schema := map[string]any{"type": "object", "$defs": map[string]any{"d": drawSchema(t, 1)}}
		for k, v := range drawObject(t, 3) {
			schema[k] = v
		}
		validator := compileClosed(t, schema)
		if validator == nil {
			return // a $ref that leads to itself
		}
		var instances []any
		for range 20 {
			instance := drawDocument(t, 3)
			if _, ok := instance.(map[string]any); ok && validator.Validate(instance) == nil {
				instances = append(instances, instance)
			}
		}
		doc := newSchemaDoc(valueOf(t, schema))
		for _, path := range allPaths() {
			p := doc.at(path, 0)
			for _, instance := range instances {
				found := follow([]any{instance}, path)
				switch {
				case p.undeclared:
					undeclared++
					if len(found.values) > 0 && path[len(path)-1].kind != stepEach {
						t.Fatalf("%s is undeclared in %s but in %s", pathText(path), text(schema), text(instance))
					}
				case p.doubt == 0:
					certain++
					if found.missed {
						t.Fatalf("%s is certain in %s but not in %s", pathText(path), text(schema), text(instance))
					}
				}
			}
		}
	})
	t.Logf("%d certain, %d undeclared", certain, undeclared)
	if !testing.Short() && (certain == 0 || undeclared == 0) {
		t.Errorf("%d certain and %d undeclared paths prove nothing", certain, undeclared)
	}
}

type followed struct {
	values []any
	// missed: some value lacked a step, or was null at the end.
	missed bool
}

// follow reads a path as a policy does. Iteration over what is absent or null
// visits nothing, over a scalar it misses.
func follow(from []any, path []step) followed {
	out := followed{values: from}
	for i, s := range path {
		var next []any
		rest := path[i:]
		for _, v := range out.values {
			found, ok := take(v, s)
			next = append(next, found...)
			if !ok && !forgiven(v, rest) {
				out.missed = true
			}
		}
		out.values = next
	}
	if path[len(path)-1].kind != stepEach {
		for _, v := range out.values {
			out.missed = out.missed || v == nil
		}
	}
	return out
}

// forgiven: what is missing on the way to an iteration is nothing to visit.
func forgiven(v any, rest []step) bool {
	if rest[0].kind == stepEach {
		return v == nil
	}
	for _, s := range rest {
		if s.kind == stepEach {
			_, isMap := v.(map[string]any)
			_, isList := v.([]any)
			return isMap || isList || v == nil
		}
	}
	return false
}

func take(v any, s step) ([]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		switch s.kind {
		case stepName:
			x, ok := v[s.name]
			if !ok {
				return nil, false
			}
			return []any{x}, true
		case stepEach:
			var all []any
			for _, x := range v {
				all = append(all, x)
			}
			return all, true
		case stepIndex, stepDynamic:
		}
	case []any:
		switch s.kind {
		case stepIndex:
			if s.index < len(v) {
				return []any{v[s.index]}, true
			}
		case stepEach:
			return v, true
		case stepName, stepDynamic:
		}
	}
	return nil, false
}

// allPaths are the paths of up to three steps that begin with a name.
func allPaths() [][]step {
	steps := []step{{name: "a"}, {name: "b"}, {kind: stepEach}, {kind: stepIndex}, {kind: stepIndex, index: 1}}
	var out [][]step
	for _, first := range steps[:2] {
		out = append(out, []step{first})
		for _, second := range steps {
			out = append(out, []step{first, second})
			for _, third := range steps {
				out = append(out, []step{first, second, third})
			}
		}
	}
	return out
}

func drawDocument(t *rapid.T, depth int) any {
	kinds := 4
	if depth > 0 {
		kinds = 8
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return json.Number("1")
	case 2:
		return "s"
	case 3:
		return true
	case 4:
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any { return drawDocument(t, depth-1) }), 0, 2).Draw(t, "array")
	}
	out := map[string]any{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), rapid.IntRange(0, 2).Draw(t, "least"), 2, rapid.ID).Draw(t, "names") {
		out[name] = drawDocument(t, depth-1)
	}
	return out
}

func drawSchema(t *rapid.T, depth int) any {
	if depth <= 0 {
		return rapid.SampledFrom([]any{
			map[string]any{},
			true, false,
			map[string]any{"type": "string"},
			map[string]any{"type": []any{"string", "null"}},
			map[string]any{"enum": []any{"s", json.Number("1")}},
			map[string]any{"$ref": "#/$defs/d"},
			map[string]any{"type": "object"},
			map[string]any{"type": "array"},
			map[string]any{"const": nil},
		}).Draw(t, "leaf")
	}
	switch rapid.IntRange(0, 8).Draw(t, "schema") {
	case 0:
		return drawSchema(t, 0)
	case 1:
		out := map[string]any{"type": "array", "items": drawSchema(t, depth-1)}
		if rapid.Bool().Draw(t, "minItems") {
			out["minItems"] = json.Number(strconv.Itoa(rapid.IntRange(0, 2).Draw(t, "n")))
		}
		if rapid.Bool().Draw(t, "prefix") {
			out["prefixItems"] = []any{drawSchema(t, depth-1)}
		}
		return out
	case 2:
		k := rapid.SampledFrom([]string{"anyOf", "oneOf", "allOf"}).Draw(t, "applicator")
		return map[string]any{k: []any{drawSchema(t, depth-1), drawSchema(t, depth-1)}}
	case 3:
		out := drawObject(t, depth)
		k := rapid.SampledFrom([]string{"anyOf", "oneOf", "allOf"}).Draw(t, "applicator")
		out[k] = []any{drawSchema(t, depth-1), drawObject(t, depth-1)}
		return out
	case 4:
		out := drawObject(t, depth)
		out["if"], out["then"] = drawSchema(t, depth-1), drawObject(t, depth-1)
		return out
	}
	out := drawObject(t, depth)
	if rapid.IntRange(0, 3).Draw(t, "typed") > 0 {
		out["type"] = "object"
	}
	return out
}

func drawObject(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	if depth <= 0 {
		return out
	}
	props := map[string]any{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]int{0, 2, 2}).Draw(t, "least"), 2, rapid.ID).Draw(t, "names") {
		props[name] = drawSchema(t, depth-1)
	}
	out["properties"] = props
	var required []any
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), rapid.IntRange(0, 2).Draw(t, "least"), 2, rapid.ID).Draw(t, "required") {
		required = append(required, name)
	}
	if len(required) > 0 {
		out["required"] = required
	}
	switch rapid.IntRange(0, 5).Draw(t, "further") {
	case 0:
		out["additionalProperties"] = drawSchema(t, depth-1)
	case 1:
		out["additionalProperties"] = false
	case 2:
		out["patternProperties"] = map[string]any{"^b": drawSchema(t, depth-1)}
	}
	return out
}

// compileClosed closes schemas against undeclared members as the engine does.
func compileClosed(t *rapid.T, schema any) *jsonschema.Schema {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("https://schema.invalid/s", closed(schema, false)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("https://schema.invalid/s")
	if err != nil {
		return nil
	}
	return s
}

func closed(s any, inPlace bool) any {
	m, ok := s.(map[string]any)
	if !ok {
		return s
	}
	out := map[string]any{}
	for k, v := range m {
		switch x := v.(type) {
		case map[string]any:
			switch k {
			case "properties", "patternProperties", "$defs":
				sub := map[string]any{}
				for name, y := range x {
					sub[name] = closed(y, k == "$defs")
				}
				out[k] = sub
			default:
				out[k] = closed(x, k == "if" || k == "then")
			}
		case []any:
			list := make([]any, len(x))
			for i, y := range x {
				list[i] = y
				if k == "anyOf" || k == "oneOf" || k == "allOf" || k == "prefixItems" {
					list[i] = closed(y, k != "prefixItems")
				}
			}
			out[k] = list
		default:
			out[k] = v
		}
	}
	if !inPlace && describes(m) {
		if _, ok := m["additionalProperties"]; !ok && m["patternProperties"] == nil {
			out["unevaluatedProperties"] = false
		}
	}
	return out
}

func describes(m map[string]any) bool {
	if t, ok := m["type"]; ok {
		return t == "object"
	}
	for _, k := range []string{"properties", "required", "$ref", "allOf", "anyOf", "oneOf", "if"} {
		if _, ok := m[k]; ok {
			return true
		}
	}
	return false
}

func valueOf(t *rapid.T, v any) rar.Value {
	out, err := rar.DecodeStrict([]byte(text(v)), rar.Limits{MaxBytes: 1 << 20, MaxDepth: 64})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
