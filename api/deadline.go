package api

import (
	"context"
	"sync"
	"time"
)

// deadline is a context with a deadline that makes its timer when somebody waits
// for it. Most decisions are made without waiting; a timer, and the child that
// context.WithDeadline hangs into its parent, would be a part of their cost.
type deadline struct {
	context.Context //nolint:containedctx // it is one
	at              time.Time

	mu sync.Mutex
	// timed is the context as the library makes it, once Done was asked.
	timed  context.Context //nolint:containedctx // as above
	cancel context.CancelFunc
	err    error
}

// Deadline is the earlier of the parent's and its own.
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Err is that of the parent, or of the time, or of the end; the first one stays.
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed != nil {
		return d.timed.Err() //nolint:wrapcheck // it is the context's
	}
	if d.err == nil {
		d.err = d.Context.Err()
	}
	if d.err == nil && !time.Now().Before(d.at) {
		d.err = context.DeadlineExceeded
	}
	return d.err
}

// Done makes the timer.
func (d *deadline) Done() <-chan struct{} { return d.make().Done() }

// Value is the timed context's once there is one, so that the library finds it.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	timed := d.timed
	d.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return d.Context.Value(key)
}

func (d *deadline) make() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.err != nil {
			d.cancel()
		}
	}
	return d.timed
}

// end ends it for whoever still has it.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
	if d.err == nil {
		d.err = context.Canceled
	}
}
