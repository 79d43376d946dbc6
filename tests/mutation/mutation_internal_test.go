package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMutation(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mutants.json")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-n", "100", "-json", file, "./testdata/sample"}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var mutants []Mutant
	if err := json.Unmarshal(text, &mutants); err != nil {
		t.Fatal(err)
	}
	got := map[string]Outcome{}
	for _, m := range mutants {
		got[m.From+" => "+m.To] = m.Outcome
	}
	want := map[string]Outcome{
		"age >= 18 => age > 18": OutcomeKilled,
		"18 => 18 + 1":          OutcomeKilled,
		"n < 0 => n <= 0":       OutcomeUnrun,
		"n < 0 => !(n < 0)":     OutcomeUnrun,
		"0 => 0 + 1":            OutcomeKilled, // of Count; that of Sign comes before
		"return n => return 0":  OutcomeKilled, // likewise
		"!is => is":             OutcomeKilled,
		"continue => ":          OutcomeKilled,
		"n++ => ":               OutcomeKilled,
		"log(n) => ":            OutcomeSurvived,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mutants (-want +got):\n%s", diff)
	}
	if sum := "12 of all 12 mutants, seed 1: 7 killed, 0 timed out, 1 survived, 4 not reached, 0 do not compile\nscore 58.3 %"; !strings.Contains(out.String(), sum) {
		t.Errorf("%q is not in\n%s", sum, out.String())
	}
	if line := "SURVIVED  testdata/sample/sample.go:26: log(n)  =>"; !strings.Contains(out.String(), line) {
		t.Errorf("%q is not in\n%s", line, out.String())
	}
}

// TestAgain: a test that -skip leaves out counts only where -again lets it.
func TestAgain(t *testing.T) {
	t.Parallel()
	for score, args := range map[string][]string{
		"0 killed, 0 timed out, 0 survived, 12 not reached": nil,
		"7 killed, 0 timed out, 1 survived, 4 not reached":  {"-again"},
	} {
		var out bytes.Buffer
		args = append(args, "-n", "100", "-skip", "^Test", "./testdata/sample")
		if err := run(t.Context(), args, &out, t.Output()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), score) {
			t.Errorf("%q: %q is not in\n%s", args, score, out.String())
		}
	}
}

func TestDrawIsTheSameForASeed(t *testing.T) {
	t.Parallel()
	places := func(seed uint64) (out []int) {
		all := make([]*Mutant, 100)
		for i := range all {
			all[i] = &Mutant{Line: i}
		}
		for _, m := range draw(all, 10, seed) {
			out = append(out, m.Line)
		}
		return out
	}
	if diff := cmp.Diff(places(1), places(1)); diff != "" {
		t.Errorf("the same seed draws others: %s", diff)
	}
	if len(places(1)) != 10 || cmp.Equal(places(1), places(2)) {
		t.Errorf("seeds 1 and 2 draw %v and %v", places(1), places(2))
	}
}

func TestInsertNestsMutants(t *testing.T) {
	t.Parallel()
	f := file{path: "a.go", text: []byte("if a && b {")}
	got := insert(&f, []*Mutant{
		{ID: 1, File: "a.go", start: 3, end: 9, prefix: "($is && (a) || !$is && (", suffix: "))"},
		{ID: 2, File: "a.go", start: 3, end: 4, prefix: "[$is ", suffix: "]"},
		{ID: 3, File: "a.go", start: 8, end: 9, prefix: "<$is ", suffix: ">"},
		{ID: 4, File: "other.go", start: 0, end: 2, prefix: "no", suffix: "no"},
	})
	want := "if (mutationIs(1) && (a) || !mutationIs(1) && ([mutationIs(2) a] && <mutationIs(3) b>)) {"
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	// Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion" (2001), define it.
	low, high := interval(90, 100)
	if math.Abs(low-0.8256) > 0.0001 || math.Abs(high-0.9448) > 0.0001 {
		t.Errorf("%.4f to %.4f", low, high)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"-files", "(", "./testdata/sample"},
		{"-files", "none.go", "./testdata/sample"},
		{"./testdata/absent"},
	} {
		if err := run(t.Context(), args, t.Output(), t.Output()); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
