package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long a server may take until it decides.
const startTimeout = 30 * time.Second

// server is a process under test.
type server struct {
	cmd        *exec.Cmd
	http, grpc string
	stderr     *tail
	done       chan struct{}
}

// tuning are the beginnings of variables that tune a Go program or configure a
// server.
func tuning() []string { return []string{"GO", "AUTHZD_", "OPA_", "CERBOS_", "OPENFGA_"} }

// start runs a program pinned to the servers' core. The environment is the
// caller's, less what would change how a server runs.
func start(cpus cpuPlan, gogc string, argv ...string) (*server, *bufio.Reader, error) {
	name, args := cpus.server(argv)
	s := &server{cmd: exec.Command(name, args...), stderr: &tail{}, done: make(chan struct{})} //nolint:noctx // ended by stop, with a grace
	for _, kv := range os.Environ() {
		if !slices.ContainsFunc(tuning(), func(prefix string) bool { return strings.HasPrefix(kv, prefix) }) {
			s.cmd.Env = append(s.cmd.Env, kv)
		}
	}
	if gogc != "" {
		s.cmd.Env = append(s.cmd.Env, "GOGC="+gogc)
	}
	dieWithParent(s.cmd)
	s.cmd.Stderr = s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w (make build .bin/opa)", argv[0], err)
	}
	return s, bufio.NewReader(stdout), nil
}

// drain reads what the server prints until it ends, then reaps it.
func (s *server) drain(r io.Reader) {
	go func() {
		_, _ = io.Copy(io.Discard, r)
		_ = s.cmd.Wait()
		close(s.done)
	}()
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// usage is the processor time used so far, and resident memory in MB.
func (s *server) usage() (time.Duration, float64) { return processUsage(s.cmd.Process.Pid) }

// peak is the most resident memory so far, in MB.
func (s *server) peak() float64 { return peakMemory(s.cmd.Process.Pid) }

// startAuthzd serves the bundle and waits for the ready line.
func startAuthzd(ctx context.Context, bin string, cpus cpuPlan, bundle, gogc, evaluator string) (*server, error) {
	return startReady(ctx, cpus, gogc, filepath.Join(bin, "authzd"), "serve",
		"--evaluator", evaluator, "--bundle", "bench="+bundle, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
}

// startReady starts a program that prints a ready line and waits for that.
func startReady(ctx context.Context, cpus cpuPlan, gogc string, argv ...string) (*server, error) {
	s, stdout, err := start(cpus, gogc, argv...)
	if err != nil {
		return nil, err
	}
	line := make(chan []byte, 1)
	go func() {
		text, _ := stdout.ReadBytes('\n')
		line <- text
		s.drain(stdout)
	}()
	var ready struct {
		Event  string `json:"event"`
		HTTP   string `json:"http"`
		GRPC   string `json:"grpc"`
		Listen string `json:"listen"`
	}
	select {
	case text := <-line:
		err = json.Unmarshal(text, &ready)
	case <-time.After(startTimeout):
		err = errors.New("not ready in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil || ready.Event != "ready" {
		_ = s.cmd.Process.Kill()
		<-s.done
		return nil, fmt.Errorf("start %s: %w: %s", filepath.Base(argv[0]), errors.Join(err, errors.New("no ready line")), s.stderr)
	}
	s.http, s.grpc = ready.HTTP, ready.GRPC
	if ready.Listen != "" {
		s.http = ready.Listen
	}
	return s, nil
}

// startOPA serves policy and data, as shipped but for the log level.
func startOPA(ctx context.Context, bin string, cpus cpuPlan, dir, gogc string) (*server, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s, stdout, err := start(cpus, gogc, filepath.Join(bin, "opa"), "run", "--server", "--addr", addr,
		"--log-level", "error", "--disable-telemetry", filepath.Join(dir, "policy.rego"), filepath.Join(dir, "data.json"))
	if err != nil {
		return nil, err
	}
	s.drain(stdout)
	s.http = addr
	if err := s.waitHealthy(ctx, "/health"); err != nil {
		s.stop()
		return nil, fmt.Errorf("start opa: %w: %s", err, s.stderr)
	}
	return s, nil
}

// freeAddress finds a free port: OPA does not say which one it took for 0.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return addr, nil
}

func (s *server) waitHealthy(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+path, http.NoBody)
		if err != nil {
			return fmt.Errorf("ask for health: %w", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.New("not ready in time")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail keeps the first part of what a server writes to stderr.
type tail struct{ text bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	if room := most - t.text.Len(); room > 0 {
		t.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tail) String() string { return t.text.String() }
