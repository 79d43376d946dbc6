package peers_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// lives is a role of the test binary: it writes its process id to a file and
// lives until its input ends; if stubborn, until it is killed.
func lives(_ context.Context, args []string) error {
	if err := os.WriteFile(args[0]+".new", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if err := os.Rename(args[0]+".new", args[0]); err != nil {
		return err
	}
	if args[1] == "stubborn" {
		signal.Ignore(syscall.SIGTERM, os.Interrupt)
		_, _ = io.Copy(io.Discard, os.Stdin)
		<-time.After(time.Hour)
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// within calls f until it holds.
func within(t *testing.T, what string, f func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// TestEnds: the server over stdio ends with its client, and with its wrapper.
func TestEnds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
	ends := map[string]struct {
		server string
		end    func(in io.Closer, wrapper *os.Process) error
	}{
		"input ends":              {"willing", func(in io.Closer, _ *os.Process) error { return in.Close() }},
		"wrapper ends":            {"willing", func(_ io.Closer, p *os.Process) error { return p.Signal(syscall.SIGTERM) }},
		"wrapper ends, it is not": {"stubborn", func(_ io.Closer, p *os.Process) error { return p.Signal(syscall.SIGTERM) }},
	}
	for _, w := range []way{relayed("relay", change{}), guarded("allow-all")} {
		for name, e := range ends {
			t.Run(w.name+", "+name, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "pid")
				command := w.stdio(t, self(t, "lives", file, e.server))
				cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
				cmd.WaitDelay = 5 * time.Second
				in, err := cmd.StdinPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				var pid int
				within(t, "the server starts", func() bool {
					text, err := os.ReadFile(file)
					if err != nil {
						return false
					}
					pid, err = strconv.Atoi(string(text))
					return err == nil
				})
				if err := e.end(in, cmd.Process); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // its code is its own affair
				server, err := os.FindProcess(pid)
				if err != nil {
					return
				}
				within(t, "the server ends", func() bool { return server.Signal(syscall.Signal(0)) != nil })
			})
		}
	}
}
