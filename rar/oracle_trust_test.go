package rar_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

// Why the oracles can be trusted.

// The oracle is first held against the vectors, which people wrote.
func TestOracleAgreesWithVectors(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	oracle := &oracleTypes{rules: map[string]*ruleNode{}, singleUse: map[string]bool{}}
	oracle.valid = func(object map[string]any) bool {
		_, err := types.ParseValue(rarValue([]any{object}, nil))
		return err == nil
	}
	for _, name := range types.Names() {
		compare, _ := types.Document(name).Get("compare")
		oracle.rules[name] = ruleTree(asObject(plainJSON(t, compare)))
		oracle.singleUse[name] = types.SingleUse(name)
	}
	for _, v := range containmentVectors(t) {
		granted, required := v.lists(t)
		got := oracle.judge(asArray(plainJSON(t, rar.ArrayValue(granted...))), asArray(plainJSON(t, rar.ArrayValue(required...))), false)
		if got.err != v.Expect.Error || got.err == "" && (v.Expect.Covered == nil || got.covered != *v.Expect.Covered) {
			t.Errorf("%s: %+v", v.Name, got)
			continue
		}
		var want []rar.Reason
		for _, b := range v.Expect.Because {
			r := rar.Reason{Required: -1, Pointer: b.Pointer, Code: b.Reason}
			if b.Required != nil {
				r.Required = *b.Required
			}
			want = append(want, r)
		}
		if !slices.Equal(sorted(got.because), sorted(want)) {
			t.Errorf("%s: because %v, want %v", v.Name, got.because, want)
		}
	}
}

// plainJSON is Go's own reading of a value.
func plainJSON(t *testing.T, v rar.Value) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(v.AppendJSON(nil)))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A run that could not fail would prove nothing: each fault that is put into
// the declarations on the side of Covers must be found.
func TestOracleFindsFaults(t *testing.T) {
	t.Parallel()
	swap := func(from, to string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, from, to) }
	}
	faults := map[string]func(string) string{
		"max is min":                swap(`"max"`, `"min"`),
		"prefix is glob":            swap(`"prefix"`, `"glob"`),
		"glob is prefix":            swap(`"glob"`, `"prefix"`),
		"implies is not followed":   swap(`"implies":{"a":["b"]}`, `"implies":{}`),
		"implies goes too far":      swap(`{"a":["b"]}`, `{"a":["b","c"]}`),
		"silence is not unlimited":  swap(`"absent":"any",`, ``),
		"single use is not":         swap(`"single_use":true`, `"single_use":false`),
		"everything is single use":  swap(`"single_use":false`, `"single_use":true`),
		"equal is ignore":           swap(`:"equal"`, `:"ignore"`),
		"ignore is equal":           swap(`"ignore"`, `"equal"`),
		"unknown members may stand": swap(`"additionalProperties":false`, `"additionalProperties":true`),
	}
	for name, distort := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findsFault(t, &oracleRun{seed: 1, blocks: 200, distort: distort})
			// Acts know nothing of how often a grant may serve.
			if !strings.Contains(name, "single use") {
				findsFault(t, &oracleRun{seed: 1, blocks: 1000, acts: 1, actsOnly: true, distort: distort})
			}
		})
	}
}

func findsFault(t *testing.T, o *oracleRun) {
	t.Helper()
	o.run()
	// The message names a pair; without one, the declaration did not compile.
	if !o.failed.Load() || !strings.Contains(o.message, "\ngranted ") {
		t.Errorf("not found, acts only %v: %s %s", o.actsOnly, o.summary(), o.message)
	}
}
