package rar_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/rar"
)

// declare builds a declaration of type "t" from its parts; properties are those
// beside type, more are further members of the declaration.
func declare(t testing.TB, properties, compare, more string) rar.Declaration {
	t.Helper()
	if properties != "" {
		properties = "," + properties
	}
	if more != "" {
		more = "," + more
	}
	return declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"type":{"const":"t"}`+
		properties+`},"additionalProperties":false},"compare":`+compare+more+`}`)
}

func declaration(t testing.TB, text string) rar.Declaration {
	t.Helper()
	return rar.Declaration{Name: "t", Document: mustDecode(t, text)}
}

func compileOne(t testing.TB, d rar.Declaration) *rar.Types {
	t.Helper()
	types, _, err := rar.CompileTypes([]rar.Declaration{d})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// faultPaths returns the sorted paths of all joined faults, each of which must
// be of code rar.invalid_type.
func faultPaths(t *testing.T, err error) []string {
	t.Helper()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("error %v does not join faults", err)
	}
	var paths []string
	for _, f := range joined.Unwrap() {
		var e *rar.Error
		if !errors.As(f, &e) || e.Code != rar.CodeInvalidType || e.Err == nil {
			t.Fatalf("fault %v", f)
		}
		paths = append(paths, e.Path)
	}
	slices.Sort(paths)
	return paths
}

func TestCompileTypesRefuses(t *testing.T) {
	t.Parallel()
	const dialect = `"$schema":"https://json-schema.org/draft/2020-12/schema"`
	const text = `"s":{"type":"string"}`
	const list = `"l":{"type":"array","items":{"type":"string"}}`
	schema := func(s string) rar.Declaration {
		return declaration(t, `{"type":"t","schema":`+s+`,"compare":{}}`)
	}
	tests := []struct {
		name string
		decl rar.Declaration
		want []string
	}{
		{"not an object", declaration(t, `[]`), []string{"/t"}},
		{"nothing", rar.Declaration{Name: "t"}, []string{"/t"}},
		{"no type", declaration(t, `{"schema":{}}`), []string{"/t/type"}},
		{"type without a name", rar.Declaration{Document: mustDecode(t, `{"type":"","schema":{}}`)}, []string{"//type"}},
		{"type is a number", declaration(t, `{"type":1,"schema":{}}`), []string{"/t/type", "/t/type"}},
		{"no schema", declaration(t, `{"type":"t"}`), []string{"/t/schema"}},
		{"schema of no draft", schema(`{"properties":{"type":{"const":"t"}}}`), []string{"/t/schema"}},
		{"schema of draft 7", schema(`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"type":{"const":"t"}}}`), []string{"/t/schema"}},
		{"part of another draft", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$id":"urn:x","$schema":"http://json-schema.org/draft-07/schema#"}}}`), []string{"/t/schema"}},
		{"schema breaks its dialect", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"type":"strin"}}}`), []string{"/t/schema"}},
		{"pattern is no regular expression", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"pattern":"(?=a)"}}}`), []string{"/t/schema"}},
		{"reference to the web", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$ref":"https://example.com/x.json"}}}`), []string{"/t/schema"}},
		{"reference to a file", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$ref":"file:///etc/passwd"}}}`), []string{"/t/schema"}},
		{"reference to a neighbour", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$ref":"other.json"}}}`), []string{"/t/schema"}},
		{"reference to the dialect itself", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$ref":"https://json-schema.org/draft/2020-12/schema"}}}`), []string{"/t/schema"}},
		{"dynamic reference elsewhere", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$dynamicRef":"https://json-schema.org/draft/2020-12/schema#meta"}}}`), []string{"/t/schema"}},
		{"reference to nothing", schema(`{` + dialect + `,"properties":{"type":{"const":"t"},"x":{"$ref":"#/$defs/none"}}}`), []string{"/t/schema"}},
		{"type not pinned", schema(`{` + dialect + `,"properties":{"type":{"type":"string"}}}`), []string{"/t/schema/properties/type"}},
		{"type not mentioned", schema(`{` + dialect + `}`), []string{"/t/schema/properties/type"}},
		{"type pinned to another", schema(`{` + dialect + `,"properties":{"type":{"const":"T"}}}`), []string{"/t/schema/properties/type"}},
		{"no object", schema(`{` + dialect + `,"type":"array","properties":{"type":{"const":"t"}}}`), []string{"/t/schema"}},
		{"folder of another name", rar.Declaration{Name: "u", Document: declare(t, "", `{}`, "").Document}, []string{"/u/type"}},
		{"folder badly encoded", rar.Declaration{Name: "t%", Document: declare(t, "", `{}`, "").Document}, []string{"/t%/type"}},
		{"unknown member", declare(t, "", `{}`, `"singel_use":true`), []string{"/t/singel_use"}},
		{"members of wrong kinds", declare(t, "", `[]`, `"single_use":"yes","version":1,"examples":{}`), []string{"/t/compare", "/t/examples", "/t/single_use", "/t/version"}},
		{"unknown rule", declare(t, text, `{"/s":"regex"}`, ""), []string{"/t/compare/~1s"}},
		{"rule is a number", declare(t, text, `{"/s":1}`, ""), []string{"/t/compare/~1s"}},
		{"no rule in the long form", declare(t, text, `{"/s":{"absent":"any"}}`, ""), []string{"/t/compare/~1s"}},
		{"unknown option", declare(t, text, `{"/s":{"rule":"equal","abscent":"any"}}`, ""), []string{"/t/compare/~1s/abscent"}},
		{"absent with another value", declare(t, text, `{"/s":{"rule":"equal","absent":"none"}}`, ""), []string{"/t/compare/~1s/absent"}},
		{"absent on ignore", declare(t, text, `{"/s":{"rule":"ignore","absent":"any"}}`, ""), []string{"/t/compare/~1s/absent"}},
		{"implies on equal", declare(t, text, `{"/s":{"rule":"equal","implies":{}}}`, ""), []string{"/t/compare/~1s/implies"}},
		{"implies on glob", declare(t, list, `{"/l":{"rule":"glob","implies":{"a":["b"]}}}`, ""), []string{"/t/compare/~1l/implies"}},
		{"implies is no object", declare(t, list, `{"/l":{"rule":"subset","implies":["a"]}}`, ""), []string{"/t/compare/~1l/implies"}},
		{"implies a string", declare(t, list, `{"/l":{"rule":"subset","implies":{"a":"b"}}}`, ""), []string{"/t/compare/~1l/implies/a"}},
		{"implies numbers", declare(t, list, `{"/l":{"rule":"subset","implies":{"a":[1]}}}`, ""), []string{"/t/compare/~1l/implies/a"}},
		{"implies among numbers", declare(t, `"l":{"type":"array","items":{"type":"number"}}`, `{"/l":{"rule":"subset","implies":{"a":["b"]}}}`, ""), []string{"/t/compare/~1l/implies"}},
		{"items empty", declare(t, list, `{"/l":{"rule":"subset","items":{}}}`, ""), []string{"/t/compare/~1l/items"}},
		{"items in a list", declare(t, `"l":{"type":"array"}`, `{"/l":{"rule":"subset","items":["equal"]}}`, ""), []string{"/t/compare/~1l/items"}},
		{"implies several numbers", declare(t, list, `{"/l":{"rule":"subset","implies":{"a":[1,2]}}}`, ""), []string{"/t/compare/~1l/implies/a"}},
		{"a set at the type", declare(t, text, `{"/type":"subset"}`, ""), []string{"/t/compare/~1type"}},
		{"items of strings", declare(t, list, `{"/l":{"rule":"subset","items":{"/x":"equal"}}}`, ""), []string{"/t/compare/~1l/items/~1x"}},
		{"items and implies", declare(t, `"l":{"type":"array"}`, `{"/l":{"rule":"subset","items":{"/x":"equal"},"implies":{"a":["b"]}}}`, ""), []string{"/t/compare/~1l"}},
		{"items on max", declare(t, text, `{"/s":{"rule":"max","items":{"/x":"equal"}}}`, ""), []string{"/t/compare/~1s/items"}},
		{"pointer without slash", declare(t, text, `{"s":"equal"}`, ""), []string{"/t/compare/s"}},
		{"pointer to the whole object", declare(t, text, `{"":"equal"}`, ""), []string{"/t/compare/"}},
		{"pointer with a bad escape", declare(t, text, `{"/~s":"equal"}`, ""), []string{"/t/compare/~1~0s"}},
		{"pointer to type", declare(t, text, `{"/type":"ignore"}`, ""), []string{"/t/compare/~1type"}},
		{"field that the schema excludes", declare(t, text, `{"/S":"equal"}`, ""), []string{"/t/compare/~1S"}},
		{"field below a string", declare(t, text, `{"/s/x":"equal"}`, ""), []string{"/t/compare/~1s~1x"}},
		{"field that is false", declare(t, `"f":false`, `{"/f":"equal"}`, ""), []string{"/t/compare/~1f"}},
		{"field excluded through a reference", declare(t, `"o":{"$ref":"#/properties/p"},"p":{"type":"object","properties":{"a":{}},"additionalProperties":false}`, `{"/o/b":"equal"}`, ""), []string{"/t/compare/~1o~1b"}},
		{"field excluded in each alternative", declare(t, `"o":{"anyOf":[{"type":"string"},{"type":"object","maxProperties":1,"additionalProperties":false}]}`, `{"/o/b":"equal"}`, ""), []string{"/t/compare/~1o~1b"}},
		{"field unevaluated", declare(t, `"o":{"allOf":[{"properties":{"a":{}}}],"unevaluatedProperties":false}`, `{"/o/b":"equal"}`, ""), []string{"/t/compare/~1o~1b"}},
		{"max on an object", declare(t, `"o":{"type":"object"}`, `{"/o":"max"}`, ""), []string{"/t/compare/~1o"}},
		{"max on an enumeration of booleans", declare(t, `"o":{"enum":[true,false]}`, `{"/o":"max"}`, ""), []string{"/t/compare/~1o"}},
		{"subset on a string", declare(t, text, `{"/s":"subset"}`, ""), []string{"/t/compare/~1s"}},
		{"prefix on a number", declare(t, `"n":{"type":"number"}`, `{"/n":"prefix"}`, ""), []string{"/t/compare/~1n"}},
		{"glob on an array of numbers", declare(t, `"l":{"type":"array","items":{"type":"number"}}`, `{"/l":"glob"}`, ""), []string{"/t/compare/~1l"}},
		{"rule above", declare(t, `"o":{"type":"object"}`, `{"/o":"equal","/o/a":"max"}`, ""), []string{"/t/compare/~1o~1a"}},
		{"rule below", declare(t, `"o":{"type":"object"}`, `{"/o/a":"max","/o":"ignore"}`, ""), []string{"/t/compare/~1o"}},
		{"example against the schema", declare(t, text, `{}`, `"examples":[{"type":"t"},{"type":"t","s":1}]`), []string{"/t/examples/1/s"}},
		{"example of another type", declare(t, text, `{}`, `"examples":[{"type":"u"}]`), []string{"/t/examples/0/type"}},
		{"several faults at once", declare(t, text, `{"/s":"max","/x":"equal","/y":"nope"}`, `"x":1`), []string{"/t/compare/~1x", "/t/compare/~1y", "/t/x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			types, _, err := rar.CompileTypes([]rar.Declaration{tt.decl})
			if err == nil || types != nil {
				t.Fatal("compiled")
			}
			if diff := gocmp.Diff(tt.want, faultPaths(t, err)); diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestCompileTypesRefusesTwoFilesForOneType(t *testing.T) {
	t.Parallel()
	d := declare(t, "", `{}`, "")
	_, _, err := rar.CompileTypes([]rar.Declaration{d, {Name: "%74", Document: d.Document}})
	if diff := gocmp.Diff([]string{"/%74/type"}, faultPaths(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestCompileTypesAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, properties, compare string }{
		{"through a reference", `"o":{"$ref":"#/properties/p"},"p":{"type":"object","properties":{"a":{"type":"number"}}}`, `{"/o/a":"max"}`},
		{"through allOf", `"o":{"allOf":[{"properties":{"a":{"type":"string"}}}],"unevaluatedProperties":false}`, `{"/o/a":"prefix"}`},
		{"in one alternative", `"o":{"oneOf":[{"type":"string"},{"properties":{"a":{"type":"array"}}}]}`, `{"/o/a":"subset"}`},
		{"by a pattern of names", `"o":{"patternProperties":{"^x_":{"type":"integer"}},"additionalProperties":false}`, `{"/o/x_1":"min"}`},
		{"by additional properties that are anything", `"o":{"additionalProperties":true,"unevaluatedProperties":false}`, `{"/o/any":"glob"}`},
		{"by additional properties", `"o":{"additionalProperties":{"type":"string"}}`, `{"/o/any":"glob"}`},
		{"under then", `"o":{"if":{"required":["a"]},"then":{"properties":{"a":{"type":"number"}}},"else":{"type":"object"}}`, `{"/o/a":"max"}`},
		{"in a circle", `"o":{"type":"object","properties":{"o":{"$ref":"#/properties/o"},"n":{"type":"number"}}}`, `{"/o/o/o/n":"max"}`},
		{"endless reference", `"o":{"$ref":"#/properties/p"},"p":{"$ref":"#/properties/o"}`, `{"/o":"equal"}`},
		{"items of tuples", `"l":{"type":"array","prefixItems":[{"type":"object"}],"items":false}`, `{"/l":{"rule":"subset","items":{"/a":"max"}}}`},
		{"items within items", `"l":{"type":"array","items":{"properties":{"m":{"type":"array","items":{"type":"object"}}}}}`, `{"/l":{"rule":"subset","items":{"/m":{"rule":"subset","items":{"/p":"prefix","/q/r":"glob"}}}}}`},
		{"member called type inside items", `"l":{"type":"array","items":{"type":"object"}}`, `{"/l":{"rule":"subset","items":{"/type":"equal"}}}`},
		{"escaped names", `"a/b":{"type":"object","properties":{"m~n":{"type":"number"}}}`, `{"/a~1b/m~0n":"max"}`},
		{"absent on each rule", `"a":{"type":"array"},"b":{"type":"number"},"c":{"type":"string"}`, `{"/a":{"rule":"subset","absent":"any"},"/b":{"rule":"min","absent":"any"},"/c":{"rule":"glob","absent":"any"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			types := compileOne(t, declare(t, tt.properties, tt.compare, `"version":"1.0","description":"d","documentation_uri":"https://example.com","single_use":true,"examples":[{"type":"t"}]`))
			if diff := gocmp.Diff([]string{"t"}, types.Names()); diff != "" || !types.Declared("t") || !types.SingleUse("t") {
				t.Errorf("names %v", types.Names())
			}
		})
	}
}

// References that double at every step would take 2^60 steps to follow blindly.
func TestCompileTypesWithDoublingReferences(t *testing.T) {
	t.Parallel()
	var defs strings.Builder
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for i := range len(alphabet) - 1 {
		next := `{"$ref":"#/$defs/` + alphabet[i+1:i+2] + `"}`
		defs.WriteString(`"` + alphabet[i:i+1] + `":{"allOf":[` + next + `,` + next + `],"properties":{"x":` + next + `,"y":` + next + `}},`)
	}
	_, _, err := rar.CompileTypes([]rar.Declaration{declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{`+defs.String()+`"9":{}},
		"properties":{"type":{"const":"t"},"o":{"$ref":"#/$defs/a"}}},"compare":{"/o/x/y":"max"}}`)})
	if diff := gocmp.Diff([]string{"/t/schema"}, faultPaths(t, err)); diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCompileTypesWarns(t *testing.T) {
	t.Parallel()
	const amount = `"amount":{"type":"string","pattern":"^[0-9]+$"}`
	tests := []struct {
		name string
		decl rar.Declaration
		want []string
	}{
		{"nothing", declare(t, amount+`,"currency":{"type":"string"}`, `{"/amount":"max","/currency":"equal"}`, ""), nil},
		{"currency equal by default", declare(t, `"i":{"type":"object","properties":{`+amount+`,"currency":{}}}`, `{"/i/amount":"max"}`, ""), nil},
		{"currency ignored", declare(t, amount+`,"currency":{"type":"string"}`, `{"/amount":"max","/currency":"ignore"}`, ""), []string{"/t/compare/~1amount"}},
		{"no currency", declare(t, amount, `{"/amount":"max"}`, ""), []string{"/t/compare/~1amount"}},
		{"negative numbers", declare(t, `"n":{"type":"number","maximum":9007199254740992}`, `{"/n":"max"}`, ""), []string{"/t/compare/~1n"}},
		{"long numbers", declare(t, `"n":{"type":"integer","minimum":0}`, `{"/n":"equal"}`, ""), []string{"/t/compare/~1n"}},
		{"long numbers or text", declare(t, `"n":{"type":["integer","string"],"minimum":0}`, `{"/n":"equal"}`, ""), nil},
		{"negative strings", declare(t, `"n":{"type":"string","pattern":"^-?[0-9]+$"}`, `{"/n":"max"}`, ""), []string{"/t/compare/~1n"}},
		{"no negative numbers", declare(t, `"n":{"type":"number","minimum":0,"maximum":1000000}`, `{"/n":"max"}`, ""), nil},
		{
			"common fields of another kind", declare(t, `"actions":{"type":"string"},"locations":{"type":"array","items":{"type":["string","null"]}},"identifier":{"type":"array"},"privileges":{},"datatypes":{"type":"array","items":{"enum":["a"]}}`, `{"/identifier":"equal"}`, ""),
			[]string{"/t/schema/properties/actions", "/t/schema/properties/locations", "/t/schema/properties/privileges", "/t/schema/properties/identifier"},
		},
		{
			"a common field under a condition", declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"t"},"x":{}},"if":{"required":["x"]},"then":{"properties":{"actions":{"type":"string"}}},"else":{"properties":{"actions":{"type":"string"}}},"unevaluatedProperties":false},"compare":{"/x":"equal"}}`),
			[]string{"/t/schema/properties/actions"},
		},
		{
			"elements are no properties", declare(t, `"actions":{"type":"array","unevaluatedProperties":{"type":"string"}}`, `{"/actions":"equal"}`, ""),
			[]string{"/t/schema/properties/actions"},
		},
		{"no rules", declare(t, "", `{}`, ""), []string{"/t/compare"}},
		{"open", declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"t"},"x":{}}},"compare":{"/x":"equal"}}`), []string{"/t/schema"}},
		{"expressly open", declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"t"},"x":{}},"additionalProperties":true},"compare":{"/x":"equal"}}`), []string{"/t/schema", "/t/schema/properties/actions", "/t/schema/properties/datatypes", "/t/schema/properties/locations", "/t/schema/properties/privileges", "/t/schema/properties/identifier"}},
		{"open for texts", declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"t"},"x":{}},"additionalProperties":{"type":"string"}},"compare":{"/x":"equal"}}`), []string{"/t/schema", "/t/schema/properties/actions", "/t/schema/properties/datatypes", "/t/schema/properties/locations", "/t/schema/properties/privileges"}},
		{"closed by unevaluatedProperties", declaration(t, `{"type":"t","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"t"},"x":{}},"unevaluatedProperties":false},"compare":{"/x":"equal"}}`), nil},
		{"all of ASCII", rar.Declaration{Name: "~ ", Document: mustDecode(t, `{"type":"~ ","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"~ "},"x":{}},"additionalProperties":false},"compare":{"/x":"equal"}}`)}, nil},
		{"no character", rar.Declaration{Name: "\x7f", Document: mustDecode(t, `{"type":"\u007f","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"\u007f"},"x":{}},"additionalProperties":false},"compare":{"/x":"equal"}}`)}, []string{"/\x7f/type"}},
		{"look-alike", rar.Declaration{Name: "%D1%82", Document: mustDecode(t, `{"type":"т","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"type":{"const":"т"},"x":{}},"additionalProperties":false},"compare":{"/x":"equal"}}`)}, []string{"/%D1%82/type"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, warnings, err := rar.CompileTypes([]rar.Declaration{tt.decl})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range warnings {
				if w.Type == "" || w.Message == "" {
					t.Errorf("warning %+v", w)
				}
				got = append(got, w.Path)
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is doubtful is told beside what is wrong.
func TestCompileTypesWarnsBesideFaults(t *testing.T) {
	t.Parallel()
	types, warnings, err := rar.CompileTypes([]rar.Declaration{declare(t, "", `{}`, ""), declare(t, "", `{"/x":"equal"}`, "")})
	if types != nil || len(warnings) == 0 || warnings[0].Path != "/t/compare" {
		t.Errorf("%v", warnings)
	}
	if diff := gocmp.Diff([]string{"/t/compare/~1x", "/t/type"}, faultPaths(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestTypesKnowTheirDocuments(t *testing.T) {
	t.Parallel()
	d := declare(t, `"s":{"type":"string"}`, `{"/s":"equal"}`, "")
	types := compileOne(t, d)
	if !rar.Equal(types.Document("t"), d.Document) {
		t.Error("another document")
	}
	if s, ok := types.Schema("t").Lookup("/properties/s/type"); !ok || s.Text() != "string" {
		t.Error("another schema")
	}
	var none *rar.Types
	for _, ty := range []*rar.Types{none, {}, types} {
		if ty.Declared("u") || ty.SingleUse("u") || ty.Document("u").Kind() != rar.Absent || ty.Schema("u").Kind() != rar.Absent {
			t.Error("an undeclared type is known")
		}
	}
	if len(none.Names()) != 0 {
		t.Error("no types have names")
	}
	_, err := none.Parse([]byte(`[{"type":"t"}]`), rar.Limits{})
	wantError(t, err, rar.CodeUnknownType, "/0/type")
}

// The schema's verdict in the words of RFC 9396 §5, first fault in document
// order, whatever order the library finds them in.
func TestSchemaFaults(t *testing.T) {
	t.Parallel()
	types := compileOne(t, declare(t, `
		"s":{"type":"string"},"e":{"enum":["a","b"]},"c":{"const":7},"m":{"multipleOf":0.01},"x":{"maximum":9007199254740992},
		"i":{"type":"integer"},"u":{"type":"array","uniqueItems":true},"one":{"oneOf":[{"type":"string"},{"type":"number"}]},
		"alt":{"anyOf":[{"type":"string","minLength":3},{"type":"number"}]},"two":{"oneOf":[{"minimum":1},{"minimum":2}]},
		"no":{"not":{"const":1}},"names":{"propertyNames":{"maxLength":2}},"dep":{"dependentRequired":{"a":["b"]}},
		"un":{"allOf":[{"properties":{"a":{}}}],"unevaluatedProperties":false},"f":{"properties":{"a":false}},
		"tup":{"prefixItems":[{"type":"string"}],"items":false},"date":{"format":"date"},"refs":{"items":{"maxLength":0}},"ref":{"$ref":"#/properties/s"},
		"obj":{"required":["r","q"],"properties":{"p":{"type":"string"}},"additionalProperties":false}`, `{}`, ""))
	tests := []struct {
		name, members string
		code          rar.Code
		path          string
	}{
		{"wrong type", `"s":1`, rar.CodeWrongType, "/s"},
		{"not in the list", `"e":"c"`, rar.CodeInvalidValue, "/e"},
		{"kind not in the list", `"e":1`, rar.CodeWrongType, "/e"},
		{"not the constant", `"c":8`, rar.CodeInvalidValue, "/c"},
		{"kind not of the constant", `"c":"7"`, rar.CodeWrongType, "/c"},
		{"multipleOf is exact", `"m":0.1234`, rar.CodeInvalidValue, "/m"},
		{"maximum is exact", `"x":9007199254740993`, rar.CodeInvalidValue, "/x"},
		{"a fraction is no integer", `"i":1.5`, rar.CodeWrongType, "/i"},
		{"repeated element", `"u":[1,1.0]`, rar.CodeInvalidValue, "/u"},
		{"no alternative has the kind", `"one":true`, rar.CodeWrongType, "/one"},
		{"an alternative has the kind", `"alt":"ab"`, rar.CodeInvalidValue, "/alt"},
		{"two alternatives", `"two":3`, rar.CodeInvalidValue, "/two"},
		{"not", `"no":1`, rar.CodeInvalidValue, "/no"},
		{"name", `"names":{"abc":1}`, rar.CodeUnknownField, "/names/abc"},
		{"dependent field", `"dep":{"a":1}`, rar.CodeMissingField, "/dep/b"},
		{"unevaluated field", `"un":{"a":1,"b":2}`, rar.CodeUnknownField, "/un/b"},
		{"forbidden field", `"f":{"a":1}`, rar.CodeUnknownField, "/f/a"},
		{"forbidden element", `"tup":["a","b"]`, rar.CodeInvalidValue, "/tup/1"},
		{"formats are asserted", `"date":"2026-13-01"`, rar.CodeInvalidValue, "/date"},
		{"through a reference", `"ref":1`, rar.CodeWrongType, "/ref"},
		{"escaped names", `"a/b~c":1`, rar.CodeUnknownField, "/a~1b~0c"},
		{"first in document order", `"s":"ok","zz":1,"e":"c","aa":1`, rar.CodeUnknownField, "/zz"},
		{"first in document order, other way", `"e":"c","zz":1`, rar.CodeInvalidValue, "/e"},
		{"missing fields come last", `"obj":{"p":1}`, rar.CodeWrongType, "/obj/p"},
		{"missing fields by name", `"obj":{}`, rar.CodeMissingField, "/obj/q"},
		{"first element, in order of numbers", `"refs":["","","a","","","","","","","","a"]`, rar.CodeInvalidValue, "/refs/2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				_, err := types.Parse([]byte(`[{"type":"t",`+tt.members+`}]`), rar.Limits{})
				wantError(t, err, tt.code, "/0"+tt.path)
			}
		})
	}
	for members, want := range map[string]string{`"no":1`: "refuses it by not", `"m":0.1234`: "refuses it by multipleOf", `"two":3`: "several of the alternatives", `"one":true`: "of any alternative"} {
		if _, err := types.Parse([]byte(`[{"type":"t",`+members+`}]`), rar.Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", members, err, want)
		}
	}
	ok := `[{"type":"t","m":0.12,"x":9007199254740992,"i":1.0,"one":1,"tup":["a"],"date":"2026-12-01","obj":{"r":1,"q":1}}]`
	if _, err := types.Parse([]byte(ok), rar.Limits{}); err == nil {
		t.Error("additional properties of obj passed")
	}
	if _, err := types.Parse([]byte(strings.Replace(ok, `"r":1,"q":1`, `"p":"x"`, 1)), rar.Limits{}); err == nil {
		t.Error("missing fields of obj passed")
	}
	if _, err := types.Parse([]byte(strings.Replace(ok, `,"obj":{"r":1,"q":1}`, ``, 1)), rar.Limits{}); err != nil {
		t.Error(err)
	}
}

// A document of thousands of faults must not cost the square of their number: twice as
// many take about twice the memory. TestPlacesAreFoundByIndex has the look-ups.
func TestSchemaFaultsAreLinear(t *testing.T) { // what others allocate would count: alone
	types := compileOne(t, declare(t, `"o":{"additionalProperties":{"type":"string"}},"p":{"additionalProperties":false}`, `{}`, ""))
	for name, want := range map[string]rar.Code{"o": rar.CodeWrongType, "p": rar.CodeUnknownField} {
		var took [2]uint64
		for i, n := range []int{4000, 8000} {
			text := []byte(`[{"type":"t","` + name + `":` + manyMembers(n, 0) + `}]`)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := types.Parse(text, rar.Limits{MaxBytes: 1 << 20})
			runtime.ReadMemStats(&after)
			took[i] = after.TotalAlloc - before.TotalAlloc
			wantError(t, err, want, "/0/"+name+"/k0")
		}
		if took[1] > 3*took[0] {
			t.Errorf("%s: %d bytes, and %d for twice the faults", name, took[0], took[1])
		}
	}
}
