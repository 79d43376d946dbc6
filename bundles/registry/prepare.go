package registry

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/authzd/authzd/store"
)

// redataPause is how long decisions after a change of data are made by the interpreter
// alone, and a rollback of another bundle compiles first.
const redataPause = 250 * time.Millisecond

// Run keeps rollbacks and lists of tools quick until ctx ends: after a start, a
// reload and each activation it makes what the first list needs, and has ready
// what was active before. Without it a rollback to what is not in memory verifies
// and compiles first.
func (r *Registry) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.redata:
			// Others may follow at once: what is prepared for one is of no use then.
			select {
			case <-time.After(redataPause):
			case <-ctx.Done():
				return nil
			}
			if live := r.opts.Engine.Snapshot(); live != nil {
				quietly(func() { r.opts.Engine.Prepare(live) }) //nolint:contextcheck // as below
			}
		case <-r.changed:
			if live := r.opts.Engine.Snapshot(); live != nil {
				quietly(func() { r.opts.Engine.Prepare(live) }) //nolint:contextcheck // its own bound; what it makes is kept
			}
			r.prepare(ctx)
			if r.compiled.size() > maxHeldBytes/4 {
				// What loading large data took, and does not need any more. Not quietly: it holds
				// locks that decisions need.
				debug.FreeOSMemory()
			}
		}
	}
}

// ring lets Run know that something else is live.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default: // it has been told, and has not looked yet
	}
}

// prepare compiles what a rollback of each name would make live.
func (r *Registry) prepare(ctx context.Context) {
	stored, err := r.opts.Store.Active(ctx, r.tenant)
	for _, b := range stored {
		if err := r.prepareOne(ctx, b); err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("a rollback would not succeed", "bundle", b.Name, "to", b.Previous, "error", err.Error())
		}
	}
	if err != nil && ctx.Err() == nil {
		r.opts.Log.Warn("rollbacks could not be prepared", "error", err.Error())
	}
}

func (r *Registry) prepareOne(ctx context.Context, active store.Bundle) error {
	before, ok, err := r.find(ctx, active.Name, func(b store.Bundle) bool { return b.Digest == active.Previous && b.Kept })
	if err != nil || !ok {
		return err
	}
	o, err := r.ready(ctx, before)
	if err != nil {
		return err
	}
	r.compiled.hold(o)
	r.mu.Lock()
	next, decides := r.set(o), r.decides
	r.mu.Unlock()
	_, err = r.compile(ctx, next, decides)
	return err
}
