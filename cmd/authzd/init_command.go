package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// stopGrace is how long a server may take to end once its input is closed, and
// again once it was told to.
const stopGrace = 2 * time.Second

// commandSource is an MCP server that is started for its tools, and stopped.
type commandSource []string

func (c commandSource) open(_ context.Context, std stdio) (mcp.Transport, func() error, error) {
	cmd := exec.Command(c[0], c[1:]...) //nolint:gosec,noctx // the operator names the command; stop ends it, and what it started
	cmd.Stderr = std.err
	// What the server started itself may keep its standard error open.
	cmd.WaitDelay = stopGrace
	ownGroup(cmd)
	// Not cmd's own pipe: Wait would close that while the session still reads.
	out, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start %q: %w", c[0], err)
	}
	cmd.Stdout = w
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = w.Close()
	if err != nil {
		_ = out.Close()
		return nil, nil, fmt.Errorf("start %q: %w", c[0], err)
	}
	p := &serverProcess{cmd: cmd, in: in, out: out, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in the ProcessState
	}()
	var left byteBudget
	left.n.Store(maxInitBytes)
	return &mcp.IOTransport{
		Reader: &budgeted{ReadCloser: serverOutput{p}, left: &left},
		Writer: serverInput{p}, MaxLineLength: maxInitBytes,
	}, p.stop, nil
}

// serverProcess is a server that was started.
type serverProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	done chan struct{} // closed when it has ended
	// closing: its input was closed, so that it should end. gone: its output had
	// ended before.
	closing, gone atomic.Bool
}

// serverOutput notices when the server goes away by itself.
type serverOutput struct{ *serverProcess }

// Read is io.Reader's.
func (s serverOutput) Read(b []byte) (int, error) {
	n, err := s.out.Read(b)
	if errors.Is(err, io.EOF) && !s.closing.Load() {
		s.gone.Store(true)
	}
	return n, err
}

// Close is io.Closer's.
func (s serverOutput) Close() error { return s.out.Close() }

// serverInput is where the server reads.
type serverInput struct{ *serverProcess }

// Write is io.Writer's.
func (s serverInput) Write(b []byte) (int, error) { return s.in.Write(b) }

// Close is io.Closer's.
func (s serverInput) Close() error {
	s.closing.Store(true)
	return s.in.Close()
}

// stop ends the server: by closing its input, which is how MCP ends a session,
// then by a signal, then by force. It returns an error if the server had gone
// away before.
func (p *serverProcess) stop() error {
	p.closing.Store(true)
	_ = p.in.Close()
	if !p.waits(stopGrace) {
		terminateGroup(p.cmd)
		if !p.waits(stopGrace) {
			killGroup(p.cmd)
			<-p.done
		}
	}
	killGroup(p.cmd) // what it left behind
	_ = p.out.Close()
	if p.gone.Load() {
		return errors.New("the server ended by itself: " + p.cmd.ProcessState.String())
	}
	return nil
}

func (p *serverProcess) waits(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// splitCommand splits a command line as a shell would, as far as quotes and
// backslashes go. What a shell would do more is refused, not taken literally.
func splitCommand(line string) ([]string, error) {
	var s splitter
	for _, r := range line {
		if err := s.next(r); err != nil {
			return nil, err
		}
	}
	if s.quote != 0 || s.escaped {
		return nil, errors.New("a quote or a backslash at the end of the command is left open")
	}
	s.end()
	if len(s.words) == 0 || s.words[0] == "" {
		return nil, errors.New("the command is empty")
	}
	return s.words, nil
}

type splitter struct {
	words   []string
	word    strings.Builder
	open    bool // a word has begun, if only by a quote
	quote   rune
	escaped bool
}

func (s *splitter) next(r rune) error {
	switch {
	case s.escaped:
		s.unescape(r)
	case r == '\\' && s.quote != '\'':
		s.escaped, s.open = true, true
	case s.quote != 0 && r == s.quote:
		s.quote = 0
	case r == '$' || r == '`':
		if s.quote != '\'' {
			return notAShell(r)
		}
		s.word.WriteRune(r)
	case s.quote != 0:
		s.word.WriteRune(r)
	case r == '"' || r == '\'':
		s.quote, s.open = r, true
	case r == ' ' || r == '\t' || r == '\n':
		s.end()
	case strings.ContainsRune("|&;<>()*?~", r):
		return notAShell(r)
	default:
		s.open = true
		s.word.WriteRune(r)
	}
	return nil
}

// unescape takes the character behind a backslash; between double quotes the
// backslash stays before most.
func (s *splitter) unescape(r rune) {
	if s.quote == '"' && !strings.ContainsRune("\"\\$`", r) {
		s.word.WriteByte('\\')
	}
	s.escaped = false
	s.word.WriteRune(r)
}

func (s *splitter) end() {
	if s.open {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.open = false
}

func notAShell(r rune) error {
	return fmt.Errorf("%q means something to a shell, and none runs the command: quote it, or give the words behind --", r)
}
