package follow_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/follow"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer makes archives that verify.
type signer struct {
	key  bundles.SigningKey
	keys bundles.Keys
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, _, public, err := bundles.NewSigningKey(bundles.KeyEd25519)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{key: key}
	if err := s.keys.Add("", public); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) bundle(t *testing.T, revision string, sequence int) []byte {
	t.Helper()
	return s.sign(t,
		[2]string{".manifest", fmt.Sprintf(`{"revision":%q,"roots":["authz"],"metadata":{"authzd":{"contract":1,"sequence":%d}}}`, revision, sequence)},
		[2]string{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"read\"\n"})
}

func (s *signer) sign(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var packed, out bytes.Buffer
	zw := gzip.NewWriter(&packed)
	tw := tar.NewWriter(zw)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Name: f[0], Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	if err := bundles.SignArchive(&out, &packed, s.key, bundles.SignOptions{}, bundles.Limits{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// stand is a source that answers as told, and a follower of it.
type stand struct {
	*follow.Followers
	engine   *engine.Engine
	registry *registry.Registry
	asked    atomic.Int64
	// dir has its data; stop ends it.
	dir  string
	stop func()

	mu     sync.Mutex
	answer http.HandlerFunc
	now    time.Time
}

func (s *stand) set(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// pass lets time pass for ages.
func (s *stand) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *stand) revision() string {
	if live := s.engine.Snapshot(); live != nil {
		return live.Policy().Revision
	}
	return ""
}

func serveArchive(archive []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+store.Digest(archive)+`"`)
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(archive)
	}
}

func start(t *testing.T, keys *bundles.Keys, answer http.HandlerFunc, change func(*follow.Options)) *stand {
	t.Helper()
	return startIn(t, t.TempDir(), keys, answer, change)
}

// startIn is start on a data directory, which may be that of one that was stopped.
func startIn(t *testing.T, dir string, keys *bundles.Keys, answer http.HandlerFunc, change func(*follow.Options)) *stand {
	t.Helper()
	s := &stand{engine: engine.New(engine.Options{}), answer: answer, now: time.Now(), dir: dir}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(web.Close)
	var closeStore func()
	s.registry, closeStore = newRegistry(t, dir, keys, s.engine)
	var err error
	o := follow.Options{
		Registry: s.registry, Sources: []follow.Source{{Name: "main", URL: web.URL}}, Interval: 20 * time.Millisecond,
		Now: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
	}
	if change != nil {
		change(&o)
	}
	if s.Followers, err = follow.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		closeStore()
	})
	t.Cleanup(s.stop)
	return s
}

