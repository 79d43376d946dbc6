package compiled

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestOrderOfFailures: operands that are undefined, fail, conflict or are false,
// in every place of many expressions. Where topdown comes to the failure before
// anything stops it, the Program may not stop earlier.
func TestOrderOfFailures(t *testing.T) {
	t.Parallel()
	operands := []string{
		"input.g", "input.none", "data.q.undef", "to_number(input.s)", "data.q.fails", "data.q.conflict", "input.f", "data.q.falsy", `"a"`, "data.q.g(input.s)",
	}
	templates := []string{
		"A == B", "A != B", "A < B", "[A, B] == [C, 1]", `{"k": A, "l": B} == {"k": 1, "l": C}`, "f(A, B)", "f(A, B) == C", "z := [A, B]; z[0] == C", "A in [B, C]",
		"[A | B] == [C]", "z := {A: B}; z[C]", "not A == B", "not f(A, B)", "every v in [A, B] { v == C }", "some v in [A, B]; v == C", "object.get(A, B, C)", "A; B; C",
		"A == B with input.g as C", "f(A, B) with input.g as C", "input.o[A][B]", "data.q.obj[A][B]", "data.q.set[A]; B", "data.q[A][B]", `sprintf("%v%v", [A, B]) == C`,
		"z = A; z = B; C", "walk(A, [B, v]); v == C", "[y, z] = [A, B]; y == C", "{A, B} == {C}", "count({A: B | C}) > 0", "[A, y] = [B, C]; y", "z := A; not z == B; C",
		`$"{A}{B}" == C`, "not A; B; C", "not input.o[A][B]", "not data.q.set[A]; B", "[y | y := A; B; C]", "z := [y | some y in [A, B]; y == C]; count(z) > 0", "f(A, input.none); B",
		"every k, v in {A: B} { k == v; C }", "A, B in {C: 1}", "data.base[A] == B; C", "data.base[A][B] == C", "not data.base[A]; B", "input[A] == data.q.obj[B]", "data.q.h(A, B) == C",
		"z := {y | y := [A, B][_]}; C in z", "A == B; B == C", `{"a": A} == {"a": B, "b": C}`, "[A, B] == [C]", "z := A | B; C in z", "input.o[_] == A; B; C", "data.q.obj[k][A] == B; C",
	}
	library := `package q

undef := 1 if input.none

fails := to_number(input.s)

conflict := v if some v in [1, 2]

falsy := false

g(y) := to_number(y)

h(1, y) := y

h(y, 1) := to_number(y)

h(y, "a") := 1 / input.zero if y == "a"

set contains k if some k in ["a", input.g, to_number(input.t)]

obj[k] := {"a": 1, "b": input.none} if some k in ["b"]

obj[k] := {"a": v} if {
	some k in ["a"]
	v := to_number(input.t)
}
`
	input := ast.MustParseTerm(`{"g": "a", "f": false, "s": "x", "t": "5", "zero": 0, "o": {"a": {"a": 1}}}`).Value
	data := `{"base": {"a": {"a": "a"}}}`
	sum := map[outcome]int{}
	turn, every := 0, 41
	if testing.Short() {
		every = 401
	}
	names := []string{"all passes", "no passes"}
	for _, template := range templates {
		for _, a := range operands {
			for _, b := range operands {
				for _, c := range operands {
					if !strings.Contains(template, "C") && c != operands[0] {
						continue
					}
					if turn++; *mutations == 0 && turn%every != 0 {
						continue
					}
					body := strings.ReplaceAll(strings.NewReplacer("A", a, "B", b, "C", c).Replace(template), "; ", "\n\t")
					if i := strings.IndexAny(template, "{["); i >= 0 && strings.Contains(template[i:], ";") {
						body = strings.NewReplacer("A", a, "B", b, "C", c).Replace(template)
					}
					module := "package p\n\nx if {\n\t" + body + "\n}\n\nx if input.g == \"z\"\n\nf(y, z) if y == z\n"
					s, err := newSubject([]string{module, library}, "v = data.p.x", ast.RegoV1, ast.CapabilitiesForThisVersion())
					if err != nil {
						sum["does not compile in OPA"]++
						continue
					}
					if err := s.setData(t.Context(), mustObject(t, ast.MustParseTerm(data).Value)); err != nil {
						t.Fatal(err)
					}
					s.compile(t.Context(), mustJSON(t, data), passSets()[names[turn%2]])
					o, why := s.judge(t.Context(), input)
					if sum[o]++; o == wrong {
						t.Errorf("%s\n%s", why, module)
					}
				}
			}
		}
	}
	t.Log(sum)
}
