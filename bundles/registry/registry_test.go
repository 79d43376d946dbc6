package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// file is one file of a test archive.
type file struct{ name, data string }

func pack(t testing.TB, signed bool, files ...file) []byte {
	t.Helper()
	if signed {
		files = append(files, file{".signatures.json", `{"signatures":["test"]}`})
	}
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// verify stands for the check of signatures, which package bundles tests: here
// an archive is signed if it says so.
func verify(archive []byte) (bundles.Content, error) {
	c, err := bundles.OpenArchive(bytes.NewReader(archive), bundles.Limits{})
	if err == nil && !c.Signed {
		return bundles.Content{}, &bundles.Error{Code: "bundle.signature_missing"}
	}
	return c, err
}

// ask answers decision cases with the decision alone.
func ask(s *engine.Snapshot) bundles.Ask {
	return func(ctx context.Context, query []byte, _ time.Time) (bundles.Answer, error) {
		v, err := rar.DecodeStrict(query, rar.Limits{})
		if err != nil {
			return bundles.Answer{}, err
		}
		answer := "DENY"
		if decide(ctx, s, lookup(v, "/action/name")) {
			answer = "ALLOW"
		}
		return bundles.Answer{Response: rar.ObjectValue(rar.Member{Name: "decision", Value: rar.StringValue(answer)})}, nil
	}
}

func lookup(v rar.Value, pointer string) string {
	found, _ := v.Lookup(pointer)
	return found.Text()
}

func decide(ctx context.Context, s *engine.Snapshot, action string) bool {
	d, err := engine.New(engine.Options{}).DecideOn(ctx, s, &engine.Query{
		Subject: &engine.Subject{Type: "identity", ID: "a"}, Action: engine.Action{Name: action}, Resource: engine.Resource{Type: "page", ID: "p"},
	})
	return err == nil && d.Allow
}

// stand is a registry on a data directory.
type stand struct {
	*registry.Registry
	engine *engine.Engine
	store  *store.Store
	dir    string
}

func start(t testing.TB, dir string, change func(*registry.Options)) *stand {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e := engine.New(engine.Options{})
	o := registry.Options{Store: s, Engine: e, Verify: verify, Ask: ask, Fallback: []engine.Bundle{fallback(t)}}
	if change != nil {
		change(&o)
	}
	r, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &stand{Registry: r, engine: e, store: s, dir: dir}
}

func content(t testing.TB, name string, files ...file) engine.Bundle {
	t.Helper()
	c, err := verify(pack(t, true, files...))
	if err != nil {
		t.Fatal(err)
	}
	c.Bundle.Name = name
	return c.Bundle
}

func fallback(t testing.TB) engine.Bundle {
	t.Helper()
	return content(t, "fallback", file{".manifest", `{"revision":"fallback","roots":["authz"],"metadata":{"authzd":{"contract":1}}}`},
		file{"policy.rego", "package authz\n\nforbid[\"all\"] := {}\n"})
}

func local(t testing.TB) engine.Bundle {
	t.Helper()
	return content(t, "local", file{".manifest", `{"revision":"local","roots":["local"]}`}, file{"local/data.json", `{"a":1}`})
}

// load is Load with the local bundle.
func (s *stand) load(t testing.TB) *stand {
	t.Helper()
	if _, err := s.Load(t.Context(), []engine.Bundle{local(t)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// bundle permits the action that is named as its revision.
func bundle(t testing.TB, revision string, sequence int) []byte {
	t.Helper()
	return pack(t, true,
		file{".manifest", fmt.Sprintf(`{"revision":%q,"roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":%d}}}`, revision, sequence)},
		file{"policy.rego", fmt.Sprintf("package authz\n\npermit[\"x\"] := {} if input.action.name == %q\n", revision)})
}

func (s *stand) push(t testing.TB, p registry.Push) registry.Result {
	t.Helper()
	if p.Name == "" {
		p.Name = "main"
	}
	got, err := s.Push(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantLive checks which revision decides.
func (s *stand) wantLive(t testing.TB, revision string) {
	t.Helper()
	if got := s.engine.Snapshot().Policy().Revision; got != revision {
		t.Errorf("live is %q, want %q", got, revision)
	}
	if revision != "fallback" && !decide(t.Context(), s.engine.Snapshot(), revision) {
		t.Errorf("%q does not decide", revision)
	}
}

func codeOf(err error) string {
	var b *bundles.Error
	var s *store.Error
	switch {
	case errors.As(err, &b):
		return string(b.Code)
	case errors.As(err, &s):
		return string(s.Code)
	}
	return fmt.Sprint(err)
}

// Each refusal as data: what is pushed over a live revision, and what is said.
func TestRefused(t *testing.T) {
	t.Parallel()
	list, err := filepath.Glob("testdata/refused/*.txtar")
	if err != nil || len(list) < 15 {
		t.Fatal(len(list), err)
	}
	for _, name := range list {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			refused(t, name)
		})
	}
}

type wanted struct {
	Code, Problem, File, Test, Expected, Got string
	Line                                     int
}

func refused(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var want wanted
	push := struct {
		Name                 string
		Unsigned, Unrecorded bool
	}{Name: "main"}
	var files []file
	for _, f := range txtar.Parse(text).Files {
		into := map[string]any{"push.json": &push, "want.json": &want}[f.Name]
		if into == nil {
			files = append(files, file{f.Name, string(f.Data)})
			continue
		}
		d := json.NewDecoder(bytes.NewReader(f.Data))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Fatal(f.Name, err)
		}
	}
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "base", 5), Activate: true})
	before := s.engine.Snapshot()
	_, err = s.Push(t.Context(), registry.Push{Name: push.Name, Archive: pack(t, !push.Unsigned, files...), Activate: true, Who: "alice"})
	if codeOf(err) != want.Code {
		t.Fatalf("error %v, want %s", err, want.Code)
	}
	if s.engine.Snapshot() != before {
		t.Error("what is live was touched")
	}
	if push.Unrecorded {
		return
	}
	report, ok := registry.ReportOf(err)
	if !ok || len(report.Problems) == 0 || string(report.Code) != want.Code {
		t.Fatalf("report %+v", report)
	}
	p := report.Problems[0]
	if want.Problem == "" {
		want.Problem = want.Code
	}
	got := wanted{want.Code, p.Code, p.File, p.Test, p.Expected, p.Got, p.Line}
	if want.Line == 0 {
		got.Line = 0
	}
	if want.File == "" {
		got.File = ""
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v\n%+v", got, want, report)
	}
	shown, events, err := s.Show(t.Context(), push.Name)
	if err != nil || shown[0].Bundle.State != store.StateRejected || shown[0].Report == nil || shown[0].Report.Problems[0] != p {
		t.Errorf("recorded: %+v, %v", shown, err)
	}
	if e := events[0]; e.To != store.StateRejected || e.Who != "alice" || !strings.Contains(e.Report, want.Code) {
		t.Errorf("event %+v", e)
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.wantLive(t, "fallback")
	got := s.push(t, registry.Push{Archive: bundle(t, "a", 1), Who: "alice", Why: "first"})
	if got.Bundle.State != store.StateStaged || got.Unchanged || got.Report == nil {
		t.Errorf("%+v", got)
	}
	s.wantLive(t, "fallback")
	if got, err := s.Activate(t.Context(), registry.Change{Name: "main", Revision: "a", Who: "bob", Why: "go"}); err != nil || got.Bundle.State != store.StateActive {
		t.Fatal(got, err)
	}
	s.wantLive(t, "a")
	live := s.engine.Snapshot()
	if got := s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true}); !got.Unchanged || s.engine.Snapshot() != live {
		t.Errorf("the same again: %+v", got)
	}
	s.push(t, registry.Push{Archive: bundle(t, "b", 2), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "c", 3), Activate: true})
	s.wantLive(t, "c")
	for _, want := range []string{"b", "a"} {
		if _, err := s.Rollback(t.Context(), registry.Change{Name: "main", Who: "carol", Why: "broken"}); err != nil {
			t.Fatal(err)
		}
		s.wantLive(t, want)
	}
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); codeOf(err) != string(bundles.CodeNotFound) {
		t.Error("before the first:", err)
	}
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main", Revision: "c"}); err != nil {
		t.Fatal("a rollback to a named revision:", err)
	}
	if _, err := s.Activate(t.Context(), registry.Change{Name: "main", Revision: "b"}); codeOf(err) != string(bundles.CodeStaleRevision) {
		t.Error("an older one:", err)
	}
	if _, err := s.Activate(t.Context(), registry.Change{Name: "main", Revision: "b", AllowOlder: true, Who: "dave"}); err != nil {
		t.Error("an older one, allowed:", err)
	}
	_, events, err := s.Show(t.Context(), "main")
	if err != nil || events[0].Who != "dave" || !events[0].AllowOlder || events[0].To != store.StateActive || events[0].From != store.StateSuperseded {
		t.Errorf("%+v, %v", events[0], err)
	}
	var first []string
	for i := range 5 {
		e := events[len(events)-1-i]
		first = append(first, string(e.From)+">"+string(e.To)+" "+e.Who+" "+e.Why)
	}
	want := ">uploaded alice first,uploaded>verified alice first,verified>tested alice first,tested>staged alice first,staged>active bob go"
	if got := strings.Join(first, ","); got != want {
		t.Errorf("events\n%s\n%s", got, want)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir, nil).load(t)
	again.wantLive(t, "b")
	if _, err := again.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Error("from disk:", err)
	}
	again.wantLive(t, "c") // which was active before b was activated again
	list, err := again.List(t.Context(), store.Place{}, 100)
	if err != nil || len(list) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestChangeRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "staged", 2)})
	bad := pack(t, true, file{".manifest", `{"revision":"bad","roots":["authz"],"metadata":{"authzd":{"contract":9}}}`}, file{"policy.rego", "package authz"})
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: bad, AllowOlder: true}); codeOf(err) != string(bundles.Code(engine.CodeBundleContractUnsupported)) {
		t.Fatal(err)
	}
	before := s.engine.Snapshot()
	for name, c := range map[string]struct {
		change   registry.Change
		rollback bool
		want     bundles.Code
	}{
		"no such name":        {registry.Change{Name: "other", Revision: "a"}, false, bundles.CodeNotFound},
		"no such revision":    {registry.Change{Name: "main", Revision: "z"}, false, bundles.CodeNotFound},
		"nothing named":       {registry.Change{Name: "main"}, false, bundles.CodeNotFound},
		"another's digest":    {registry.Change{Name: "main", Revision: "a", Digest: store.Digest(bundle(t, "staged", 2))}, false, bundles.CodeNotFound},
		"rejected":            {registry.Change{Name: "main", Revision: "bad"}, false, bundles.CodeNotStaged},
		"rejected, back":      {registry.Change{Name: "main", Revision: "bad"}, true, bundles.CodeNotStaged},
		"never active, back":  {registry.Change{Name: "main", Revision: "staged"}, true, bundles.CodeNotStaged},
		"operator's":          {registry.Change{Name: "local", Revision: "local"}, false, bundles.CodeNameLocal},
		"no name":             {registry.Change{Revision: "a"}, false, bundles.CodeNameInvalid},
		"nothing before, one": {registry.Change{Name: "main"}, true, bundles.CodeNotFound},
	} {
		do := s.Activate
		if c.rollback {
			do = s.Rollback
		}
		if _, err := do(t.Context(), c.change); codeOf(err) != string(c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if s.engine.Snapshot() != before {
		t.Error("what is live was touched")
	}
}

// Bundles that need each other come one after the other: the first is active
// and waits, and nothing is allowed meanwhile.
func TestLibraryFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	lists := pack(t, true, file{".manifest", `{"revision":"lists-1","roots":["lists"]}`}, file{"lists/data.json", `{"ok":["x"]}`})
	got := s.push(t, registry.Push{Name: "lists", Archive: lists, Activate: true})
	if got.Bundle.State != store.StateActive || len(got.Report.Warnings) == 0 {
		t.Errorf("%+v", got)
	}
	s.wantLive(t, "fallback")
	main := pack(t, true, file{".manifest", `{"revision":"x","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true}}}`},
		file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name in data.lists.ok\n"})
	s.push(t, registry.Push{Archive: main, Activate: true})
	s.wantLive(t, "x")
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, dir, nil).load(t).wantLive(t, "x")
}

