package registry_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/store"
)

// An archive that can not be read for want of its folder is not called damaged, which
// would have it pushed again; what is wrong with a pushed bundle is told all the same.
// What is live stays, and afterwards the archive is as good as before.
func TestStoreUnavailable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir, nil).load(t)
	for i, revision := range []string{"a", "b"} {
		s.push(t, registry.Push{Archive: bundle(t, revision, i+1), Activate: true})
	}
	s.Forget() // nothing of them is in memory
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); codeOf(err) != string(store.CodeUnavailable) {
		t.Errorf("rollback: %v", err)
	}
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: bundle(t, "c", 3), Activate: true}); codeOf(err) != string(store.CodeUnavailable) {
		t.Errorf("push: %v", err)
	}
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: []byte("no archive")}); codeOf(err) != string(bundles.CodeUnreadable) {
		t.Errorf("push of something else: %v", err)
	}
	s.wantLive(t, "b")
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Errorf("rollback afterwards: %v", err)
	}
	s.wantLive(t, "a")
}
