package bundles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
	"pgregory.net/rapid"
)

// TestHashIsOPAs holds our hash of data against OPA's own, for any JSON, under
// each algorithm that we take.
func TestHashIsOPAs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(map[string]any{"root": anyJSON(3).Draw(t, "value")})
		if err != nil {
			t.Fatal(err)
		}
		sameHash(t, "a/data.json", text, rapid.SampledFrom([]string{"SHA-256", "SHA-384", "SHA-512", "SHA-512-256"}).Draw(t, "algorithm"))
	})
}

func TestHashIsOPAsForSpellings(t *testing.T) {
	t.Parallel()
	for name, texts := range map[string][]string{
		"data.json": {
			`{"a": 1.50, "b": 1e3, "c": 100000000000000000000001, "d": -0.0, "e": 0.30000000000000004}`,
			`{"\u2028": "\u2029\u007f\u0001\b\f\n\r\t\"\\/\/", "<&>": "é\ud83d\ude00", "": null}`, ` [ ] `, `"x"`, `{"b": {"z": 1, "a": 2}, "B": [true, false, {}]}`,
		},
		".manifest":   {`{"roots": ["a"], "revision": "1", "metadata": {"x": 1.0}}`},
		"a/data.yaml": {"a: 1\nb: [0.5, -7, text, \"1.0\", null, true]\nc: |\n  two\n  lines\n", "x: 18446744073709551615\ny: 123456.75\nz: 0.000001\n"},
		"policy.rego": {"package a\n", "{\"a\":  1}"},
		"cases/a.yml": {"a:   1\n"},
	} {
		for _, text := range texts {
			sameHash(t, name, []byte(text), "SHA-256")
		}
	}
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func sameHash(t fataler, name string, text []byte, algorithm string) {
	t.Helper()
	ours, err := hashFile(&File{Path: name, Data: text}, algorithm, Limits{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := bundle.NewSignatureHasher(bundle.HashingAlgorithm(algorithm))
	if err != nil {
		t.Fatal(err)
	}
	var value any = text
	if bundle.IsStructuredDoc(name) {
		value = nil
		if err := util.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
	}
	theirs, err := hasher.HashFile(value)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, theirs) {
		t.Fatalf("%s: %q: we hash %x, OPA %x", name, text, ours, theirs)
	}
}

// anyJSON generates values that nest as deep as depth.
func anyJSON(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.String().AsAny(), rapid.Int64().AsAny(), rapid.Float64Range(-1e300, 1e300).AsAny(), rapid.Bool().AsAny(), rapid.Just(any(nil)),
	}
	if depth > 0 {
		inner := rapid.Deferred(func() *rapid.Generator[any] { return anyJSON(depth - 1) })
		kinds = append(kinds, rapid.SliceOfN(inner, 0, 4).AsAny(), rapid.MapOfN(rapid.String(), inner, 0, 4).AsAny())
	}
	return rapid.OneOf(kinds...)
}

// TestHashLarge: large data, which is hashed from its text, hashes as OPA has it.
func TestHashLarge(t *testing.T) {
	t.Parallel()
	rows := []string{
		`{"b":1,"a":"x"}`, `{ "z" : [ 1 , 2.50 , {"y":null,"x":true} ] , "a" : {} }`, `{"é":"ü\u00fc<>&","a\"":"\\\/\n\u2028","\u0061b":"\ud83d\ude00"}`,
		`[[],["b","a"],-0.0,1e5]`, `"plain"`, `"tab\tand é"`, `12345678901234567890`, `false`, `{"k":{"d":{"c":{"b":{"a":[{"z":1,"y":2}]}}}}}`,
	}
	many := 30_000
	if testing.Short() {
		many = 3000
	}
	var b bytes.Buffer
	b.WriteString(`{"list": [`)
	for i := range many {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(rows[i%len(rows)])
	}
	b.WriteString(`], "users": {`)
	for i := range many {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "\"%s%d\": %s", []string{"u", "é", `q\"`, `\u0075`}[i%4], 100_000-i, rows[(i*7)%len(rows)])
	}
	b.WriteString(`}, "large": "` + strings.Repeat("x", 100_000) + `", "é": "` + strings.Repeat("é", 100_000) + `"}`)
	for _, algorithm := range []string{"SHA-256", "SHA-512"} {
		sameHash(t, "data.json", b.Bytes(), algorithm)
	}
}
