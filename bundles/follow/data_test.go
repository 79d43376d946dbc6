package follow_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/follow"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// listed is a bundle whose lists may be changed without a signature.
func (s *signer) listed(t *testing.T, revision string, sequence int) []byte {
	t.Helper()
	return s.sign(t,
		[2]string{".manifest", fmt.Sprintf(`{"revision":%q,"roots":["authz","lists","fixed"],"metadata":{"authzd":{"contract":1,"sequence":%d,"writable_data":["lists"]}}}`, revision, sequence)},
		[2]string{"policy.rego", "package authz\n\npermit[\"x\"] := {} if data.lists[input.action.name]\n\npermit[\"y\"] := {} if data.fixed.all\n"},
		[2]string{"data.json", `{"lists":{"read":true},"fixed":{"all":false}}`})
}

// delta is a signed delta bundle.
func (s *signer) delta(t *testing.T, archive []byte, sequence int, patch string) []byte {
	t.Helper()
	return s.sign(t,
		[2]string{".manifest", fmt.Sprintf(`{"revision":"d","roots":["authz","lists","fixed"],"metadata":{"authzd":{"base":%q,"sequence":%d}}}`, store.Digest(archive), sequence)},
		[2]string{"patch.json", patch})
}

// origin is a source with a registry, as package api serves it.
type origin struct {
	*registry.Registry
	close func()
}

func newOrigin(t *testing.T, dir string, k *signer) *origin {
	t.Helper()
	o := &origin{}
	o.Registry, o.close = newRegistry(t, dir, &k.keys, engine.New(engine.Options{}))
	return o
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	had := strings.Trim(r.Header.Get("If-None-Match"), `"`)
	tag, _ := o.Tag("main")
	if tag != "" && tag == had {
		w.Header().Set("ETag", `"`+tag+`"`)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	step, err := o.Next(r.Context(), "main", had)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	archive, err := step.Read()
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+step.Tag+`"`)
	_, _ = w.Write(archive)
}

func (o *origin) push(t *testing.T, archive []byte) {
	t.Helper()
	if _, err := o.Push(t.Context(), registry.Push{Name: "main", Archive: archive, Activate: true, DropChanges: true}); err != nil {
		t.Fatal(err)
	}
}

