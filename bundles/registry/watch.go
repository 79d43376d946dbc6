package registry

import (
	"context"
	"sync"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/store"
)

// bell wakes all who wait that something was recorded.
type bell struct {
	mu   sync.Mutex
	wait chan struct{} // nil: nobody waits
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait != nil {
		close(b.wait)
		b.wait = nil
	}
}

// next is closed when the bell rings again.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	return b.wait
}

// News is what is active, and what happened since a position.
type News struct {
	Active []Result
	Events []store.Event
	// Position is where to ask from the next time.
	Position int64
	// More is closed once something else was recorded.
	More <-chan struct{}
}

// maxNews bounds the events of one News; the next one has more.
const maxNews = 200

// Now is what is active, and the position of the last event.
func (r *Registry) Now(ctx context.Context) (News, error) {
	position, err := r.opts.Store.LastEvent(ctx, r.tenant)
	if err != nil {
		return News{}, err //nolint:wrapcheck // says what it did
	}
	return r.Since(ctx, position)
}

// Since is what is active, and the events behind position, the oldest first.
func (r *Registry) Since(ctx context.Context, position int64) (News, error) {
	// Before the store is read: what is recorded meanwhile rings again.
	n := News{Position: position, More: r.recorded.next()}
	var err error
	if n.Events, err = r.opts.Store.EventsAfter(ctx, r.tenant, position, maxNews); err != nil {
		return News{}, err //nolint:wrapcheck // says what it did
	}
	if len(n.Events) > 0 {
		n.Position = n.Events[len(n.Events)-1].Seq
	}
	active, err := r.opts.Store.Active(ctx, r.tenant)
	if err != nil {
		return News{}, err //nolint:wrapcheck // says what it did
	}
	n.Active = r.results(active)
	return n, nil
}

// Find returns the bundle that digest and revision name, or the active one. Its
// archive is kept.
func (r *Registry) Find(ctx context.Context, name, revision, digest string) (Result, error) {
	if digest == "" && revision == "" {
		if digest, _ = r.Active(name); digest == "" {
			return Result{}, errorf(bundles.CodeNotFound, "/name", "no pushed bundle %q is active", name)
		}
	}
	b, err := r.target(ctx, Change{Name: name, Revision: revision, Digest: digest}, didActivate)
	return Result{Bundle: b, Report: ParseReport(b.Report)}, err
}
