package store_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/store"
)

const tenant = "default"

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	clock := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s, err := store.Open(t.Context(), dir, store.Options{Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// stage stores the archive text under name.
func stage(t *testing.T, s *store.Store, name, text string) string {
	t.Helper()
	u, err := s.Write([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	digest := store.Digest([]byte(text))
	b := store.Bundle{Tenant: tenant, Name: name, Revision: "r-" + text, UploadedBy: "alice", Report: "{}"}
	events := []store.Event{{Tenant: tenant, Name: name, Digest: digest, What: "push", To: store.StateStaged, Who: "alice", Why: "because"}}
	if err := s.Stage(t.Context(), u, b, events); err != nil {
		t.Fatal(err)
	}
	return digest
}

func activate(t *testing.T, s *store.Store, name, digest string, rollback bool) {
	t.Helper()
	e := store.Event{Tenant: tenant, Name: name, Digest: digest, What: "activate", To: store.StateActive, Who: "bob"}
	if err := s.Activate(t.Context(), e, rollback); err != nil {
		t.Fatal(err)
	}
}

func active(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	list, err := s.Active(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, b := range list {
		if b.State != store.StateActive || !b.Kept {
			t.Errorf("active bundle %+v", b)
		}
		out[b.Name] = b.Digest
	}
	return out
}

func TestActiveSurvives(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with space", "?#%41")
	s := open(t, dir)
	one, two, other := stage(t, s, "main", "one"), stage(t, s, "main", "two"), stage(t, s, "data", "one")
	if one != other {
		t.Error("one archive has two digests")
	}
	activate(t, s, "main", one, false)
	activate(t, s, "main", two, false)
	activate(t, s, "data", other, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if diff := cmp.Diff(map[string]string{"main": two, "data": other}, active(t, s)); diff != "" {
		t.Error(diff)
	}
	list, err := s.Named(t.Context(), tenant, "main")
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if b := list[0]; b.Digest != two || b.Previous != one || b.UploadedBy != "alice" || b.Size != 3 || b.Revision != "r-two" || b.UploadedAt.Year() != 2026 {
		t.Errorf("%+v", b)
	}
	if list[1].State != store.StateSuperseded {
		t.Errorf("%+v", list[1])
	}
	activate(t, s, "main", one, true)
	activate(t, s, "main", one, true)
	if list, _ = s.Named(t.Context(), tenant, "main"); list[1].Previous != "" || list[0].State != store.StateSuperseded {
		t.Errorf("after the rollback: %+v", list)
	}
	if got, err := s.Archive(one); err != nil || string(got) != "one" {
		t.Error(string(got), err)
	}
	events, err := s.Events(t.Context(), tenant, "main", 6)
	if err != nil || len(events) != 4 || events[0].Digest != one || events[0].Seq <= events[1].Seq || events[0].Who != "bob" {
		t.Error(events, err)
	}
}

// A bundle that is kept is not overwritten by a later rejection of the same
// archive, nor by its being stored again.
func TestRejectLeavesWhatIsKept(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	digest := stage(t, s, "main", "one")
	activate(t, s, "main", digest, false)
	for _, d := range []string{digest, store.Digest([]byte("other"))} {
		b := store.Bundle{Tenant: tenant, Name: "main", Digest: d, Report: "{}", UploadedBy: "mallory"}
		if err := s.Reject(t.Context(), b, []store.Event{{Tenant: tenant, Name: "main", Digest: d, To: store.StateRejected}}); err != nil {
			t.Fatal(err)
		}
	}
	stage(t, s, "main", "one")
	list, err := s.Bundles(t.Context(), tenant, store.Place{}, 100)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if list[0].State != store.StateRejected || list[0].Kept || list[1].State != store.StateActive || list[1].UploadedBy != "alice" {
		t.Errorf("%+v", list)
	}
	e := store.Event{Tenant: tenant, Name: "main", Digest: list[0].Digest}
	var coded *store.Error
	if err := s.Activate(t.Context(), e, false); !errors.As(err, &coded) || coded.Code != store.CodeNotKept {
		t.Error("a rejected bundle was activated:", err)
	}
	if diff := cmp.Diff(map[string]string{"main": digest}, active(t, s)); diff != "" {
		t.Error("a failed activation changed something: " + diff)
	}
}

func TestKeepsTheLast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var digests []string
	for i := range 12 {
		digests = append(digests, stage(t, s, "main", strconv.Itoa(i)))
		activate(t, s, "main", digests[i], false)
	}
	for i := range 3 + store.Keep {
		stage(t, s, "main", "staged"+strconv.Itoa(i))
	}
	list, err := s.Named(t.Context(), tenant, "main")
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, b := range list {
		if b.Kept {
			kept[b.Digest] = true
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "archives"))
	if err != nil || len(files) != 1+2*store.Keep || len(kept) != 1+2*store.Keep {
		t.Errorf("%d files, %d kept, %v", len(files), len(kept), err)
	}
	for i, d := range digests {
		if want := i >= 11-store.Keep; kept[d] != want {
			t.Errorf("%d kept: %t", i, kept[d])
		}
	}
	var e *store.Error
	if _, err := s.Archive(digests[0]); !errors.As(err, &e) || e.Code != store.CodeArchiveDamaged {
		t.Error(err)
	}
	for i := range 80 {
		b := store.Bundle{Tenant: tenant, Name: "main", Digest: fmt.Sprint("bad", i)}
		if err := s.Reject(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ = s.Named(t.Context(), tenant, "main"); len(list) != 50+6+3+1+2*store.Keep { // rejected, superseded and staged ones not kept, kept ones
		t.Errorf("%d rows", len(list))
	}
}

// What an interrupted upload left behind goes away, what is kept stays.
func TestOpenCleansUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	digest := stage(t, s, "main", "one")
	if _, err := s.Write([]byte("never staged")); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(dir, "archives", "00.tar.gz")
	if err := os.WriteFile(orphan, []byte("named, and not recorded"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Error("an archive without a row stayed", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "uploads")); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	if _, err := s.Archive(digest); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "archives", digest[7:]+".tar.gz"), []byte("tampered"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *store.Error
	if _, err := s.Archive(digest); !errors.As(err, &e) || e.Code != store.CodeArchiveDamaged {
		t.Error("a tampered archive:", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var e *store.Error
	if !testing.Short() { // it waits for the other one to end
		if _, err := store.Open(t.Context(), dir, store.Options{}); !errors.As(err, &e) || e.Code != store.CodeLocked {
			t.Error("opened twice:", err)
		}
	}
	if err := store.Exec(s, `INSERT INTO schema_migrations (version, applied_at) VALUES (99, 0)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), dir, store.Options{}); !errors.As(err, &e) || e.Code != store.CodeSchemaNewer {
		t.Error("a later schema:", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), file, store.Options{}); err == nil {
		t.Error("a file is no data directory")
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	digest := stage(t, s, "main", "one")
	activate(t, s, "main", digest, false)
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := store.Backup(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
	if err := store.Backup(t.Context(), dir, file); !errors.Is(err, os.ErrExist) {
		t.Error("a backup was overwritten:", err)
	}
	if err := store.Backup(t.Context(), t.TempDir(), file+"2"); !errors.Is(err, os.ErrNotExist) {
		t.Error("nothing was backed up:", err)
	}
	restored := t.TempDir()
	unpack(t, file, restored)
	r := open(t, restored)
	if diff := cmp.Diff(map[string]string{"main": digest}, active(t, r)); diff != "" {
		t.Error(diff)
	}
	if got, err := r.Archive(digest); err != nil || string(got) != "one" {
		t.Error(string(got), err)
	}
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name) //nolint:gosec // made a few lines above
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// One who uploads pushes nobody else's staged bundles out, and what was rejected
// is listed however much is remembered.
func TestKeepsWhatOthersStaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	put := func(who, content string) {
		t.Helper()
		u, err := s.Write([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		b := store.Bundle{Tenant: tenant, Name: "main", Digest: store.Digest([]byte(content)), UploadedBy: who}
		if err := s.Stage(t.Context(), u, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("alice", "hers")
	for i := range 3 * store.Keep {
		put("mallory", strconv.Itoa(i))
	}
	if _, err := s.Archive(store.Digest([]byte("hers"))); err != nil {
		t.Error("pushed out:", err)
	}
	list, err := s.Named(t.Context(), tenant, "main")
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, b := range list {
		if b.Kept {
			kept++
		}
	}
	if kept != 1+store.Keep {
		t.Errorf("%d kept", kept)
	}
	for i := range 10 { // many who upload
		for j := range store.Keep {
			put(fmt.Sprint("pusher", i), fmt.Sprint(i, j))
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "archives"))
	if err != nil || len(files) != 25 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for i := range 60 {
		d := stage(t, s, "busy", "v"+strconv.Itoa(i))
		activate(t, s, "busy", d, false)
	}
	if err := s.Reject(t.Context(), store.Bundle{Tenant: tenant, Name: "busy", Digest: "bad"}, nil); err != nil {
		t.Fatal(err)
	}
	if list, err = s.Named(t.Context(), tenant, "busy"); err != nil || list[0].Digest != "bad" {
		t.Errorf("what was rejected last is not listed: %+v, %v", list[0], err)
	}
}

// Names that were never active make room, those that were do not.
func TestMaxNames(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("stores as many names as there may be, two times")
	}
	s := open(t, t.TempDir())
	junk := func(name string) error {
		return s.Reject(t.Context(), store.Bundle{Tenant: tenant, Name: name, Digest: "bad"}, []store.Event{{Tenant: tenant, Name: name, Digest: "bad", What: "push", To: store.StateRejected}})
	}
	first := stage(t, s, "staged", "never active")
	for i := range store.MaxNames + 5 {
		if err := junk(fmt.Sprintf("junk%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Named(t.Context(), tenant, "staged"); err != nil || len(list) != 0 {
		t.Error("the oldest is still there", err)
	}
	if _, err := s.Archive(first); err == nil {
		t.Error("its archive is still there")
	}
	last, err := s.LastEvent(t.Context(), tenant)
	if err != nil || last < store.MaxNames+5 {
		t.Error("numbers of events come again:", last, err)
	}
	for i := range store.MaxNames {
		name := fmt.Sprintf("real%03d", i)
		if err := s.Admits(t.Context(), tenant, name); err != nil {
			t.Fatal(err)
		}
		activate(t, s, name, stage(t, s, name, "policy"), false)
	}
	var coded *store.Error
	if err := s.Admits(t.Context(), tenant, "more"); !errors.As(err, &coded) || coded.Code != store.CodeNamesFull {
		t.Error(err)
	}
	if err := junk("more"); !errors.As(err, &coded) || coded.Code != store.CodeNamesFull {
		t.Error(err)
	}
	if err := s.Admits(t.Context(), tenant, "real000"); err != nil {
		t.Error(err)
	}
	// Pages hold every bundle once.
	var names []string
	for after := (store.Place{}); ; {
		page, err := s.Bundles(t.Context(), tenant, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page {
			names = append(names, b.Name)
			after = store.Place{Name: b.Name, Stored: b.Stored}
		}
		if len(page) < 7 {
			break
		}
	}
	if len(names) != store.MaxNames || !slices.IsSorted(names) {
		t.Errorf("%d names in pages", len(names))
	}
}

// However often something is pushed, its activations stay in the record and are
// shown.
func TestEventsOfBothKinds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("stores 1200 events")
	}
	s := open(t, t.TempDir())
	activate(t, s, "main", stage(t, s, "main", "one"), false)
	for i := range 400 {
		var events []store.Event
		for _, to := range []store.State{store.StateUploaded, store.StateVerified, store.StateRejected} {
			events = append(events, store.Event{Tenant: tenant, Name: "main", Digest: strconv.Itoa(i), What: "push", To: to})
		}
		if err := s.Reject(t.Context(), store.Bundle{Tenant: tenant, Name: "main", Digest: strconv.Itoa(i)}, events); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Events(t.Context(), tenant, "main", 200)
	if err != nil || len(list) != 67 || list[len(list)-1].To != store.StateActive {
		t.Errorf("%d events, %v", len(list), err)
	}
}
