package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/authzd/authzd/store"
)

// A push that the database does not take, as when the disk is full, leaves no
// archive on that disk.
func TestFailedStageLeavesNoArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if err := store.Exec(s, `CREATE TRIGGER full BEFORE INSERT ON bundles BEGIN SELECT RAISE(ABORT, 'disk full'); END`); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		u, err := s.Write([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stage(t.Context(), u, store.Bundle{Tenant: tenant, Name: "main"}, nil); err == nil {
			t.Fatal("staged")
		}
		if err := u.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "archives"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%d archives that no row knows of stay on the disk until the next start", len(left))
	}
}
