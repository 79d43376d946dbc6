package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// opaBinary is stock OPA as make builds it, or built now.
func opaBinary(t *testing.T) string {
	t.Helper()
	made := filepath.Join(repository(t), ".bin", "opa")
	if _, err := os.Stat(made); err == nil {
		return made
	}
	made = filepath.Join(t.TempDir(), "opa")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools.mod", "-o", made, "github.com/open-policy-agent/opa")
	build.Dir = repository(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build opa: %v: %s", err, out)
	}
	return made
}

// within waits until ok, and fails after the time given.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// pushTo pushes a signed archive over REST and activates it.
func (k *killable) pushTo(t *testing.T, s *server, revision string) {
	t.Helper()
	send(t, s, "?activate=true&drop_changes=true", k.archives[revision])
}

// send sends something to a bundle, or to its data.
func send(t *testing.T, s *server, path string, body []byte) {
	t.Helper()
	s.must(t, http.MethodPut, "/v1/bundles/main"+path, string(body))
}

// delta makes a signed delta bundle for a revision, which sets a member of lists.
func (k *killable) delta(t *testing.T, name, revision string, sequence int, value string) {
	t.Helper()
	k.sign(t, name, "good.pem", map[string]string{
		".manifest": fmt.Sprintf(`{"revision":%q,"roots":["authz","lists"],"metadata":{"authzd":{"base":"sha256:%x","sequence":%d}}}`,
			name, sha256.Sum256(k.archives[revision]), sequence),
		"patch.json": fmt.Sprintf(`{"data":[{"op":"upsert","path":"/lists/signed","value":%q}]}`, value),
	})
}

// later builds r9, a release after all delta bundles.
func (k *killable) later(t *testing.T) {
	t.Helper()
	k.sequence = 9
	k.build(t, "r9", "good.pem", `{"pad":""}`)
}

// source starts a server that takes bundles, with its data in a folder of k.
func (k *killable) source(t *testing.T, data string, more ...string) *server {
	t.Helper()
	return start(t, nil, append([]string{"--data-dir", filepath.Join(k.dir, data), "--bundle-key", filepath.Join(k.dir, "good.pub.pem")}, more...)...)
}

// keyID is what signatures call the key of good.pem.
func (k *killable) keyID(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), "bundle", "verify", "r0.tar.gz", "--key", "good.pub.pem", "-o", "json")
	cmd.Dir = k.dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Key string `json:"key_id"`
	}
	if err := json.Unmarshal(out, &said); err != nil || said.Key == "" {
		t.Fatalf("%s: %v", out, err)
	}
	return said.Key
}

// stockOPA is a running OPA.
type stockOPA struct{ addr string }

