package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/store"
)

func TestBlocksSurvive(t *testing.T) {
	t.Parallel()
	dir, at := t.TempDir(), time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)
	s := open(t, dir)
	one := store.Block{Tenant: tenant, ID: "1", Kind: "subject", Target: "alice", Issuer: "https://as", Why: "stolen", CreatedBy: "bob", CreatedAt: at, EndsAt: at.Add(time.Hour)}
	two := store.Block{Tenant: tenant, ID: "2", Kind: "tool", Target: "pay", Why: "wrong", CreatedAt: at, EndsAt: at.Add(time.Minute)}
	for _, b := range []store.Block{one, two, {Tenant: "other", ID: "1", CreatedAt: at, EndsAt: at}} {
		if err := s.AddBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddBlock(t.Context(), one); err == nil {
		t.Error("two blocks of one id")
	}
	for _, who := range []string{"carol", "mallory"} {
		if err := s.LiftBlock(t.Context(), tenant, "1", who, "found", at.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	one.LiftedBy, one.LiftedWhy, one.LiftedAt = "carol", "found", at.Add(time.Second)
	got, err := open(t, dir).Blocks(t.Context(), tenant)
	if diff := cmp.Diff([]store.Block{two, one}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Blocks that hold are kept however many have ended.
func TestBlocksForgetTheOldest(t *testing.T) {
	t.Parallel()
	s, at := open(t, t.TempDir()), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	add := func(id string, created time.Time, lasts time.Duration) {
		b := store.Block{Tenant: tenant, ID: id, Kind: "tool", Target: "t", CreatedAt: created, EndsAt: created.Add(lasts)}
		if err := s.AddBlock(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	add("holds", at, 24*time.Hour)
	add("lifted", at, 24*time.Hour)
	if err := s.LiftBlock(t.Context(), tenant, "lifted", "", "", at); err != nil {
		t.Fatal(err)
	}
	err := store.Exec(s, fmt.Sprintf(`
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)
		INSERT INTO blocks SELECT '%s', i, 'tool', 't', '', '', '', %d + i * 1000000, %[2]d + (i + 1) * 1000000, '', '', 0 FROM n`, tenant, at.UnixMicro()))
	if err != nil {
		t.Fatal(err)
	}
	add("last", at.Add(10002*time.Second), time.Second)
	list, err := s.Blocks(t.Context(), tenant)
	if err != nil || len(list) != 10002 { // ten thousand that ended, the last one and the oldest
		t.Fatal(len(list), err)
	}
	if last := list[len(list)-1]; last.ID != "holds" {
		t.Errorf("%+v", last)
	}
}
