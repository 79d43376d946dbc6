package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/store"
)

// A disk that is full or gone has a code, whatever was asked; a fault of ours and a call
// that is given up have none; and nothing of what has failed is there afterwards.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir)
	digest := stage(t, s, "main", "one")
	block := func(id string) store.Block {
		return store.Block{Tenant: tenant, ID: id, Kind: "subject", Target: "alice", CreatedAt: time.Unix(1, 0), EndsAt: time.Unix(2, 0)}
	}
	if err := s.AddBlock(t.Context(), block("1")); err != nil {
		t.Fatal(err)
	}
	write := func() error {
		u, err := s.Write([]byte("two"))
		if err == nil {
			_ = u.Discard()
		}
		return err
	}
	read := func() error {
		_, err := s.Archive(digest)
		return err
	}
	code := func(err error) store.Code {
		coded, _ := errors.AsType[*store.Error](err)
		switch {
		case err == nil:
			return "done"
		case coded == nil:
			return ""
		}
		return coded.Code
	}
	check := func(when string, err error, want store.Code) {
		t.Helper()
		if got := code(err); got != want {
			t.Errorf("%s: %q, %v; want %q", when, got, err, want)
		}
	}

	check("the same block again", s.AddBlock(t.Context(), block("1")), "")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	check("the caller is gone", s.AddBlock(gone, block("2")), "")
	if err := store.Exec(s, `PRAGMA max_page_count = 1`); err != nil { // as many as there are
		t.Fatal(err)
	}
	long := block("3")
	long.Why = strings.Repeat("x", 1<<20)
	check("the disk is full", s.AddBlock(t.Context(), long), store.CodeUnavailable)
	if err := store.Exec(s, `PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	check("write an archive to a folder that is gone", write(), store.CodeUnavailable)
	check("read an archive from it", read(), store.CodeUnavailable)
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	check("write again", write(), "done")
	check("read again", read(), "done")
	check("block again", s.AddBlock(t.Context(), block("4")), "done")
	var ids []string
	blocks, err := s.Blocks(t.Context(), tenant)
	for _, b := range blocks {
		ids = append(ids, b.ID)
	}
	slices.Sort(ids)
	if want := []string{"1", "4"}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("blocks %v, %v; want %v", ids, err, want)
	}
}

// A damaged database is named, and nobody is told to try again.
func TestDatabaseDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"no database":                       func(text []byte) []byte { return text[:16] },
		"all but the page of what is where": func(text []byte) []byte { return text[4096:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			s := open(t, dir)
			stage(t, s, "main", "one")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "authzd.db")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := damage(text)
			copy(part, bytes.Repeat([]byte("damaged "), len(part)/8))
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err = store.Open(t.Context(), dir, store.Options{}); err == nil {
				_, err = s.Blocks(t.Context(), tenant)
				_ = s.Close()
			}
			coded, _ := errors.AsType[*store.Error](err)
			if coded == nil || coded.Code != store.CodeDatabaseDamaged || coded.Path != file {
				t.Errorf("%v, want %s of %s", err, store.CodeDatabaseDamaged, file)
			}
		})
	}
}