// newRegistry is a registry on a data directory, with what is active there.
func newRegistry(t *testing.T, dir string, keys *bundles.Keys, e *engine.Engine) (r *registry.Registry, closeStore func()) {
	t.Helper()
	kept, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeStore = func() { _ = kept.Close() }
	t.Cleanup(closeStore)
	r, err = registry.New(registry.Options{
		Store: kept, Engine: e,
		Verify: func(archive []byte) (bundles.Content, error) {
			c, _, err := bundles.OpenSignedArchive(bytes.NewReader(archive), *keys, bundles.VerifyOptions{}, bundles.Limits{})
			return c, err
		},
		Ask: func(*engine.Snapshot) bundles.Ask {
			return func(context.Context, []byte, time.Time) (bundles.Answer, error) { return bundles.Answer{}, nil }
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	active, err := kept.Active(t.Context(), registry.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	if len(active) > 0 {
		if _, err := r.Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return r, closeStore
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute { // a machine that is busy elsewhere is no fault
			t.Fatal("never: " + what)
		}
	}
}

func codeOf(err error) bundles.Code {
	var coded *bundles.Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	return ""
}

func TestFollow(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	s := start(t, &k.keys, http.NotFound, func(o *follow.Options) { o.MaxAge = time.Minute })
	within(t, "asked", func() bool { return s.Status()[0].Failed > 0 })
	if got := codeOf(s.Fresh()); got != bundles.CodeNotReceived {
		t.Errorf("before the first: %s", got)
	}
	s.set(serveArchive(k.bundle(t, "v1", 1)))
	within(t, "v1", func() bool { return s.revision() == "v1" && s.Status()[0].Confirmed > 1 })
	if err := s.Fresh(); err != nil {
		t.Error(err)
	}
	s.set(serveArchive(k.bundle(t, "v2", 2)))
	within(t, "v2", func() bool { return s.revision() == "v2" })

	s.set(http.NotFound)
	failed := s.Status()[0].Failed
	within(t, "away", func() bool { return s.Status()[0].Failed > failed })
	s.pass(59 * time.Second)
	if err := s.Fresh(); err != nil {
		t.Error(err)
	}
	s.pass(2 * time.Second)
	if got := codeOf(s.Fresh()); got != bundles.CodeOutdated {
		t.Errorf("after the age: %s", got)
	}
	if got := s.Status()[0].Age; got != 61*time.Second {
		t.Errorf("age %v", got)
	}
	s.set(serveArchive(k.bundle(t, "v2", 2)))
	within(t, "fresh again", func() bool { return s.Fresh() == nil })
}

// What a source sends that is not to be taken changes nothing, is recorded
// once, and does not count as contact.
func TestFollowRefuses(t *testing.T) {
	t.Parallel()
	k, stranger := newSigner(t), newSigner(t)
	for name, c := range map[string]struct {
		archive []byte
		code    string
	}{
		"another's signature": {stranger.bundle(t, "bad", 9), "bundle.key_unknown"},
		"no archive":          {[]byte("<html>"), "bundle.unreadable"},
		"a lower sequence":    {k.bundle(t, "old", 1), "bundle.stale_revision"},
	} {
		for etag, serve := range map[string]http.HandlerFunc{
			"with tag":    serveArchive(c.archive),
			"without tag": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.archive) },
		} {
			t.Run(name+" "+etag, func(t *testing.T) {
				t.Parallel()
				s := start(t, &k.keys, serveArchive(k.bundle(t, "good", 5)), func(o *follow.Options) { o.MaxAge = time.Minute })
				within(t, "good", func() bool { return s.revision() == "good" })
				s.set(serve)
				within(t, "refused", func() bool { return s.Status()[0].Refused == 1 })
				s.pass(2 * time.Minute)
				before := s.asked.Load()
				within(t, "asked again", func() bool { return s.asked.Load() > before+3 })
				if got := s.Status()[0]; got.Refused != 1 || s.revision() != "good" || codeOf(s.Fresh()) != bundles.CodeOutdated {
					t.Errorf("%+v, %s decides, %v", got, s.revision(), s.Fresh())
				}
				_, events, err := s.registry.Show(t.Context(), "main")
				if err != nil {
					t.Fatal(err)
				}
				rejected := 0
				for _, e := range events {
					if r := registry.ParseReport(e.Report); r != nil && string(r.Code) == c.code && strings.HasPrefix(e.Who, "follow 127.0.0.1:") {
						rejected++
					}
				}
				if rejected != 1 {
					t.Errorf("%d records of %s", rejected, c.code)
				}
				s.set(serveArchive(k.bundle(t, "better", 6)))
				within(t, "better", func() bool { return s.revision() == "better" && s.Fresh() == nil })
			})
		}
	}
}

func TestFollowAllowOlder(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	s := start(t, &k.keys, serveArchive(k.bundle(t, "v2", 2)), func(o *follow.Options) { o.AllowOlder = true })
	within(t, "v2", func() bool { return s.revision() == "v2" })
	s.set(serveArchive(k.bundle(t, "v1", 1)))
	within(t, "v1", func() bool { return s.revision() == "v1" })
}

// None of these answers is one.
func TestFollowFails(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for name, answer := range map[string]http.HandlerFunc{
		"redirect":             func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
		"empty":                func(http.ResponseWriter, *http.Request) {},
		"not modified unasked": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"partial":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, bundles.DefaultMaxArchiveBytes+1))
		},
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, &k.keys, answer, nil)
			within(t, "failed", func() bool { return s.Status()[0].Failed > 1 })
			if got := s.Status()[0]; got.Confirmed != 0 || got.Refused != 0 || got.Age != follow.Never || codeOf(s.Fresh()) != bundles.CodeNotReceived {
				t.Errorf("%+v, %v", got, s.Fresh())
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		t.Parallel()
		s := start(t, &k.keys, serveArchive(nil), func(o *follow.Options) { o.Sources[0].TokenFile = filepath.Join(t.TempDir(), "absent") })
		within(t, "failed", func() bool { return s.Status()[0].Failed > 1 })
		if s.asked.Load() != 0 {
			t.Error("asks without its token")
		}
	})
	t.Cleanup(func() {
		if elsewhere.Load() != 0 {
			t.Error("a redirect was followed")
		}
	})
}

