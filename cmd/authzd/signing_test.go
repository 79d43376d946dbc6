package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
)

func TestSigningSettings(t *testing.T) {
	t.Parallel()
	loopback, elsewhere := "127.0.0.1:1", "192.0.2.1:1"
	for _, tt := range []struct {
		name    string
		s       signing
		refs    []string
		address string
		want    string
	}{
		{"unsigned on loopback", signing{}, []string{"a=b"}, loopback, ""},
		{"unsigned elsewhere", signing{}, []string{"a=b"}, elsewhere, "must be signed"},
		{"unsigned elsewhere by a name", signing{}, []string{"a=b"}, "authzd.internal:1", "must be signed"},
		{"the built-in policy elsewhere", signing{}, nil, elsewhere, ""},
		{"signed elsewhere", signing{BundleKeys: []string{"k"}}, []string{"a=b"}, elsewhere, ""},
		{"unsigned elsewhere, by order", signing{UnsignedOffLoopback: true}, []string{"a=b"}, elsewhere, ""},
		{"signed and unsigned", signing{UnsignedOffLoopback: true, BundleKeys: []string{"k"}}, []string{"a=b"}, elsewhere, "either signed or not"},
		{"a scope without keys", signing{BundleScope: "x"}, []string{"a=b"}, loopback, "bundle-scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.s.validate(tt.refs, loopback, tt.address)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSplitKeyFile(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"k.pem": {"", "k.pem"}, "a=k.pem": {"a", "k.pem"}, "./a=k.pem": {"", "./a=k.pem"}, "/x/a=b": {"", "/x/a=b"}, "=k.pem": {"", "=k.pem"}, "a=b=c": {"a", "b=c"},
	} {
		if id, file := splitKeyFile(in); id != want[0] || file != want[1] {
			t.Errorf("%s: %q, %q", in, id, file)
		}
	}
}

// TestEnforcersVerifyBundles asks serve, proxy and wrap for unsigned bundles.
func TestEnforcersVerifyBundles(t *testing.T) {
	t.Parallel()
	_, public, _ := keyPair(t, bundles.KeyES256)
	dir := bundle(t, map[string]string{"policy.rego": readPolicy})
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"serve":           {[]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "b=" + dir, "--bundle-key", public}, "bundle.signature_missing"},
		"serve elsewhere": {[]string{"serve", "--http", "127.0.0.1:0", "--grpc", "192.0.2.1:0", "--bundle", "b=" + dir}, "must be signed"},
		"proxy":           {[]string{"proxy", "--upstream", "http://127.0.0.1:1/mcp", "--listen", "127.0.0.1:0", "--subject", "a", "--resource", "https://mcp.example.com/mcp", "--bundle", "b=" + dir, "--bundle-key", public}, "bundle.signature_missing"},
		"proxy elsewhere": {[]string{"proxy", "--upstream", "http://127.0.0.1:1/mcp", "--listen", "192.0.2.1:0", "--bundle", "b=" + dir}, "must be signed"},
		"wrap":            {[]string{"wrap", "--subject", "a", "--bundle", "b=" + dir, "--bundle-key", public, "--", "true"}, "bundle.signature_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, _, stderr := command(t, "", tt.args...); code != 1 || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, %s", code, stderr)
			}
		})
	}
}

