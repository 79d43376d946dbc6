package soak_test

import (
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// at is a moment of a test.
func at(second int) time.Time { return time.Unix(int64(second), 0) }

// The first revision was active from 2 to 5 at the latest, the second from 4 at the
// earliest on, and a change of its data from 7 on, which is not confirmed yet.
func history(t *testing.T, w *workload.Workload) *timeline {
	t.Helper()
	second := w.Revision(2)
	changed, _, err := second.Changed()
	if err != nil {
		t.Fatal(err)
	}
	return &timeline{changes: []change{
		{state: w.Revision(1), asked: at(1), live: at(2)},
		{state: second, asked: at(4), live: at(5)},
		{state: changed, asked: at(7)},
	}}
}

// A revision may answer what was under way while it may have been active, and nothing
// else.
func TestTimeline(t *testing.T) {
	t.Parallel()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	l := history(t, w)
	for _, c := range []struct {
		name       string
		sent, done int
		want       bool
	}{
		{"r1", 3, 3, true},
		{"r1", 4, 6, true},
		{"r1", 5, 6, false}, // another was active when it was sent
		{"r1", 8, 9, false},
		{"r2", 3, 3, false}, // nobody had asked for it when it was answered
		{"r2", 3, 4, true},
		{"r2", 8, 9, true}, // the change may not have been made yet
		{"r2#1", 6, 6, false},
		{"r2#1", 6, 7, true},
		{"r2#2", 8, 9, false},
		{"r3", 8, 9, false},
		{"", 8, 9, false},
	} {
		got := l.at(c.name, at(c.sent), at(c.done))
		if (got != nil) != c.want || got != nil && got.Name() != c.name {
			t.Errorf("%q from %d to %d: %v, want %t", c.name, c.sent, c.done, got, c.want)
		}
	}
}

// An answer that differs anywhere from the right one is not taken.
func TestJudge(t *testing.T) {
	t.Parallel()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	l, asks := history(t, w), newAsks(t, w)[:120]
	right := func(a *ask, r *workload.Revision) []answer {
		var all []answer
		for _, it := range a.items {
			got := answer{code: it.code}
			if it.question != nil {
				got.revision = r.Name()
				if got.Outcome, err = r.Outcome(it.question); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, got)
		}
		return all
	}
	refuse := func(a *ask, answers []answer, want string) {
		t.Helper()
		if err := a.judge(l, answers, at(3), at(3)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s\n%+v: %v, want %q", a.path, a.body, answers, err, want)
		}
	}
	seen := map[string]int{}
	for i := range asks {
		a := &asks[i]
		if err := a.judge(l, right(a, w.Revision(1)), at(3), at(3)); err != nil {
			t.Fatalf("%s %s: %v", a.path, a.body, err)
		}
		refuse(a, nil, "0 answers")
		for k, it := range a.items {
			if it.question == nil {
				seen["malformed"]++
				wrong := right(a, w.Revision(1))
				wrong[k] = answer{revision: "r1"}
				wrong[k].Allow = true
				refuse(a, wrong, "want \"request.")
				continue
			}
			for what, spoil := range map[string]func(*answer){
				"want {Allow:":  func(got *answer) { got.Allow = !got.Allow },
				" want {Allow:": func(got *answer) { got.Hints += "more" },
				"Rule:":         func(got *answer) { got.Rule = "another" },
				"refused with":  func(got *answer) { got.code = "api.overloaded" },
				"not active":    func(got *answer) { got.revision = "" },
			} {
				wrong := right(a, w.Revision(1))
				spoil(&wrong[k])
				if len(a.items) > 1 && what == "not active" {
					what = "answered by"
				}
				refuse(a, wrong, what)
			}
		}
		if len(a.items) > 1 {
			seen["batch"]++
			refuse(a, right(a, w.Revision(2)), "not active")
		}
	}
	if seen["malformed"] < 6 || seen["batch"] < 18 {
		t.Errorf("hardly any: %v", seen)
	}
}
