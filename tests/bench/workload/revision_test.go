package workload_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/tests/bench/workload"
)

// TestRevisions: the engine answers every question by each revision as worked out by
// hand, hints included, and revisions differ in their answers.
func TestRevisions(t *testing.T) {
	t.Parallel()
	w := newWorkload(t)
	all, err := w.Questions()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < workload.RequestCount; i += 10 {
		batch, err := w.Batch(&all[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, batch[1:]...)
	}
	before := map[int]workload.Outcome{}
	for n := 1; n <= 3; n++ {
		r := w.Revision(n)
		e := engine.New(engine.Options{})
		e.Swap(revisionSnapshot(t, r))
		kinds, differ := map[string]int{}, 0
		for i := range all {
			want, err := r.Outcome(&all[i])
			if err != nil {
				t.Fatal(err)
			}
			if i%8 == n { // a part, for time
				decides(t, e, &all[i], want)
			}
			kinds[want.Code]++
			if want.Allow != before[i].Allow {
				differ++
			}
			before[i] = want
		}
		t.Log(r.Name(), kinds, differ)
		for _, code := range []string{"engine.permitted", "engine.forbidden", "engine.no_permit", "requirement.unmet", "request.arguments_invalid"} {
			if kinds[code] < 20 {
				t.Errorf("%s: only %d answers are %s", r.Name(), kinds[code], code)
			}
		}
		if differ < len(all)/10 {
			t.Errorf("%s: only %d answers of %d differ from those before", r.Name(), differ, len(all))
		}
	}
}

func decides(t *testing.T, e *engine.Engine, q *workload.Question, want workload.Outcome) {
	t.Helper()
	d, err := e.Decide(t.Context(), decodeQuery(t, q.Query))
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(&d); got != want {
		t.Fatalf("got %+v, want %+v\n%s", got, want, q.Query)
	}
}

func revisionSnapshot(t *testing.T, r *workload.Revision) *engine.Snapshot {
	t.Helper()
	dir := t.TempDir()
	if err := r.WriteBundle(dir); err != nil {
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
		t.Fatal(err)
	}
	return s
}

// outcome is what a decision says, in the workload's words.
func outcome(d *engine.Decision) workload.Outcome {
	o := workload.Outcome{Allow: d.Allow, Rule: d.Rule, Code: string(d.Reasons[0].Code)}
	if d.Remediation == nil {
		return o
	}
	var hints []string
	for _, r := range d.Remediation.Remedies {
		var details []string
		for _, v := range r.Details {
			details = append(details, string(v.AppendCanonical(nil)))
		}
		hints = append(hints, workload.Hint(string(r.Kind), r.Scopes, joined(details), r.Held))
	}
	o.Hints = workload.Join(hints)
	return o
}

// joined is an array of JSON texts, empty for none.
func joined(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return "[" + strings.Join(texts, ",") + "]"
}
