package compiled

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestHeads: two definitions of one document, in all forms of heads, over base
// documents of the same name, read in many ways.
func TestHeads(t *testing.T) {
	t.Parallel()
	heads := []string{
		`p.a := 1 if input.x`, `p.a := 2 if input.y`, `p.b := {"c": 1} if input.x`, `p["a b"] := 1`, `p[k] := 1 if some k in input.keys`, `p[k] := {"c": k} if some k in input.keys`,
		`p[k].c := 1 if some k in input.keys`, `p.b.c := 1 if input.x`, `p.b[k] := 1 if some k in input.keys`, `p.b[k] := 1 / input.zero if some k in input.keys`,
		`p contains k if some k in input.keys`, `p[k] contains j if { some k in input.keys; some j in input.keys }`, `p.b contains k if some k in input.keys`,
		`p := {"a": 1} if input.x`, `default p := {"d": 1}`, `default p.a := 9`, `p.a := to_number(input.s)`, `p[k][j] := 1 if { some k in input.keys; some j in input.keys }`,
		`p[1] := 1 if input.x`, `p(z) := z`, `p.f(z) := z`, `p.a if not input.x`, `p := 1 if input.y else := {"a": 2} if input.x`,
	}
	reads := []string{
		"v := data.m.p", "v := data.m.p.a", "v := data.m.p.b", "v := data.m.p.b.c", "v := [k | data.m.p[k]]", "k := input.keys[0]; v := data.m.p[k]", "k := input.keys[0]; v := data.m.p[k].c",
		"v := [x | x := data.m.p[_]]", "v := [x | x := data.m.p[_][_]]", "k := input.keys[0]; not data.m.p[k]; v := 1", "not data.m.p.a; v := 1", "not data.m.p.b.c; v := 1",
		"v := data.m", "v := [[i, j] | data.m[i][j]]", "every k, x in data.m.p { k != x }; v := 1", "v := count(data.m.p)", `"a" in data.m.p; v := 1`, "v := data.m.p.f(1)", "v := data.m.p(1)",
		`k := input.keys[_]; v := data.m[k]`, `k := "p"; v := data.m[k]`, `k := "p"; j := "a"; v := data.m[k][j]`, `k := "p"; v := data.m[k].b.c`, `k := "p"; not data.m[k].b; v := 1`,
	}
	docs := []string{`{}`, `{"m": {"p": {"a": 5, "b": {"c": 6, "e": 7}, "z": 8}, "q": 1}}`, `{"m": {"p": 5}}`, `{"m": {"p": ["u", "v"]}}`}
	inputs := []ast.Value{
		ast.MustParseTerm(`{"x": true, "keys": ["a", "b", "z"], "s": "1", "zero": 1}`).Value,
		ast.MustParseTerm(`{"y": true, "keys": ["c", "b", 1], "s": "no", "zero": 0}`).Value,
		ast.MustParseTerm(`{"x": true, "y": true, "keys": [], "s": "2", "zero": 0}`).Value,
	}
	sum := map[outcome]int{}
	turn := 0
	for i, a := range heads {
		for _, b := range heads[i:] {
			module := "package m\n\n" + a + "\n\n" + b + "\n"
			if _, err := newSubject([]string{module}, "true", ast.RegoV1, ast.CapabilitiesForThisVersion()); err != nil {
				continue
			}
			for _, read := range reads {
				if turn++; *mutations == 0 && turn%11 != 0 {
					continue
				}
				result := "package r\n\nx contains v if {\n\t" + strings.ReplaceAll(read, "; ", "\n\t") + "\n}\n"
				x, err := newSubject([]string{module, result}, "v = data.r.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
				if err != nil {
					sum["does not compile in OPA"]++
					continue
				}
				for _, doc := range docs {
					if err := x.setData(t.Context(), mustObject(t, ast.MustParseTerm(doc).Value)); err != nil {
						t.Fatal(err)
					}
					x.compile(t.Context(), mustJSON(t, doc), Passes{})
					for _, in := range inputs {
						o, why := x.judge(t.Context(), in)
						if sum[o]++; o == wrong {
							t.Errorf("%s\ninput %v\ndata %s\n%s%s", why, in, doc, module, result)
						}
					}
				}
			}
		}
	}
	t.Log(sum)
}
