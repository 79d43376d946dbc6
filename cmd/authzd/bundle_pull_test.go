package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBundlePull(t *testing.T) {
	p := newPushStand(t)
	_, stop := p.serve(t)
	defer stop()
	p.remote(t, 1, "bundle.not_found", "bundle", "pull", "main", "-f", p.path("got.tar.gz"))
	p.remote(t, 0, "", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	p.remote(t, 0, "", "bundle", "push", p.path("v2.tar.gz"), "--name", "main")
	p.remote(t, 0, "main v1 is in "+p.path("got.tar.gz"), "bundle", "pull", "main", "-f", p.path("got.tar.gz"))
	same := func(name string) {
		t.Helper()
		got, err := os.ReadFile(p.path("got.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(p.path(name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %s has %d, %v", len(got), name, len(want), err)
		}
	}
	same("v1.tar.gz")
	p.want(t, 0, "verified", "bundle", "verify", p.path("got.tar.gz"), "--key", p.path("k.pub.pem"))
	p.remote(t, 1, "is there already", "bundle", "pull", "main", "v2", "-f", p.path("got.tar.gz"))
	same("v1.tar.gz")
	p.remote(t, 0, `"revision":"v2"`, "bundle", "pull", "main", "v2", "-f", p.path("got.tar.gz"), "--force", "-o", "json")
	same("v2.tar.gz")
	p.remote(t, 1, "bundle.not_found", "bundle", "pull", "main", "v9", "-f", p.path("v9.tar.gz"))
	if _, err := os.Stat(p.path("v9.tar.gz")); err == nil {
		t.Error("a file of nothing")
	}
	p.remote(t, 0, "", "bundle", "pull", "main", "-f", "-")
	if want, err := os.ReadFile(p.path("v1.tar.gz")); err != nil || p.out != string(want) {
		t.Errorf("%d bytes on standard output, %v", len(p.out), err)
	}

	// What differs from what is pushed.
	want := "changed metadata /metadata/authzd/sequence\nchanged metadata /revision\nremoved permit authz.permit.v1\nadded   permit authz.permit.v2\n"
	for _, args := range [][]string{{"main@", "main@v2"}, {"main@", p.path("v2")}, {p.path("v1.tar.gz"), "main@v2"}} {
		if p.remote(t, 2, "", append([]string{"bundle", "diff"}, args...)...); p.out != want {
			t.Errorf("%s: %s", args, p.out)
		}
	}
	p.remote(t, 0, "", "bundle", "diff", "main@v1", "main@")
	p.remote(t, 1, "bundle.not_found", "bundle", "diff", "main@v1", "main@v9")
	p.remote(t, 1, "bundle.not_found", "bundle", "diff", "other@", "main@v1")
}

func TestBundleWatch(t *testing.T) {
	p := newPushStand(t)
	_, stop := p.serve(t)
	defer stop()
	p.remote(t, 0, "", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	watched := make(chan string, 1)
	q := *p
	go func() {
		q.authzd(t, "bundle", "watch", "main", "--once", "--timeout", "20s", "--addr", q.addr)
		watched <- q.out
	}()
	time.Sleep(300 * time.Millisecond) // the watch has begun, or begins with v2 active
	p.remote(t, 0, "", "bundle", "push", p.path("v2.tar.gz"), "--name", "main", "--activate", "--why", "go")
	p.remote(t, 0, "", "bundle", "rollback", "main")
	out := <-watched
	if !strings.HasPrefix(out, "main v1 is active\n") || !strings.Contains(out, "main v2: push, staged (go)\n") {
		t.Error(out)
	}
	p.remote(t, 1, "bundle.name_invalid", "bundle", "watch", "a/b", "--timeout", "5s")
}

func TestProgressText(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"sent 1.5 of 16.0 MiB":                         progressText(3<<19, 16<<20, 4*time.Second),
		"sent; the server verifies and tests it (12s)": progressText(100, 100, 12*time.Second),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
