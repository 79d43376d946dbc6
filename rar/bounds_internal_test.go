package rar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestSchemeLength: its slashes are no segments, so what counts as a scheme decides
// which paths are unsafe (RFC 3986 section 3.1).
func TestSchemeLength(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "z", "A", "Z", "https", "a0", "a9", "a+", "a-", "a.", "zA+9"} {
		if got := schemeLength(name + "://h/p"); got != len(name)+len("://") {
			t.Errorf("%s:// is a scheme of %d bytes", name, got)
		}
	}
	for _, name := range []string{"", "`", "{", "@", "[", "0", "9", "+", "-", ".", "a/", "a:", "a,", "a;", "a b", "ä", "a_", "a`", "a{", "a@", "a["} {
		if got := schemeLength(name + "://h/p"); got != 0 {
			t.Errorf("%s:// is a scheme of %d bytes", name, got)
		}
		if !unsafePath(name + "://h/p") {
			t.Errorf("%s://h/p has an empty segment, and is safe", name)
		}
	}
	for _, path := range []string{"", "a", ":/", "a:/b", "https:/a"} {
		if got := schemeLength(path); got != 0 {
			t.Errorf("%q has a scheme of %d bytes", path, got)
		}
	}
}

// TestDecimalsInOrder holds each decimal against each other, the lesser first.
func TestDecimalsInOrder(t *testing.T) {
	t.Parallel()
	classes := [][]string{
		{"-1e400"},
		{"-1000.1"},
		{"-1000", "-1e3", "-1000.0"},
		{"-12"},
		{"-11", "-1.1e1"},
		{"-1.01"},
		{"-1"},
		{"-0.1"},
		{"-0.01", "-1e-2"},
		{"0", "-0", "0.000", "-0e9"},
		{"1e-400"},
		{"0.009"},
		{"0.01", "1E-2", "0.010"},
		{"0.0101"},
		{"0.1"},
		{"0.11"},
		{"0.9"},
		{"1", "1.0", "10e-1"},
		{"1.01"},
		{"1.1"},
		{"9"},
		{"10", "1e+1"},
		{"10.5"},
		{"11"},
		{"99"},
		{"100", "1e2"},
		{"101"},
		{"1e400"},
	}
	for i, less := range classes {
		for j, more := range classes {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			for _, x := range less {
				for _, y := range more {
					if got := compareDecimals(parseDecimal(x), parseDecimal(y)); got != want {
						t.Errorf("compare %s to %s: %d, want %d", x, y, got, want)
					}
				}
			}
		}
	}
}

func TestDecimalText(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0", "9", "10", "-0", "-1", "0.0", "0.90", "123.456", "-10.01"} {
		if !isDecimalText(s) {
			t.Errorf("%q is none", s)
		}
	}
	for _, s := range []string{"", "-", ".", "00", "01", "-01", "00.1", "0.", ".5", "1.2.3", "--1", "1e2", "1/", "1:", "/", ":", "0.1/", "0.:", "+1", " 1", "1 "} {
		if isDecimalText(s) {
			t.Errorf("%q is one", s)
		}
	}
}

// TestElementNumber: RFC 6901 section 4.
func TestElementNumber(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]int{
		"0": 0, "9": 9, "10": 10, "123456789": 123456789, "999999999": 999999999,
		"": -1, "00": -1, "01": -1, "-": -1, "-1": -1, "+1": -1, "1a": -1, "/": -1, ":": -1, "1000000000": -1,
	} {
		if got := elementNumber(token); got != want {
			t.Errorf("%q is %d, want %d", token, got, want)
		}
	}
}