// What does not verify any more is not served after a restart, and nothing
// older in its place.
func TestRestartVerifiesAgain(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, dir, digest string, o *registry.Options){
		"key removed": func(_ *testing.T, _, _ string, o *registry.Options) {
			o.Verify = func(archive []byte) (bundles.Content, error) {
				c, err := verify(archive)
				if err == nil && c.Bundle.Revision == "b" {
					return bundles.Content{}, &bundles.Error{Code: "bundle.key_unknown"}
				}
				return c, err
			}
		},
		"tampered": func(t *testing.T, dir, digest string, _ *registry.Options) {
			t.Helper()
			harmFile(t, dir, digest, os.WriteFile(filepath.Join(dir, "archives", digest[7:]+".tar.gz"), bundle(t, "evil", 9), 0o600))
		},
		"gone": func(t *testing.T, dir, digest string, _ *registry.Options) {
			t.Helper()
			harmFile(t, dir, digest, os.Remove(filepath.Join(dir, "archives", digest[7:]+".tar.gz")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := start(t, dir, nil).load(t)
			s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true})
			b := s.push(t, registry.Push{Archive: bundle(t, "b", 2), Activate: true})
			if err := s.store.Close(); err != nil {
				t.Fatal(err)
			}
			s = start(t, dir, func(o *registry.Options) { harm(t, dir, b.Bundle.Digest, o) })
			if _, err := s.Load(t.Context(), nil); err == nil {
				t.Fatal("loaded")
			}
			if s.engine.Snapshot() != nil {
				t.Fatal("something is live")
			}
			lists := pack(t, true, file{".manifest", `{"revision":"l","roots":["lists"]}`}, file{"lists/data.json", `{"ok":["x"]}`})
			if name != "key removed" {
				s.push(t, registry.Push{Archive: bundle(t, "b", 2), AllowOlder: true, Activate: true})
				s.wantLive(t, "b")
				return
			}
			if _, err := s.Push(t.Context(), registry.Push{Name: "lists", Archive: lists, Activate: true}); codeOf(err) != string(bundles.CodeNotStaged) {
				t.Errorf("beside what can not be read: %v", err)
			}
			s.push(t, registry.Push{Archive: bundle(t, "c", 3), Activate: true})
			s.wantLive(t, "c")
		})
	}
}