// startOPA starts one that follows an authzd, and verifies what it gets or not.
func (k *killable) startOPA(t *testing.T, s *server, verifies bool) *stockOPA {
	t.Helper()
	public, err := os.ReadFile(filepath.Join(k.dir, "good.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	id := k.keyID(t)
	bundle := map[string]any{
		"service": "authzd", "resource": "bundles/main.tar.gz",
		"polling": map[string]any{"long_polling_timeout_seconds": 30, "min_delay_seconds": 1, "max_delay_seconds": 2},
	}
	if verifies {
		bundle["signing"] = map[string]any{"keyid": id}
	}
	config, err := json.Marshal(map[string]any{
		"services": map[string]any{"authzd": map[string]any{"url": "http://" + s.HTTP}},
		"keys":     map[string]any{id: map[string]any{"algorithm": "ES256", "key": string(public)}},
		"bundles":  map[string]any{"main": bundle},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "opa.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	o, log := &stockOPA{addr: freePort(t)}, &logBuffer{}
	run := exec.CommandContext(t.Context(), opaBinary(t), "run", "--server", "--addr", o.addr, "--config-file", file, "--log-level", "error", "--disable-telemetry")
	run.Stderr, run.Stdout = log, log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return o
}

// has tells whether a document of OPA's holds a text.
func (o *stockOPA) has(t *testing.T, path, text string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+o.addr+"/v1/data/"+path, strings.NewReader(`{"input":{"action":{"name":"read"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	got, _ := io.ReadAll(resp.Body)
	return strings.Contains(string(got), text)
}

func (o *stockOPA) decides(t *testing.T, revision string) {
	t.Helper()
	within(t, patience, "OPA has "+revision, func() bool { return o.has(t, "authz/permit", fmt.Sprintf("%q:{}", revision)) })
}

// A stock OPA follows an authzd, verifies what it gets, and hears of an
// activation by its long poll. Of OPA, signatures and delta bundles do not go
// together: one that verifies keeps the data as it was released.
func TestStockOPAFollows(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	s := k.source(t, "data")
	k.pushTo(t, s, "r0")
	o := k.startOPA(t, s, true)
	o.decides(t, "r0")
	time.Sleep(300 * time.Millisecond) // it waits
	k.pushTo(t, s, "r1")
	o.decides(t, "r1")
	send(t, s, "/data/lists/a", []byte(`"changed"`))
	time.Sleep(time.Second)
	o.decides(t, "r1")
	if o.has(t, "lists/a", "changed") {
		t.Error("OPA has data that nobody has signed")
	}
	k.pushTo(t, s, "r2")
	o.decides(t, "r2")
}

// A stock OPA that verifies nothing has each change of data, signed or not, as a delta
// bundle, until there is another archive.
func TestStockOPAFollowsData(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	s := k.source(t, "data")
	k.pushTo(t, s, "r0")
	send(t, s, "/data/lists/before", []byte(`"before"`))
	o := k.startOPA(t, s, false)
	has := func(path, text string) {
		t.Helper()
		within(t, patience, "OPA has the change "+text, func() bool { return o.has(t, path, fmt.Sprintf("%q", text)) })
	}
	has("lists/before", "before")
	for i, value := range []string{"one", "two"} {
		k.delta(t, value, "r0", i+2, value)
		k.pushTo(t, s, value)
		has("lists/signed", value)
		send(t, s, "/data/lists/unsigned", fmt.Appendf(nil, "%q", value))
		has("lists/unsigned", value)
	}
	o.decides(t, "r0")
	has("lists/pad", strings.Repeat("x", 100_000)) // the rest is as it was
	k.later(t)
	k.pushTo(t, s, "r9")
	o.decides(t, "r9")
	for _, path := range []string{"lists/before", "lists/signed", "lists/unsigned"} {
		if o.has(t, path, "result") {
			t.Errorf("OPA has %s of another archive", path)
		}
	}
}

// revisionOf is what decides on a server, or the code of why nothing does.
func revisionOf(t *testing.T, s *server) string {
	t.Helper()
	a := s.check(t, `{"subject":{"type":"identity","id":"a"},"action":{"name":"read"},"resource":{"type":"page","id":"p"}}`)
	if a.Status != http.StatusOK {
		return a.Code
	}
	return a.Policy.Revision
}

// A follower has what its source has within two seconds, decides while the
// source is away, starts from its own disk, and hears of what is new once the
// source is back.
func TestFollow(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	addr := freePort(t)
	s := k.source(t, "source", "--http", addr)
	k.pushTo(t, s, "r0")
	f := k.source(t, "follower", "--follow", "main=http://"+addr)
	if f.Revision != "r0" {
		t.Fatalf("ready with %q", f.Revision)
	}
	k.pushTo(t, s, "r1")
	within(t, patience, "r1 is here", func() bool { return revisionOf(t, f) == "r1" })

	s.Kill()
	time.Sleep(3 * time.Second)
	if got := revisionOf(t, f); got != "r1" {
		t.Fatalf("without its source the follower decides by %s", got)
	}
	if code := f.stop(t, os.Interrupt); code != 0 {
		t.Fatalf("exit code %d: %s", code, f.Log)
	}
	f = k.source(t, "follower", "--follow", "main=http://"+addr)
	if f.Revision != "r1" {
		t.Fatalf("started from its disk with %q", f.Revision)
	}
	if _, body := f.Get(t, "/readyz"); !strings.Contains(body, `"follow":[{"bundle":"main","age_seconds":null}]`) {
		t.Errorf("/readyz %s", body)
	}
	if _, body := f.Get(t, "/metrics"); !strings.Contains(body, `authzd_follow_age_seconds{bundle="main"} +Inf`) {
		t.Errorf("/metrics lacks the age: %s", body)
	}
	time.Sleep(3 * time.Second) // its delay has grown

	s = k.source(t, "source", "--http", addr)
	k.pushTo(t, s, "r2")
	within(t, patience, "r2 is here", func() bool { return revisionOf(t, f) == "r2" })
	if _, body := f.Get(t, "/readyz"); !regexp.MustCompile(`"follow":\[\{"bundle":"main","age_seconds":[0-9.]+\}\]`).MatchString(body) {
		t.Errorf("/readyz %s", body)
	}
	if _, body := f.Get(t, "/v1/bundles/main"); !strings.Contains(body, `"who":"follow `+addr+`"`) {
		t.Errorf("not recorded: %s", body)
	}

	// A source that has been taken over can not make policy.
	evilSource := start(t, nil, "--http", "127.0.0.1:0", "--data-dir", filepath.Join(k.dir, "evil-source"), "--bundle-key", filepath.Join(k.dir, "evil.pub.pem"))
	k.pushTo(t, evilSource, evil)
	if code := f.stop(t, os.Interrupt); code != 0 {
		t.Fatalf("exit code %d: %s", code, f.Log)
	}
	f = k.source(t, "follower", "--follow", "main=http://"+evilSource.HTTP)
	within(t, 5*time.Second, "the bundle is refused", func() bool {
		_, body := f.Get(t, "/metrics")
		return strings.Contains(body, `authzd_follows_total{bundle="main",outcome="refused"} 1`)
	})
	if got := revisionOf(t, f); got != "r2" {
		t.Errorf("decides by %s", got)
	}
}

// A follower has each change of its source's data, signed or not, as it is made, also
// over a restart.
func TestFollowData(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	addr := freePort(t)
	s := k.source(t, "source", "--http", addr)
	k.pushTo(t, s, "r0")
	send(t, s, "/data/lists/a", []byte(`1`))
	f := k.source(t, "follower", "--follow", "main=http://"+addr)
	same := func(revision string) {
		t.Helper()
		within(t, patience, revision+" is here", func() bool { return revisionOf(t, f) == revision })
		for _, path := range []string{"a", "b", "signed"} {
			_, want := s.Get(t, "/v1/bundles/main/data/lists/"+path)
			if _, got := f.Get(t, "/v1/bundles/main/data/lists/"+path); got != want && !strings.Contains(want, "bundle.data_not_found") {
				t.Errorf("%s at %s: %s, not %s", path, revision, got, want)
			}
		}
	}
	same("r0#1")
	send(t, s, "/data/lists/b", []byte(`{"n": 1.50}`))
	same("r0#2")
	k.delta(t, "signed", "r0", 2, "s")
	k.pushTo(t, s, "signed")
	same("r0#3")
	if code := f.stop(t, os.Interrupt); code != 0 {
		t.Fatalf("exit code %d: %s", code, f.Log)
	}
	send(t, s, "/data/lists/a", []byte(`2`))
	send(t, s, "/data/lists/b", []byte(`3`))
	f = k.source(t, "follower", "--follow", "main=http://"+addr)
	same("r0#5")
	if code, body := f.Get(t, "/readyz"); code != http.StatusOK || !strings.Contains(body, `"follow":[{"bundle":"main","age_seconds":`) {
		t.Errorf("/readyz %d %s", code, body)
	}
	send(t, s, "/data/lists/a", []byte(`4`))
	same("r0#6")
	k.later(t)
	k.pushTo(t, s, "r9")
	same("r9")
}

// A follower that must not be older than some seconds stops deciding, and goes
// on once its source is back.
func TestFollowMaxAge(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	addr := freePort(t)
	s := k.source(t, "source", "--http", addr)
	k.pushTo(t, s, "r0")
	f := k.source(t, "follower", "--follow", "main=http://"+addr, "--max-bundle-age", "5s")
	time.Sleep(6 * time.Second)
	if got := revisionOf(t, f); got != "r0" {
		t.Fatalf("with a source that answers: %s", got)
	}
	s.Kill()
	within(t, 7*time.Second, "bundle.outdated", func() bool { return revisionOf(t, f) == "bundle.outdated" })
	if code, body := f.Get(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "bundle.outdated") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	k.source(t, "source", "--http", addr)
	within(t, 3*time.Second, "r0 again", func() bool { return revisionOf(t, f) == "r0" })
}

// An authzd follows a server of files that knows nothing of it: an archive of
// opa build, with an ETag, and a token that is asked for.
func TestFollowsStockServer(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	opa := opaBinary(t)
	k := newKillable(t)
	build := func(revision string) {
		cmd := exec.CommandContext(t.Context(), opa, "build", "--bundle", revision, "--output", "served.tmp", "--signing-key", "good.pem", "--signing-alg", "ES256")
		cmd.Dir = k.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("opa build: %v: %s", err, out)
		}
		if err := os.Rename(filepath.Join(k.dir, "served.tmp"), filepath.Join(k.dir, "served.tar.gz")); err != nil {
			t.Fatal(err)
		}
	}
	build("r0")
	var same atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/policies/main.tgz" || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		data, err := os.ReadFile(filepath.Join(k.dir, "served.tar.gz"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("ETag", fmt.Sprintf("\"%x\"", sha256.Sum256(data)))
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			same.Add(1)
		}
		http.ServeContent(w, r, "main.tar.gz", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(web.Close)
	token := filepath.Join(k.dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, nil, "--data-dir", filepath.Join(k.dir, "data"), "--bundle-key", "default="+filepath.Join(k.dir, "good.pub.pem"),
		"--follow", "main="+web.URL+"/policies/main.tgz", "--follow-token-file", "main="+token, "--follow-interval", "200ms")
	if f.Revision != "r0" {
		t.Fatalf("ready with %q", f.Revision)
	}
	within(t, patience, "not modified", func() bool { return same.Load() > 2 })
	build("r1")
	within(t, patience, "r1 is here", func() bool { return revisionOf(t, f) == "r1" })
}

const (
	replicas = 20
	// sourceAway is how long the replicas are without their source; a longer
	// time is told by the environment variable of this name.
	sourceAway    = 3 * time.Second
	sourceAwayVar = "SOURCE_AWAY"
	// patience is for machines that are busy with other tests.
	patience = 30 * time.Second
)

// Many replicas follow one source: an activation reaches all of them, within two
// seconds where nothing else runs, all go on without it, and all hear of what is new once it is back.
func TestReplicas(t *testing.T) {
	skipIfShort(t) // and not beside other tests: the time counts
	away, limit := sourceAway, patience
	if text := os.Getenv(sourceAwayVar); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		limit = 2 * time.Second // make replica-test, on a machine of its own
	}
	k := newKillable(t)
	addr := freePort(t)
	s := k.source(t, "source", "--http", addr)
	k.pushTo(t, s, "r0")
	var all []*server
	for i := range replicas {
		all = append(all, k.source(t, fmt.Sprintf("replica-%d", i), "--follow", "main=http://"+addr))
	}
	reach := func(revision string) {
		t.Helper()
		k.pushTo(t, s, revision)
		began := time.Now()
		for _, f := range all {
			within(t, limit-time.Since(began), revision+" on every replica", func() bool { return revisionOf(t, f) == revision })
		}
		t.Logf("%s was on %d replicas after %v", revision, replicas, time.Since(began))
	}
	time.Sleep(time.Second) // they wait
	reach("r1")
	// A question that needs the next revision waits for it.
	asked := make(chan answer, 1)
	go func() {
		asked <- all[0].check(t, `{"subject":{"type":"identity","id":"a"},"action":{"name":"read"},"resource":{"type":"page","id":"p"},"require_revision":{"bundle":"main","revision":"r2"}}`)
	}()
	time.Sleep(200 * time.Millisecond)
	reach("r2")
	if a := <-asked; a.Status != http.StatusOK || a.Policy.Revision != "r2" {
		t.Errorf("a question that requires r2: %+v", a)
	}
	s.Kill()
	for began := time.Now(); time.Since(began) < away; time.Sleep(500 * time.Millisecond) {
		for i, f := range all {
			if got := revisionOf(t, f); got != "r2" {
				t.Fatalf("replica %d decides by %s without its source", i, got)
			}
		}
	}
	s = k.source(t, "source", "--http", addr)
	reach("r3")
}

// A source that knows its callers is followed by a certificate or by a key, by
// TLS only, and by nobody else.
func TestFollowKnownCallers(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	certificates(t, k.dir)
	at := func(name string) string { return filepath.Join(k.dir, name) }
	if err := os.WriteFile(at("callers.yaml"), []byte("gateway: {rights: [audit]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyOf := func(name, rights string) string {
		code, key, stderr := authzd(t, nil, "keys", "create", name, "--rights", rights, "--keys-file", at("keys.json"))
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(key)
	}
	releaser := keyOf("releaser", "push,activate")
	for name, key := range map[string]string{"good.token": keyOf("replica", "audit"), "powerless.token": keyOf("powerless", "check")} {
		if err := os.WriteFile(at(name), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := k.source(t, "source", "--tls-cert", at("server.crt"), "--tls-key", at("server.key"), "--tls-client-ca", at("ca.crt"),
		"--callers", at("callers.yaml"), "--keys-file", at("keys.json"))
	push := func(revision string) {
		t.Helper()
		code, _, stderr := authzd(t, []string{"KEY=" + releaser}, "bundle", "push", at(revision+".tar.gz"), "--name", "main", "--activate",
			"--addr", s.GRPC, "--tls-ca", at("ca.crt"), "--key-env", "KEY")
		if code != 0 {
			t.Fatal(stderr)
		}
	}
	push("r0")
	source := "main=https://" + s.HTTP
	trust := []string{"--follow", source, "--follow-ca", at("ca.crt")}
	byCert := k.source(t, "by-cert", append(trust, "--follow-cert", at("client.crt"), "--follow-key", at("client.key"))...)
	byKey := k.source(t, "by-key", append(trust, "--follow-token-file", "main="+at("good.token"))...)
	push("r1")
	for _, f := range []*server{byCert, byKey} {
		within(t, patience, "r1 is here", func() bool { return revisionOf(t, f) == "r1" })
	}
	if code := byKey.stop(t, os.Interrupt); code != 0 {
		t.Fatalf("exit code %d: %s", code, byKey.Log)
	}
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"nothing":             {trust, "401"},
		"key without a right": {append(trust, "--follow-token-file", "main="+at("powerless.token")), "403"},
		"authority unknown":   {[]string{"--follow", source, "--follow-token-file", "main=" + at("good.token")}, "certificate"},
		"in the clear":        {[]string{"--follow", "main=http://" + s.HTTP, "--follow-token-file", "main=" + at("good.token")}, "400"},
	} {
		f := k.source(t, "by-key", c.flags...)
		within(t, 10*time.Second, name+": the log has "+c.want, func() bool { return strings.Contains(f.Log.String(), c.want) })
		if _, body := f.Get(t, "/readyz"); !strings.Contains(body, `"age_seconds":null`) || revisionOf(t, f) != "r1" {
			t.Errorf("%s: /readyz %s", name, body)
		}
		if code := f.stop(t, os.Interrupt); code != 0 {
			t.Fatalf("%s: exit code %d: %s", name, code, f.Log)
		}
	}
}