// TestKeysAreRotated reads the files of keys again with the bundles.
func TestKeysAreRotated(t *testing.T) {
	t.Parallel()
	oldPrivate, oldPublic, _ := keyPair(t, bundles.KeyES256)
	nextPrivate, nextPublic, _ := keyPair(t, bundles.KeyEd25519)
	dir := bundle(t, map[string]string{"policy.rego": readPolicy})
	archive := signedArchive(t, dir, oldPrivate)
	keys := filepath.Join(t.TempDir(), "keys.pem")
	trust := func(files ...string) {
		t.Helper()
		var text []byte
		for _, name := range files {
			one, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, one...)
		}
		if err := os.WriteFile(keys, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(oldPublic)
	var log logBuffer
	p := policySource{
		refs: []bundleRef{{Name: "b", Path: archive}}, signing: signing{BundleKeys: []string{keys}},
		engine: engine.New(engine.Options{}), log: slog.New(slog.NewJSONHandler(&log, nil)),
	}
	if err := p.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".manifest"), []byte(`{"revision": "r2", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(signedArchive(t, dir, nextPrivate))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.reload(t.Context())
	if got := p.engine.Snapshot().Policy().Revision; got != "r1" || !strings.Contains(log.String(), "bundle.key_unknown") {
		t.Fatalf("revision %q is live before its key is trusted: %s", got, log.String())
	}
	trust(oldPublic, nextPublic)
	p.reload(t.Context())
	if got := p.engine.Snapshot().Policy().Revision; got != "r2" {
		t.Fatalf("revision %q is live: %s", got, log.String())
	}
}

func TestWatchedFolder(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"policy.rego": readPolicy, "a/data.json": "{}", ".git/x": "x"})
	key := filepath.Join(t.TempDir(), "key.pem")
	w := newWatched([]string{dir, key})
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	still := func(what string) {
		t.Helper()
		for range 3 {
			if w.changed() {
				t.Fatalf("%s: told of a change", what)
			}
		}
	}
	// settled is told once, at the first look at which nothing moved.
	settled := func(what string) {
		t.Helper()
		if w.changed() {
			t.Fatalf("%s: told before it held still", what)
		}
		if !w.changed() {
			t.Fatalf("%s: not told", what)
		}
		still(what)
	}
	still("nothing")
	write(filepath.Join(dir, ".git/x"), "other")
	still("a hidden folder")
	for name, text := range map[string]string{"policy.rego": readPolicy + "\n", "b.rego": "package b\n", "a/data.json": `{"x": 1}`, ".manifest": "{}"} {
		write(filepath.Join(dir, name), text)
		settled(name)
	}
	if err := os.Remove(filepath.Join(dir, "b.rego")); err != nil {
		t.Fatal(err)
	}
	settled("removal")
	write(key, "key")
	settled("a key that was absent")
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	settled("a folder that is gone")
	if err := os.Rename(dir+".old", dir); err != nil {
		t.Fatal(err)
	}
	settled("a folder that is back")
	for i := range maxSettle {
		write(filepath.Join(dir, "policy.rego"), readPolicy+strings.Repeat("\n", i+2))
		if w.changed() {
			t.Fatalf("told at look %d, while it moved", i)
		}
	}
	write(filepath.Join(dir, "policy.rego"), readPolicy)
	if !w.changed() {
		t.Error("what never holds still is never loaded")
	}
}

// TestWatchedLinks swaps a folder as Kubernetes does with a ConfigMap.
func TestWatchedLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, rev := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, rev), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, rev, "policy.rego"), []byte(readPolicy), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "..next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("..1")
	if err := os.Symlink("..data/policy.rego", filepath.Join(dir, "policy.rego")); err != nil {
		t.Fatal(err)
	}
	w := newWatched([]string{dir})
	link("..2")
	if w.changed() || !w.changed() {
		t.Error("a swapped link was not told")
	}
}

// TestWatchLoadsAndKeeps runs the loop with a clock of its own.
func TestWatchLoadsAndKeeps(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"policy.rego": readPolicy})
	var log logBuffer
	counts := make(chan bool, 8)
	p := policySource{
		refs: []bundleRef{{Name: "b", Path: dir}}, engine: engine.New(engine.Options{}), log: slog.New(slog.NewJSONHandler(&log, nil)),
		counted: func(files string, loaded bool) {
			if files == "bundles" {
				counts <- loaded
			}
		},
	}
	p.watched = newWatched(p.files())
	if err := p.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := p.engine.Snapshot()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.reloadOn(ctx, nil); close(done) }()
	next := func() bool {
		t.Helper()
		select {
		case loaded := <-counts:
			return loaded
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was loaded")
			return false
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("policy.rego", "package authz\n\npermit[\"x\"] := {} if nothing.here\n")
	if next() || p.engine.Snapshot() != first || !strings.Contains(log.String(), "the old policy stays") {
		t.Errorf("policy that does not compile: %s", log.String())
	}
	write("policy.rego", readPolicy)
	write(".manifest", `{"revision": "r2", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`)
	// A slow machine may have looked between the two.
	for range 5 {
		if next() && p.engine.Snapshot().Policy().Revision == "r2" {
			break
		}
	}
	stop()
	<-done
	if got := p.engine.Snapshot().Policy().Revision; got != "r2" {
		t.Errorf("revision %q is live", got)
	}
}
