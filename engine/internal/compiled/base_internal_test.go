package compiled

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestBaseKeys: references with keys of unusual types into base documents, the
// input and values. topdown reads base documents by text paths, but only if the
// reference is not cut in two; a Program may hand over, never answer otherwise.
func TestBaseKeys(t *testing.T) {
	t.Parallel()
	doc := `{"o": {"1": "one", "true": "t", "null": "n", "1.0": "f", "": "empty", "1e0": "e"}, "a": ["zero", "eins"], "n": 1, "s": "s"}`
	base := mustObject(t, ast.MustParseTerm(doc).Value)
	sum := map[outcome]int{}
	keys := []string{
		"1", "0", "-1", "1.0", "1e0", "2", "true", "false", "null", `"1"`, `"0"`, `"00"`, `"+1"`, `"-1"`, `""`, `"x"`, `"1.0"`, `"1e0"`,
		"[1]", "{1}", `{"a": 1}`, "1 - 1", "1 / 2",
	}
	forms := []string{
		"x = R.A[K]", "k = K; x = R.A[k]", "k = [K][_]; x = R.A[k]", "d = R.A; x = d[K]", "k = [K][_]; d = R.A; x = d[k]",
		"x = R.A[K] with data.o.new as 5", "x = R.A[K] with data.a as [7, 8]", "x = R.A[K] with data.z as 1", "x = R.A[K] with input as data",
		"x = [1 | R.A[K]]", "k = [K][_]; not R.A[k]; x = 1", "r = [R][_]; x = r.A[K]",
	}
	roots, names := []string{"data", "input"}, []string{"o", "a", "n", "s"}
	if testing.Short() {
		roots, names = roots[:1], names[:1]
	}
	for _, root := range roots {
		for _, at := range names {
			for _, key := range keys {
				for _, form := range forms {
					query := strings.NewReplacer("R", root, "A", at, "K", key).Replace(form)
					x, err := newSubject(nil, query, ast.RegoV1, ast.CapabilitiesForThisVersion())
					if err != nil {
						sum["does not compile in OPA"]++
						continue
					}
					if err := x.setData(t.Context(), base); err != nil {
						t.Fatal(err)
					}
					for _, x.packed = range []bool{false, true} {
						x.compile(t.Context(), mustJSON(t, doc), Passes{})
						o, why := x.judge(t.Context(), base)
						if sum[o]++; o == wrong {
							t.Errorf("%s, packed %v: %s", query, x.packed, why)
						}
					}
				}
			}
		}
	}
	t.Log(sum)
}

// TestWith: replaced parts of the data, which topdown lays over the base
// documents in its own way.
func TestWith(t *testing.T) {
	t.Parallel()
	doc := `{"o": {"c": {"a": 1, "d": {"e": 1}}, "n": 1, "l": [1, {"a": 2}]}, "p": {"base": 1, "q": {"z": 1}}}`
	module := "package p\n\nq.r := input.a if input.a\n\nq.s := data.o\n\nt contains k if some k, _ in data.o\n\nu[k] := v if some k, v in data.o.c\n\nf(x) := data.o[x]\n"
	virtual := "package e.f\n\nx := 1\n\ny contains 1 if input.a\n"
	base := mustObject(t, ast.MustParseTerm(doc).Value)
	turn, every := 0, 13
	if testing.Short() {
		every = 131
	}
	input := ast.MustParseTerm(`{"a": {"b": 1}, "s": "x"}`).Value
	sum := map[outcome]int{}
	for _, read := range []string{
		"data.o", "data.o.c", "data.o.c.a", "data.o.c.d", "data.p", "data.p.q", "data.p.q.s", "data.p.t", "data.p.u", "data.p.f(\"c\")", "data.p.q.r",
		"data.o[\"l\"]", "data.o.l[0]", "data.o.l[1].a", "data.o.new", "[v | v = data.o[_]]", "[v | v = data.p[_]]", "input", "input.a", "data.p.q[input.s]", "data.e", "data.e.f", "data.e.f.x", "data.e.f[input.s]",
	} {
		for _, target := range []string{
			"data.o", "data.o.c", "data.o.c.a", "data.o.c.d.e", "data.o.n", "data.o.n.x", "data.o.l", "data.o.new", "data.o.new.x", "data.p", "data.p.q", "data.p.q.r",
			"data.p.q.new", "data.p.base", "data.new", "data.p.u.k", "data.p.u", "data.p.q.r.b", "data.p.t", "data.e", "data.e.f", "data.e.f.x", "data.e.new", "input", "input.a", "input.a.b", "input.a.c", "input.s.x", "input.new.x", "data",
		} {
			for _, value := range []string{"5", `{"z": 9}`, `{"a": {"y": 1}, "d": {"y": 2}}`, "[1]", "input.a", "data.o.c", "{}"} {
				for _, query := range []string{"x = R with T as V", "x = R with T as V with data.o.c.k as 7", "x = R with data.o.c.k as 7 with T as V", "y = R with T as V; x = R"} {
					if turn++; *mutations == 0 && turn%every != 0 {
						continue
					}
					q := strings.NewReplacer("R", read, "T", target, "V", value).Replace(query)
					x, err := newSubject([]string{module, virtual, "package main\n\nresult := x if {\n\t" + strings.ReplaceAll(q, "; ", "\n\t") + "\n}\n"}, "v = data.main.result", ast.RegoV1, ast.CapabilitiesForThisVersion())
					if err != nil {
						sum["does not compile in OPA"]++
						continue
					}
					if err := x.setData(t.Context(), base); err != nil {
						t.Fatal(err)
					}
					for _, x.packed = range []bool{false, true} {
						x.compile(t.Context(), mustJSON(t, doc), Passes{})
						o, why := x.judge(t.Context(), input)
						if sum[o]++; o == wrong {
							t.Errorf("%s, packed %v: %s", q, x.packed, why)
						}
					}
				}
			}
		}
	}
	t.Log(sum)
}
