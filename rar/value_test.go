package rar_test

import (
	"encoding/json"
	"math/big"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/authzd/authzd/rar"
)

func TestValueAccessors(t *testing.T) {
	t.Parallel()
	v := mustDecode(t, `{"n":1.50,"s":"x","t":true,"f":false,"z":null,"l":[1,2],"o":{}}`)
	get := func(name string) rar.Value {
		m, ok := v.Get(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return m
	}
	wantKinds := map[string]rar.Kind{"n": rar.Number, "s": rar.String, "t": rar.Bool, "f": rar.Bool, "z": rar.Null, "l": rar.Array, "o": rar.Object}
	names := map[rar.Kind]string{
		rar.Absent: "absent", rar.Null: "null", rar.Bool: "boolean", rar.Number: "number",
		rar.String: "string", rar.Array: "array", rar.Object: "object",
	}
	for name, kind := range wantKinds {
		if got := get(name).Kind(); got != kind || got.String() != names[kind] {
			t.Errorf("%s is %v", name, got)
		}
	}
	if v.Len() != 7 || v.Member(0).Name != "n" || v.Member(6).Name != "o" || get("l").Len() != 2 || get("s").Len() != 0 {
		t.Error("lengths or members")
	}
	if get("n").Text() != "1.50" || get("s").Text() != "x" || get("l").Text() != "" {
		t.Error("texts")
	}
	if !get("t").Bool() || get("f").Bool() || get("n").Bool() {
		t.Error("booleans")
	}
	// Nothing outside may be found, and nothing may panic.
	for _, i := range []int{-1, 7} {
		if v.Member(i).Name != "" || v.Index(i).Kind() != rar.Absent || get("l").Index(i).Kind() != rar.Absent {
			t.Error("found something outside")
		}
	}
	if _, ok := get("l").Get("0"); ok {
		t.Error("an array has members")
	}
	if (rar.Value{}).Kind() != rar.Absent || len((rar.Value{}).AppendJSON(nil)) != 0 || names[rar.Absent] != rar.Absent.String() {
		t.Error("the zero Value is not absent")
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	// RFC 6901 §5.
	v := mustDecode(t, `{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8,"10":[[9]]}`)
	for pointer, want := range map[string]string{
		"/foo": `["bar","baz"]`, "/foo/0": `"bar"`, "/": "0", "/a~1b": "1", "/c%d": "2", "/e^f": "3",
		"/g|h": "4", `/i\j`: "5", `/k"l`: "6", "/ ": "7", "/m~0n": "8", "/10/0/0": "9", "": string(v.AppendJSON(nil)),
	} {
		got, ok := v.Lookup(pointer)
		if !ok || string(got.AppendJSON(nil)) != want {
			t.Errorf("%q is %s", pointer, got.AppendJSON(nil))
		}
	}
	if got, ok := mustDecode(t, `{"":{"":1,"a":2}}`).Lookup("//a"); !ok || got.Text() != "2" {
		t.Errorf("//a is %s", got.AppendJSON(nil))
	}
	for _, pointer := range []string{"foo", "/foo/2", "/foo/-", "/foo/01", "/foo/+1", "/foo/", "/foo/0/0", "/none", "/m~n", "/m~", "/m~2n", "/foo/99999999999999999999"} {
		if got, ok := v.Lookup(pointer); ok {
			t.Errorf("%q is %s", pointer, got.AppendJSON(nil))
		}
	}
}

func TestConstructors(t *testing.T) {
	t.Parallel()
	half, err := rar.NumberValue("-0.50")
	if err != nil {
		t.Fatal(err)
	}
	elements := []rar.Value{half, rar.IntValue(-7), rar.NullValue(), rar.BoolValue(true)}
	v := rar.ObjectValue(
		rar.Member{Name: "l", Value: rar.ArrayValue(elements...)},
		rar.Member{Name: "a\xff", Value: rar.StringValue("b\xff\"")},
		rar.Member{Name: "l2", Value: rar.ObjectValue()},
		rar.Member{Name: "a\uFFFD", Value: rar.StringValue("again")},
	)
	elements[0] = rar.NullValue() // must not show
	if got, want := string(v.AppendJSON(nil)), `{"l":[-0.50,-7,null,true],"a�":"again","l2":{}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, literal := range []string{"", "x", "1 ", " 1", "1e", "0x1", "1e999", "NaN", "1,2", "--1"} {
		if _, err := rar.NumberValue(literal); err == nil {
			t.Errorf("%q is a number", literal)
		}
	}
	_, err = rar.NumberValue("1e401")
	wantError(t, err, rar.CodeNumberOutOfRange, "")
}

// TestSame: one Value in memory, and not only one that is equal.
func TestSame(t *testing.T) {
	t.Parallel()
	list := mustDecode(t, `[[1,2],{"a":1},"text",true,false,null,[],{},12,"12"]`)
	for i := range list.Len() {
		for j := range list.Len() {
			if got := rar.Same(list.Index(i), list.Index(j)); got != (i == j) {
				t.Errorf("%s and %s: %v", list.Index(i).AppendJSON(nil), list.Index(j).AppendJSON(nil), got)
			}
		}
	}
	if rar.Same(mustDecode(t, `[1]`), mustDecode(t, `[1]`)) || rar.Same(rar.Value{}, rar.NullValue()) || !rar.Same(rar.Value{}, rar.Value{}) {
		t.Error("equal ones are the same, or nothing is not")
	}
}

func TestAny(t *testing.T) {
	t.Parallel()
	got := mustDecode(t, `{"n":9007199254740993,"l":["s",true,null],"o":{}}`).Any()
	want := map[string]any{"n": json.Number("9007199254740993"), "l": []any{"s", true, nil}, "o": map[string]any{}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCanonicalNumbers(t *testing.T) {
	t.Parallel()
	for literal, want := range map[string]string{
		"0": "0", "-0": "0", "-0.000e5": "0", "1.0": "1", "1e0": "1", "100": "100", "1E2": "100", "1e-2": "0.01", "-12.3400": "-12.34",
		"0.10e1": "1", "10e-1": "1", "123e-2": "1.23", "0.00120": "0.0012", "1200e-5": "0.012", "9007199254740993": "9007199254740993",
		"0.1000000000000000000000000001": "0.1000000000000000000000000001", "1.5e3": "1500", "-1e+2": "-100", "12e00": "12",
	} {
		v := mustDecode(t, literal)
		if got := string(v.AppendCanonical(nil)); got != want {
			t.Errorf("%s is %s, want %s", literal, got, want)
		}
		if got := string(v.AppendJSON(nil)); got != literal {
			t.Errorf("%s came back as %s", literal, got)
		}
	}
}

func TestCanonicalOrder(t *testing.T) {
	t.Parallel()
	// By code point: U+FFFD sorts before U+1F600, although UTF-16 has it after.
	v := mustDecode(t, `{"b":1,"a":{"😀":1,"�":2,"":3},"B":[2,1]}`)
	if got, want := string(v.AppendCanonical(nil)), `{"B":[2,1],"a":{"":3,"�":2,"😀":1},"b":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// literals generates JSON numbers, many of them near each other.
func literals() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?`),
		rapid.StringMatching(`-?(0|1|10|100)(\.0{1,3})?([eE][+-]?[0-3])?`),
		rapid.StringMatching(`-?[1-9][0-9]{15,40}(\.[0-9]{1,20})?`))
}

// values generates JSON values with repeated names and values, so that equal
// ones are not rare.
func values(depth int) *rapid.Generator[rar.Value] {
	return rapid.Custom(func(t *rapid.T) rar.Value {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 && kind > 3 {
			kind = 3
		}
		switch kind {
		case 0:
			return rar.NullValue()
		case 1:
			return rar.BoolValue(rapid.Bool().Draw(t, "bool"))
		case 2:
			v, err := rar.NumberValue(literals().Draw(t, "number"))
			if err != nil {
				t.Fatal(err)
			}
			return v
		case 3:
			return rar.StringValue(rapid.OneOf(rapid.StringMatching(`[ab1]{0,2}`), rapid.String()).Draw(t, "string"))
		case 4:
			return rar.ArrayValue(rapid.SliceOfN(values(depth-1), 0, 4).Draw(t, "array")...)
		}
		var members []rar.Member
		for _, name := range rapid.SliceOfN(rapid.StringMatching(`[abc~/"]{0,2}`), 0, 24).Draw(t, "names") {
			members = append(members, rar.Member{Name: name, Value: values(depth-1).Draw(t, "member")})
		}
		return rar.ObjectValue(members...)
	})
}

func TestDecodeRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "value")
		text := v.AppendJSON(nil)
		if !json.Valid(text) {
			t.Fatalf("%s is not JSON", text)
		}
		got, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: len(text)})
		if err != nil {
			t.Fatal(err)
		}
		if again := got.AppendJSON(nil); string(again) != string(text) || !rar.Equal(v, got) {
			t.Fatalf("%s became %s", text, again)
		}
	})
}

