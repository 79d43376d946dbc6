// Package process builds authzd and runs it, for tests that drive the binary from
// outside: it waits for the ready line, keeps the log, and reads from /metrics what
// the process holds.
package process

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Main builds authzd, puts its path into bin, runs the tests of a package two levels
// below the root, and returns the exit code. With -short nothing is built, and tests
// that need it skip themselves. Flags have been parsed.
func Main(m *testing.M, bin *string) int {
	if testing.Short() {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "authzd-test-")
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
	*bin = filepath.Join(dir, "authzd")
	return m.Run()
}

// Process is a running authzd.
type Process struct {
	Cmd *exec.Cmd
	// Ready is its ready line, Lines what it prints after that.
	Ready []byte
	Lines *bufio.Scanner
	// Log is its standard error.
	Log *Log
}

// Start runs a command line with further variables of the environment, and waits for
// the ready line. The caller stops the process; the end of ctx kills it.
func Start(ctx context.Context, bin string, env []string, args ...string) (*Process, error) {
	p := &Process{Cmd: exec.CommandContext(ctx, bin, args...), Log: &Log{}}
	p.Cmd.Env = append(os.Environ(), env...)
	p.Cmd.Stderr = p.Log
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %v: %w", args, err)
	}
	if err := p.Cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %v: %w", args, err)
	}
	p.Lines = bufio.NewScanner(out)
	if !p.Lines.Scan() {
		p.Kill()
		return nil, fmt.Errorf("no ready line of %v: %s\n%s", args, p.Cmd.ProcessState, p.Log)
	}
	p.Ready = bytes.Clone(p.Lines.Bytes())
	return p, nil
}

// Kill ends the process without a warning, unless it has ended.
func (p *Process) Kill() {
	if p.Cmd.ProcessState == nil {
		_ = p.Cmd.Process.Kill()
		_ = p.Cmd.Wait()
	}
}

// Log collects what a process writes.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Usage is what a process holds, and the processor time that it has used.
type Usage struct{ Goroutines, Descriptors, HeapMB, RSSMB, CPUSeconds float64 }

// String leaves the processor time out.
func (u Usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MB heap, %.1f MB resident", u.Goroutines, u.Descriptors, u.HeapMB, u.RSSMB)
}

// ReadUsage reads it from the text of /metrics.
func ReadUsage(metrics string) (Usage, error) {
	var u Usage
	for name, v := range map[string]*float64{
		"go_goroutines": &u.Goroutines, "process_open_fds": &u.Descriptors, "go_memstats_heap_inuse_bytes": &u.HeapMB,
		"process_resident_memory_bytes": &u.RSSMB, "process_cpu_seconds_total": &u.CPUSeconds,
	} {
		_, rest, ok := strings.Cut("\n"+metrics, "\n"+name+" ")
		line, _, _ := strings.Cut(rest, "\n")
		var err error
		if *v, err = strconv.ParseFloat(strings.TrimSpace(line), 64); !ok || err != nil {
			return u, fmt.Errorf("no metric %s: %q", name, line)
		}
	}
	u.HeapMB /= 1e6
	u.RSSMB /= 1e6
	return u, nil
}
