package rar_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

// wantError asserts that err is a *rar.Error with this code and pointer.
func wantError(t *testing.T, err error, code rar.Code, path string) {
	t.Helper()
	var e *rar.Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want %s at %q", err, code, path)
	}
	if e.Code != code || e.Path != path {
		t.Fatalf("error = %v, want %s at %q", err, code, path)
	}
	if e.Err == nil || e.Error() == string(e.Code) {
		t.Fatalf("error %q says nothing more than its code", e)
	}
}

func mustDecode(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

func TestDecodeStrictRefuses(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(last string) string {
		var b strings.Builder
		b.WriteString(`{"o":{`)
		for i := range 40 {
			b.WriteString(`"k` + strconv.Itoa(i) + `":0,`)
		}
		return b.String() + `"` + last + `":0}}`
	}
	fold := rar.Limits{RejectCaseVariants: true}
	tests := []struct {
		name, text string
		limits     rar.Limits
		code       rar.Code
		path       string
	}{
		{"empty", "", rar.Limits{}, rar.CodeSyntax, ""},
		{"a name without a value", `{"a"}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"a name without a value before another", `{"a","b":1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"a value without a colon", `{"a" 1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"white space only", " \n", rar.Limits{}, rar.CodeSyntax, ""},
		{"byte order mark", "\uFEFF1", rar.Limits{}, rar.CodeSyntax, ""},
		{"form feed is no white space", "\f1", rar.Limits{}, rar.CodeSyntax, ""},
		{"not UTF-8 in a string", "\"\xff\"", rar.Limits{}, rar.CodeSyntax, ""},
		{"surrogate as UTF-8", "\"\xed\xa0\x80\"", rar.Limits{}, rar.CodeSyntax, ""},
		{"overlong UTF-8", "\"\xc0\xaf\"", rar.Limits{}, rar.CodeSyntax, ""},
		{"control character", "\"a\nb\"", rar.Limits{}, rar.CodeSyntax, ""},
		{"control character after an escape", "\"\\n\nb\"", rar.Limits{}, rar.CodeSyntax, ""},
		{"unended string", `"abc`, rar.Limits{}, rar.CodeSyntax, ""},
		{"unended string after an escape", `"a\nbc`, rar.Limits{}, rar.CodeSyntax, ""},
		{"unended escape", `"a\`, rar.Limits{}, rar.CodeSyntax, ""},
		{"unknown escape", `"\x41"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"short unicode escape", `"\u12"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"bad hexadecimal", `"\u12G4"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"high surrogate alone", `"\ud800x"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"low surrogate first", `"\udc00\ud800"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"a name that is no string", `{"\x":1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"a name without an end", `{"a":1,"b`, rar.Limits{}, rar.CodeSyntax, ""},
		{"a control character in a name", "{\"a\nb\":1}", rar.Limits{}, rar.CodeSyntax, ""},
		{"two high surrogates", `"\ud800\ud800"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"NaN", "NaN", rar.Limits{}, rar.CodeSyntax, ""},
		{"Infinity", "[-Infinity]", rar.Limits{}, rar.CodeSyntax, "/0"},
		{"leading zero", "01", rar.Limits{}, rar.CodeSyntax, ""},
		{"negative leading zero", "-01", rar.Limits{}, rar.CodeSyntax, ""},
		{"plus", "+1", rar.Limits{}, rar.CodeSyntax, ""},
		{"minus only", "-", rar.Limits{}, rar.CodeSyntax, ""},
		{"no whole part", ".5", rar.Limits{}, rar.CodeSyntax, ""},
		{"no fraction", "1.", rar.Limits{}, rar.CodeSyntax, ""},
		{"no exponent", "1e", rar.Limits{}, rar.CodeSyntax, ""},
		{"no exponent after a sign", "1e+", rar.Limits{}, rar.CodeSyntax, ""},
		{"hexadecimal number", "0x10", rar.Limits{}, rar.CodeTrailingData, ""},
		{"capital literal", "True", rar.Limits{}, rar.CodeSyntax, ""},
		{"long literal", "nullx", rar.Limits{}, rar.CodeTrailingData, ""},
		{"comment", "1 // one", rar.Limits{}, rar.CodeTrailingData, ""},
		{"two values", "{} {}", rar.Limits{}, rar.CodeTrailingData, ""},
		{"NUL after the value", "1\x00", rar.Limits{}, rar.CodeTrailingData, ""},
		{"trailing comma in an array", "[1,]", rar.Limits{}, rar.CodeSyntax, "/1"},
		{"trailing comma in an object", `{"a":1,}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"no comma", "[1 2]", rar.Limits{}, rar.CodeSyntax, ""},
		{"no colon", `{"a" 1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"no value", `{"a":}`, rar.Limits{}, rar.CodeSyntax, "/a"},
		{"name without quotes", `{a:1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"number as name", `{"x":{1:1}}`, rar.Limits{}, rar.CodeSyntax, "/x"},
		{"unended array", `[1`, rar.Limits{}, rar.CodeSyntax, ""},
		{"unended object", `{"a":1`, rar.Limits{}, rar.CodeSyntax, ""},
		{"wrong bracket", `[1}`, rar.Limits{}, rar.CodeSyntax, ""},
		{"syntax deep down", `{"a/b":[0,{"m~n":tru}]}`, rar.Limits{}, rar.CodeSyntax, "/a~1b/1/m~0n"},
		{"duplicate", `{"a":1,"b":2,"a":3}`, rar.Limits{}, rar.CodeDuplicateKey, "/a"},
		{"duplicate after unescaping", `{"a":1,"\u0061":3}`, rar.Limits{}, rar.CodeDuplicateKey, "/a"},
		{"duplicate deep down", `[0,{"x":[{"a":1,"a":[{}]}]},0]`, rar.Limits{}, rar.CodeDuplicateKey, "/1/x/0/a"},
		{"second half without backslash", `"\ud83dxude00"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"second half of another escape", `"\ud83d\xde00"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"second half cut off", `"\ud83d\ude0"`, rar.Limits{}, rar.CodeSyntax, ""},
		{"duplicate of the empty name", `{"":1,"":1}`, rar.Limits{}, rar.CodeDuplicateKey, "/"},
		{"first of two duplicates", `[{"a":1,"a":2},{"b":1,"b":2}]`, rar.Limits{}, rar.CodeDuplicateKey, "/0/a"},
		{"duplicate among many", many("k3"), rar.Limits{}, rar.CodeDuplicateKey, "/o/k3"},
		{"late duplicate among many", many("k39"), rar.Limits{}, rar.CodeDuplicateKey, "/o/k39"},
		{"syntax before duplicate", `{"a":1,"a":2,`, rar.Limits{}, rar.CodeSyntax, ""},
		{"trailing data before duplicate", `{"a":1,"a":2}]`, rar.Limits{}, rar.CodeTrailingData, ""},
		{"case variant", `{"aud":1,"x":{"aud":1,"Aud":1}}`, fold, rar.CodeCaseVariantKey, "/x/Aud"},
		{"case variant beyond ASCII", `{"k":1,"\u212a":1}`, fold, rar.CodeCaseVariantKey, "/\u212a"},
		{"case variant among many", many("K7"), fold, rar.CodeCaseVariantKey, "/o/K7"},
		{"case variant of a long s among many", `{"os":` + many("ks") + `,"o\u017f":1}`, fold, rar.CodeCaseVariantKey, "/o\u017f"},
		{"exact duplicate before case variant", `{"a":1,"A":1}`, rar.Limits{RejectCaseVariants: true, MaxDepth: 1}, rar.CodeCaseVariantKey, "/A"},
		{"duplicate among many with folding", many("k3"), fold, rar.CodeDuplicateKey, "/o/k3"},
		{"too deep by default", deep(33), rar.Limits{}, rar.CodeTooDeep, strings.Repeat("/0", 32)},
		{"too deep objects", `{"a":{"b":1}}`, rar.Limits{MaxDepth: 1}, rar.CodeTooDeep, "/a"},
		{"too large by default", `"` + strings.Repeat("x", 64<<10) + `"`, rar.Limits{}, rar.CodeTooLarge, ""},
		{"too large", "[1]", rar.Limits{MaxBytes: 2}, rar.CodeTooLarge, ""},
		{"exponent", `{"a":[1e401]}`, rar.Limits{}, rar.CodeNumberOutOfRange, "/a/0"},
		{"negative exponent", `1e-401`, rar.Limits{}, rar.CodeNumberOutOfRange, ""},
		{"huge exponent", `1E+99999999999999999999`, rar.Limits{}, rar.CodeNumberOutOfRange, ""},
		{"exponent no limit admits", `1e9999999`, rar.Limits{MaxExponent: 1 << 40}, rar.CodeNumberOutOfRange, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := rar.DecodeStrict([]byte(tt.text), tt.limits)
			wantError(t, err, tt.code, tt.path)
			if v.Kind() != rar.Absent {
				t.Errorf("an error came with the value %s", v.AppendJSON(nil))
			}
		})
	}
}

// TestUnicodeEscapes: hexadecimal digits are those of RFC 8259 section 7, and no others.
func TestUnicodeEscapes(t *testing.T) {
	t.Parallel()
	const digits = "0123456789abcdefABCDEF"
	for c := range 0x80 {
		for place := range 4 {
			hex := []byte("1234")
			hex[place] = byte(c)
			v, err := rar.DecodeText(`"\u`+string(hex)+`"`, rar.Limits{})
			n, parsed := strconv.ParseUint(string(hex), 16, 32)
			if strings.IndexByte(digits, byte(c)) < 0 || parsed != nil {
				wantError(t, err, rar.CodeSyntax, "")
			} else if err != nil || v.Text() != string(rune(n)) { //nolint:gosec // four digits
				t.Errorf("%s is %q, %v", hex, v.Text(), err)
			}
		}
	}
}

// TestFaultsTellWhere: the offset is that of the first byte that can not stand there.
func TestFaultsTellWhere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[1,\"é\xff\"]": "offset 6: ", "[1, x]": "offset 4: ", "{\"a\nb\":1}": "offset 3: ", `["\n` + "\n" + `"]`: "offset 4: ", `[1] 2`: "offset 4: ", `["a`: "offset 3: ",
	} {
		if _, err := rar.DecodeText(text, rar.Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestDecodeStrictAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"white space", " \t\r\n[ 1 , { \"a\" : null } ] \n", `[1,{"a":null}]`},
		{"numbers letter by letter", `[0,-0,1.0,1e0,1E+2,0.10,9007199254740993]`, `[0,-0,1.0,1e0,1E+2,0.10,9007199254740993]`},
		{"largest exponents", `[1e400,1e-400,1e0000000001]`, `[1e400,1e-400,1e0000000001]`},
		{"escapes", `"\"\\\/\b\f\n\r\t\u0041\u00e4\ud83d\ude00\u0000"`, `"\"\\/\b\f\n\r\tAä😀\u0000"`},
		{"no needless escapes", `"<&>\u2028\u007f"`, "\"<&>\u2028\x7f\""},
		{"depth 32", strings.Repeat("[", 32) + strings.Repeat("]", 32), strings.Repeat("[", 32) + strings.Repeat("]", 32)},
		{"case variants by default", `{"a":1,"A":2}`, `{"a":1,"A":2}`},
		{"one name in two objects", `[{"a":1},{"a":{"a":2}}]`, `[{"a":1},{"a":{"a":2}}]`},
		{"empty containers", `[[],{},""]`, `[[],{},""]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := rar.DecodeStrict([]byte(tt.text), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(v.AppendJSON(nil)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// The result must not change when the caller reuses its buffer.
func TestDecodeStrictDoesNotAlias(t *testing.T) {
	t.Parallel()
	data := []byte(`{"name":"value"}`)
	v, err := rar.DecodeStrict(data, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] = 'x'
	}
	if got := string(v.AppendJSON(nil)); got != `{"name":"value"}` {
		t.Errorf("got %s", got)
	}
}

// Documents built to make a careless decoder quadratic are decoded: quadratic work would
// take minutes. TestNamesAreHashed counts.
func TestDecodeStrictIsLinear(t *testing.T) {
	t.Parallel()
	const n = 100_000
	var members strings.Builder
	members.WriteByte('{')
	for i := range n {
		if i > 0 {
			members.WriteByte(',')
		}
		members.WriteString(`"K` + strconv.Itoa(i) + `":` + strconv.Itoa(i))
	}
	members.WriteByte('}')
	for name, text := range map[string]string{
		"members": members.String(),
		"nesting": strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n),
		"escapes": `"` + strings.Repeat(`\u0061`, n) + `"`,
		"commas":  `["` + strings.Repeat(`,:[{`, n) + `",[],[],[]]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 24, MaxDepth: n, RejectCaseVariants: true})
			if err != nil {
				t.Fatal(err)
			}
			if !rar.Equal(v, v) {
				t.Error("not equal to itself")
			}
		})
	}
}

func FuzzDecodeStrict(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.50,-0e1,"x\u00e4\ud83d\ude00"],"b":{"c":null,"d":true}}`, `[]`, `"\ud800"`, `{"a":1,"a":2}`,
		`1e999`, "\uFEFF{}", `[1,]`, `{"k":1,"K":2}`, "\"\xff\"", ` 0.10 `, `{"":{"":""}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := rar.DecodeStrict(data, rar.Limits{})
		if err != nil {
			var e *rar.Error
			if !errors.As(err, &e) || v.Kind() != rar.Absent {
				t.Fatalf("error %v with value of kind %v", err, v.Kind())
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q, which is not JSON", data)
		}
		text := v.AppendJSON(nil)
		again, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: len(text)})
		if err != nil || !rar.Equal(v, again) || string(again.AppendJSON(nil)) != string(text) {
			t.Fatalf("%q became %q: %v", data, text, err)
		}
		canonical := v.AppendCanonical(nil)
		same, err := rar.DecodeStrict(canonical, rar.Limits{MaxBytes: len(canonical)})
		if err != nil || !rar.Equal(v, same) || string(same.AppendCanonical(nil)) != string(canonical) {
			t.Fatalf("canonical form %q of %q is not stable: %v", canonical, data, err)
		}
	})
}

// A text that is decoded in place says the same as one that is copied, also
// where it is refused.
func TestDecodeTextIsDecodeStrict(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"a":[1,"x",{"b":null}],"c":"\u0041é"}`, `""`, `[]`, ``, `{"a":1,"a":2}`, `[1] 2`, "\"\xff\"", `[[[[1]]]]`, `"0123456789012345678901234567890123456789"`} {
		limits := rar.Limits{MaxDepth: 3, MaxBytes: 40}
		want, wantErr := rar.DecodeStrict([]byte(text), limits)
		got, err := rar.DecodeText(text, limits)
		if !rar.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%s: %s, %v, want %s, %v", text, got.AppendJSON(nil), err, want.AppendJSON(nil), wantErr)
		}
	}
	data := []byte(`["text",12]`)
	v, err := rar.DecodeStrict(data, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	copy(data, `[1,2,3,4,5]`)
	if got := string(v.AppendJSON(nil)); got != `["text",12]` {
		t.Errorf("what DecodeStrict returned follows its data: %s", got)
	}
}
