package rar_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/authzd/authzd/rar"
)

// rulesUnderTest is a type with one field per rule, any JSON in each.
func rulesUnderTest(t testing.TB) *rar.Types {
	t.Helper()
	return compileOne(t, declare(t, `
		"eq":{},"sub":{},"imp":{"type":"array"},"items":{},"max":{},"min":{},"pre":{},"glob":{},"ign":{},
		"asub":{},"aitems":{},"amax":{},"apre":{},"aglob":{},"aeq":{},"deep":{},"deeper":{"type":"object"}`,
		`{"/eq":"equal","/sub":"subset","/imp":{"rule":"subset","implies":{"a":["b"],"b":["c"],"c":["a"],"x":["y"],"1":["2"],"d":["1"]}},
		"/items":{"rule":"subset","items":{"/p":"prefix","/in":{"rule":"subset","items":{"/g":"glob"}}}},
		"/max":"max","/min":"min","/pre":"prefix","/glob":"glob","/ign":"ignore",
		"/asub":{"rule":"subset","absent":"any"},"/aitems":{"rule":"subset","absent":"any","items":{"/p":"prefix","/in":"subset","/o/max":"max"}},
		"/amax":{"rule":"max","absent":"any"},"/apre":{"rule":"prefix","absent":"any"},
		"/aglob":{"rule":"glob","absent":"any"},"/aeq":{"rule":"equal","absent":"any"},
		"/deep/max":"max","/deep/ign":"ignore","/deeper/a/b":"max"}`, ""))
}

// object builds an object of type t.
func object(t testing.TB, members string) rar.Value {
	t.Helper()
	if members != "" {
		members = "," + members
	}
	return mustDecode(t, `{"type":"t"`+members+`}`)
}

