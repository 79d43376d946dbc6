// Package binary builds authzd once for the tests of a package, starts it, and
// asks it about itself.
package binary

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// Run builds authzd, unless only short tests run, tells where it is, and runs the
// tests of a package two folders below the repository. It returns the exit code.
func Run(m *testing.M, built func(path string)) int {
	if testing.Short() {
		return m.Run() // every test skips itself
	}
	dir, err := os.MkdirTemp("", "authzd-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "authzd")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../../cmd/authzd")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build authzd:", err)
		return 1
	}
	built(path)
	return m.Run()
}

// SkipIfShort skips a test that needs the binary where there is none.
func SkipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
}

// Log is what a process writes to its standard error.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Process is a running authzd, by its ready line.
type Process struct {
	// Listen is the address of a proxy, HTTP and GRPC are those of the service.
	Listen, HTTP, GRPC string
	// Resource is what a proxy protects, Revision the policy that a service has.
	Resource, Revision string

	Cmd *exec.Cmd `json:"-"`
	// Log is nil if cmd had a standard error of its own.
	Log *Log `json:"-"`
	// Lines reads standard output after the ready line.
	Lines *bufio.Scanner `json:"-"`
}

// Start runs cmd and waits for its ready line; the process ends with the test.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := TryStart(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TryStart is Start, and returns why there is no ready line.
func TryStart(t testing.TB, cmd *exec.Cmd) (*Process, error) {
	t.Helper()
	p := &Process{Cmd: cmd}
	if cmd.Stderr == nil {
		p.Log = &Log{}
		cmd.Stderr = p.Log
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(p.Kill)
	p.Lines = bufio.NewScanner(out)
	if !p.Lines.Scan() {
		p.Kill()
		return nil, fmt.Errorf("no ready line: %v\n%v", cmd.ProcessState, p.Log)
	}
	if err := json.Unmarshal(p.Lines.Bytes(), p); err != nil {
		return nil, fmt.Errorf("ready line %q: %w", p.Lines.Text(), err)
	}
	return p, nil
}

// Kill ends the process without a warning, as the kernel does.
func (p *Process) Kill() {
	if p.Cmd.ProcessState == nil {
		_ = p.Cmd.Process.Kill()
		_ = p.Cmd.Wait()
	}
}

// patience is how long a page may take.
const patience = 20 * time.Second

// Get asks for a page of the process.
func (p *Process) Get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	status, body, err := p.Ask(ctx, http.MethodGet, path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// Ask sends one request, a body of which is JSON, on a connection of its own. Key is the
// caller's; "" for none.
func (p *Process) Ask(ctx context.Context, method, path, key, body string) (status int, answer string, err error) {
	addr := p.Listen
	if addr == "" {
		addr = p.HTTP
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Close = true // it would count among the descriptors
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// Metric is the value of one line of /metrics, named with its labels; 0 if there is none.
func (p *Process) Metric(t testing.TB, name string) float64 {
	t.Helper()
	_, text := p.Get(t, "/metrics")
	v, err := ReadMetric(text, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ReadMetric is Metric of the text of /metrics.
func ReadMetric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, nil
}

// Usage is what a process holds, and the processor time that it has used.
type Usage struct{ Goroutines, Descriptors, HeapMB, RSSMB, CPUSeconds float64 }

// String leaves the processor time out.
func (u Usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MB heap, %.1f MB resident", u.Goroutines, u.Descriptors, u.HeapMB, u.RSSMB)
}

// spare is how many goroutines and descriptors more than at first a server may hold once
// its clients have gone: the connection that asks for them.
const spare = 4

// Leaks tells whether the process holds goroutines or descriptors that it did not hold
// before it was asked anything.
func (u Usage) Leaks(before Usage) bool {
	return u.Goroutines > before.Goroutines+spare || u.Descriptors > before.Descriptors+spare
}

// Usage asks the process what it holds.
func (p *Process) Usage(t testing.TB) Usage {
	t.Helper()
	_, text := p.Get(t, "/metrics")
	u, err := ReadUsage(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// ReadUsage reads it from the text of /metrics.
func ReadUsage(metrics string) (Usage, error) {
	var u Usage
	for name, v := range map[string]*float64{
		"go_goroutines": &u.Goroutines, "process_open_fds": &u.Descriptors, "go_memstats_heap_inuse_bytes": &u.HeapMB,
		"process_resident_memory_bytes": &u.RSSMB, "process_cpu_seconds_total": &u.CPUSeconds,
	} {
		var err error
		if *v, err = ReadMetric(metrics, name); err != nil {
			return u, fmt.Errorf("metric %s: %w", name, err)
		}
		if *v == 0 {
			return u, fmt.Errorf("no metric %s", name)
		}
	}
	u.HeapMB /= 1e6
	u.RSSMB /= 1e6
	return u, nil
}

// Calm waits until the process holds no more goroutines and descriptors than
// before, but for a few of its own.
func (p *Process) Calm(t testing.TB, before Usage, within time.Duration) Usage {
	t.Helper()
	var now Usage
	WaitFor(t, within, func() error {
		now = p.Usage(t)
		if now.Leaks(before) {
			return fmt.Errorf("it holds %v, and held %v before", now, before)
		}
		return nil
	})
	return now
}

// WaitFor asks until there is no error.
func WaitFor(t testing.TB, within time.Duration, ask func() error) {
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
		Pause(t.Context(), 20*time.Millisecond)
	}
}

// Pause waits for other processes.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
