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
	for _, root := range []string{"data", "input"} {
		for _, at := range []string{"o", "a", "n", "s"} {
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
					x.compile(t.Context(), mustJSON(t, doc), Passes{})
					o, why := x.judge(t.Context(), base)
					if sum[o]++; o == wrong {
						t.Errorf("%s: %s", query, why)
					}
				}
			}
		}
	}
	t.Log(sum)
}
