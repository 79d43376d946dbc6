package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/authzd/authzd/engine"
)

// logBuffer is written to by the server and read by the test.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestServe(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	var log logBuffer
	done := make(chan int, 1)
	go func() {
		args := []string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "payments=" + paymentsBundle}
		done <- run(ctx, args, stdio{in: strings.NewReader(""), out: in, err: &log}, func(string) string { return "" })
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("no ready line: %s", log.String())
	}
	var ready struct{ Event, HTTP, GRPC, Revision string }
	if err := json.Unmarshal(lines.Bytes(), &ready); err != nil || ready.Event != "ready" || ready.Revision != "payments-1" {
		t.Fatalf("ready line %q: %v", lines.Text(), err)
	}
	for query, want := range map[string]string{denyQuery: "DENY", allowQuery: "ALLOW"} {
		if got := postCheck(t, ready.HTTP, queryFile(t, query)); got != want {
			t.Errorf("%s over REST: %s", query, got)
		}
		code, answer, stderr := command(t, "", "check", "-f", query, "--addr", ready.GRPC)
		if got := document(t, answer)["decision"]; got != want || (code == 0) != (want == "ALLOW") {
			t.Errorf("%s over gRPC: code %d, %v, %s", query, code, got, stderr)
		}
		code, answer, stderr = command(t, "", "check", "-f", query, "--addr", ready.GRPC, "--explain", "-o", "text")
		if (code == 0) != (want == "ALLOW") || !strings.HasPrefix(answer, want+"\n") || !strings.Contains(answer, "  permit initiate-payment holds") {
			t.Errorf("%s explained over gRPC: code %d, %s, %s", query, code, answer, stderr)
		}
	}
	code, answer, _ := command(t, `{"mcp":{"method":"tools/call","params":{"name":7}}}`, "check", "-f", "-", "--addr", ready.GRPC)
	if code != 1 || !strings.Contains(answer, `"path":"/mcp/params/name"`) {
		t.Errorf("a malformed query over gRPC: code %d, %s", code, answer)
	}
	stop()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d: %s", code, log.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server did not stop")
	}
	if lines.Scan() {
		t.Errorf("standard output holds more than the ready line: %q", lines.Text())
	}
	for line := range strings.Lines(log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q is no JSON", line)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func postCheck(t *testing.T, addr, query string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/v1/check", strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	decision, _ := document(t, string(body))["decision"].(string)
	return decision
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	broken := bundle(t, map[string]string{"policy.rego": "package authz\n\npermit[\"x\"] := {} if nothing.here\n\nforbid[\"y\"] := {} if nothing.there\n"})
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"every interface", []string{"--http", ":0"}, []string{"every interface"}},
		{"another interface", []string{"--http", "0.0.0.0:0"}, []string{"api.not_loopback"}},
		{"gRPC elsewhere", []string{"--http", "127.0.0.1:0", "--grpc", "192.0.2.1:0"}, []string{"api.not_loopback"}},
		{"policy", []string{"--http", "127.0.0.1:0", "--bundle", "b=" + broken}, []string{
			broken + "/policy.rego:3:22: engine.policy_compile: ", broken + "/policy.rego:5:22: engine.policy_compile: ",
		}},
		{"one of two bundles", []string{"--bundle", "a=" + broken, "--bundle", "c=/absent"}, []string{"bundle c (/absent): /absent: bundle.unreadable"}},
		{"two entry points", []string{"--bundle", "a=" + paymentsBundle, "--bundle", "c=" + paymentsBundle}, []string{"bundle.roots_conflict"}},
		{"another interface with keys alone", []string{"--http", "0.0.0.0:0", "--keys-file", keysFile(t)}, []string{"api.not_loopback", "--tls-cert"}},
		{"absent keys", []string{"--http", "127.0.0.1:0", "--keys-file", "/absent.json"}, []string{"/absent.json"}},
		{"absent certificate", []string{"--http", "127.0.0.1:0", "--tls-cert", "/absent.crt", "--tls-key", "/absent.key"}, []string{"/absent.crt"}},
		{"configuration", []string{"--config", "/absent"}, []string{"/absent"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, "", append([]string{"serve", "--grpc", "127.0.0.1:0"}, tt.args...)...)
			if code != 1 || out != "" {
				t.Errorf("code %d, stdout %q", code, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is not in %s", want, stderr)
				}
			}
		})
	}
}

func TestReloadKeepsTheOldPolicyOnFailure(t *testing.T) {
	t.Parallel()
	dir := bundle(t, map[string]string{"policy.rego": readPolicy})
	var log logBuffer
	p := policySource{
		refs: []bundleRef{{Name: "b", Path: dir}}, engine: engine.New(engine.Options{}), log: slog.New(slog.NewJSONHandler(&log, nil)),
	}
	if err := p.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := p.engine.Snapshot()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	hangups, done := make(chan os.Signal), make(chan struct{})
	go func() { p.reloadOn(ctx, hangups); close(done) }()
	hangup := func() {
		hangups <- os.Interrupt
		hangups <- os.Interrupt // received only when the load before has ended
	}
	write("policy.rego", "package authz\n\npermit[\"x\"] := {} if nothing.here\n")
	hangup()
	if p.engine.Snapshot() != first {
		t.Error("policy that does not compile replaced the old one")
	}
	if !strings.Contains(log.String(), "the old policy stays") || !strings.Contains(log.String(), "policy.rego:3:22") {
		t.Errorf("log %s", log.String())
	}
	write("policy.rego", readPolicy)
	write(".manifest", `{"revision": "r2", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`)
	hangup()
	stop()
	<-done
	if got := p.engine.Snapshot().Policy().Revision; got != "r2" {
		t.Errorf("revision %q is live", got)
	}
}
