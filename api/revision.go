package api

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/authzd/authzd/engine"
)

const (
	// watchEvery is how often the live snapshot is looked at, for health and for
	// revisions that somebody waits for.
	watchEvery = 25 * time.Millisecond
	// maxRevisions bounds the memory of revisions that have been active.
	maxRevisions = 1024
)

// revisions remembers what has been active on this node, so that a caller who
// requires a revision is also served after a later one took over.
type revisions struct {
	mu     sync.Mutex
	last   *engine.Snapshot
	active []activeRevision
	// changed is closed and replaced when active grows.
	changed chan struct{}
}

func newRevisions() *revisions { return &revisions{changed: make(chan struct{})} }

// activeRevision is a revision, and the number of the last change of its data. Who asks
// for a revision is served by it with changes, too.
type activeRevision struct {
	ref    engine.PolicyRef
	change int64
}

// activeOf takes a revision such as "7#12" apart.
func activeOf(ref engine.PolicyRef) activeRevision {
	at := strings.LastIndexByte(ref.Revision, '#')
	if at < 0 {
		return activeRevision{ref: ref}
	}
	n, err := strconv.ParseInt(ref.Revision[at+1:], 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != ref.Revision[at+1:] {
		return activeRevision{ref: ref}
	}
	ref.Revision = ref.Revision[:at]
	return activeRevision{ref: ref, change: n}
}

// observe notes the bundles of s.
func (r *revisions) observe(s *engine.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == nil || s == r.last {
		return
	}
	r.last = s
	for _, ref := range s.Bundles() {
		now := activeOf(ref)
		at := slices.IndexFunc(r.active, func(a activeRevision) bool { return a.ref == now.ref })
		if at < 0 {
			r.active = append(r.active, now)
		} else {
			r.active[at].change = max(r.active[at].change, now.change)
		}
	}
	if over := len(r.active) - maxRevisions; over > 0 {
		r.active = slices.Delete(r.active, 0, over)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// await returns once ref has been active, or the error of the deadline.
func (r *revisions) await(ctx context.Context, ref engine.PolicyRef) error {
	for {
		r.mu.Lock()
		want := activeOf(ref)
		has := slices.ContainsFunc(r.active, func(a activeRevision) bool { return a.ref == want.ref && a.change >= want.change })
		changed := r.changed
		r.mu.Unlock()
		if has {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Canceled
			}
			return errorf(CodeRevisionNotActive, "/require_revision",
				"revision %q of bundle %q has not been active on this node", ref.Revision, ref.Bundle)
		}
	}
}

// watch looks at the live snapshot until ctx ends.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		s.observe()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// observe brings what depends on the live snapshot up to date.
func (s *Server) observe() {
	live := s.opts.Engine.Snapshot()
	s.revisions.observe(live)
	s.health.set(live != nil && s.opts.Follow.Fresh() == nil)
}

// awaitRevision waits until the required revision has been active.
func (s *Server) awaitRevision(ctx context.Context, ref engine.PolicyRef) error {
	if ref == (engine.PolicyRef{}) {
		return nil
	}
	s.observe()
	// The caller learns why in time: a deadline that strikes here is reported as
	// the revision's absence while an answer can still be sent.
	if at, ok := ctx.Deadline(); ok {
		if room := time.Until(at) / 8; room > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, at.Add(-min(room, 200*time.Millisecond)))
			defer cancel()
		}
	}
	return s.revisions.await(ctx, ref)
}