// TestBounds: what is exactly at a bound is taken, one more is not.
func TestBounds(t *testing.T) {
	t.Parallel()
	types := typesUnderBounds(t)
	object := ObjectValue(Member{"type", StringValue("t")}, Member{"n", IntValue(1)})
	list := func(n int) []Value {
		return ArrayOf(n, func(int) Value { return object }).list()
	}
	coversOf := func(granted, required int) error {
		_, err := types.Covers(list(granted), list(required), CoverOptions{})
		return err
	}
	condense := func(n int) error {
		_, _, err := types.Condense(list(n), nil)
		return err
	}
	decode := func(text string, l Limits) error {
		_, err := DecodeStrict([]byte(text), l)
		return err
	}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct {
		name string
		code Code
		at   func(more int) error
	}{
		{"granted objects", CodeTooComplex, func(more int) error { return coversOf(maxCompared+more, 1) }},
		{"required objects", CodeTooComplex, func(more int) error { return coversOf(1, maxCompared+more) }},
		{"condensed objects", CodeTooComplex, func(more int) error { return condense(maxCompared + more) }},
		{"objects of a request", CodeTooLarge, func(more int) error {
			_, err := types.ParseValue(ArrayValue(list(DefaultMaxObjects + more)...))
			return err
		}},
		{"bytes", CodeTooLarge, func(more int) error { return decode(strings.Repeat(" ", DefaultMaxBytes-1+more)+"1", Limits{}) }},
		{"bytes of text", CodeTooLarge, func(more int) error {
			_, err := DecodeText(strings.Repeat(" ", 9+more)+"1", Limits{MaxBytes: 10})
			return err
		}},
		{"bytes of packed text", CodeTooLarge, func(more int) error {
			_, err := Packing{Above: 1}.Decode(strings.Repeat(" ", 9+more)+"1", Limits{MaxBytes: 10})
			return err
		}},
		{"depth", CodeTooDeep, func(more int) error { return decode(nested(DefaultMaxDepth+more), Limits{}) }},
		{"depth of objects", CodeTooDeep, func(more int) error {
			return decode(strings.Repeat(`{"a":`, 3+more)+"1"+strings.Repeat("}", 3+more), Limits{MaxDepth: 3})
		}},
		{"exponent", CodeNumberOutOfRange, func(more int) error {
			return decode("1e"+strconv.Itoa(DefaultMaxExponent+more), Limits{})
		}},
		{"negative exponent", CodeNumberOutOfRange, func(more int) error {
			return decode("1e-0"+strconv.Itoa(DefaultMaxExponent+more), Limits{})
		}},
		{"any exponent", CodeNumberOutOfRange, func(more int) error {
			return decode("1e"+strconv.Itoa(999_999+more), Limits{MaxExponent: 1 << 40})
		}},
	} {
		if err := tt.at(0); err != nil {
			t.Errorf("%s: at the bound: %v", tt.name, err)
		}
		var e *Error
		if err := tt.at(1); !errors.As(err, &e) || e.Code != tt.code {
			t.Errorf("%s: beyond the bound: %v, want %s", tt.name, err, tt.code)
		}
	}
}

func typesUnderBounds(t *testing.T) *Types {
	t.Helper()
	doc, err := DecodeStrict([]byte(`{"type":"t","schema":{"$schema":"`+draft2020+`","type":"object",
		"properties":{"type":{"const":"t"},"n":{"type":"number"}},"additionalProperties":false},"compare":{"/n":"max"}}`), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	types, _, err := CompileTypes([]Declaration{{Name: "t", Document: doc}})
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// TestDeclaredPartOfMany: as many members may be unknown as are looked for.
func TestDeclaredPartOfMany(t *testing.T) {
	t.Parallel()
	types := typesUnderBounds(t)
	for more, want := range []bool{true, false} {
		members := []Member{{"type", StringValue("t")}}
		for i := range maxUnknown - 1 + more {
			members = append(members, Member{"x" + strconv.Itoa(i), NullValue()})
		}
		if _, ok := types.DeclaredPart(ObjectValue(members...)); ok != want {
			t.Errorf("%d unknown members: %v, want %v", len(members)-1, ok, want)
		}
	}
}

// TestImpliedPairsAreBounded: the closure of a chain of n has n(n+1)/2 pairs.
func TestImpliedPairsAreBounded(t *testing.T) {
	t.Parallel()
	star := func(n int) map[string][]string {
		all := make([]string, n)
		for i := range all {
			all[i] = strconv.Itoa(i)
		}
		return map[string][]string{"all": append(all, all[0])} // twice counts once
	}
	if c, err := closeOver(star(maxImplied)); err != nil || len(c["all"]) != maxImplied {
		t.Errorf("%d pairs, %v", len(c["all"]), err)
	}
	if c, err := closeOver(star(maxImplied + 1)); err == nil || c != nil {
		t.Error("one pair too many is taken")
	}
	chain, err := closeOver(map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}})
	if err != nil || len(chain["a"]) != 3 || len(chain["b"]) != 2 || len(chain["c"]) != 1 {
		t.Errorf("%v, %v", chain, err)
	}
}

// TestWithoutPlace: a pointer that leads nowhere takes nothing away.
func TestWithoutPlace(t *testing.T) {
	t.Parallel()
	const text = `{"l":[{"d":1,"":2},{"d":3}],"o":{"d":4}}`
	doc := mustText(t, text)
	for pointer, want := range map[string]string{
		"/l/0/d": `{"l":[{"":2},{"d":3}],"o":{"d":4}}`, "/l/1/d": `{"l":[{"d":1,"":2},{}],"o":{"d":4}}`, "/o/d": `{"l":[{"d":1,"":2},{"d":3}],"o":{}}`, "/o": `{"l":[{"d":1,"":2},{"d":3}]}`,
		"/l/x/d": text, "/l/-1/d": text, "/l/2/d": text, "/l/0": text, "/l/0/x": text, "/x": text, "/x/d": text,
	} {
		if got := string(withoutPlace(doc, pointer).AppendJSON(nil)); got != want || string(doc.AppendJSON(nil)) != text {
			t.Errorf("without %s: %s", pointer, got)
		}
	}
}

