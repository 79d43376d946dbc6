package compiled

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/authzd/authzd/rar"
)

var (
	update    = flag.Bool("update", false, "write the list of cases that topdown must answer")
	mutations = flag.Int("mutations", 0, "mutated inputs for each compliance case; 0 is 100, with -short 3")
)

// opaCases are the directories of OPA's compliance cases, in the version of the
// module that we build with.
var opaCases = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "v1", "test", "cases", "testdata"), err
})

type suite struct {
	name    string
	version ast.RegoVersion
}

func suites() []suite { return []suite{{"v0", ast.RegoV0}, {"v1", ast.RegoV1}} }

func loadCases(t *testing.T, s suite) []cases.TestCase {
	t.Helper()
	dir, err := opaCases()
	if err != nil {
		t.Fatal(err)
	}
	set, err := cases.Load(filepath.Join(dir, s.name))
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Cases) < 1000 {
		t.Fatalf("only %d cases in %s", len(set.Cases), dir)
	}
	return set.Sorted().Cases
}

// usable leaves out what asks the network or sleeps; both evaluators would.
func usable(tc *cases.TestCase) bool {
	for _, m := range tc.Modules {
		if strings.Contains(m, "test.sleep") || strings.Contains(m, "http.send") || strings.Contains(m, "lookup_ip_addr") {
			return false
		}
	}
	return true
}

// newCase compiles a case for topdown.
func newCase(tc *cases.TestCase, version ast.RegoVersion) (*subject, error) {
	caps := ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(tc.ExperimentalKeywords))
	return newSubject(tc.Modules, tc.Query, version, caps)
}

func caseInput(t *testing.T, tc *cases.TestCase) ast.Value {
	t.Helper()
	switch {
	case tc.InputTerm != nil:
		return ast.MustParseTerm(*tc.InputTerm).Value
	case tc.Input != nil:
		return ast.MustInterfaceToValue(*tc.Input)
	}
	return nil
}

func caseData(tc *cases.TestCase) map[string]any {
	if tc.Data != nil {
		return *tc.Data
	}
	return map[string]any{}
}

func toJSON(t testing.TB, v any) rar.Value {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return mustJSON(t, string(text))
}

// TestCases runs OPA's compliance cases, with the passes on and off. None may be
// answered otherwise than by topdown with strict builtin errors. Those that are
// left to topdown although it has an answer are listed, and the list may only
// shrink.
func TestCases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles every case three times")
	}
	var notes []string
	for _, s := range suites() {
		sum := map[outcome]int{}
		for _, tc := range loadCases(t, s) {
			if !usable(&tc) {
				sum["not run: effects"]++
				continue
			}
			x, err := newCase(&tc, s.version)
			if err != nil {
				sum["does not compile in OPA"]++
				continue
			}
			data := caseData(&tc)
			if err := x.setData(t.Context(), mustObject(t, ast.MustInterfaceToValue(data))); err != nil {
				t.Fatal(err)
			}
			input := caseInput(t, &tc)
			want, wantErr := x.topdown(t.Context(), input)
			frozen := toJSON(t, data)
			for _, off := range []Passes{{}, passSets()["no passes"]} {
				x.compile(t.Context(), frozen, off)
				o, why := refused, firstLine(x.refusal)
				if x.program != nil {
					o, why = x.judgeAgainst(t.Context(), input, want, wantErr)
				}
				if o == refused && wantErr != nil {
					o = bothFail
				}
				sum[o]++
				if o == wrong {
					t.Errorf("%s %s: %s", s.name, tc.Note, why)
				}
				if o == refused || o == handedOver {
					notes = append(notes, fmt.Sprintf("%s %s: %s: %s", s.name, tc.Note, o, why))
				}
			}
			if len(data) == 0 {
				continue
			}
			x.packed = true // and once more with data that is kept as text
			if x.compile(t.Context(), frozen, Passes{}); x.program == nil {
				sum["packed: refused"]++
				continue
			}
			o, why := x.judgeAgainst(t.Context(), input, want, wantErr)
			sum["packed: "+o]++
			if o == wrong {
				t.Errorf("%s %s, packed: %s", s.name, tc.Note, why)
			}
		}
		t.Logf("%s: %v", s.name, sum)
	}
	slices.Sort(notes)
	compareList(t, "testdata/left_to_topdown.txt", slices.Compact(notes))
}

