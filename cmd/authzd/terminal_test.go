package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// What an unsigned archive calls its files does not move the cursor of whoever
// lists bundles, nor makes rows of its own.
func TestListIsCleanText(t *testing.T) {
	p := newPushStand(t)
	_, stop := p.serve(t)
	defer stop()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	err := tw.WriteHeader(&tar.Header{Name: "a\x1b[2J\nmain  v9  9  active  yes", Linkname: "x", Typeflag: tar.TypeSymlink, Format: tar.FormatGNU})
	if err := errors.Join(err, tw.Close(), zw.Close(), os.WriteFile(p.path("junk.tar.gz"), buf.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.authzd(t, "bundle", "push", p.path("junk.tar.gz"), "--name", "main", "--addr", p.addr)
	if strings.Contains(p.err, "\x1b") {
		t.Errorf("push prints %q", p.err)
	}
	p.authzd(t, "bundle", "list", "--addr", p.addr)
	if strings.Contains(p.out, "\x1b") || strings.Contains(p.out, "\nmain  v9  9  active") {
		t.Errorf("list prints %q", p.out)
	}
}

// A --bundle with the name of an active pushed one ends the start, also where
// that pushed one does not verify any more.
func TestNameClashOfABundleThatDoesNotVerify(t *testing.T) {
	p := newPushStand(t)
	_, stop := p.serve(t)
	p.remote(t, 0, "", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	stop()
	p.bundle(t, "local", 1, "other.pem", "")
	ctxDone := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log logBuffer
	code := 0
	go func() {
		defer close(ctxDone)
		args := []string{
			"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data-dir", p.path("data"),
			"--bundle-key", p.path("other.pub.pem"), "--bundle", "main=" + p.path("local.tar.gz"),
		}
		code = run(ctx, args, stdio{in: strings.NewReader(""), out: &log, err: &log}, func(string) string { return "" })
	}()
	select {
	case <-ctxDone:
		if code != 1 || !strings.Contains(log.String(), "bundle.name_local") {
			t.Errorf("exit code %d: %s", code, log.String())
		}
	case <-time.After(6 * time.Second):
		t.Error("the server starts, without a policy and with no way to mend it by a push:\n" + log.String())
		cancel()
		<-ctxDone
	}
}