// A source that says it keeps requests, and does not, is not asked in a loop.
func TestFollowHoldsBack(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	archive := k.bundle(t, "v1", 1)
	s := start(t, &k.keys, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		serveArchive(archive)(w, r)
	}, nil)
	within(t, "v1", func() bool { return s.revision() == "v1" })
	time.Sleep(1200 * time.Millisecond)
	if n := s.asked.Load(); n > 6 {
		t.Errorf("asked %d times", n)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"": "is not https", "example.com": "is not https", "ftp://example.com": "is not https", "https://": "is not https",
		"http://example.com": "must be https", "http://10.0.0.1": "must be https", "http://localhost.example.com": "must be https",
		"https://u:p@example.com": "user", "https://example.com/#a": "fragment",
	} {
		if _, err := follow.ParseURL(follow.Source{Name: "main", URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := follow.ParseURL(follow.Source{Name: "../x", URL: "https://example.com"}); err == nil {
		t.Error("a name that is none")
	}
	for url, want := range map[string]string{
		"https://example.com": "https://example.com/bundles/main.tar.gz", "http://[::1]:8181/": "http://[::1]:8181/bundles/main.tar.gz",
		"http://localhost/a/b.tgz?x=1": "http://localhost/a/b.tgz?x=1",
	} {
		if got, err := follow.ParseURL(follow.Source{Name: "main", URL: url}); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", url, got, err)
		}
	}
	if _, err := follow.New(follow.Options{}); err == nil {
		t.Error("no registry")
	}
	var none *follow.Followers
	if err := errors.Join(none.Fresh(), none.Run(t.Context())); err != nil || !slices.Equal(none.Status(), nil) {
		t.Errorf("nothing to follow: %v", err)
	}
}

// A tag that is another archive's digest would keep that one away for good.
func TestFollowLyingTag(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	v1, v2 := k.bundle(t, "v1", 1), k.bundle(t, "v2", 2)
	s := start(t, &k.keys, serveArchive(v1), nil)
	within(t, "v1", func() bool { return s.revision() == "v1" })
	confirmed := s.Status()[0].Confirmed
	s.set(func(w http.ResponseWriter, _ *http.Request) { // v1 as if it were v2
		w.Header().Set("ETag", `"`+store.Digest(v2)+`"`)
		_, _ = w.Write(v1)
	})
	failed := s.Status()[0].Failed
	within(t, "failed", func() bool { return s.Status()[0].Failed > failed })
	if got := s.Status()[0].Confirmed; got > confirmed+1 {
		t.Errorf("%d confirmations by a tag that lies", got-confirmed)
	}
	s.set(serveArchive(v2))
	within(t, "v2", func() bool { return s.revision() == "v2" })
}

// What is refused because another bundle is missing is taken once that is there.
func TestFollowNeedsAnother(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	main := k.sign(t, [2]string{".manifest", `{"revision":"m1","roots":["authz"],"metadata":{"authzd":{"contract":1}}}`},
		[2]string{"policy.rego", "package authz\n\nimport data.lib\n\npermit[\"x\"] := {} if lib.ok(input.action.name)\n"})
	lib := k.sign(t, [2]string{".manifest", `{"revision":"l1","roots":["lib"],"metadata":{"authzd":{"contract":1}}}`},
		[2]string{"lib.rego", "package lib\n\nok(name) if name == \"read\"\n"})
	var there atomic.Bool
	s := start(t, &k.keys, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/main":
			serveArchive(main)(w, r)
		case there.Load():
			serveArchive(lib)(w, r)
		default:
			http.NotFound(w, r)
		}
	}, func(o *follow.Options) {
		url := o.Sources[0].URL
		o.Sources = []follow.Source{{Name: "main", URL: url + "/main"}, {Name: "lib", URL: url + "/lib"}}
	})
	within(t, "refused", func() bool { return s.Status()[0].Refused > 0 })
	there.Store(true)
	within(t, "both", func() bool { return s.Fresh() == nil && s.revision() != "" })
}

// Two servers that differ behind one address do not make a follower go to and fro
// as fast as it can.
func TestFollowFlapping(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	both := [][]byte{k.bundle(t, "a", 0), k.bundle(t, "b", 0)}
	var n atomic.Int64
	s := start(t, &k.keys, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		serveArchive(both[n.Add(1)%2])(w, r)
	}, func(o *follow.Options) { o.Interval = time.Hour })
	within(t, "one", func() bool { return s.revision() != "" })
	time.Sleep(4 * time.Second)
	_, events, err := s.registry.Show(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	activations := 0
	for _, e := range events {
		if e.To == store.StateActive {
			activations++
		}
	}
	if activations > 6 {
		t.Errorf("%d activations", activations)
	}
}