func harmFile(t *testing.T, _, _ string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A name that the operator gives and that is active by a push is no set.
func TestLocalAndPushedName(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	if _, err := s.Load(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.push(t, registry.Push{Name: "local", Archive: pack(t, true, file{".manifest", `{"revision":"l","roots":["lists"]}`}, file{"lists/data.json", `{"ok":["x"]}`}), Activate: true})
	before := s.engine.Snapshot()
	if _, err := s.Load(t.Context(), []engine.Bundle{local(t)}); codeOf(err) != string(bundles.CodeNameLocal) || s.engine.Snapshot() != before {
		t.Error(err)
	}
	if !s.Pushed() {
		t.Error("nothing is pushed")
	}
}

// A reload that would leave nothing that decides is refused, as a push is.
func TestReloadKeepsWhatDecides(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	decides := content(t, "op", file{".manifest", `{"revision":"x","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true}}}`},
		file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"x\"\n"})
	if _, err := s.Load(t.Context(), []engine.Bundle{decides}); err != nil {
		t.Fatal(err)
	}
	s.wantLive(t, "x")
	var refused *engine.CompileError
	if _, err := s.Load(t.Context(), []engine.Bundle{local(t)}); !errors.As(err, &refused) {
		t.Error(err)
	}
	s.wantLive(t, "x")
	s.push(t, registry.Push{Name: "lists", Archive: pack(t, true, file{".manifest", `{"revision":"l","roots":["lists"]}`}, file{"lists/data.json", `{"ok":["x"]}`}), Activate: true})
	s.wantLive(t, "x")
	if n := len(s.engine.Snapshot().Bundles()); n != 2 {
		t.Errorf("%d bundles are live", n)
	}
}

// Pushes, activations and rollbacks at once: what is live is what is recorded.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "r0", 1), Activate: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 3 {
				revision := fmt.Sprintf("r%d-%d", i, j)
				if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: bundle(t, revision, 1), Activate: true}); err != nil && codeOf(err) != string(bundles.CodeNotStaged) {
					t.Error(err) // with so many at once, five others may have been staged since
				}
				if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil && codeOf(err) != string(bundles.CodeNotStaged) && codeOf(err) != string(bundles.CodeNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	active, err := s.store.Active(t.Context(), registry.DefaultTenant)
	if err != nil || len(active) != 1 {
		t.Fatal(active, err)
	}
	s.wantLive(t, active[0].Revision)
}

