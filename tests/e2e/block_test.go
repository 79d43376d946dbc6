package e2e_test

import (
	"testing"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// A block holds when it is acknowledged, survives kill -9 from that moment on,
// and so does its being lifted.
func TestBlockSurvivesKill(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	v := k.start(t, 0)
	if err := k.push(t.Context(), authzdv1.NewBundleServiceClient(v.conn), "r0", true); err != nil {
		t.Fatal(err)
	}
	ask := func() *authzdv1.CheckResponse {
		t.Helper()
		out, err := authzdv1.NewDecisionServiceClient(v.conn).Check(t.Context(), &authzdv1.CheckRequest{
			Subject: &authzdv1.Subject{Type: "identity", Id: "alice"}, Action: &authzdv1.Action{Name: "read"}, Resource: &authzdv1.Resource{Type: "page", Id: "p"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := ask().GetDecision()
	began := time.Now()
	made, err := authzdv1.NewBlockServiceClient(v.conn).CreateBlock(t.Context(), &authzdv1.CreateBlockRequest{
		Kind: "subject", Value: "alice", ForSeconds: 3600, Why: "stolen laptop",
	})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetBlock().GetId()
	wantBlocked := func(when string) {
		t.Helper()
		got := ask()
		if r := got.GetReasons(); got.GetDecision() != authzdv1.Decision_DECISION_DENY || r[0].GetCode() != "engine.blocked" || r[0].GetDetail()[0] != id {
			t.Errorf("%s: %v", when, got)
		}
	}
	wantBlocked("once acknowledged")
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	v.kill()
	v = k.start(t, 0)
	wantBlocked("after a kill")
	if _, err := authzdv1.NewBlockServiceClient(v.conn).LiftBlock(t.Context(), &authzdv1.LiftBlockRequest{Id: id, Why: "found it"}); err != nil {
		t.Fatal(err)
	}
	v.kill()
	v = k.start(t, 0)
	if got := ask().GetDecision(); got != before || got != authzdv1.Decision_DECISION_ALLOW {
		t.Errorf("after it was lifted: %s, before it was blocked: %s", got, before)
	}
	v.kill()
}
