package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/authzd/authzd/store"
)

// A folder that is no data directory keeps the files that it had.
func TestOpenDeletesForeignFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := []string{filepath.Join(dir, "uploads", "holiday.jpg"), filepath.Join(dir, "archives", "2025.tar.gz")}
	for _, name := range foreign {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var coded *store.Error
	if s, err := store.Open(t.Context(), dir, store.Options{}); err == nil {
		_ = s.Close()
		t.Error("a folder of somebody else is opened")
	} else if !errors.As(err, &coded) || coded.Code != store.CodeNotOurs {
		t.Errorf("%v, want store.not_ours", err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("Open deleted %s", filepath.Base(name))
		}
	}
}