// put sets a member of lists.
func (o *origin) put(t *testing.T, name string) {
	t.Helper()
	change := registry.DataChange{Name: "main", Edits: []rar.Edit{{Op: rar.Upsert, Path: []string{"lists", name}, Value: rar.BoolValue(true)}}}
	if _, err := o.ChangeData(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// same waits until a follower has the data of its source, and tells that it has.
func (o *origin) same(t *testing.T, s *stand) {
	t.Helper()
	want, _ := o.Tag("main")
	before := s.Status()[0].Confirmed
	within(t, want, func() bool {
		tag, _ := s.registry.Tag("main")
		return tag == want && s.Status()[0].Confirmed > before
	})
	for _, root := range []string{"lists", "fixed"} {
		want, wantErr := o.Document("main", []string{root})
		got, err := s.registry.Document("main", []string{root})
		if err != nil || wantErr != nil || string(got.JSON) != string(want.JSON) || got.Revision != want.Revision {
			t.Errorf("%s at %s, not %s at %s: %v, %v", got.JSON, got.Revision, want.JSON, want.Revision, err, wantErr)
		}
	}
	if got := s.Status()[0]; got.Overridden || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
}

// activations are how often an archive was made live.
func (s *stand) activations(t *testing.T) int {
	t.Helper()
	_, events, err := s.registry.Show(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range events {
		if e.What != "data" && e.To == store.StateActive {
			n++
		}
	}
	return n
}

// A follower has each change of its source's data, also over a restart, and the next
// archive without them.
func TestFollowData(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	o := newOrigin(t, t.TempDir(), k)
	first := k.listed(t, "v1", 1)
	o.push(t, first)
	o.put(t, "a") // before anybody follows
	s := start(t, &k.keys, o.serve, nil)
	o.same(t, s)
	o.put(t, "b")
	o.same(t, s)
	o.push(t, k.delta(t, first, 2, `{"data":[{"op":"replace","path":"/fixed/all","value":true}]}`))
	o.same(t, s)
	o.put(t, "a")
	o.put(t, "c")
	o.same(t, s)
	if s.revision() != "v1#5" {
		t.Errorf("%s decides", s.revision())
	}
	s.stop()
	o.put(t, "while it is away")
	s = startIn(t, s.dir, &k.keys, o.serve, nil)
	if s.revision() != "v1#5" {
		t.Errorf("%s decides after a restart, before the source is asked", s.revision())
	}
	o.same(t, s)
	// After answers that are none it is asked as if nothing were here.
	s.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	failed := s.Status()[0].Failed
	within(t, "declined", func() bool { return s.Status()[0].Failed > failed+3 })
	s.set(o.serve)
	o.same(t, s)
	o.put(t, "once it is back")
	o.same(t, s)
	if n := s.activations(t); n != 1 {
		t.Errorf("%d activations of one archive", n)
	}
	o.push(t, k.listed(t, "v2", 3))
	o.same(t, s)
	o.put(t, "d")
	o.same(t, s)
	// What somebody activates here is not what the source has.
	if _, err := s.registry.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if got := s.Status()[0]; !got.Overridden {
		t.Errorf("%+v", got)
	}
}

// A source that has lost changes is not followed back to before them, at once or after
// a restart, and its word does not count; another archive of it is taken.
func TestFollowLostChanges(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	dir := t.TempDir()
	o := newOrigin(t, dir, k)
	o.push(t, k.listed(t, "v1", 1))
	o.put(t, "a")
	o.close()
	restored := t.TempDir()
	if err := os.CopyFS(restored, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	o = newOrigin(t, dir, k)
	o.put(t, "b")
	outdated := func(o *follow.Options) { o.MaxAge = time.Minute }
	s := start(t, &k.keys, o.serve, outdated)
	o.same(t, s)
	tag, _ := s.registry.Tag("main")
	back := newOrigin(t, restored, k)
	kept := func() {
		t.Helper()
		failed := s.Status()[0].Failed
		within(t, "failed", func() bool { return s.Status()[0].Failed > failed+1 })
		if now, _ := s.registry.Tag("main"); now != tag || codeOf(s.Fresh()) != bundles.CodeOutdated {
			t.Errorf("%s, not %s: %v, %+v", now, tag, s.Fresh(), s.Status()[0])
		}
	}
	s.set(back.serve)
	failed := s.Status()[0].Failed
	within(t, "failed", func() bool { return s.Status()[0].Failed > failed })
	s.pass(2 * time.Minute)
	kept()
	s.stop()
	s = startIn(t, s.dir, &k.keys, back.serve, outdated)
	kept()
	if got := s.Status()[0]; got.Age != follow.Never || got.Confirmed != 0 {
		t.Errorf("%+v", got)
	}
	s.set(o.serve) // the one that has them
	within(t, "fresh again", func() bool { return s.Fresh() == nil })
	o.put(t, "c")
	o.same(t, s)
	s.set(back.serve)
	back.push(t, k.listed(t, "v2", 2))
	back.same(t, s)
}

// A change that can not be made here is told and refused, and what is live stays.
func TestFollowDataRefused(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	archive := k.listed(t, "v1", 1)
	base := store.Digest(archive)
	evil, err := bundles.PackDelta(&bundles.Delta{
		Edits: []rar.Edit{{Op: rar.Upsert, Path: []string{"fixed", "all"}, Value: rar.BoolValue(true)}}, Base: base, Number: 1,
	}, "v1#1", []string{"authz", "lists", "fixed"})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, &k.keys, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == "" {
			serveArchive(archive)(w, r)
			return
		}
		w.Header().Set("ETag", `"`+base+`.1"`)
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(evil)
	}, func(o *follow.Options) { o.MaxAge = time.Minute })
	within(t, "refused", func() bool { return s.Status()[0].Refused == 1 })
	s.pass(2 * time.Minute)
	asked := s.asked.Load()
	within(t, "asked again", func() bool { return s.asked.Load() > asked+3 })
	if got := s.Status()[0]; got.Refused != 1 || s.revision() != "v1" || codeOf(s.Fresh()) != bundles.CodeOutdated {
		t.Errorf("%+v, %s decides, %v", got, s.revision(), s.Fresh())
	}
}
