package workload_test

import (
	"errors"
	"flag"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast" //nolint:depguard // its own compilation is what ours is compared with

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/tests/bench/workload"
)

// TestRules: the generated bundle compiles, its revisions answer every request
// as worked out by hand, and each by its own rule.
func TestRules(t *testing.T) {
	t.Parallel()
	r, err := workload.NewRules(50, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	if off := math.Abs(float64(r.DataBytes()) - 20_000); off > 1000 {
		t.Errorf("%s", r)
	}
	testAnswers(t, r)
}

// TestRows is TestRules for one rule over many rows, as values and as text.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{50, 20_000} {
		r, err := workload.NewRows(rows)
		if err != nil {
			t.Fatal(err)
		}
		if off := math.Abs(float64(r.DataBytes())/float64(rows) - 80); off > 10 {
			t.Errorf("%s", r)
		}
		testAnswers(t, r)
	}
	for _, n := range []int{0, -1, math.MaxInt} {
		if _, err := workload.NewRows(n); err == nil {
			t.Error(strconv.Itoa(n) + " rows: accepted")
		}
	}
}

// testAnswers has every request answered by two revisions.
func testAnswers(t *testing.T, r interface {
	Requests(n int) ([]workload.Request, error)
	WriteBundle(dir, revision string) error
},
) {
	t.Helper()
	requests, err := r.Requests(200)
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"r1", "r2"} {
		dir := t.TempDir()
		if err := r.WriteBundle(dir, revision); err != nil {
			t.Fatal(err)
		}
		content, err := bundles.Open(dir, bundles.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		b := content.Bundle
		b.Name = "bench"
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if err != nil {
			var c *engine.CompileError
			if errors.As(err, &c) {
				t.Log(c.Findings)
			}
			t.Fatal(err)
		}
		e := engine.New(engine.Options{Budget: time.Minute})
		e.Swap(s)
		for i := range requests {
			d, err := e.Decide(t.Context(), decodeQuery(t, requests[i].Query))
			if err != nil || d.Error != nil {
				t.Fatalf("request %d: %v, %+v", i, err, d.Error)
			}
			if d.Allow != requests[i].Allow || d.Policy.Revision != revision || d.Allow && d.Rule != workload.PermitName(revision) {
				t.Fatalf("request %d: allow %v by %q of %q; want %v of %q", i, d.Allow, d.Rule, d.Policy.Revision, requests[i].Allow, revision)
			}
		}
	}
}

func TestRulesLimits(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]int{{0, 0}, {-1, 10}, {math.MaxInt, 10}, {1, -1}, {1, 32 << 20}, {10, math.MaxInt}} {
		if _, err := workload.NewRules(c[0], c[1]); err == nil {
			t.Error(strconv.Itoa(c[0]) + " rules, " + strconv.Itoa(c[1]) + " bytes: accepted")
		}
	}
}

// rulesCounts are the sizes of BenchmarkRules; 100,000 take a minute and 7 GB to make.
var rulesCounts = flag.String("rules", "10,1000", "how many definitions BenchmarkRules has")

// BenchmarkRules is a decision on many definitions of one permit, each for a tool of its own.
func BenchmarkRules(b *testing.B) {
	for text := range strings.SplitSeq(*rulesCounts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		r, err := workload.NewRules(n, 0)
		if err != nil {
			b.Fatal(err)
		}
		requests, err := r.Requests(500)
		if err != nil {
			b.Fatal(err)
		}
		s := rulesSnapshot(b, rulesBundle(b, r))
		qs := make([]*engine.Query, len(requests))
		for i := range requests {
			qs[i] = decodeQuery(b, requests[i].Query)
		}
		for _, compiled := range []bool{false, true} {
			e := engine.New(engine.Options{Compiled: compiled})
			if compiled {
				e.Prepare(s)
			}
			e.Swap(s)
			state, why := s.Evaluator()
			b.Run(strconv.Itoa(n)+"/"+string(state), func(b *testing.B) {
				b.ReportAllocs()
				if compiled != (state == engine.EvaluatorCompiled) {
					b.Fatal(state, why)
				}
				for i := 0; b.Loop(); i = (i + 1) % len(qs) {
					if d, err := e.Decide(b.Context(), qs[i]); err != nil || d.Allow != requests[i].Allow {
						b.Fatal(d, err)
					}
				}
			})
		}
	}
}

// BenchmarkCompileRules is what a bundle of 10,000 rules costs until it decides, and
// until it decides compiled, beside OPA's parser and compiler on the same text.
func BenchmarkCompileRules(b *testing.B) {
	r, err := workload.NewRules(10_000, 0)
	if err != nil {
		b.Fatal(err)
	}
	bundle := rulesBundle(b, r)
	library, err := engine.Library()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("OPA", func(b *testing.B) {
		for b.Loop() {
			modules := map[string]*ast.Module{}
			for _, m := range append(library, bundle.Modules...) {
				parsed, err := ast.ParseModuleWithOpts(m.Path, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
				if err != nil {
					b.Fatal(err)
				}
				modules[m.Path] = parsed
			}
			c := ast.NewCompiler()
			if c.Compile(modules); c.Failed() {
				b.Fatal(c.Errors)
			}
		}
	})
	b.Run("decides", func(b *testing.B) {
		for b.Loop() {
			rulesSnapshot(b, bundle)
		}
	})
	b.Run("decides compiled", func(b *testing.B) {
		for b.Loop() {
			s := rulesSnapshot(b, bundle)
			prepared := make(chan struct{})
			go func() {
				engine.New(engine.Options{Compiled: true}).Prepare(s)
				close(prepared)
			}()
			state, why := s.Evaluator()
			for ; state == engine.EvaluatorInterpreted; state, why = s.Evaluator() {
				time.Sleep(time.Millisecond)
			}
			if state != engine.EvaluatorCompiled {
				b.Fatal(state, why)
			}
			b.StopTimer() // what is left is for FilterTools
			<-prepared
			b.StartTimer()
		}
	})
}

func rulesBundle(t testing.TB, r *workload.Rules) engine.Bundle {
	t.Helper()
	dir := t.TempDir()
	if err := r.WriteBundle(dir, "r1"); err != nil {
		t.Fatal(err)
	}
	content, err := bundles.Open(dir, bundles.Limits{MaxBytes: 1 << 30, MaxFileBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	content.Bundle.Name = "bench"
	return content.Bundle
}

func rulesSnapshot(t testing.TB, b engine.Bundle) *engine.Snapshot {
	t.Helper()
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