func TestEqualIsCanonicalEquality(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := values(2).Draw(t, "a")
		b := rapid.OneOf(values(2), rapid.Just(a), rapid.Just(shuffled(t, a))).Draw(t, "b")
		same := string(a.AppendCanonical(nil)) == string(b.AppendCanonical(nil))
		if rar.Equal(a, b) != same || rar.Equal(b, a) != same {
			t.Fatalf("equal %v, canonical %v: %s and %s", rar.Equal(a, b), same, a.AppendJSON(nil), b.AppendJSON(nil))
		}
	})
}

// shuffled returns v with the members of its objects in another order.
func shuffled(t *rapid.T, v rar.Value) rar.Value {
	switch v.Kind() {
	case rar.Object:
		members := make([]rar.Member, v.Len())
		for i := range members {
			m := v.Member(i)
			members[i] = rar.Member{Name: m.Name, Value: shuffled(t, m.Value)}
		}
		return rar.ObjectValue(rapid.Permutation(members).Draw(t, "order")...)
	case rar.Array:
		list := make([]rar.Value, v.Len())
		for i := range list {
			list[i] = shuffled(t, v.Index(i))
		}
		return rar.ArrayValue(list...)
	case rar.Absent, rar.Null, rar.Bool, rar.Number, rar.String:
	}
	return v
}

// Numbers are held against arithmetic that shares no code with ours.
func TestEqualNumbersAgreeWithRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := literals().Draw(t, "a"), literals().Draw(t, "b")
		x, okX := new(big.Rat).SetString(a)
		y, okY := new(big.Rat).SetString(b)
		v, errV := rar.NumberValue(a)
		w, errW := rar.NumberValue(b)
		if !okX || !okY || errV != nil || errW != nil {
			t.Fatalf("%s, %s: %v %v", a, b, errV, errW)
		}
		if got := rar.Equal(v, w); got != (x.Cmp(y) == 0) {
			t.Fatalf("Equal(%s, %s) = %v", a, b, got)
		}
		z, ok := new(big.Rat).SetString(string(v.AppendCanonical(nil)))
		if !ok || z.Cmp(x) != 0 {
			t.Fatalf("%s became %s", a, v.AppendCanonical(nil))
		}
	})
}
