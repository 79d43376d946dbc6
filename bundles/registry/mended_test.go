package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
)

func dataBundle(t testing.TB, revision string) []byte {
	t.Helper()
	return pack(t, true, file{".manifest", fmt.Sprintf(`{"revision":%q,"roots":["limits"]}`, revision)}, file{"limits/data.json", `{"a":1}`})
}

// Two active bundles of which neither verifies any more, since their key was
// withdrawn, can be replaced by good ones.
func TestTwoWithdrawnBundlesAreMendedByPushes(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v1", 1), Activate: true})
	s.push(t, registry.Push{Name: "limits", Archive: dataBundle(t, "l1"), Activate: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	var old atomic.Bool
	again := start(t, dir, func(o *registry.Options) {
		o.Verify = func(archive []byte) (bundles.Content, error) {
			c, err := verify(archive)
			if err == nil && (c.Bundle.Revision == "v1" || c.Bundle.Revision == "l1") && !old.Load() {
				return bundles.Content{}, &bundles.Error{Code: bundles.CodeKeyUnknown}
			}
			return c, err
		}
	})
	if _, err := again.Load(t.Context(), nil); err == nil {
		t.Fatal("loaded")
	}
	_, main := again.Push(t.Context(), registry.Push{Name: "main", Archive: bundle(t, "v2", 2), Activate: true})
	_, limits := again.Push(t.Context(), registry.Push{Name: "limits", Archive: dataBundle(t, "l2"), Activate: true})
	_, main2 := again.Push(t.Context(), registry.Push{Name: "main", Archive: bundle(t, "v2", 2), Activate: true})
	if again.engine.Snapshot() == nil {
		t.Errorf("no push mends this server:\nmain: %v\nlimits: %v\nmain again: %v", main, limits, main2)
	}
}

// The same where the archives of two are gone from the disk, and the very same
// ones are pushed again.
func TestTwoLostArchivesAreMendedByPushes(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	v1, l1 := bundle(t, "v1", 1), dataBundle(t, "l1")
	s.push(t, registry.Push{Archive: v1, Activate: true})
	s.push(t, registry.Push{Name: "limits", Archive: l1, Activate: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "archives", "*"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, dir, nil)
	if _, err := again.Load(t.Context(), nil); err == nil {
		t.Fatal("loaded")
	}
	_, main := again.Push(t.Context(), registry.Push{Name: "main", Archive: v1, Activate: true})
	_, limits := again.Push(t.Context(), registry.Push{Name: "limits", Archive: l1, Activate: true})
	if again.engine.Snapshot() == nil {
		t.Errorf("the same archives pushed again do not mend this server:\nmain: %v\nlimits: %v", main, limits)
	}
}

// Activating one bundle makes a new policy; another that does not verify any
// more, since a reload withdrew its key, is no part of that.
func TestWithdrawnBundleInANewPolicy(t *testing.T) {
	w := &withdrawable{}
	s := start(t, t.TempDir(), func(o *registry.Options) { o.Verify = w.verify }).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v9", 1), Activate: true})
	w.withdrawn.Store(&map[string]bool{"v9": true})
	if _, err := s.Load(t.Context(), nil); err == nil {
		t.Fatal("the reload does not notice")
	}
	_, err := s.Push(t.Context(), registry.Push{Name: "limits", Archive: dataBundle(t, "l1"), Activate: true})
	if err == nil {
		t.Errorf("a new policy was made live, after the reload, with the bundle of a withdrawn key: %q", s.engine.Snapshot().Policy().Revision)
	}
}

// While another active bundle is missing nobody can ask decision cases, so a
// bundle that has some waits for its turn instead of going untested.
func TestCasesAreNotSkippedWhileMending(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v1", 1), Activate: true})
	s.push(t, registry.Push{Name: "limits", Archive: dataBundle(t, "l1"), Activate: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "archives", "*"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	withCase := func(want string) []byte {
		return pack(t, true,
			file{".manifest", `{"revision":"v2","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":2}}}`},
			file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"v2\"\n"},
			file{"cases/one.yaml", "queries:\n  q: {subject: {type: identity, id: a}, action: {name: v2}, resource: {type: page, id: p}}\ncases:\n  one: {query: q, want: {decision: " + want + "}}\n"})
	}
	again := start(t, dir, nil)
	if _, err := again.Load(t.Context(), nil); err == nil {
		t.Fatal("loaded")
	}
	_, err := again.Push(t.Context(), registry.Push{Name: "main", Archive: withCase("ALLOW"), Activate: true})
	if got := codeOf(err); got != string(bundles.CodeNotStaged) {
		t.Fatal(err)
	}
	again.push(t, registry.Push{Name: "limits", Archive: dataBundle(t, "l2"), Activate: true})
	_, err = again.Push(t.Context(), registry.Push{Name: "main", Archive: withCase("DENY"), Activate: true})
	if got := codeOf(err); got != string(bundles.CodeTestFailed) {
		t.Fatal(err)
	}
	if again.engine.Snapshot() != nil {
		t.Fatal("live with a case that fails")
	}
	again.push(t, registry.Push{Name: "main", Archive: withCase("ALLOW"), Activate: true})
	if again.engine.Snapshot() == nil {
		t.Error("not live")
	}
}
