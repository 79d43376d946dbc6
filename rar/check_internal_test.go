package rar

import (
	"testing"

	"pgregory.net/rapid"
)

// checkedSchemas are schemas whose every keyword check knows.
func checkedSchemas() []string {
	return []string{
		`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"],"additionalProperties":false}`,
		`{"properties":{"a":{"enum":["x",1,null,[1]]},"b":{"const":{"a":1.0}}},"additionalProperties":{"type":"number"}}`,
		`{"type":["array","null"],"items":{"type":"string","minLength":1,"maxLength":2},"minItems":1,"maxItems":2}`,
		`{"type":"number","minimum":-0.5,"maximum":10}`,
		`{"exclusiveMinimum":0,"exclusiveMaximum":9007199254740993}`,
		`{"type":["integer","string"],"pattern":"^[a-z]*$"}`,
		`{"allOf":[{"minProperties":1},{"maxProperties":2}],"$ref":"#/$defs/x","$defs":{"x":{"properties":{"a":true,"b":false}}}}`,
		`{"type":["integer","number"]}`,
		`{"properties":{"a":{"properties":{"a":{"maximum":1}},"required":["b"]}}}`,
		`{"minimum":1}`, `{"maximum":1}`, `{"exclusiveMinimum":1}`, `{"exclusiveMaximum":1}`, `{"minLength":1}`, `{"maxLength":2}`,
		`{"items":{"type":"number"},"minItems":2}`, `{"minProperties":1}`, `{"maxProperties":1}`,
		`{"const":null}`, `{"enum":[]}`, `{"enum":[1,2],"const":1}`, `{}`, `true`, `{"items":false}`,
	}
}

func schemaOf(t testing.TB, text string) *typ {
	t.Helper()
	doc, err := DecodeStrict([]byte(`{"$schema":"`+draft2020+`","properties":{"x":`+text+`}}`), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	// "$ref":"#/$defs/x" must find its target from the root.
	if defs, ok := doc.Lookup("/properties/x/$defs"); ok {
		doc = ObjectValue(append([]Member{{Name: "$defs", Value: defs}}, Member{Name: "$schema", Value: StringValue(draft2020)}, doc.Member(1))...)
	}
	schema, err := compileSchema(doc)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	ty := &typ{schema: schema.Properties["x"]}
	ty.quick = compileCheck(ty.schema)
	return ty
}

// The quick check and the library must agree where the check dares to answer.
func TestCheckAgreesWithLibrary(t *testing.T) {
	t.Parallel()
	for _, text := range checkedSchemas() {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			ty := schemaOf(t, text)
			if ty.quick == nil {
				t.Fatal("no check")
			}
			rapid.Check(t, func(t *rapid.T) {
				v := smallValue(2).Draw(t, "value")
				quick, library := ty.quick.valid(v), ty.schema.Validate(v.Any())
				if quick != (library == nil) {
					t.Fatalf("%s: quick %v, library %v", v.AppendJSON(nil), quick, library)
				}
			})
		})
	}
}

// TestCheckAgreesWithLibraryEverywhere tries all values of one level, so that the last
// at a bound and the first beyond it are among them.
func TestCheckAgreesWithLibraryEverywhere(t *testing.T) {
	t.Parallel()
	values := []Value{NullValue(), BoolValue(true), BoolValue(false), ArrayValue(), ObjectValue()}
	for _, literal := range smallNumbers() {
		v, err := NumberValue(literal)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	for _, text := range smallStrings() {
		values = append(values, StringValue(text))
	}
	atoms := values[:len(values):len(values)]
	for _, x := range atoms {
		values = append(values, ArrayValue(x), ObjectValue(Member{"a", x}), ObjectValue(Member{"b", x}), ObjectValue(Member{"c", x}))
		for _, y := range atoms {
			values = append(values, ArrayValue(x, y), ObjectValue(Member{"a", x}, Member{"b", y}), ObjectValue(Member{"c", x}, Member{"a", y}))
		}
		values = append(values, ArrayValue(x, x, x), ObjectValue(Member{"a", x}, Member{"b", x}, Member{"c", x}))
	}
	for _, text := range checkedSchemas() {
		ty := schemaOf(t, text)
		for _, v := range values {
			quick, library := ty.quick.valid(v), ty.schema.Validate(v.Any())
			if quick != (library == nil) {
				t.Errorf("%s: %s: quick %v, library %v", text, v.AppendJSON(nil), quick, library)
			}
		}
	}
}

func smallNumbers() []string {
	return []string{
		"0", "-0", "1", "1.0", "1e0", "1.5", "10", "10.000000000000000001", "-0.5", "-0.50", "-0.51", "2",
		"9007199254740992", "9007199254740993", "9007199254740992.999", "1e400", "1e-400", "-1e2",
	}
}

func smallStrings() []string { return []string{"", "x", "xy", "xyz", "ä", "äöü", "X", "x\n"} }

// smallValue draws values near those that the schemas above speak of.
func smallValue(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
		case kind == 0:
			return NullValue()
		case kind == 1:
			return BoolValue(rapid.Bool().Draw(t, "bool"))
		case kind <= 3:
			v, err := NumberValue(rapid.SampledFrom(smallNumbers()).Draw(t, "number"))
			if err != nil {
				t.Fatal(err)
			}
			return v
		case kind <= 5 || depth == 0:
			return StringValue(rapid.SampledFrom(smallStrings()).Draw(t, "string"))
		case kind == 6:
			return ArrayValue(rapid.SliceOfN(smallValue(depth-1), 0, 3).Draw(t, "array")...)
		}
		var members []Member
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, "names") {
			members = append(members, Member{Name: name, Value: smallValue(depth-1).Draw(t, "member")})
		}
		return ObjectValue(members...)
	})
}

// A keyword that the check does not know must leave the verdict to the library.
func TestCheckKnowsItsLimits(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"anyOf":[{}]}`, `{"oneOf":[{}]}`, `{"not":{}}`, `{"if":{}}`, `{"format":"date"}`, `{"multipleOf":2}`, `{"uniqueItems":true}`,
		`{"contains":{}}`, `{"prefixItems":[{}]}`, `{"patternProperties":{"a":{}}}`, `{"propertyNames":{}}`, `{"dependentRequired":{"a":[]}}`,
		`{"dependentSchemas":{"a":{}}}`, `{"unevaluatedProperties":false}`, `{"unevaluatedItems":false}`, `{"dependencies":{"a":["b"]}}`,
		`{"minimum":1,"exclusiveMinimum":0}`, `{"$ref":"#/properties/x"}`, `{"items":{"$ref":"#/properties/x"}}`, `{"$dynamicRef":"#/properties/x"}`,
		`{"properties":{"a":{"items":{"multipleOf":2}}}}`, `{"allOf":[{"not":{}}]}`,
	} {
		if ty := schemaOf(t, text); ty.quick != nil {
			t.Errorf("%s has a check", text)
		}
	}
}
