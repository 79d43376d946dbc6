package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authzd/authzd/store"
)

// pushStand is a folder with a key, signed bundles and a data directory.
type pushStand struct {
	dir  string
	addr string
	out  string
	err  string
}

func (p *pushStand) path(name string) string { return filepath.Join(p.dir, name) }

// authzd runs a command and keeps what it says.
func (p *pushStand) authzd(t *testing.T, args ...string) int {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, stdio{in: strings.NewReader(""), out: &out, err: &errs}, func(string) string { return "" })
	p.out, p.err = out.String(), errs.String()
	return code
}

func (p *pushStand) want(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	if got := p.authzd(t, args...); got != code || !strings.Contains(p.out+p.err, text) {
		t.Errorf("authzd %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, text, p.out, p.err)
	}
}

// remote is want for a command that asks the server.
func (p *pushStand) remote(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	p.want(t, code, text, append(args, "--addr", p.addr)...)
}

func newPushStand(t *testing.T) *pushStand {
	t.Helper()
	p := &pushStand{dir: t.TempDir()}
	p.want(t, 0, "", "bundle", "keygen", "-f", p.path("k.pem"))
	p.want(t, 0, "", "bundle", "keygen", "-f", p.path("other.pem"))
	p.bundle(t, "v1", 1, "k.pem", "")
	p.bundle(t, "v2", 2, "k.pem", "")
	p.bundle(t, "failing", 3, "k.pem", "package authz.policy_test\n\nimport data.authz\n\ntest_never if authz.permit.never\n")
	p.bundle(t, "foreign", 4, "other.pem", "")
	return p
}

func (p *pushStand) bundle(t *testing.T, revision string, sequence int, key, tests string) {
	t.Helper()
	files := map[string]string{
		".manifest":   fmt.Sprintf(`{"revision":%q,"roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":%d}}}`, revision, sequence),
		"policy.rego": fmt.Sprintf("package authz\n\npermit[%q] := {} if input.action.name == \"read\"\n", revision),
	}
	if tests != "" {
		files["policy_test.rego"] = tests
	}
	for name, text := range files {
		if err := os.MkdirAll(p.path(revision), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.path(revision), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.want(t, 0, "", "bundle", "build", p.path(revision), "-o", p.path(revision+".tar.gz"))
	p.want(t, 0, "", "bundle", "sign", p.path(revision+".tar.gz"), "--key", p.path(key))
}

// serve runs a server until stop, which returns its exit code. With ready it
// waits for the line that says so, and returns the revision in it.
func (p *pushStand) serve(t *testing.T, more ...string) (revision string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out, in := io.Pipe()
	log := &logBuffer{}
	done := make(chan int, 1)
	go func() {
		args := []string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir", p.path("data"), "--bundle-key", p.path("k.pub.pem")}
		args = append(args, more...)
		done <- run(ctx, args, stdio{in: strings.NewReader(""), out: in, err: log}, func(string) string { return "" })
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("no ready line: %s", log.String())
	}
	var ready struct{ GRPC, Revision string }
	if err := json.Unmarshal(lines.Bytes(), &ready); err != nil {
		t.Fatal(err)
	}
	p.addr = ready.GRPC
	return ready.Revision, func() int { cancel(); return <-done }
}

func TestBundlePush(t *testing.T) {
	p := newPushStand(t)
	revision, stop := p.serve(t)
	if revision != "default" {
		t.Errorf("without a bundle %q is live", revision)
	}
	p.remote(t, 0, "main v1 is staged", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--why", "first")
	p.remote(t, 0, "main v1 is active", "bundle", "activate", "main", "v1", "--why", "go")
	p.remote(t, 0, "main v1 is active, as before", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	p.remote(t, 0, `"state":"active"`, "bundle", "push", p.path("v2.tar.gz"), "--name", "main", "--activate", "--wait", "-o", "json")
	p.remote(t, 2, "policy_test.rego:5: bundle.test_failed: authz.policy_test.test_never", "bundle", "push", p.path("failing.tar.gz"), "--name", "main", "--activate")
	p.remote(t, 2, `"test":"authz.policy_test.test_never"`, "bundle", "push", p.path("failing.tar.gz"), "--name", "main", "-o", "json")
	p.remote(t, 2, "bundle.key_unknown", "bundle", "push", p.path("foreign.tar.gz"), "--name", "main")
	p.remote(t, 1, "bundle.not_found", "bundle", "activate", "main", "v9")
	p.remote(t, 1, "bundle.not_found", "bundle", "show", "other")
	p.remote(t, 1, "no such file", "bundle", "push", p.path("none.tar.gz"), "--name", "main")
	p.remote(t, 0, "main v1 is active", "bundle", "rollback", "main", "--why", "undo")
	p.remote(t, 0, "authz.policy_test.test_never", "bundle", "list")
	p.remote(t, 0, "rollback", "bundle", "show", "main")
	if !strings.Contains(p.out, "undo") || !strings.Contains(p.out, "first") {
		t.Errorf("show tells no reasons:\n%s", p.out)
	}
	p.want(t, 0, "backup.tar", "store", "backup", p.path("backup.tar"), "--data-dir", p.path("data"))
	p.want(t, 1, "exist", "store", "backup", p.path("backup.tar"), "--data-dir", p.path("data"))
	p.want(t, 1, "--data-dir", "store", "backup", p.path("backup2.tar"))
	if !testing.Short() { // it waits for the other one to end
		p.want(t, 1, string(store.CodeLocked), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir", p.path("data"), "--bundle-key", p.path("k.pub.pem"))
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	revision, stop = p.serve(t)
	if revision != "v1" {
		t.Errorf("after a restart %q is live", revision)
	}
	stop()
	p.want(t, 1, "bundle.name_local", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir", p.path("data"),
		"--bundle-key", p.path("k.pub.pem"), "--bundle", "main="+p.path("v2.tar.gz"))
	p.want(t, 1, "data-dir: pushed bundles need a signature", "serve", "--data-dir", p.path("data"))
}