// TestGlobs: stars between other characters, of which a slash takes a double one.
func TestGlobs(t *testing.T) {
	t.Parallel()
	for pattern, texts := range map[string]struct{ yes, no []string }{
		"*+*":     {[]string{"a+b", "+", "a+", "+b", "a++b", "++"}, []string{"", "ab", "a+b/c", "a/b+c", "a*b", "/+"}},
		"**+*":    {[]string{"a+b", "a/b+c", "/+", "/+/+"}, []string{"a+b/c", "ab", "+/"}},
		"*+**":    {[]string{"a+b", "a+b/c", "+/"}, []string{"a/b+c", "/+"}},
		"*+***":   {[]string{"a+b/c"}, []string{"a/b+c"}},
		"a*b*c":   {[]string{"abc", "axbyc", "abbc", "abcbc"}, []string{"ac", "abcd", "a/bc", "ab/c", "xabc", "acb"}},
		"a**b*c":  {[]string{"a/b/bxc", "abc"}, []string{"abx/c", "a/b/c/c"}},
		"/x/*/y":  {[]string{"/x/1/y", "/x//y"}, []string{"/x/1/2/y", "/x/y", "/x/1/yy"}},
		"/x/**":   {[]string{"/x/", "/x/1/2"}, []string{"/x", "/y/1"}},
		"ab*ba":   {[]string{"abba", "abxba"}, []string{"aba", "abxb"}},
		"without": {nil, []string{"without", "without*", ""}}, // equality is looked at before
	} {
		for want, list := range map[bool][]string{true: texts.yes, false: texts.no} {
			for _, s := range list {
				work := maxWork
				if c := (comparer{work: &work}); c.globMatches(pattern, s) != want || work <= 0 {
					t.Errorf("%q covers %q: %v, want %v", pattern, s, !want, want)
				}
			}
		}
	}
}

// TestNamesAreHashed: among many, a name is looked for by its hash, and each of them is
// taken into the table once.
func TestNamesAreHashed(t *testing.T) {
	t.Parallel()
	for _, fold := range []bool{false, true} {
		var s nameSet
		var kids []Value
		for i := range 1000 {
			name := "Name" + strconv.Itoa(i)
			if code := s.add(kids, name, fold); code != "" {
				t.Fatalf("%s: %s", name, code)
			}
			kids = append(kids, StringValue(name), NullValue())
			hashed, folded := i+1, 0
			if i <= fewMembers { // names that stood there before
				hashed = 0
			}
			if fold {
				folded = hashed
			}
			if len(s.exact) != hashed || len(s.folded) != folded {
				t.Fatalf("of %d names %d are hashed, %d without their case", i+1, len(s.exact), len(s.folded))
			}
		}
	}
}

// TestStepsAreCounted: each comparison takes from the budget what it looks at, and says no
// once nothing is left.
func TestStepsAreCounted(t *testing.T) {
	t.Parallel()
	long := func(n int, of string) Value {
		return ArrayOf(n, func(i int) Value { return StringValue(fmt.Sprintf(of, i)) })
	}
	text := func(n int) Value { return StringValue(strings.Repeat("/abcdefg", n/8)) }
	glob := StringValue("/*" + strings.Repeat("g/*", 5))
	for name, c := range map[string]struct {
		rule              rule
		granted, required Value
		steps             int
	}{
		"texts":         {ruleEqual, text(80), text(80), 1 + 80 + 80},
		"numbers":       {ruleMax, mustText(t, "12345"), mustText(t, "-1"), 1 + 5 + 2},
		"ignored":       {ruleIgnore, text(8), text(8), 1 + 8 + 8},
		"few":           {ruleSubset, long(3, "x%d"), long(3, "x%d"), 1},
		"long sets":     {ruleSubset, long(300, "x%03d"), long(300, "x%03d"), 1 + 300*6 + 300*6},
		"long need":     {ruleSubset, long(1, "x%03d"), ArrayOf(300, func(int) Value { return StringValue("x000") }), 1 + 6 + 300*6},
		"prefix":        {rulePrefix, text(16), text(80), (1 + 16 + 80) + 1 + 80 + 16},
		"equal path":    {rulePrefix, text(16), text(16), (1 + 16 + 16) + 1},
		"several paths": {rulePrefix, long(4, "/x%d"), ArrayValue(StringValue("/x3/y")), 1 + 4 + 5 + 4*3},
		"glob":          {ruleGlob, glob, StringValue("/a" + strings.Repeat("bg/c", 5)), (1 + 17 + 22) + 1 + 22 + 17 + 16*22},
	} {
		n := &node{rule: c.rule}
		work := maxWork
		if cmp := (comparer{work: &work}); !cmp.value(n, c.granted, c.required, nil) || maxWork-work != c.steps {
			t.Errorf("%s: %d steps, want %d", name, maxWork-work, c.steps)
		}
		for left := range c.steps {
			work := left
			if cmp := (comparer{work: &work}); cmp.value(n, c.granted, c.required, nil) && work >= 0 {
				t.Fatalf("%s: enough are %d steps", name, left)
			}
		}
	}
}
