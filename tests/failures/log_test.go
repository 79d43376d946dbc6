package failures_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
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

// A log whose disk is full, or whose reader has gone, stops nothing.
func TestLogFull(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	t.Cleanup(func() { _ = full.Close() })
	cmd := serve(t, "", "--bundle", policy(t, readOnly), "--log-level", "debug")
	cmd.Stderr = full
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