// Signed anew, a revision is two archives: a rollback goes to the one that has
// been active.
func TestRollbackToARevisionOfTwoArchives(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	first := s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "b", 2), Activate: true})
	again := pack(t, true, file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"a\"\n"},
		file{".manifest", `{"revision":"a","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":3}}}`})
	second := s.push(t, registry.Push{Archive: again})
	got, err := s.Rollback(t.Context(), registry.Change{Name: "main", Revision: "a"})
	if err != nil || got.Bundle.Digest != first.Bundle.Digest {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = s.Activate(t.Context(), registry.Change{Name: "main", Revision: "a"}); err != nil || got.Bundle.Digest != second.Bundle.Digest {
		t.Errorf("%+v, %v", got, err)
	}
}

// After a restart a rollback finds what it needs in memory.
func TestRollbackIsPrepared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "b", 2), Activate: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	verified := 0
	s = start(t, dir, func(o *registry.Options) {
		o.Verify = func(archive []byte) (bundles.Content, error) { verified++; return verify(archive) }
	}).load(t)
	s.Prepare(t.Context())
	if verified != 2 {
		t.Errorf("%d archives were verified, want that of b and that of a", verified)
	}
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil || verified != 2 {
		t.Errorf("%d verified, %v", verified, err)
	}
	s.wantLive(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := registry.New(registry.Options{}); err == nil {
		t.Error("nothing verifies, and it was taken")
	}
}

