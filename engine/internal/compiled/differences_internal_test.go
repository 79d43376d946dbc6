package compiled

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	differencesData = `{
		"arr": ["zero", "one"], "obj": {"1": "one", "x": "y"}, "n": {"a": ["u", "v"]}, "list": [ONE, 2], "users": {"1": {"role": "admin"}},
		"roles": {"admin": ["read", "write"], "dev": ["read"]}, "e": {}, "nul": null, "arrs": [["a"], ["b"]], "obj2": {"a": 0, "b": "1"},
		"num": {"1": true, "b": true}MIXED
	}`
	differencesInput = `{
		"k": "0", "one": 1, "n": ONE, "m": 1, "list": [1, 2, 3], "f": [ONE, TWO], "s": "s", "o": {"1": "a"}, "arr": ["q", "r"], "z": "zz",
		"role": "admin", "t": true, "fa": false, "mix": [1, 2, 1], "e": [], "deep": {"a": {"b": [1, {"c": 2}]}}, "nested": [["a", 1], ["b", 2]],
		"same": "s", "oo": {"s": "q", "q": 3}, "two": 2, "o2": {"z": 1, "a": 6}, "objs": [{"k": 1, "v": "a"}, {"k": 2, "v": "b"}]NUMBERS
	}`
)

// TestDifferences: policies on which plan and topdown could differ, with what was
// found wrong once: keys that are text or numbers, variables that leak, patterns
// of unbound variables, equal numbers that are written differently, the order of
// failures. Each with numbers as they are usually written, for else its refusal
// or handover would hide everything else, and with others.
func TestDifferences(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/differences.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name, Rules string
		Mixed       bool
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	usualNumbers := strings.NewReplacer("ONE", "1", "TWO", "2", "NUMBERS", "", "MIXED", "")
	oddNumbers := strings.NewReplacer("ONE", "1.0", "TWO", "2.0", "NUMBERS", `, "neg": -0, "negf": -0.0, "big": 1e400, "big2": 10e399`, "MIXED", "")
	decimals := strings.NewReplacer("ONE", "1.5", "TWO", "2.5", "NUMBERS", `, "neg": -3, "negf": -0.5, "big": 9007199254740993, "big2": 9223372036854775807`, "MIXED", "")
	sum := map[outcome]int{}
	for i, c := range list {
		if testing.Short() && i%10 != 0 {
			continue
		}
		s, err := newSubject([]string{"package p\n\n" + c.Rules + "\n"}, "v = data.p.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
		if err != nil {
			sum["does not compile in OPA"]++
			continue
		}
		for _, numbers := range []*strings.Replacer{usualNumbers, oddNumbers, decimals} {
			doc := differencesData
			if c.Mixed {
				doc = strings.Replace(doc, "MIXED", `, "p": {"y": {"w": 5}}`, 1)
			}
			doc = numbers.Replace(doc)
			if err := s.setData(t.Context(), mustObject(t, ast.MustParseTerm(doc).Value)); err != nil {
				t.Fatal(err)
			}
			for i, off := range []Passes{{}, passSets()["no passes"], {}} {
				s.packed = i == 2
				s.compile(t.Context(), mustJSON(t, doc), off)
				for _, n := range []*strings.Replacer{usualNumbers, oddNumbers, decimals} {
					in := ast.MustParseTerm(n.Replace(differencesInput)).Value
					o, why := s.judge(t.Context(), in)
					if sum[o]++; o == wrong {
						t.Errorf("%s: %s\ninput %v\ndata %s\n%s", c.Name, why, in, doc, c.Rules)
					}
				}
			}
		}
	}
	t.Log(sum)
	if sum[same] < 1000 && !testing.Short() {
		t.Error("hardly anything was compared")
	}
}