func covers(t testing.TB, types *rar.Types, granted, required []rar.Value, o rar.CoverOptions) rar.Result {
	t.Helper()
	got, err := types.Covers(granted, required, o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What the shared vectors leave out. Each no has the same field with a yes.
func TestCoversByRule(t *testing.T) {
	t.Parallel()
	const yes = rar.Code("")
	tests := []struct {
		name, granted, required string
		code                    rar.Code
		at                      string
	}{
		{"equal null", `"eq":null`, `"eq":null`, yes, ""},
		{"equal numbers of other spelling", `"eq":[1.50,{"a":1e2}]`, `"eq":[15e-1,{"a":100}]`, yes, ""},
		{"equal huge exponents", `"eq":1e400`, `"eq":1e399`, rar.CodeNotEqual, "/eq"},
		{"equal objects of many members", `"eq":` + manyMembers(40, 0), `"eq":` + manyMembers(40, 0), yes, ""},
		{"unequal objects of many members", `"eq":` + manyMembers(40, 0), `"eq":` + manyMembers(40, 1), rar.CodeNotEqual, "/eq"},

		{"subset of mixed values", `"sub":[1.0,"a",null,{"x":[1]}]`, `"sub":[{"x":[1e0]},1,null]`, yes, ""},
		{"string is no number in a subset", `"sub":["1"]`, `"sub":[1]`, rar.CodeNotSubset, "/sub"},
		{"subset of a string", `"sub":"a"`, `"sub":"a"`, rar.CodeTypeMismatch, "/sub"},
		{"subset without array in the grant", `"sub":"a"`, `"sub":["a"]`, rar.CodeTypeMismatch, "/sub"},
		{"long subset", `"sub":` + numbers(0, 100), `"sub":` + numbers(50, 100), yes, ""},
		{"long subset with one more", `"sub":` + numbers(0, 100), `"sub":` + numbers(50, 101), rar.CodeNotSubset, "/sub"},
		{"implied in a circle", `"imp":["c"]`, `"imp":["a","b","c"]`, yes, ""},
		{"not implied", `"imp":["c"]`, `"imp":["x"]`, rar.CodeNotSubset, "/imp"},
		{"not implied backwards", `"imp":["y"]`, `"imp":["x"]`, rar.CodeNotSubset, "/imp"},
		{"implied in a long array", `"imp":["x",` + numbers(0, 100)[1:], `"imp":["y",` + numbers(0, 100)[1:], yes, ""},
		{"not implied in a long array", `"imp":["y",` + numbers(0, 100)[1:], `"imp":["x",` + numbers(0, 100)[1:], rar.CodeNotSubset, "/imp"},
		{"implies speaks of strings only", `"imp":[["a"]]`, `"imp":["b"]`, rar.CodeNotSubset, "/imp"},
		{"implied text of digits", `"imp":["1"]`, `"imp":["2"]`, yes, ""},
		{"a number implies nothing", `"imp":[1]`, `"imp":["2"]`, rar.CodeNotSubset, "/imp"},
		{"a number is not implied", `"imp":["d"]`, `"imp":[1]`, rar.CodeNotSubset, "/imp"},
		{"a number implies nothing in a long array", `"imp":` + numbers(0, 100), `"imp":["2",` + numbers(0, 100)[1:], rar.CodeNotSubset, "/imp"},
		{"a number is not implied in a long array", `"imp":["d",` + numbers(50, 150)[1:], `"imp":[1,` + numbers(50, 150)[1:], rar.CodeNotSubset, "/imp"},
		{"subset of nothing", `"sub":[]`, `"sub":["a"]`, rar.CodeNotSubset, "/sub"},
		{"long subset of nothing", `"sub":[]`, `"sub":` + numbers(0, 300), rar.CodeNotSubset, "/sub"},

		{"items", `"items":[{"p":"/a"},{"p":"/b","k":1}]`, `"items":[{"p":"/b/c","k":1},{"p":"/a"}]`, yes, ""},
		{"items do not combine", `"items":[{"p":"/a","k":1},{"p":"/b","k":2}]`, `"items":[{"p":"/a","k":2}]`, rar.CodeNotSubset, "/items"},
		{"items open in required", `"items":[{"p":"/a","k":1}]`, `"items":[{"p":"/a"}]`, rar.CodeNotSubset, "/items"},
		{"items of nothing", `"items":[]`, `"items":[{"p":"/a"}]`, rar.CodeNotSubset, "/items"},
		{"items, the last but one of three outside", `"items":[{"p":"/a"},{"p":"/c"}]`, `"items":[{"p":"/a"},{"p":"/b"},{"p":"/c"}]`, rar.CodeNotSubset, "/items"},
		{"type left open in items", `"items":[{"type":"a"}]`, `"items":[{}]`, rar.CodeNotSubset, "/items"},
		{"items that are no objects", `"items":["x"]`, `"items":["x"]`, yes, ""},
		{"items of unlike kinds", `"items":["x"]`, `"items":[{"p":"x"}]`, rar.CodeNotSubset, "/items"},
		{"items within items", `"items":[{"in":[{"g":"a*"},{"g":"b"}]}]`, `"items":[{"in":[{"g":"b"},{"g":"abc"}]}]`, yes, ""},
		{"items within items, one outside", `"items":[{"in":[{"g":"a*"}]}]`, `"items":[{"in":[{"g":"abc"},{"g":"b"}]}]`, rar.CodeNotSubset, "/items"},
		{"type is compared in items", `"items":[{"type":"a"}]`, `"items":[{"type":"b"}]`, rar.CodeNotSubset, "/items"},

		{"max equal", `"max":"10.50"`, `"max":"10.5"`, yes, ""},
		{"max above by the last of many digits", `"max":"123456789012345678901234567890.1"`, `"max":"123456789012345678901234567890.11"`, rar.CodeAboveMax, "/max"},
		{"max negative", `"max":"-5"`, `"max":"-4.99"`, rar.CodeAboveMax, "/max"},
		{"max more negative", `"max":-5`, `"max":-5.01`, yes, ""},
		{"max minus zero", `"max":"0"`, `"max":"-0"`, yes, ""},
		{"max with an exponent", `"max":1e400`, `"max":9e399`, yes, ""},
		{"max of white space", `"max":"10"`, `"max":" 5"`, rar.CodeNotANumber, "/max"},
		{"max of an empty string", `"max":"10"`, `"max":""`, rar.CodeNotANumber, "/max"},
		{"max of a plus", `"max":"10"`, `"max":"+5"`, rar.CodeNotANumber, "/max"},
		{"max of a trailing point", `"max":"10"`, `"max":"5."`, rar.CodeNotANumber, "/max"},
		{"max of a line break", `"max":"10"`, `"max":"5\n"`, rar.CodeNotANumber, "/max"},
		{"max of other digits", `"max":"10"`, `"max":"٥"`, rar.CodeNotANumber, "/max"},
		{"max of null", `"max":null`, `"max":null`, rar.CodeNotANumber, "/max"},
		{"max of unlike kinds", `"max":10`, `"max":null`, rar.CodeTypeMismatch, "/max"},
		{"min below", `"min":"3"`, `"min":"2.999"`, rar.CodeBelowMin, "/min"},
		{"min above", `"min":"3"`, `"min":"30"`, yes, ""},

		{"prefix of root", `"pre":"/"`, `"pre":"/a/b"`, yes, ""},
		{"empty grant is no root", `"pre":""`, `"pre":"/a"`, rar.CodeNotPrefix, "/pre"},
		{"empty equals empty", `"pre":""`, `"pre":""`, yes, ""},
		{"no border inside the scheme", `"pre":"https:"`, `"pre":"https://evil.example/x"`, rar.CodeNotPrefix, "/pre"},
		{"unsafe but equal", `"pre":"/a/../b"`, `"pre":"/a/../b"`, yes, ""},
		{"dot segment", `"pre":"/a"`, `"pre":"/a/./b"`, rar.CodeUnsafePath, "/pre"},
		{"dot segment at the end", `"pre":"/a"`, `"pre":"/a/.."`, rar.CodeUnsafePath, "/pre"},
		{"dots within a name", `"pre":"/a"`, `"pre":"/a/..b/c..d/.e"`, yes, ""},
		{"empty inner segment", `"pre":"/a"`, `"pre":"/a//b"`, rar.CodeUnsafePath, "/pre"},
		{"two leading slashes", `"pre":"/"`, `"pre":"//evil.example/x"`, rar.CodeUnsafePath, "/pre"},
		{"empty last segment", `"pre":"/a"`, `"pre":"/a/b/"`, yes, ""},
		{"empty inner segment after a host", `"pre":"https://a.example"`, `"pre":"https://a.example//b"`, rar.CodeUnsafePath, "/pre"},
		{"no scheme by a digit", `"pre":"1s:"`, `"pre":"1s://a"`, rar.CodeUnsafePath, "/pre"},
		{"query", `"pre":"/a"`, `"pre":"/a/b?c"`, rar.CodeUnsafePath, "/pre"},
		{"fragment", `"pre":"/a"`, `"pre":"/a/b#c"`, rar.CodeUnsafePath, "/pre"},
		{"encoded slash", `"pre":"/a"`, `"pre":"/a/b%2Fc"`, rar.CodeUnsafePath, "/pre"},
		{"encoded backslash at the end", `"pre":"/a"`, `"pre":"/a/b%5c"`, rar.CodeUnsafePath, "/pre"},
		{"what looks encoded behind another sign", `"pre":"/a"`, `"pre":"/a/x2e/+2f/_5c"`, yes, ""},
		{"other encodings", `"pre":"/a"`, `"pre":"/a/b%20c%"`, yes, ""},
		{"unsafe is said before no prefix", `"pre":"/a"`, `"pre":"/b/../a"`, rar.CodeUnsafePath, "/pre"},
		{"prefix against an array", `"pre":["/a"]`, `"pre":"/a"`, rar.CodeTypeMismatch, "/pre"},
		{"prefix of numbers", `"pre":[1]`, `"pre":[2]`, rar.CodeNotPrefix, "/pre"},
		{"a number is no prefix", `"pre":[1]`, `"pre":["1/a"]`, rar.CodeNotPrefix, "/pre"},
		{"a number has no prefix", `"pre":["1"]`, `"pre":[1]`, rar.CodeNotPrefix, "/pre"},
		{"prefix of nothing", `"pre":[]`, `"pre":["/a"]`, rar.CodeNotPrefix, "/pre"},
		{"prefix of equal numbers", `"pre":[1]`, `"pre":[1.0]`, yes, ""},
		{"prefix of an empty need", `"pre":["/a"]`, `"pre":[]`, rar.CodeRequiredEmpty, "/pre"},
		{"prefix of an array, unsafe element", `"pre":["/a"]`, `"pre":["/a/b","/a/../c"]`, rar.CodeUnsafePath, "/pre"},

		{"star matches nothing too", `"glob":"a*"`, `"glob":"a"`, yes, ""},
		{"star in the middle", `"glob":"a*z"`, `"glob":"abcz"`, yes, ""},
		{"ends must not overlap", `"glob":"ab*ba"`, `"glob":"aba"`, rar.CodeNoGlobMatch, "/glob"},
		{"star needs its border", `"glob":"a*z"`, `"glob":"az/z"`, rar.CodeNoGlobMatch, "/glob"},
		{"two stars apart", `"glob":"*/x/*"`, `"glob":"a/x/b"`, yes, ""},
		{"two stars apart do not span", `"glob":"*/x/*"`, `"glob":"a/b/x/c"`, rar.CodeNoGlobMatch, "/glob"},
		{"double then single", `"glob":"**/*.pdf"`, `"glob":"a/b/c.pdf"`, yes, ""},
		{"double then single needs its slash", `"glob":"**/*.pdf"`, `"glob":"c.pdf"`, rar.CodeNoGlobMatch, "/glob"},
		{"single must not swallow a slash after double", `"glob":"**x*y"`, `"glob":"a/x/y"`, rar.CodeNoGlobMatch, "/glob"},
		{"backtracking into double", `"glob":"**x*y"`, `"glob":"x/xy"`, yes, ""},
		{"three stars", `"glob":"a***b"`, `"glob":"a/c/b"`, yes, ""},
		{"star and letters beyond ASCII", `"glob":"ä*ö"`, `"glob":"äüö"`, yes, ""},
		{"brackets are literal", `"glob":"[ab]*"`, `"glob":"a1"`, rar.CodeNoGlobMatch, "/glob"},
		{"backslash is literal", `"glob":"\\*"`, `"glob":"x"`, rar.CodeNoGlobMatch, "/glob"},
		{"long pattern", `"glob":"` + strings.Repeat("a*", 60) + `"`, `"glob":"` + strings.Repeat("ab", 60) + `"`, yes, ""},
		{"glob in an array", `"glob":["a*","b"]`, `"glob":["b","ac"]`, yes, ""},
		{"glob in an array, pattern wanted", `"glob":["a*"]`, `"glob":["ab","ab*"]`, rar.CodePatternInRequired, "/glob"},
		{"glob of an empty need", `"glob":["**"]`, `"glob":[]`, rar.CodeRequiredEmpty, "/glob"},
		{"glob of a number", `"glob":["**"]`, `"glob":[1]`, rar.CodeNoGlobMatch, "/glob"},

		{"ignored on one side", `"ign":1`, ``, yes, ""},
		{"ignored on the other", ``, `"ign":{"a":[]}`, yes, ""},

		{"absent any", ``, `"aeq":{"x":1},"asub":["a"],"amax":"99","apre":"/a","aglob":["a"]`, yes, ""},
		{"absent any, number", ``, `"amax":99`, yes, ""},
		{"absent any, paths", ``, `"apre":["/a","/b"]`, yes, ""},
		{"absent any, not an array", ``, `"asub":"a"`, rar.CodeTypeMismatch, "/asub"},
		{"absent any, not a number", ``, `"amax":"lots"`, rar.CodeNotANumber, "/amax"},
		{"absent any, unsafe path", ``, `"apre":"/a/../b"`, rar.CodeUnsafePath, "/apre"},
		{"absent any, unsafe path among paths", ``, `"apre":["/a","/a/../b"]`, rar.CodeUnsafePath, "/apre"},
		{"absent any, no path", ``, `"apre":1`, rar.CodeTypeMismatch, "/apre"},
		{"absent any, no path among paths", ``, `"apre":["/a",1]`, rar.CodeTypeMismatch, "/apre"},
		{"absent any, no paths", ``, `"apre":[]`, rar.CodeRequiredEmpty, "/apre"},
		{"absent any, pattern", ``, `"aglob":"*"`, rar.CodePatternInRequired, "/aglob"},
		{"absent any, items", ``, `"aitems":["x",{"p":"/a","in":["b"],"o":{"max":1,"k":[]},"k":[]},{"o":1}]`, yes, ""},
		{"absent any, unsafe path in an item", ``, `"aitems":[{"p":"/a"},{"p":"/a/../b"}]`, rar.CodeNotSubset, "/aitems"},
		{"absent any, empty set in an item", ``, `"aitems":[{"in":[]}]`, rar.CodeNotSubset, "/aitems"},
		{"absent any, no number below an item", ``, `"aitems":[{"o":{"max":"lots"}}]`, rar.CodeNotSubset, "/aitems"},
		{"absent any does not open a grant", `"aeq":1`, ``, rar.CodeOpenInRequired, "/aeq"},
		{"null is not absent", `"aeq":null`, `"aeq":1`, rar.CodeTypeMismatch, "/aeq"},

		{"member by member", `"deep":{"max":5,"other":[1]}`, `"deep":{"other":[1],"max":4,"ign":0}`, yes, ""},
		{"member by member, field open", `"deep":{"max":5,"other":1}`, `"deep":{"max":4}`, rar.CodeOpenInRequired, "/deep/other"},
		{"member by member, field missing", `"deep":{"max":5}`, `"deep":{"max":4,"a/b~c":1}`, rar.CodeMissingInGranted, "/deep/a~1b~0c"},
		{"member by member, object missing", ``, `"deep":{"ign":1}`, rar.CodeMissingInGranted, "/deep"},
		{"member by member, object open", `"deep":{}`, ``, rar.CodeOpenInRequired, "/deep"},
		{"member by member, empty objects", `"deep":{}`, `"deep":{}`, yes, ""},
		{"member by member, no object", `"deep":{"max":1}`, `"deep":[1]`, rar.CodeTypeMismatch, "/deep"},
		{"no objects where rules lie below", `"deep":"x"`, `"deep":"x"`, yes, ""},
		{"unequal where rules lie below", `"deep":"x"`, `"deep":"y"`, rar.CodeNotEqual, "/deep"},
		{"text against an empty object", `"deep":"x"`, `"deep":{}`, rar.CodeTypeMismatch, "/deep"},
		{"an empty object against text", `"deep":{}`, `"deep":"x"`, rar.CodeTypeMismatch, "/deep"},
		{"two levels down", `"deeper":{"a":{"b":"10"}}`, `"deeper":{"a":{"b":"11"}}`, rar.CodeAboveMax, "/deeper/a/b"},
		{"type below the object left open", `"deep":{"type":"a"}`, `"deep":{}`, rar.CodeOpenInRequired, "/deep/type"},
		{"type below the object is a field", `"deep":{"type":"a"}`, `"deep":{"type":"b"}`, rar.CodeNotEqual, "/deep/type"},
		{"many members", `"deep":` + manyMembers(60, 0), `"deep":` + manyMembers(60, 0), yes, ""},
		{"many members, one open", `"deep":` + manyMembers(61, 0), `"deep":` + manyMembers(60, 0), rar.CodeOpenInRequired, "/deep/k60"},
		{"many members, one missing", `"deep":` + manyMembers(60, 0), `"deep":` + manyMembers(61, 0), rar.CodeMissingInGranted, "/deep/k60"},
	}
	types := rulesUnderTest(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			granted, required := object(t, tt.granted), object(t, tt.required)
			got := covers(t, types, []rar.Value{granted}, []rar.Value{required}, rar.CoverOptions{})
			want := rar.Result{Covered: tt.code == yes, Used: []int{0}}
			if !want.Covered {
				want = rar.Result{Because: []rar.Reason{{Pointer: tt.at, Code: tt.code}}, Used: []int{-1}}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// manyMembers is an object of n members, the last of which holds the value.
func manyMembers(n, last int) string {
	var b strings.Builder
	for i := range n {
		value := 0
		if i == n-1 {
			value = last
		}
		b.WriteString(`,"k` + strconv.Itoa(i) + `":` + strconv.Itoa(value))
	}
	return "{" + b.String()[1:] + "}"
}

// numbers is the array of the numbers from a up to but not including b.
func numbers(a, b int) string {
	var s strings.Builder
	for i := a; i < b; i++ {
		s.WriteString("," + strconv.Itoa(i))
	}
	return "[" + s.String()[1:] + "]"
}

func TestCoversNearest(t *testing.T) {
	t.Parallel()
	types := rulesUnderTest(t)
	granted := []rar.Value{
		object(t, `"eq":1,"max":1`),
		object(t, `"eq":2,"max":10`), // nearest: one field fails
		object(t, `"eq":3,"max":10`), // as near, but later
	}
	required := []rar.Value{object(t, `"eq":2,"max":5`), object(t, `"eq":9,"max":5`)}
	got := covers(t, types, granted, required, rar.CoverOptions{})
	want := rar.Result{Because: []rar.Reason{{Required: 1, Pointer: "/eq", Code: rar.CodeNotEqual}}, Used: []int{1, -1}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = covers(t, types, granted[:1], required[:1], rar.CoverOptions{})
	want = rar.Result{Used: []int{-1}, Because: []rar.Reason{{Pointer: "/eq", Code: rar.CodeNotEqual}, {Pointer: "/max", Code: rar.CodeAboveMax}}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCoversNamesAnInvalidGrant: that a grant of the needed type was skipped is told,
// whichever others were skipped with it, and one of another type is none.
func TestCoversNamesAnInvalidGrant(t *testing.T) {
	t.Parallel()
	types := rulesUnderTest(t)
	required := []rar.Value{object(t, `"eq":1`)}
	name := types.Names()[0]
	if of, _ := required[0].Get("type"); of.Text() != name {
		t.Fatalf("type %s, want %s", of.Text(), name)
	}
	for _, tt := range []struct {
		name    string
		skipped []string
		want    rar.Code
	}{
		{"none skipped", nil, rar.CodeNoGrantedType},
		{"of its type", []string{name}, rar.CodeGrantedInvalid},
		{"of its type, then another", []string{name, "other"}, rar.CodeGrantedInvalid},
		{"another, then of its type", []string{"other", name}, rar.CodeGrantedInvalid},
		{"of another type", []string{"other"}, rar.CodeNoGrantedType},
	} {
		var o rar.CoverOptions
		for _, s := range tt.skipped {
			o.Skipped = append(o.Skipped, rar.Skipped{Type: s})
		}
		got := covers(t, types, nil, required, o)
		if len(got.Because) != 1 || got.Because[0].Code != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, got.Because, tt.want)
		}
	}
}

func TestCoversSingleUse(t *testing.T) {
	t.Parallel()
	types := rulesUnderTest(t)
	list := func(maxima ...string) []rar.Value {
		var out []rar.Value
		for _, m := range maxima {
			out = append(out, object(t, `"max":`+m))
		}
		return out
	}
	tests := []struct {
		name              string
		granted, required []rar.Value
		want              rar.Result
	}{
		{"one each", list("10", "20"), list("5", "15"), rar.Result{Covered: true, Used: []int{0, 1}}},
		{"first fit would fail", list("20", "10"), list("5", "15"), rar.Result{Covered: true, Used: []int{1, 0}}},
		{"a chain of moves", list("30", "20", "10"), list("5", "15", "25"), rar.Result{Covered: true, Used: []int{2, 1, 0}}},
		{"used up", list("10"), list("5", "6"), rar.Result{Used: []int{0, -1}, Because: []rar.Reason{{Required: 1, Code: rar.CodeGrantedUsedUp}}}},
		{"used up and out of reach", list("10"), list("5", "60", "7"), rar.Result{Used: []int{0, -1, -1}, Because: []rar.Reason{
			{Required: 1, Pointer: "/max", Code: rar.CodeAboveMax}, {Required: 2, Code: rar.CodeGrantedUsedUp},
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := covers(t, types, tt.granted, tt.required, rar.CoverOptions{SingleUse: true})
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	// The same need without single use lets one grant serve two.
	if got := covers(t, types, list("10"), list("5", "6"), rar.CoverOptions{}); !got.Covered {
		t.Errorf("%+v", got)
	}
}

func TestCoversErrors(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	tests := []struct {
		name, required string
		code           rar.Code
		path           string
	}{
		{"not an object", `["account_information"]`, rar.CodeInvalidRequired, "/0"},
		{"no type", `[{"actions":["a"]}]`, rar.CodeUnknownType, "/0/type"},
		{"type is no string", `[{"type":["account_information"]}]`, rar.CodeUnknownType, "/0/type"},
		{"second object undeclared", `[{"type":"account_information"},{"type":"zzz"}]`, rar.CodeUnknownType, "/1/type"},
		{"fails its schema", `[{"type":"account_information","actions":["a",1]}]`, rar.CodeInvalidRequired, "/0/actions/1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := types.Covers(elements(mustDecode(t, tt.required)), elements(mustDecode(t, tt.required)), rar.CoverOptions{})
			wantError(t, err, tt.code, tt.path)
			if got.Covered || got.Because != nil || got.Used != nil {
				t.Errorf("an error came with %+v", got)
			}
		})
	}
	// The cause stays reachable for the log.
	_, err := types.Covers(nil, elements(mustDecode(t, tests[4].required)), rar.CoverOptions{})
	if !errors.Is(errors.Unwrap(err), unwrapped(err)) || unwrapped(err).Code != rar.CodeWrongType {
		t.Errorf("cause of %v", err)
	}
}

func unwrapped(err error) *rar.Error {
	var e *rar.Error
	if !errors.As(errors.Unwrap(err), &e) {
		return &rar.Error{}
	}
	return e
}

// Crafted input must not hold a processor: the answer comes, and it is an error or a no.
// TestStepsAreCounted counts.
func TestCoversIsBounded(t *testing.T) {
	t.Parallel()
	types := rulesUnderTest(t)
	stars := func(n int) string {
		return `"` + strings.Repeat("*a", n) + `"`
	}
	long := func(n int, prefix string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"` + prefix + strconv.Itoa(i) + `"`)
		}
		return "[" + b.String()[1:] + "]"
	}
	items := func(n, k int) string {
		return "[" + strings.Repeat(`{"p":"/a","k":`+strconv.Itoa(k)+`},`, n) + `{"p":"/a","k":` + strconv.Itoa(k) + "}]"
	}
	many := make([]rar.Value, 1025)
	for i := range many {
		many[i] = object(t, "")
	}
	tests := []struct {
		name              string
		granted, required []rar.Value
		complex           bool
	}{
		{"stars", []rar.Value{object(t, `"glob":`+stars(20_000))}, []rar.Value{object(t, `"glob":"`+strings.Repeat("a", 50_000)+`b"`)}, false},
		{"stars to the end", []rar.Value{object(t, `"glob":`+stars(20_000))}, []rar.Value{object(t, `"glob":"`+strings.Repeat("a", 50_000)+`"`)}, true},
		{"many paths", []rar.Value{object(t, `"pre":`+long(6000, "/g"))}, []rar.Value{object(t, `"pre":`+long(6000, "/r"))}, false},
		{"many paths, all but the last known", []rar.Value{object(t, `"pre":`+long(6000, "/g"))}, []rar.Value{object(t, `"pre":`+strings.Replace(long(6000, "/g"), `"/g5999"`, `"/x"`, 1))}, true},
		{"many items", []rar.Value{object(t, `"items":`+items(4000, 1))}, []rar.Value{object(t, `"items":`+items(4000, 2))}, false},
		{"many objects", many, many[:1], true},
		{"many needs", many[:1], many, true},
		{"a large subset is no problem", []rar.Value{object(t, `"sub":`+long(6000, "x"))}, []rar.Value{object(t, `"sub":`+long(6000, "x"))}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := types.Covers(tt.granted, tt.required, rar.CoverOptions{SingleUse: true})
			if !tt.complex {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, rar.CodeTooComplex, "")
			if got.Covered {
				t.Error("covered, and an error")
			}
		})
	}
}

func TestGranted(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	const good = `{"type":"account_information","actions":["a"]}`
	type skip struct {
		Index int
		Type  string
		Code  rar.Code
		Path  string
	}
	tests := []struct {
		name, claim string
		usable      int
		want        []skip
	}{
		{"all good", `[` + good + `,` + good + `]`, 2, nil},
		{"empty", `[]`, 0, nil},
		{"bad ones are skipped", `[` + good + `,{"type":"zzz"},{"type":"account_information","x":1},{"a":1},{"type":5},` + good + `]`, 2, []skip{
			{1, "zzz", rar.CodeUnknownType, "/1/type"},
			{2, "account_information", rar.CodeUnknownField, "/2/x"},
			{3, "", rar.CodeMissingType, "/3"},
			{4, "", rar.CodeMissingType, "/4/type"},
		}},
		{"no object makes all unusable", `[` + good + `,"x"]`, 0, []skip{{-1, "", rar.CodeNotObject, "/1"}}},
		{"no array", good, 0, []skip{{-1, "", rar.CodeNotArray, ""}}},
		{"repeated name makes all unusable", `[` + good + `,{"type":"zzz","a":{"b":1,"b":2}}]`, 0, []skip{{-1, "", rar.CodeDuplicateKey, "/1/a/b"}}},
		{"syntax", `[` + good, 0, []skip{{-1, "", rar.CodeSyntax, ""}}},
		{"too many", `[` + strings.Repeat(good+",", 64) + good + `]`, 0, []skip{{-1, "", rar.CodeTooLarge, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check := func(usable []rar.Value, skipped []rar.Skipped) {
				t.Helper()
				var got []skip
				for _, s := range skipped {
					got = append(got, skip{s.Index, s.Type, s.Err.Code, s.Err.Path})
				}
				if diff := gocmp.Diff(tt.want, got); diff != "" || len(usable) != tt.usable {
					t.Errorf("%d usable, skipped:\n%s", len(usable), diff)
				}
			}
			check(types.GrantedText([]byte(tt.claim), rar.Limits{}))
			if v, err := rar.DecodeStrict([]byte(tt.claim), rar.Limits{}); err == nil {
				check(types.Granted(v))
			}
		})
	}
	if usable, skipped := types.Granted(rar.Value{}); usable != nil || skipped != nil {
		t.Error("a token without the claim is reported")
	}
}

// The order of section 4 decides which of two faults is reported.
func TestParseOrder(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	tests := []struct {
		name, text string
		code       rar.Code
		path       string
	}{
		{"syntax before everything", `{"a":1,"a":2`, rar.CodeSyntax, ""},
		{"array before repeated names", `{"a":1,"a":2}`, rar.CodeNotArray, ""},
		{"object before repeated names", `[1,{"a":1,"a":2}]`, rar.CodeNotObject, "/0"},
		{"earlier element first", `[{"type":"zzz"},{"a":1,"a":2}]`, rar.CodeUnknownType, "/0/type"},
		{"repeated names before type", `[{"a":{"b":1,"b":2}}]`, rar.CodeDuplicateKey, "/0/a/b"},
		{"type before declared", `[{"type":null}]`, rar.CodeMissingType, "/0/type"},
		{"too many objects", `[` + strings.Repeat("1,", 64) + `1]`, rar.CodeTooLarge, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := types.Parse([]byte(tt.text), rar.Limits{})
			wantError(t, err, tt.code, tt.path)
			if got != nil {
				t.Error("an error came with objects")
			}
		})
	}
	_, err := types.Parse([]byte(`[{"type":"account_information","Type":1}]`), rar.Limits{RejectCaseVariants: true})
	wantError(t, err, rar.CodeCaseVariantKey, "/0/Type")
	v := mustDecode(t, `[{"type":"account_information"}]`)
	if got, err := types.ParseValue(v); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
	_, err = types.ParseValue(mustDecode(t, `{}`))
	wantError(t, err, rar.CodeNotArray, "")
}

// mutants returns near misses of an object: each rule sees values that its
// vectors never held.
func mutated(t *rapid.T, v rar.Value) rar.Value {
	members := make([]rar.Member, 0, v.Len())
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name != "type" {
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				continue
			case 1:
				m.Value = values(2).Draw(t, "value")
			}
		}
		members = append(members, m)
	}
	return rar.ObjectValue(members...)
}

// pool is every object of the vectors: material for the properties.
func pool(t testing.TB) []rar.Value {
	t.Helper()
	var all []rar.Value
	for _, v := range containmentVectors(t) {
		granted, required := v.lists(t)
		all = append(append(all, granted...), required...)
	}
	return all
}

func TestCoversIsReflexive(t *testing.T) {
	t.Parallel()
	types, objects := vectorTypes(t), pool(t)
	rapid.Check(t, func(t *rapid.T) {
		v := mutated(t, rapid.SampledFrom(objects).Draw(t, "object"))
		for _, o := range []rar.CoverOptions{{}, {SingleUse: true}} {
			got, err := types.Covers([]rar.Value{v}, []rar.Value{v}, o)
			if err != nil {
				return // not a valid need
			}
			for _, r := range got.Because {
				// Empty sets and what is no number are never covered, not even
				// by themselves.
				if r.Code != rar.CodeRequiredEmpty && r.Code != rar.CodeNotANumber {
					t.Fatalf("%s does not cover itself: %v", v.AppendJSON(nil), got.Because)
				}
			}
		}
	})
}

func TestCoversIsMonotonic(t *testing.T) {
	t.Parallel()
	types, objects := vectorTypes(t), pool(t)
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.SampledFrom(objects), 0, 5)
		granted, more := list.Draw(t, "granted"), list.Draw(t, "more")
		required := list.Draw(t, "required")
		for _, o := range []rar.CoverOptions{{}, {SingleUse: true}} {
			before, err := types.Covers(granted, required, o)
			if err != nil || !before.Covered {
				continue
			}
			for _, grown := range [][]rar.Value{append(append([]rar.Value(nil), granted...), more...), append(append([]rar.Value(nil), more...), granted...)} {
				after, err := types.Covers(grown, required, o)
				if err != nil || !after.Covered {
					t.Fatalf("more grants cover less: %v %v", after.Because, err)
				}
			}
			fewer, err := types.Covers(granted, required[:1], o)
			if err != nil || !fewer.Covered {
				t.Fatalf("a smaller need is not covered: %v %v", fewer.Because, err)
			}
		}
	})
}

// An assignment exists exactly if trying all of them finds one.
func TestSingleUseAgreesWithExhaustiveSearch(t *testing.T) {
	t.Parallel()
	types := rulesUnderTest(t)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) []rar.Value {
			var out []rar.Value
			for _, m := range rapid.SliceOfN(rapid.IntRange(1, 6), 1, 5).Draw(t, label) {
				eq := rapid.IntRange(0, 1).Draw(t, label+" eq")
				out = append(out, rar.ObjectValue(
					rar.Member{Name: "type", Value: rar.StringValue("t")},
					rar.Member{Name: "max", Value: rar.IntValue(int64(m))},
					rar.Member{Name: "eq", Value: rar.IntValue(int64(eq))}))
			}
			return out
		}
		granted, required := draw("granted"), draw("required")
		pair := func(j, i int) bool {
			got, err := types.Covers(granted[j:j+1], required[i:i+1], rar.CoverOptions{})
			return err == nil && got.Covered
		}
		taken := make([]bool, len(granted))
		var search func(i int) bool
		search = func(i int) bool {
			if i == len(required) {
				return true
			}
			for j := range granted {
				if !taken[j] && pair(j, i) {
					taken[j] = true
					if search(i + 1) {
						return true
					}
					taken[j] = false
				}
			}
			return false
		}
		got, err := types.Covers(granted, required, rar.CoverOptions{SingleUse: true})
		if err != nil || got.Covered != search(0) {
			t.Fatalf("covered %v, %v", got, err)
		}
		seen := map[int]bool{}
		for i, j := range got.Used {
			if j >= 0 && (seen[j] || !pair(j, i)) {
				t.Fatalf("used %v", got.Used)
			}
			seen[j] = j >= 0
		}
	})
}

func FuzzCovers(f *testing.F) {
	types := rulesUnderTest(f)
	seeds := []string{
		`"eq":1,"sub":["a"],"max":"1"`, `"pre":"/a/b","glob":"a*"`, `"items":[{"p":"/a"}]`, `"deep":{"max":1}`, `"imp":["a"]`, `"pre":["/x"],"glob":["**"]`, ``,
	}
	for _, g := range seeds {
		for _, r := range seeds {
			f.Add(g, r)
		}
	}
	f.Fuzz(func(t *testing.T, granted, required string) {
		wrap := func(members string) (rar.Value, bool) {
			v, err := rar.DecodeStrict([]byte(`{"type":"t",`+members+`}`), rar.Limits{})
			return v, err == nil
		}
		g, okG := wrap(granted)
		r, okR := wrap(required)
		if !okG || !okR {
			return
		}
		got, err := types.Covers([]rar.Value{g}, []rar.Value{r}, rar.CoverOptions{})
		if err != nil {
			if got.Covered {
				t.Fatal("covered, and an error")
			}
			return
		}
		if got.Covered != (len(got.Because) == 0) || got.Covered != (got.Used[0] == 0) {
			t.Fatalf("%+v", got)
		}
		for _, reason := range got.Because {
			_, inG := g.Lookup(reason.Pointer)
			_, inR := r.Lookup(reason.Pointer)
			if !inG && !inR {
				t.Fatalf("%+v points nowhere", reason)
			}
		}
	})
}
