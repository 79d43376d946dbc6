package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// readyWithin bounds how long a program may take until it serves.
const readyWithin = 30 * time.Second

// program is a child that says on stdout, in one line of JSON, where it listens.
type program struct {
	http, grpc string
	cancel     context.CancelFunc
	ended      chan struct{}
}

// launch starts cmd and waits for its ready line. The program ends with ctx or
// by stop: it is asked to, and killed if it does not.
func launch(ctx context.Context, log io.Writer, env []string, name string, args ...string) (*program, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // a binary that the demo has just built
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &program{cancel: cancel, ended: make(chan struct{})}
	line := make(chan []byte, 1)
	go func() {
		defer close(p.ended)
		r := bufio.NewReader(stdout)
		first, _ := r.ReadBytes('\n')
		line <- first
		_, _ = io.Copy(io.Discard, r)
		_ = cmd.Wait()
	}()
	var ready struct{ Event, HTTP, GRPC string }
	select {
	case text := <-line:
		if err := json.Unmarshal(text, &ready); err != nil || ready.Event != "ready" {
			p.stop()
			return nil, fmt.Errorf("%s did not get ready: %q", name, text)
		}
	case <-time.After(readyWithin):
		p.stop()
		return nil, fmt.Errorf("%s did not get ready in %v", name, readyWithin)
	}
	p.http, p.grpc = ready.HTTP, ready.GRPC
	return p, nil
}

// stop ends the program and returns when it has ended.
func (p *program) stop() {
	if p == nil {
		return
	}
	p.cancel()
	<-p.ended
}

// logTail keeps the end of what the programs log, to show when a step fails.
type logTail struct {
	mu   sync.Mutex
	text bytes.Buffer
	also io.Writer
}

const maxTail = 8 << 10

// Write keeps b, and copies it if the demo is verbose.
func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if extra := l.text.Len() - maxTail; extra > 0 {
		l.text.Next(extra)
	}
	if l.also == nil {
		return len(b), nil
	}
	n, err := l.also.Write(b)
	return n, errors.Join(err)
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