// A contact that the clock says is to come was none, and the time that an archive
// takes to be tested does not make it fresher.
func TestFollowAges(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	archive := k.bundle(t, "v1", 1)
	release, head := make(chan struct{}), make(chan struct{}, 1)
	s := start(t, &k.keys, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"`+store.Digest(archive)+`"`)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case head <- struct{}{}:
		default:
		}
		<-release
		_, _ = w.Write(archive)
	}, func(o *follow.Options) { o.MaxAge = time.Minute })
	<-head
	time.Sleep(time.Second) // it has come
	s.pass(50 * time.Second)
	s.set(http.NotFound)
	close(release)
	within(t, "v1", func() bool { return s.Status()[0].Confirmed > 0 })
	if got := s.Status()[0].Age; got != 50*time.Second {
		t.Errorf("age %v after 50 s of download", got)
	}
	s.pass(11 * time.Second)
	if got := codeOf(s.Fresh()); got != bundles.CodeOutdated {
		t.Errorf("%v", s.Fresh())
	}
	s.pass(-9 * time.Hour)
	if got := s.Status()[0].Age; got != follow.Never || codeOf(s.Fresh()) != bundles.CodeOutdated {
		t.Errorf("age %v with the clock set back, %v", got, s.Fresh())
	}
}

// What somebody activates here is told, and is not what the source has.
func TestFollowOverridden(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	s := start(t, &k.keys, serveArchive(k.bundle(t, "v1", 1)), nil)
	within(t, "v1", func() bool { return s.Status()[0].Confirmed > 0 })
	s.set(serveArchive(k.bundle(t, "v2", 2)))
	within(t, "v2", func() bool { return s.revision() == "v2" && s.Status()[0].Confirmed > 1 })
	within(t, "not overridden", func() bool { return !s.Status()[0].Overridden })
	if _, err := s.registry.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if got := s.Status()[0]; !got.Overridden || s.revision() != "v1" {
		t.Errorf("%+v", got)
	}
	if _, err := s.registry.Activate(t.Context(), registry.Change{Name: "main", Revision: "v2"}); err != nil {
		t.Fatal(err)
	}
	if s.Status()[0].Overridden {
		t.Error("it is the source's again")
	}
}

// A tag that the source does not take back is not sent for ever.
func TestFollowRefusedTag(t *testing.T) {
	t.Parallel()
	k := newSigner(t)
	picky := func(revision string, sequence int, tag string) http.HandlerFunc {
		archive := k.bundle(t, revision, sequence)
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
				return
			}
			w.Header().Set("ETag", tag)
			_, _ = w.Write(archive)
		}
	}
	s := start(t, &k.keys, picky("v1", 1, `"`+strings.Repeat("x", 300)+`"`), nil)
	within(t, "v1", func() bool { return s.revision() == "v1" })
	s.set(picky("v2", 2, `"short"`))
	within(t, "v2", func() bool { return s.revision() == "v2" })
	s.set(picky("v3", 3, `"short"`))
	within(t, "v3", func() bool { return s.revision() == "v3" })
}

// TestFollowChanges: a follower that begins answers nothing before it has the changes that
// its source has, however many steps these are.
func TestFollowChanges(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	whole := s.sign(t,
		[2]string{".manifest", `{"revision":"r1","roots":["authz","facts"],"metadata":{"authzd":{"contract":1,"sequence":1}}}`},
		[2]string{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"read\"\n"})
	base := store.Digest(whole)
	const steps = 6
	tag := func(n int) string {
		if n == 0 {
			return `"` + base + `"`
		}
		return fmt.Sprintf(`"%s.%d"`, base, n)
	}
	archives := [][]byte{whole}
	for n := 1; n <= steps; n++ {
		archives = append(archives, s.sign(t,
			[2]string{".manifest", fmt.Sprintf(`{"revision":"d","roots":["authz","facts"],"metadata":{"authzd":{"base":%q,"sequence":%d}}}`, base, n+1)},
			[2]string{"patch.json", fmt.Sprintf(`{"data":[{"op":"upsert","path":"/facts/n","value":%d}]}`, n)}))
	}
	var f *stand
	ready := make(chan struct{})
	serve := func(w http.ResponseWriter, r *http.Request) {
		<-ready
		next := 0
		for n := range steps {
			if r.Header.Get("If-None-Match") == tag(n) {
				next = n + 1
			}
		}
		if r.Header.Get("If-None-Match") == tag(steps) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if codeOf(f.Fresh()) != bundles.CodeNotReceived {
			t.Errorf("before step %d: %v", next, f.Fresh())
		}
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		w.Header().Set("ETag", tag(next))
		if next < steps {
			w.Header().Set("X-Latest", tag(steps))
		}
		_, _ = w.Write(archives[next])
	}
	f = start(t, &s.keys, serve, func(o *follow.Options) { o.Interval = time.Hour })
	close(ready)
	within(t, "all of it", func() bool { return f.revision() == fmt.Sprintf("r1#%d", steps) && f.Fresh() == nil })
}
