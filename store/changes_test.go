package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/store"
)

func changeOf(base string, number int64, path string) store.Change {
	archive := []byte(fmt.Sprint(number, path))
	return store.Change{Base: base, Number: number, Path: path, Archive: archive, Digest: store.Digest(archive), Who: "alice", Why: "because"}
}

func numbers(t *testing.T, s *store.Store, base string) []int64 {
	t.Helper()
	list, err := s.Changes(t.Context(), tenant, "main", base, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var out []int64
	for _, c := range list {
		out = append(out, c.Number)
	}
	return out
}

func add(t *testing.T, s *store.Store, changes ...store.Change) error {
	t.Helper()
	return s.AddChanges(t.Context(), tenant, "main", changes, nil)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	one, two := stage(t, s, "main", "one"), stage(t, s, "main", "two")
	var coded *store.Error
	if err := add(t, s, changeOf(one, 1, "/a")); !errors.As(err, &coded) || coded.Code != store.CodeChanged {
		t.Error("nothing is active:", err)
	}
	activate(t, s, "main", one, false)
	if err := add(t, s, changeOf(two, 1, "/a")); !errors.As(err, &coded) || coded.Code != store.CodeChanged {
		t.Error("another one is active:", err)
	}
	removal := changeOf(one, 6, "/a/b")
	removal.Removes = true
	signed := changeOf(one, 9, "")
	signed.Signed, signed.Sequence = true, 7
	for _, step := range []struct {
		add  store.Change
		want []int64
	}{
		{changeOf(one, 1, "/a/b"), []int64{1}},
		{changeOf(one, 2, "/a/b/c"), []int64{1, 2}},
		{changeOf(one, 3, "/a/bc"), []int64{1, 2, 3}},
		{changeOf(one, 4, "/a/b"), []int64{3, 4}},
		{changeOf(one, 5, "/a/b0"), []int64{3, 4, 5}},
		{removal, []int64{3, 4, 5, 6}}, // what it removes must be there
		{changeOf(one, 7, "/a/b"), []int64{3, 5, 7}},
		{changeOf(one, 8, "/x%_y"), []int64{3, 5, 7, 8}},
		{signed, []int64{3, 5, 7, 8, 9}},
		{changeOf(one, 10, "/a"), []int64{3, 5, 7, 8, 9, 10}}, // not before another kind
		{changeOf(one, 11, "/a"), []int64{3, 5, 7, 8, 9, 11}},
	} {
		if err := add(t, s, step.add); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, numbers(t, s, one)); diff != "" {
			t.Fatalf("after %d: %s", step.add.Number, diff)
		}
	}
	if err := add(t, s, changeOf(one, 12, "/b"), changeOf(one, 12, "/c")); !errors.As(err, &coded) || coded.Code != store.CodeChanged {
		t.Error("a number twice:", err)
	}
	if last, err := s.LastChange(t.Context(), tenant, "main", one); err != nil || last != 11 {
		t.Error(last, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	list, err := s.Changes(t.Context(), tenant, "main", one, 8, 1)
	want := signed
	want.At, want.Size = list[0].At, int64(len(want.Archive))
	if diff := cmp.Diff([]store.Change{want}, list); err != nil || diff != "" {
		t.Error(err, diff)
	}
	// They go with their archive, which is kept while it can be rolled back to.
	activate(t, s, "main", two, false)
	for i := range store.Keep {
		if len(numbers(t, s, one)) == 0 {
			t.Fatal("gone while the archive is kept", i)
		}
		activate(t, s, "main", stage(t, s, "main", fmt.Sprint("more", i)), false)
	}
	if got := numbers(t, s, one); got != nil {
		t.Error(got)
	}
}

func TestChangesFull(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("stores as many changes as there may be")
	}
	s := open(t, t.TempDir())
	one := stage(t, s, "main", "one")
	activate(t, s, "main", one, false)
	var many []store.Change
	for i := range store.MaxChanges {
		many = append(many, changeOf(one, int64(i)+1, fmt.Sprint("/", i)))
	}
	if err := add(t, s, many...); err != nil {
		t.Fatal(err)
	}
	var coded *store.Error
	if err := add(t, s, changeOf(one, store.MaxChanges+1, "/new")); !errors.As(err, &coded) || coded.Code != store.CodeChangesFull {
		t.Error(err)
	}
	// Nor more bytes than are read at a start, however well they are packed.
	two := stage(t, s, "other", "two")
	activate(t, s, "other", two, false)
	large := changeOf(two, 1, "/a")
	large.Size = 64<<20 + 1
	if err := s.AddChanges(t.Context(), tenant, "other", []store.Change{large}, nil); !errors.As(err, &coded) || coded.Code != store.CodeChangesFull {
		t.Error(err)
	}
	// One in the place of another is no more.
	if err := add(t, s, changeOf(one, store.MaxChanges+1, "/5")); err != nil {
		t.Error(err)
	}
}
