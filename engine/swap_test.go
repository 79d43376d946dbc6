package engine_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
)

// TestDecideWhileSwapping decides on several goroutines while snapshots swap
// 100 times a second. Each revision permits exactly one tool, its own, so an
// answer that mixed two revisions would be seen.
func TestDecideWhileSwapping(t *testing.T) {
	t.Parallel()
	const revisions = 4
	snapshots := make([]*engine.Snapshot, revisions)
	for i := range snapshots {
		b := bundle(t, fmt.Sprintf(`package authz
permit["p"] := {"priority": %d} if input.resource.id == "t%d"
forbid["other"] := {} if input.resource.id != data.mine`, i, i),
			fmt.Sprintf(`{"mine": "t%d", "authzd_tools": {"t0": %[2]s, "t1": %[2]s, "t2": %[2]s, "t3": %[2]s}}`, i, `{"arguments": {"type": "object"}}`),
			`{"contract": 1}`)
		b.Revision = fmt.Sprintf("r%d", i)
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if err != nil {
			t.Fatal(err)
		}
		snapshots[i] = s
	}
	e := newEngine(snapshots[0])
	stop := make(chan struct{})
	var swapper, deciders sync.WaitGroup
	swaps := 0
	swapper.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		defer close(stop)
		for began := time.Now(); time.Since(began) < time.Second || swaps < 20; swaps++ {
			<-tick.C
			e.Swap(snapshots[(swaps+1)%revisions])
		}
	})
	queries := make([]*engine.Query, revisions)
	for i := range queries {
		queries[i] = call(t, fmt.Sprintf("t%d", i), "", credential(t, "c", claims("")))
	}
	seen := make([]map[string]int, 4)
	for g := range seen {
		seen[g] = map[string]int{}
		deciders.Go(func() {
			for i := 0; seen[g]["total"] < 100_000; i++ {
				select {
				case <-stop:
					return
				default:
				}
				tool := i % revisions
				d, err := e.Decide(t.Context(), queries[tool])
				if err != nil {
					t.Errorf("decide: %v", err)
					return
				}
				seen[g][d.Policy.Revision]++
				seen[g]["total"]++
				if want := d.Policy.Revision == fmt.Sprintf("r%d", tool); d.Allow != want || d.Error != nil {
					t.Errorf("tool t%d on revision %s: allow %v, error %+v", tool, d.Policy.Revision, d.Allow, d.Error)
					return
				}
			}
		})
	}
	deciders.Wait()
	swapper.Wait()
	revs := map[string]bool{}
	for _, m := range seen {
		for r := range m {
			revs[r] = true
		}
	}
	if swaps < 20 || len(revs) != revisions+1 {
		t.Errorf("%d swaps, decisions on %v: the test did not test", swaps, revs)
	}
}
