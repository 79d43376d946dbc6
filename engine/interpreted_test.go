package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
)

// TestInterpretedSaysWhy: each place that compiled evaluation refuses is told with its reason
// as policy is written, and what is told to do makes it compiled.
func TestInterpretedSaysWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy string
		want   []string // ROW: reason // fix
		mended string
	}{
		{
			policy: "permit[\"a\"] := {} if not {\"a\": input.subject.id} == {\"a\": \"mallory\"}",
			want:   []string{"3: negated equality of composites // write !="},
			mended: "permit[\"a\"] := {} if {\"a\": input.subject.id} != {\"a\": \"mallory\"}",
		},
		{
			policy: "permit[\"a\"] := {} if input.context.amount == 1.0\n\nforbid[\"b\"] := {} if [input.action.name]",
			want: []string{
				"3: the number 1.0 is not written the usual way // write it in digits, without an exponent and without zeros at its end",
				"5: an expression that is just a value // leave it out, or compare it with something",
			},
			mended: "permit[\"a\"] := {} if input.context.amount == 1\n\nforbid[\"b\"] := {} if [input.action.name] == [\"x\"]",
		},
		{
			policy: "permit[\"a\"] := {} if graded(input.subject.id, 3)\n\ngraded(x) := 3 if x == \"a\"",
			want:   []string{"3: graded(input.subject.id, 3) says what the function shall answer // write y := f(x), and compare y"},
			mended: "permit[\"a\"] := {} if {\n\ty := graded(input.subject.id)\n\ty == 3\n}\n\ngraded(x) := 3 if x == \"a\"",
		},
		{
			policy: "permit[\"a\"] := {} if known[input.subject.id]\n\nknown contains x if {\n\tsome i\n\tdata.list[i].user == input.subject.id\n\tx := data.users[i]\n}",
			want:   []string{"3: known[input.subject.id] reads a partial rule by a key, and that rule reads base documents by variables // ask for x in RULE, or iterate: some x in RULE"},
			mended: "permit[\"a\"] := {} if input.subject.id in known\n\nknown contains x if {\n\tsome i\n\tdata.list[i].user == input.subject.id\n\tx := data.users[i]\n}",
		},
		{
			policy: "permit[\"c\"] := {\"priority\": 3} if input.action.name == \"x\"\nelse := {\"priority\": 5}\n\npermit[k] := {} if k := input.resource.id",
			want:   []string{"3: data.authz.permit is an object with an else // put the else into a rule of its own, and read that"},
			mended: "permit[\"c\"] := {\"priority\": p}\n\np := 3 if input.action.name == \"x\"\nelse := 5\n\npermit[k] := {} if k := input.resource.id",
		},
		{
			policy: "permit[\"a\"] := {} if {\n\tid := json.unmarshal(input.subject.id)\n\tid in input.context.list\n\tid.name == \"x\"\n}",
			want:   []string{"6: OPA's index mistakes id for something else in id.name == \"x\" // write it otherwise"},
		},
		{ // which the lint tells (lint.slow_form)
			policy: "permit[\"a\"] := {} if input.subject.id in {\"x\", input.action.name}",
			mended: "permit[\"a\"] := {} if input.subject.id in [\"x\", input.action.name]",
		},
	} {
		s := snapshotOf(t, c.policy)
		found, err := s.Interpreted(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			message, ok := strings.CutPrefix(f.Message, "--evaluator compiled leaves all of this policy to the interpreter: ")
			fix, also := strings.CutSuffix(f.Fix, "; or keep to the interpreter, which decides the same")
			if !ok || !also || f.Code != engine.CodeBundleInterpreted || f.Severity != engine.SeverityWarning || f.File != "policy.rego" {
				t.Errorf("finding %+v", f)
			}
			got = append(got, fmt.Sprintf("%d: %s // %s", f.Row, message, fix))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s\n-want +got:\n%s", c.policy, diff)
		}
		if state := prepared(s); state != engine.EvaluatorRefused {
			t.Errorf("%s: %s", c.policy, state)
		}
		if c.mended == "" {
			continue
		}
		s = snapshotOf(t, c.mended)
		if found, err := s.Interpreted(t.Context()); err != nil || len(found) > 0 || prepared(s) != engine.EvaluatorCompiled {
			t.Errorf("%s: %+v, %v", c.mended, found, err)
		}
	}
}

func snapshotOf(t *testing.T, policy string) *engine.Snapshot {
	t.Helper()
	return compileWith(t, "package authz\n\n"+policy+"\n", `{"list": [], "users": []}`, `{"contract": 1, "untyped_tools": true, "lax_forbids": true}`)
}

func prepared(s *engine.Snapshot) engine.EvaluatorState {
	engine.New(engine.Options{Now: testNow, Compiled: true}).Prepare(s)
	state, _ := s.Evaluator()
	return state
}

// Nobody is told that policy is interpreted because nobody waited for it to be compiled.
func TestInterpretedIsStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := snapshotOf(t, `permit["a"] := {}`).Interpreted(ctx); !errors.Is(err, context.Canceled) || found != nil {
		t.Errorf("%+v, %v", found, err)
	}
}
