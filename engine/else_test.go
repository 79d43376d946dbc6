package engine_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
)

// TestElseOfPermits: where one permit has a name that is found out, OPA asks no else of
// any, unless its index has left out what stands before. Compiled policy did, and allowed
// what the interpreter denies.
func TestElseOfPermits(t *testing.T) {
	t.Parallel()
	const first = `package authz

permit["c"] := {"priority": 3} if count(input.context.v) == 7
else := {"priority": 5} if input.subject.id != "u7"
`
	for policy, compiled := range map[string]engine.EvaluatorState{
		first: engine.EvaluatorCompiled,
		first + `
permit[k] := {"priority": 300} if k := input.context.k
`: engine.EvaluatorRefused,
	} {
		b := bundle(t, policy, `{}`, `{"contract": 1, "untyped_tools": true, "lax_forbids": true}`)
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if err != nil {
			t.Fatal(err)
		}
		q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, "u0", 1)))
		q.Context = decode(t, `{"v": []}`)
		e := engine.New(engine.Options{Now: testNow, Compiled: true})
		want := outcome(t, e, s, q)
		e.Prepare(s)
		if got := outcome(t, e, s, q); got != want {
			t.Errorf("%s, not %s", got, want)
		}
		state, why := s.Evaluator()
		if state != compiled {
			t.Errorf("%s: %s\n%s", state, why, policy)
		}
		found, err := s.Interpreted(t.Context())
		if err != nil || (len(found) > 0) != (compiled == engine.EvaluatorRefused) {
			t.Errorf("%+v, %v; refused: %q", found, err, why)
		}
	}
}
