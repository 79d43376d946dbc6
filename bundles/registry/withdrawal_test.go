package registry_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/store"
)

// withdrawable verifies what is signed, until the key of some revisions is
// withdrawn. Like the server it takes the keys of when it began. With a gate it
// takes its time after that.
type withdrawable struct {
	withdrawn atomic.Pointer[map[string]bool]
	entered   chan struct{}
	gate      atomic.Pointer[chan struct{}]
}

func (w *withdrawable) verify(archive []byte) (bundles.Content, error) {
	bad := w.withdrawn.Load()
	c, err := verify(archive)
	if err == nil && bad != nil && (*bad)[c.Bundle.Revision] {
		return bundles.Content{}, &bundles.Error{Code: bundles.CodeKeyUnknown, Err: errors.New("withdrawn")}
	}
	if g := w.gate.Load(); g != nil && c.Bundle.Revision == "v1" {
		w.entered <- struct{}{}
		<-*g
	}
	return c, err
}

// A push that is under way while its key is withdrawn, and whose tests take
// their time, must not become live once the reload has ended.
func TestPushOverWithdrawal(t *testing.T) {
	w := &withdrawable{}
	asked, goOn := make(chan struct{}), make(chan struct{})
	s := start(t, t.TempDir(), func(o *registry.Options) {
		o.Verify = w.verify
		o.Ask = func(snap *engine.Snapshot) bundles.Ask {
			inner := ask(snap)
			return func(ctx context.Context, q []byte, now time.Time) (bundles.Answer, error) {
				close(asked)
				<-goOn
				return inner(ctx, q, now)
			}
		}
	}).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "good", 1), Activate: true})
	stolen := pack(t, true,
		file{".manifest", `{"revision":"stolen","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":2}}}`},
		file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"stolen\"\n"},
		file{"cases/slow.yaml", "queries:\n  q: {subject: {type: identity, id: a}, action: {name: stolen}, resource: {type: page, id: p}}\ncases:\n  one: {query: q, want: {decision: ALLOW}}\n"})
	var wg sync.WaitGroup
	wg.Add(1)
	var pushed error
	go func() {
		defer wg.Done()
		_, pushed = s.Push(t.Context(), registry.Push{Name: "main", Archive: stolen, Activate: true})
	}()
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("the case is not asked")
	}
	w.withdrawn.Store(&map[string]bool{"stolen": true})
	s.load(t) // SIGHUP: succeeds, what is active verifies by the keys of now
	close(goOn)
	wg.Wait()
	if got := s.engine.Snapshot().Policy().Revision; got != "good" {
		t.Errorf("live is %q, signed by a key that a reload has withdrawn (push: %v)", got, pushed)
	}
}

// What was being prepared for a rollback while keys were withdrawn must not be
// held as verified after the reload.
func TestPreparedOverWithdrawal(t *testing.T) {
	w := &withdrawable{entered: make(chan struct{}, 8)}
	s := start(t, t.TempDir(), func(o *registry.Options) { o.Verify = w.verify }).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v1", 1), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "v2", 2), Activate: true})
	s.load(t) // forgets what is in memory, tells Run to prepare
	gate := make(chan struct{})
	w.gate.Store(&gate)
	done := make(chan struct{})
	go func() { defer close(done); s.Prepare(t.Context()) }()
	<-w.entered // v1 verifies by the old keys
	w.withdrawn.Store(&map[string]bool{"v1": true})
	s.load(t)
	close(gate)
	<-done
	w.gate.Store(nil)
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err == nil {
		t.Errorf("rolled back to %q, whose key a reload has withdrawn", s.engine.Snapshot().Policy().Revision)
	}
}

// Junk that no key has signed, pushed by somebody who may only push, must not
// push the record of activations out.
func TestJunkErasesTheRecord(t *testing.T) {
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v1", 5), Activate: true, Who: "releaser"})
	s.push(t, registry.Push{Archive: bundle(t, "v0", 1), Activate: true, AllowOlder: true, Who: "mallory", Why: "goes back"})
	junk := func(text string) {
		if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: []byte(text), Who: "pusher"}); err == nil {
			t.Fatal("junk was taken")
		}
	}
	junk("the first")
	recorded, err := s.store.EventsAfter(t.Context(), registry.DefaultTenant, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// What the record has of one push, as often as there is room for, at once.
	const most = 1000
	last := recorded[len(recorded)-1]
	if err := s.store.Reject(t.Context(), store.Bundle{Tenant: last.Tenant, Name: last.Name, Digest: last.Digest}, slices.Repeat([]store.Event{last}, most)); err != nil {
		t.Fatal(err)
	}
	junk("the last")
	events, err := s.store.Events(t.Context(), registry.DefaultTenant, "main", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	activated, pushed := 0, 0
	for _, e := range events {
		switch {
		case e.To == store.StateActive:
			activated++
		case e.What == "push" && e.Who == "pusher":
			pushed++
		}
	}
	if activated != 2 || pushed != most {
		t.Errorf("after more unsigned pushes than are recorded, %d of %d events tell who activated what, and %d of pushes; want 2 and %d", activated, len(events), pushed, most)
	}
}
