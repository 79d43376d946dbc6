package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestRunaway: while callers ask again and again for what policy never ends about,
// each of them is denied or refused, with a code, the policy is named, and
// everybody else gets their answer.
func TestRunaway(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := bundleDir(t, map[string]string{
		".manifest": `{"revision": "r1", "roots": ["authz"], "metadata": {"authzd": {"contract": 1}}}`,
		"policy.rego": `package authz

allow if input.action.name == "read"

allow if {
	input.action.name == "loop"
	count([1 | some i in numbers.range(1, 1000); some j in numbers.range(1, 1000); some k in numbers.range(1, 1000); i + j + k == 1]) == 1
}
`,
	})
	s := start(t, []string{"GOMAXPROCS=1"}, "--bundle", "main="+dir, "--workers", "2", "--decision-timeout", "300ms")
	ctx, cancel := context.WithCancel(t.Context())
	var loops sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 6 {
		loops.Go(func() {
			for ctx.Err() == nil {
				got, err := s.tryCheck(ctx, query("loop"))
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				seen[got.Decision+" "+got.Code]++
				mu.Unlock()
			}
		})
	}
	budgets := func() int { mu.Lock(); defer mu.Unlock(); return seen["DENY "] }
	waitFor(t, "the first to be stopped", func() bool { return budgets() > 0 })
	for range 200 {
		if got := s.check(t, query("read")); got.Status != http.StatusOK || got.Decision != "ALLOW" {
			t.Fatalf("somebody else is answered %+v", got)
		}
	}
	waitFor(t, "more to be stopped", func() bool { return budgets() > 4 })
	cancel()
	loops.Wait()
	for outcome := range seen {
		if outcome != "DENY " && outcome != " api.overloaded" {
			t.Errorf("answers %v, want denials and refusals alone", seen)
		}
	}
	if _, metrics := s.Get(t, "/metrics"); !strings.Contains(metrics, `authzd_evaluations_stopped_total{bundle="main"}`) {
		t.Error("metrics do not name the bundle")
	}
	for _, want := range []string{"engine.budget", `"action":"loop"`, `"bundle":"main"`, "out of time"} {
		if !strings.Contains(s.Log.String(), want) {
			t.Errorf("the log has no %s:\n%.2000s", want, s.Log)
		}
	}
}
