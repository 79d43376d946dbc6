// Package proxy_test drives the built authzd proxy and wrap through what goes
// wrong in operation: a decision service that is killed, many people at once, and
// MCP servers that misbehave. It sees nothing else of the project.
package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// bin is the binary under test.
var bin string

func TestMain(m *testing.M) {
	if file := os.Getenv(stdioEnv); file != "" {
		os.Exit(serveStdio(file))
	}
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if testing.Short() {
		return m.Run() // every test skips itself
	}
	dir, err := os.MkdirTemp("", "authzd-proxy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.CommandContext(context.Background(), "go", "build", "-o", dir, "../../cmd/authzd")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build authzd:", err)
		return 1
	}
	bin = filepath.Join(dir, "authzd")
	return m.Run()
}

func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
}

// process is a running authzd.
type process struct {
	// Listen is the proxy's address, HTTP and GRPC are the service's.
	Listen, HTTP, GRPC, Resource string

	cmd *exec.Cmd
	log *logBuffer
}

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

// start runs authzd and waits for its ready line.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := tryStart(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryStart(t *testing.T, args ...string) (*process, error) {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), bin, args...), log: &logBuffer{}}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("no ready line: %w\n%s", err, p.log)
	}
	return p, json.Unmarshal(line, p)
}

// kill ends the process without a warning, as the kernel does.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// bundle writes a bundle and gives it as a flag wants it.
func bundle(t *testing.T, policy string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.rego"), policy)
	write(t, filepath.Join(dir, ".manifest"), `{"revision": "r1", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`)
	return "test=" + dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const allowAll = "package authz\n\npermit[\"all\"] := {}\n"

// get asks the proxy about itself.
func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Listen+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // it would count among the descriptors
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// usage is what the proxy holds.
type usage struct{ Goroutines, Descriptors, HeapMB, RSSMB float64 }

func (u usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MB heap, %.1f MB resident", u.Goroutines, u.Descriptors, u.HeapMB, u.RSSMB)
}

func (p *process) usage(t *testing.T) usage {
	t.Helper()
	_, text := p.get(t, "/metrics")
	value := func(name string) float64 {
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
		}
		t.Fatalf("no metric %s", name)
		return 0
	}
	return usage{value("go_goroutines"), value("process_open_fds"), value("go_memstats_heap_inuse_bytes") / 1e6, value("process_resident_memory_bytes") / 1e6}
}

// calm waits until the proxy holds no more goroutines and descriptors than
// before, but for a few of its own.
func (p *process) calm(t *testing.T, before usage, within time.Duration) usage {
	t.Helper()
	var now usage
	waitFor(t, within, func() error {
		now = p.usage(t)
		if now.Goroutines > before.Goroutines+4 || now.Descriptors > before.Descriptors+4 {
			return fmt.Errorf("the proxy holds %v, and held %v before", now, before)
		}
		return nil
	})
	return now
}

// sessions is how many the proxy remembers.
func (p *process) sessions(t *testing.T) int {
	t.Helper()
	code, text := p.get(t, "/readyz")
	var ready struct{ Sessions *int }
	if err := json.Unmarshal([]byte(text), &ready); err != nil || ready.Sessions == nil || code != http.StatusOK {
		t.Fatalf("readyz: %d %s %v", code, text, err)
	}
	return *ready.Sessions
}

// waitFor asks until there is no error.
func waitFor(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
}

// pause waits for other processes.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

var errStillUp = errors.New("it says that it is ready")
