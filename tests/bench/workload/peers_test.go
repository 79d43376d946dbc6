package workload_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/tests/bench/workload"
)

func compiled(t *testing.T, dir string) *engine.Snapshot {
	t.Helper()
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

// TestPolicyInput: a stock OPA is given the document that policy sees in authzd,
// but for the time.
func TestPolicyInput(t *testing.T) {
	t.Parallel()
	w := newWorkload(t)
	const compare = 50
	documents := map[string]json.RawMessage{}
	asked := queries(t, w)[:compare]
	for i := range asked {
		text, err := workload.PolicyInput(w.Requests[i].Query)
		if err != nil {
			t.Fatal(err)
		}
		documents[asked[i].Credentials[0].TokenID] = text
	}
	dir := t.TempDir()
	if err := w.WritePlainBundle(dir, workload.Plain); err != nil {
		t.Fatal(err)
	}
	policy := `package authz

seen := object.remove(input, ["now"])

document := object.remove(data.documents[input.credentials[0].token_id], ["now"])

allow if seen == document

members := object.union(object.remove(seen, ["credentials"]), input.credentials[0])

wanted := object.union(object.remove(document, ["credentials"]), document.credentials[0])

deny contains sprintf("%s is %s, want %s", [name, json.marshal(members[name]), json.marshal(object.get(wanted, name, null))]) if {
	some name in object.keys(members)
	members[name] != object.get(wanted, name, null)
}
`
	data := map[string]any{}
	text, err := os.ReadFile(filepath.Join(dir, "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	data["documents"] = documents
	if text, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"policy.rego": []byte(policy), "data.json": text} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := engine.New(engine.Options{Budget: time.Minute})
	e.Swap(compiled(t, dir))
	for i, q := range asked {
		d, err := e.Decide(t.Context(), q)
		if err != nil || !d.Allow {
			t.Fatalf("request %d: %v, %+v, %s", i, err, d.Error, d.Message)
		}
	}
}

// TestPlainForms: each form of the plain policy gives the workload's answers, and
// is evaluated by what it is there for.
func TestPlainForms(t *testing.T) {
	t.Parallel()
	w := newWorkload(t)
	asked := queries(t, w)
	for name, c := range map[string]struct {
		form  workload.PlainForm
		state engine.EvaluatorState
		by    func(engine.Evaluations) uint64
	}{
		"plain":       {workload.Plain, engine.EvaluatorCompiled, func(e engine.Evaluations) uint64 { return e.Compiled }},
		"handed over": {workload.HandedOver, engine.EvaluatorCompiled, func(e engine.Evaluations) uint64 { return e.HandedOver["ambiguous_key"] + e.HandedOver["habit"] }},
		"refused":     {workload.Refused, engine.EvaluatorRefused, func(e engine.Evaluations) uint64 { return e.Interpreted }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := w.WritePlainBundle(dir, c.form); err != nil {
				t.Fatal(err)
			}
			s := compiled(t, dir)
			e := engine.New(engine.Options{Compiled: true, Budget: time.Minute})
			e.Prepare(s)
			if state, why := s.Evaluator(); state != c.state {
				t.Errorf("the policy is %s (%s), want %s", state, why, c.state)
			}
			e.Swap(s)
			for i, q := range asked {
				d, err := e.Decide(t.Context(), q)
				if err != nil || d.Allow != w.Requests[i].Allow || d.Error != nil {
					t.Fatalf("request %d: allow %v, want %v; %v, error %+v\n%s", i, d.Allow, w.Requests[i].Allow, err, d.Error, w.Requests[i].Query)
				}
			}
			// A call that is denied may be so before it comes to the hand-over.
			if got := c.by(e.Evaluations()); got < uint64(w.Allowed()) { //nolint:gosec // a count
				t.Errorf("%d of %d evaluations are what the form is for: %+v", got, len(asked), e.Evaluations())
			}
		})
	}
}

// TestPeerRequests: what is made for each peer is one JSON object a request, and
// OpenFGA's smaller question differs from the workload's where an account is blocked.
func TestPeerRequests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes every request in three forms")
	}
	w := newWorkload(t)
	differ := 0
	for i := range w.Requests {
		q := w.Requests[i].Query
		fga, allow, err := w.OpenFGARequest(q, "store", "model")
		if err != nil {
			t.Fatal(err)
		}
		if allow != w.Requests[i].Allow {
			differ++
			if !allow {
				t.Errorf("request %d: OpenFGA's question is denied where the whole one is allowed", i)
			}
		}
		texts := [][]byte{fga}
		for _, form := range []func([]byte) ([]byte, error){workload.PolicyInput, workload.CerbosRequest} {
			text, err := form(q)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
		for _, text := range texts {
			var o map[string]any
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
	}
	if differ < len(w.Requests)/50 || differ > len(w.Requests)/10 {
		t.Errorf("%d answers differ, want about one in 24", differ)
	}
}

func TestPeerRequestsRefuse(t *testing.T) {
	t.Parallel()
	good := newWorkload(t).Requests[0].Query
	change := func(f func(map[string]any)) []byte {
		var o map[string]any
		if err := json.Unmarshal(good, &o); err != nil {
			t.Fatal(err)
		}
		f(o)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, text := range map[string][]byte{
		"not JSON":       []byte("{"),
		"no credential":  change(func(o map[string]any) { o["credentials"] = []any{} }),
		"another amount": []byte(`{"credentials":[{}],"mcp":{"params":{"arguments":{"amount":"1.5"}}}}`),
	} {
		if _, err := workload.PolicyInput(text); err == nil {
			t.Errorf("%s: no error from PolicyInput", name)
		}
		if _, err := workload.CerbosRequest(text); err == nil {
			t.Errorf("%s: no error from CerbosRequest", name)
		}
		if _, _, err := newWorkload(t).OpenFGARequest(text, "s", "m"); err == nil {
			t.Errorf("%s: no error from OpenFGARequest", name)
		}
	}
}
