package pep

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"

	"github.com/authzd/authzd/rar"
)

// anyValue draws JSON of few names, so that schemas and instances meet.
func anyValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 9).Draw(t, "kind")
		switch {
		case kind == 0:
			return nil
		case kind == 1:
			return rapid.Bool().Draw(t, "bool")
		case kind == 2:
			return rapid.StringMatching(`[a<]{0,2}`).Draw(t, "string")
		case kind == 3:
			return rapid.SampledFrom([]json.Number{"0", "1", "-0", "1.50", "1e2", "9007199254740992"}).Draw(t, "number")
		case kind == 4 && depth > 0:
			return rapid.SliceOfN(anyValue(depth-1), 0, 2).Draw(t, "array")
		case depth > 0:
			return anyObject(depth).Draw(t, "object")
		}
		return map[string]any{}
	})
}

func anyObject(depth int) *rapid.Generator[map[string]any] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "properties", "default"}), anyValue(depth-1), 0, 3)
}

// anySchema draws what ApplyDefaults reads of a schema, and around it some that
// it does not.
func anySchema(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if rapid.IntRange(0, 9).Draw(t, "boolean") == 0 {
			return rapid.Bool().Draw(t, "schema")
		}
		out := map[string]any{}
		if rapid.Bool().Draw(t, "has default") {
			out["default"] = anyValue(2).Draw(t, "default")
		}
		if rapid.IntRange(0, 3).Draw(t, "typed") == 0 {
			out["type"] = "object"
		}
		if depth == 0 {
			return out
		}
		names := rapid.SampledFrom([]string{"a", "b", "c", "properties", "default"})
		if rapid.IntRange(0, 3).Draw(t, "has properties") > 0 {
			out["properties"] = rapid.MapOfN(names, anySchema(depth-1), 0, 4).Draw(t, "properties")
		}
		if rapid.IntRange(0, 2).Draw(t, "has required") == 0 {
			out["required"] = rapid.SliceOfNDistinct(names, 0, 2, rapid.ID).Draw(t, "required")
		}
		for _, other := range []string{"additionalProperties", "not", "items"} {
			if rapid.IntRange(0, 5).Draw(t, other) == 0 {
				out[other] = anySchema(depth-1).Draw(t, other)
			}
		}
		if rapid.IntRange(0, 5).Draw(t, "allOf") == 0 {
			out["allOf"] = []any{anySchema(depth-1).Draw(t, "all of")}
		}
		return out
	})
}

// withDefaults does what the SDK does with any schema and any arguments.
func TestWithDefaultsIsWhatTheSDKDoes(t *testing.T) {
	t.Parallel()
	changed := 0
	rapid.Check(t, func(t *rapid.T) {
		rawSchema, err := json.Marshal(anySchema(3).Draw(t, "schema"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(anyObject(3).Draw(t, "instance"))
		if err != nil {
			t.Fatal(err)
		}
		var schema jsonschema.Schema
		if err := json.Unmarshal(rawSchema, &schema); err != nil {
			t.Fatal(err)
		}
		resolved, err := schema.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		var instance any
		if err := json.Unmarshal(raw, &instance); err != nil {
			t.Fatal(err)
		}
		if err := resolved.ApplyDefaults(&instance); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(instance)
		if err != nil {
			t.Fatal(err)
		}
		want := decoded(t, text)
		// As the server lists it.
		listed, err := json.Marshal(&schema)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range [][]byte{rawSchema, listed} {
			got := withDefaults(decoded(t, raw), decoded(t, s))
			if !rar.Equal(got, want) {
				t.Fatalf("schema %s\ninstance %s\ngot  %s\nwant %s", s, raw, got.AppendJSON(nil), text)
			}
			if !rar.Equal(withDefaults(got, decoded(t, s)), got) {
				t.Fatalf("schema %s: a second time adds more to %s", s, got.AppendJSON(nil))
			}
		}
		if !rar.Equal(want, decoded(t, raw)) {
			changed++
		}
	})
	if changed == 0 && !testing.Short() {
		t.Error("no default was ever applied")
	}
}

func decoded(t *rapid.T, raw []byte) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict(raw, rar.Limits{MaxBytes: 1 << 20, MaxDepth: 128})
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func TestSurvives(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]bool{
		"0": true, "-0": true, "1": true, "0.1": true, "12000.50": true, "1e3": true, "9007199254740992": true, "-1.5E-3": true, "1e22": true,
		"9007199254740993": false, "0.10000000000000000001": false, "1e400": false, "-1e400": false, "1e-400": false, "123456789012345678901": false,
	} {
		for _, around := range []string{"#", `[#]`, `{"a":{"b":[1,#]}}`} {
			text := strings.ReplaceAll(around, "#", number)
			v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20, MaxDepth: 128})
			if err != nil {
				t.Fatal(err)
			}
			if got := survives(v); got != want {
				t.Errorf("%s: %t, want %t", text, got, want)
			}
		}
	}
}