// A rollback finds what was active before in memory: nothing is verified or compiled.
func TestRollbackFromMemory(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "a", 1), Activate: true})
	s.push(t, registry.Push{Archive: bundle(t, "b", 2), Activate: true})
	before := s.Stats().Stages
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	after := s.Stats().Stages
	for _, stage := range registry.Stages() {
		if before[stage].Count != after[stage].Count {
			t.Errorf("the stage %s is gone through %d times", stage, after[stage].Count-before[stage].Count)
		}
	}
	s.wantLive(t, "a")
}

// A name too many is refused before the archive is looked at, and a known name
// is not.
func TestNamesFull(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("stores as many bundles as there may be")
	}
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "v1", 1), Activate: true})
	for i := range store.MaxNames - 1 {
		u, err := s.store.Write([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		b := store.Bundle{Tenant: registry.DefaultTenant, Name: fmt.Sprint("n", i)}
		e := store.Event{Tenant: b.Tenant, Name: b.Name, Digest: store.Digest([]byte("x")), What: "activate", To: store.StateActive}
		if err := errors.Join(s.store.Stage(t.Context(), u, b, nil), s.store.Activate(t.Context(), e, false)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Push(t.Context(), registry.Push{Name: "more", Archive: bundle(t, "v2", 2)}); codeOf(err) != string(bundles.CodeNamesFull) {
		t.Error(err)
	}
	s.push(t, registry.Push{Archive: bundle(t, "v2", 2)})
}

// With several bundles the rollback of each is ready, and the active policy
// still is; with one, no more is kept than that needs.
func TestRollbackOfEachIsPrepared(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil)
	if _, err := s.Load(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.push(t, registry.Push{Archive: bundle(t, fmt.Sprint("v", i), i), Activate: true})
	}
	if n := s.Compiled(); n != 3 {
		t.Errorf("%d snapshots of one bundle are kept", n)
	}
	for _, name := range []string{"a", "b", "c"} {
		for i := range 2 {
			s.push(t, registry.Push{Name: name, Activate: true, Archive: pack(t, true,
				file{".manifest", fmt.Sprintf(`{"revision":"%s%d","roots":[%q],"metadata":{"authzd":{"contract":1}}}`, name, i, name)},
				file{name + "/data.json", fmt.Sprintf(`{"n":%d}`, i)})})
		}
	}
	s.Prepare(t.Context())
	if n := s.Compiled(); n < 5 || n > 6 {
		t.Errorf("%d snapshots of four bundles are kept, want the active one and four to go back to", n)
	}
}
