package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	url := "http://" + s.HTTP + "/v1/bundles/main?activate=true"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(k.archives[revision]))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("push %s: %s %s", revision, resp.Status, text)
	}
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

// A stock OPA follows an authzd, verifies what it gets, and hears of an
// activation by its long poll.
func TestStockOPAFollows(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	opa := opaBinary(t)
	k := newKillable(t)
	s := k.source(t, "data")
	k.pushTo(t, s, "r0")
	public, err := os.ReadFile(filepath.Join(k.dir, "good.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	id := k.keyID(t)
	config, err := json.Marshal(map[string]any{
		"services": map[string]any{"authzd": map[string]any{"url": "http://" + s.HTTP}},
		"keys":     map[string]any{id: map[string]any{"algorithm": "ES256", "key": string(public)}},
		"bundles": map[string]any{"main": map[string]any{
			"service": "authzd", "resource": "bundles/main.tar.gz", "signing": map[string]any{"keyid": id},
			"polling": map[string]any{"long_polling_timeout_seconds": 30},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(k.dir, "opa.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, log := freePort(t), &logBuffer{}
	run := exec.CommandContext(t.Context(), opa, "run", "--server", "--addr", addr, "--config-file", file, "--log-level", "debug", "--disable-telemetry")
	run.Stderr, run.Stdout = log, log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Process.Kill(); _ = run.Wait() }()
	decides := func(revision string) func() bool {
		return func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/v1/data/authz/permit", strings.NewReader(`{"input":{"action":{"name":"read"}}}`))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			text, _ := io.ReadAll(resp.Body)
			return strings.Contains(string(text), fmt.Sprintf("%q:{}", revision))
		}
	}
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	within(t, 20*time.Second, "OPA has r0", decides("r0"))
	time.Sleep(300 * time.Millisecond) // it waits
	k.pushTo(t, s, "r1")
	within(t, 2*time.Second, "OPA has r1", decides("r1"))
}
