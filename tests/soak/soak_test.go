// Package soak_test keeps the built authzd busy for long, at 70 % of what it and the
// clients can do together, while policy and data change every few seconds, and holds
// every answer against an oracle (tests/bench/workload). It watches what the process
// holds. make soak runs it.
package soak_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
	"github.com/authzd/authzd/tests/internal/binary"
)

const (
	// timeEnv says for how long; without it the soak is skipped.
	timeEnv = "SOAK_TIME"
	// share is the load, of what was found to be possible.
	share = 0.7
	// swapEvery is the time from one revision to the next.
	swapEvery = 5 * time.Second
	// calibration is how long it is tried out what is possible, calibrateEvery how
	// long the load stays what it was by that.
	calibration    = 10 * time.Second
	calibrateEvery = 5 * time.Minute
)

// bin is the binary under test.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) { bin = path }))
}

// stand is a server that takes signed bundles and knows its callers.
type stand struct {
	dir    string
	server *binary.Process
	// keys are those of callers, by name.
	keys map[string]string
}

// callers are the names of those who ask; half of them by gRPC.
func callers() []string { return []string{"grpc-1", "grpc-2", "rest-1", "rest-2"} }

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{dir: t.TempDir(), keys: map[string]string{}}
	rights := map[string]string{"admin": "push,activate,data,audit"}
	for _, name := range callers() {
		rights[name] = "check,assert"
	}
	for name, may := range rights {
		key, err := s.authzd(t.Context(), "keys", "create", name, "--rights", may, "--keys-file", "keys.json")
		if err != nil {
			t.Fatal(err)
		}
		s.keys[name] = strings.TrimSpace(key)
	}
	if _, err := s.authzd(t.Context(), "bundle", "keygen", "-f", "release.pem"); err != nil {
		t.Fatal(err)
	}
	s.server = binary.Start(t, exec.CommandContext(t.Context(), bin, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log-level", "error",
		"--data-dir", filepath.Join(s.dir, "data"), "--bundle-key", filepath.Join(s.dir, "release.pub.pem"), "--keys-file", filepath.Join(s.dir, "keys.json"),
		"--queue-time", deadline.String(), "--decision-timeout", "20s")) // a machine that is busy elsewhere is no fault
	return s
}

// Policy and data are exchanged under a load that is held for SOAK_TIME: every answer
// is right by a revision that was active while it was asked for, none is missing, and
// the server needs no more at the end than it did.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := soakTime(t)
	s := newStand(t)
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	l := &load{timeline: &timeline{}, asks: newAsks(t, w), fault: t.Errorf}
	a := &admin{stand: s, w: w, timeline: l.timeline}
	if err := a.swap(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &report{stand: s, base: s.usage(t)}
	clients, closeAll := s.open(t)
	defer closeAll()

	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := a.run(t.Context(), stop); err != nil {
			t.Error(err)
		}
	})
	beside.Go(func() { r.watch(t, stop) })
	l.run(t.Context(), clients, length)
	close(stop)
	beside.Wait()

	closeAll()
	r.after = s.calm(t, r.base)
	if len(l.took) == 0 || len(r.samples) < 4 {
		t.Fatalf("%d requests at a pace, %d samples: nothing can be said", len(l.took), len(r.samples))
	}
	t.Log("\n" + r.table(l, a))
	r.judge(t, l, a)
	if log := s.server.Log.String(); log != "" {
		t.Errorf("the server has logged errors:\n%.2000s", log)
	}
}

func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(timeEnv)
	if text == "" || testing.Short() {
		t.Skip("make soak runs it, which sets " + timeEnv)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 2*calibration {
		t.Fatalf("%s is %q, want a time of at least %s: %v", timeEnv, text, 2*calibration, err)
	}
	return d
}

// pause is false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
