package failures_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

const logLost = "authzd_log_lines_lost_total"

// logged starts a server that logs each decision, to a pipe.
func logged(t *testing.T) (p *binary.Process, log *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cmd := serve(t, "", "--bundle", policy(t, readOnly), "--log-level", "debug")
	cmd.Stderr = w
	p = binary.Start(t, cmd)
	_ = w.Close() // the server has its own
	return p, r
}

// Who reads the log stands still: the server decides on, says how many lines are lost,
// and writes again once they are read.
func TestLogBlocked(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p, log := logged(t)
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	// More than the pipe and the server together can keep: a batch of large names is a
	// line for each of its queries.
	action := strings.Repeat("x", 900)
	queries := strings.Repeat(question(action)+",", 99) + question(action)
	for range 400 {
		if got, err := c.call(t.Context(), "POST", "/v1/check:batch", `{"queries":[`+queries+`]}`); err != nil || got.Status != 200 {
			t.Fatalf("%+v, %v", got, err)
		}
		if p.Metric(t, logLost) > 0 {
			break
		}
	}
	c.decides(t)
	if p.Metric(t, logLost) == 0 {
		t.Fatal("no line is lost, or none is counted")
	}
	if err := log.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "lines of the log are lost") {
			break
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	c.decides(t)
	p.Calm(t, before, patience)
}

// fullDisk is a file that takes nothing more. Linux has one; the tests of it are left out
// elsewhere, and nowhere else.
func fullDisk(t *testing.T) *os.File {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: only Linux has /dev/full")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	return full
}

// A log whose disk is full, or whose reader has gone, stops nothing.
func TestLogFull(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	cmd := serve(t, "", "--bundle", policy(t, readOnly), "--log-level", "debug")
	cmd.Stderr = fullDisk(t)
	lost(t, binary.Start(t, cmd))
}

func TestLogReaderGone(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p, log := logged(t)
	newClient(t, p).decides(t)
	_ = log.Close()
	lost(t, p)
}

// lost waits until lines are counted as lost, while the server decides.
func lost(t *testing.T, p *binary.Process) {
	t.Helper()
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	binary.WaitFor(t, patience, func() error {
		c.decides(t)
		if n := p.Metric(t, logLost); n < 10 {
			return errors.New("lost: " + fmt.Sprint(n))
		}
		return nil
	})
	p.Calm(t, before, patience)
}

// The proxy counts the lines that it loses as the service does.
func TestLogOfProxyFull(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	cmd := exec.CommandContext(t.Context(), bin, "proxy", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1/mcp",
		"--bundle", policy(t, readOnly), "--subject", "alice", "--log-level", "debug")
	cmd.Stderr = fullDisk(t)
	p := binary.Start(t, cmd)
	binary.WaitFor(t, patience, func() error {
		if p.Metric(t, logLost) == 0 {
			return errors.New("no lost line is counted")
		}
		return nil
	})
}

// A server that can not start ends, though nobody reads why.
func TestLogBlockedAtEnd(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	if err := w.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Write(make([]byte, 4096)); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "main="+filepath.Join(t.TempDir(), "none"))
	cmd.Stderr = w
	var ended *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}
