package policies_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// parseJSON reads a document that the test knows, with every digit of its
// numbers.
func parseJSON(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func object(v any) map[string]any     { m, _ := v.(map[string]any); return m }
func array(v any) []any               { a, _ := v.([]any); return a }
func stringOf(v any) string           { s, _ := v.(string); return s }
func names(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// at follows member names, nil if one is missing.
func at(v any, path ...string) any {
	for _, name := range path {
		v = object(v)[name]
	}
	return v
}

func strs(v any) []string {
	var out []string
	for _, e := range array(v) {
		out = append(out, stringOf(e))
	}
	return out
}

func anys(list []string) []any {
	out := []any{}
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

// cloned copies v, so that a change leaves the original alone.
func cloned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = cloned(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = cloned(e)
		}
		return out
	}
	return v
}

// canon is one text for all spellings of a value: members sorted, numbers by
// their value.
func canon(v any) string {
	var b strings.Builder
	writeCanon(&b, v)
	return b.String()
}

func writeCanon(b *strings.Builder, v any) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, k := range names(v) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, "%q:", k)
			writeCanon(b, v[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeCanon(b, e)
		}
		b.WriteByte(']')
	case json.Number:
		b.WriteString(rational(v).RatString())
	default:
		fmt.Fprintf(b, "%#v", v)
	}
}

// rational is the exact value of a number, or of a decimal text.
func rational(n json.Number) *big.Rat {
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		return nil
	}
	return r
}

func same(a, b any) bool { return canon(a) == canon(b) }