// compareList holds lines against a file of them.
func compareList(t *testing.T, file string, got []string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("new in %s: %s", file, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("no longer so, remove it from %s (or run with -update): %s", file, line)
		}
	}
}

// TestCasesMutated runs the compliance cases with changed input and data.
func TestCasesMutated(t *testing.T) {
	t.Parallel()
	per := *mutations
	if per == 0 {
		per = 100
		if testing.Short() {
			per = 3
		}
	}
	for _, s := range suites() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := seeded(11)
			sum := map[outcome]int{}
			sets := passSets()
			names := util.KeysSorted(sets)
			for i, tc := range loadCases(t, s) {
				if !usable(&tc) || tc.InputTerm != nil || tc.Input == nil && len(caseData(&tc)) == 0 {
					continue
				}
				x, err := newCase(&tc, s.version)
				if err != nil {
					continue
				}
				x.packed = i%3 == 0
				x.compile(t.Context(), toJSON(t, caseData(&tc)), sets[names[i%len(names)]])
				if x.program == nil {
					sum[refused] += per
					continue
				}
				mutateCase(t, r, &tc, x, per, sum)
			}
			t.Logf("%v", sum)
		})
	}
}

func mutateCase(t *testing.T, r *rand.Rand, tc *cases.TestCase, x *subject, per int, sum map[outcome]int) {
	t.Helper()
	var refusal error // of the data at hand
	for i := range per {
		var input any
		var in ast.Value
		if tc.Input != nil {
			input = mutateTimes(t, r, *tc.Input)
			in = ast.MustInterfaceToValue(input)
		}
		data := caseData(tc)
		if i == 0 || len(data) > 0 && r.Intn(3) > 0 {
			if m, ok := mutateTimes(t, r, data).(map[string]any); ok && m["system"] == nil {
				data = m
			}
			if err := x.setData(t.Context(), mustObject(t, ast.MustInterfaceToValue(data))); err != nil {
				t.Fatal(err)
			}
			frozen, few := x.packing(toJSON(t, data))
			c := compilation{p: x.program, o: &Options{few: few}}
			if refusal = c.freezeData(frozen); refusal == nil {
				_, refusal = judge(t.Context(), x.compiler, x.policy, x.body, frozen)
			}
		}
		if refusal != nil {
			sum[refused]++
			continue
		}
		o, why := x.judge(t.Context(), in)
		sum[o]++
		if o == wrong {
			t.Errorf("%s: %s\ninput %v\ndata %v", tc.Note, why, in, x.data)
		}
	}
}

func mutateTimes(t *testing.T, r *rand.Rand, x any) any {
	t.Helper()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := util.UnmarshalJSON(text, &out); err != nil {
		t.Fatal(err)
	}
	for range 1 + r.Intn(3) {
		out = mutate(r, out, 0)
	}
	return out
}

// mutate changes one place of a JSON value.
func mutate(r *rand.Rand, x any, depth int) any {
	junk := []any{
		nil, true, false, "", "x", json.Number("0"), json.Number("-1"), json.Number("1.0"), json.Number("12345678901234567890"),
		json.Number("1e3"), json.Number("4999.999"),
		[]any{},
		map[string]any{},
		[]any{"a"},
		map[string]any{"a": json.Number("1")},
		[]any{[]any{}},
		[]any{map[string]any{}},
		"0", "1",
	}
	if r.Intn(5) == 0 && depth > 0 {
		return junk[r.Intn(len(junk))]
	}
	switch v := x.(type) {
	case map[string]any:
		if len(v) == 0 {
			return junk[r.Intn(len(junk))]
		}
		keys := util.KeysSorted(v)
		k := keys[r.Intn(len(keys))]
		switch r.Intn(6) {
		case 0:
			delete(v, k)
		case 1:
			v[k] = v[keys[r.Intn(len(keys))]]
		default:
			v[k] = mutate(r, v[k], depth+1)
		}
		return v
	case []any:
		if len(v) == 0 {
			return junk[r.Intn(len(junk))]
		}
		i := r.Intn(len(v))
		switch r.Intn(6) {
		case 0:
			return append(v[:i:i], v[i+1:]...)
		case 1:
			return append(v, v[i])
		case 2:
			return []any{}
		}
		v[i] = mutate(r, v[i], depth+1)
		return v
	}
	return junk[r.Intn(len(junk))]
}
