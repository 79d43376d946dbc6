package soak_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/authzd/authzd/tests/bench/workload"
)

// change is a state of policy and data that somebody asked for.
type change struct {
	state *workload.Revision
	asked time.Time
	// live is when the server had said that it decides, zero until then.
	live time.Time
}

// timeline is what was asked to decide, and when.
type timeline struct {
	mu      sync.RWMutex
	changes []change
}

// ask notes that a state is about to be asked for.
func (l *timeline) ask(state *workload.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, change{state: state, asked: time.Now()})
}

// live notes that the last one decides.
func (l *timeline) live() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes[len(l.changes)-1].live = time.Now()
}

// at is the state of a name, if it may have decided at some time from sent to done;
// nil if not: it was not asked for, or another had taken its place before.
func (l *timeline) at(name string, sent, done time.Time) *workload.Revision {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := len(l.changes) - 1; i >= 0; i-- {
		c := &l.changes[i]
		if c.state.Name() == name && !c.asked.After(done) {
			return c.state
		}
		if !c.live.IsZero() && !c.live.After(sent) {
			return nil
		}
	}
	return nil
}

// admin exchanges policy and changes data, by the command line.
type admin struct {
	*stand
	*timeline
	w *workload.Workload
	// active decides, before did.
	active, before *workload.Revision
	pushed         int

	swaps, rollbacks, dataChanges int
}

// authzd runs a command of the binary in the stand's folder, as the administrator.
func (s *stand) authzd(ctx context.Context, args ...string) (string, error) {
	var out, text bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "KEY="+s.keys["admin"])
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("authzd %v: %w: %s", args, err, &text)
	}
	return out.String(), nil
}

// run exchanges the revision every swapEvery, and half way from each second one to the
// next changes data, until stop is closed. What it has begun it ends.
func (a *admin) run(ctx context.Context, stop <-chan struct{}) error {
	tick := time.NewTicker(swapEvery / 2)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-stop:
			return nil
		}
		var err error
		switch {
		case n%4 == 1:
			err = a.changeData(ctx)
		case n%12 == 0:
			err = a.rollback(ctx)
		case n%2 == 0:
			err = a.swap(ctx)
		}
		if err != nil {
			return err // what decides is not known any more
		}
	}
}

// remote runs a command against the server.
func (a *admin) remote(ctx context.Context, args ...string) error {
	_, err := a.authzd(ctx, append(args, "--addr", a.server.GRPC, "--key-env", "KEY", "--why", "soak")...)
	return err
}

// decides has a command make a state the one that decides.
func (a *admin) decides(ctx context.Context, state *workload.Revision, args ...string) error {
	a.ask(state)
	if err := a.remote(ctx, args...); err != nil {
		return err
	}
	a.live()
	return nil
}

// swap signs and pushes the next revision, and activates it at once or in a step of
// its own.
func (a *admin) swap(ctx context.Context) error {
	a.pushed++
	next := a.w.Revision(a.pushed)
	if err := a.archive(ctx, next); err != nil {
		return err
	}
	var err error
	if a.pushed%2 == 1 {
		err = a.decides(ctx, next, "bundle", "push", "next.tar.gz", "--name", "main", "--activate", "--drop-changes")
	} else if err = a.remote(ctx, "bundle", "push", "next.tar.gz", "--name", "main"); err == nil {
		err = a.decides(ctx, next, "bundle", "activate", "main", next.Bundle(), "--drop-changes")
	}
	a.active, a.before = next, a.active
	a.swaps++
	return err
}

// archive makes a revision's signed archive, next.tar.gz.
func (a *admin) archive(ctx context.Context, r *workload.Revision) error {
	folder := filepath.Join(a.dir, r.Bundle())
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // a temporary folder
	if err := r.WriteBundle(folder); err != nil {
		return err
	}
	if _, err := a.authzd(ctx, "bundle", "build", folder, "-o", "next.tar.gz"); err != nil {
		return err
	}
	_, err := a.authzd(ctx, "bundle", "sign", "next.tar.gz", "--key", "release.pem")
	return err
}

// rollback goes back to the revision before, with the changes of its data.
func (a *admin) rollback(ctx context.Context) error {
	a.active, a.before = a.before, a.active
	a.rollbacks++
	return a.decides(ctx, a.active, "bundle", "rollback", "main", a.active.Bundle())
}

// changeData changes roles and blocked accounts of the active revision.
func (a *admin) changeData(ctx context.Context) error {
	changed, patch, err := a.active.Changed()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "patch.json"), patch, 0o600); err != nil {
		return err
	}
	a.active = changed
	a.dataChanges++
	return a.decides(ctx, changed, "data", "patch", "main", "patch.json")
}
