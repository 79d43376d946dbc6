// Package registry takes pushed bundles through their life: uploaded, verified,
// tested, staged, active, superseded or rejected. It owns what is live in one
// engine: the pushed bundles that are active, and those that the operator gave.
//
// It refuses, and leaves what is live untouched: an archive whose signature
// does not hold, before anything in it is read as policy; policy that does not
// compile together with the other active bundles; a bundle whose own tests or
// decision cases fail; a sequence lower than the active one's; a name that the
// operator uses. Each refusal is a *bundles.Error, and recorded with a Report.
//
// Between releases it changes the data of what is active, without policy: data.go.
//
// It is called by package api for administrators and by cmd/authzd at start and
// on reload. A *Registry may be used by any number of goroutines. Compiling and
// testing hold no lock, so that a slow push does not hold up a rollback.
// Its goroutines are Run, the caller's to start, and one while data is being changed.
package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/store"
)

// DefaultTenant is whose bundles these are while there is one tenant.
const DefaultTenant = "default"

// maxRevision bounds the name of a revision, which lists and records repeat.
const maxRevision = 256

// Options configure a Registry. Store, Engine, Verify and Ask are required.
type Options struct {
	Store  *store.Store
	Engine *engine.Engine
	// Verify opens an archive once its signature holds. It is called for every
	// archive, also for those that come from our own disk. Its errors are
	// *bundles.Error.
	Verify func(archive []byte) (bundles.Content, error)
	// Ask decides the queries of decision cases on a snapshot.
	Ask func(*engine.Snapshot) bundles.Ask
	// Fallback is live while no bundle has an entry point; default none, so that
	// the engine is not ready.
	Fallback []engine.Bundle
	// Now is the clock; default time.Now.
	Now func() time.Time
	// TestTimeout bounds one Rego test; default bundles.DefaultTestTimeout.
	TestTimeout time.Duration
	// Log receives one line for each step; default nothing.
	Log *slog.Logger
}

// Registry is the pushed bundles of one tenant.
type Registry struct {
	opts   Options
	tenant string
	// loading is held by the one Load.
	loading sync.Mutex

	// mu guards what is live and its record. It is held for a commit, never
	// while something compiles.
	mu         sync.Mutex
	generation uint64 // of local and active
	// local are the operator's bundles; localRevision counts their replacements.
	local         []engine.Bundle
	localRevision uint64
	active        map[string]*opened
	// decides: what is live has an entry point of a bundle, and is not the
	// fallback.
	decides bool

	compiled cache
	changing changing
	counts   *counts
	// epoch grows whenever keys may have changed.
	epoch atomic.Uint64
	// changed tells Run that something else is live; swapped, which is closed and
	// replaced, all others. mu guards swapped.
	changed chan struct{}
	swapped chan struct{}
	// redata tells it that data has changed.
	redata chan struct{}
	// recorded tells of events.
	recorded bell
}

// opened is a verified archive, with the changes of its data.
type opened struct {
	name, digest, revision string
	sequence               int64
	content                bundles.Content
	// changes is the number of the last change, and suffix what that adds to the
	// revision; latest is the sequence of the last one that was signed.
	changes int64
	suffix  string
	latest  int64
	// line is that of the last change, own that of changes which are numbered here.
	line, own string
	// writable is metadata.authzd.writable_data.
	writable [][]string
	// epoch is when it was verified.
	epoch uint64
	// missing: it could not be read or verified.
	missing bool
}

// New returns a registry that has loaded nothing yet: call Load.
func New(o Options) (*Registry, error) {
	if o.Store == nil || o.Engine == nil || o.Verify == nil || o.Ask == nil {
		return nil, errors.New("registry: Options.Store, Engine, Verify and Ask are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{opts: o, tenant: DefaultTenant, active: map[string]*opened{}, changed: make(chan struct{}, 1), redata: make(chan struct{}, 1), counts: newCounts(), swapped: make(chan struct{})}, nil
}

// Load makes the operator's bundles and the active pushed ones live, as one
// snapshot, and returns its warnings. Every archive is read and verified anew.
//
// On an error what was live stays; at the first call that is nothing, and the
// engine is not ready until an activation succeeds: an older revision in place
// of the active one may allow what that forbids.
func (r *Registry) Load(ctx context.Context, local []engine.Bundle) ([]engine.Finding, error) {
	r.loading.Lock()
	defer r.loading.Unlock()
	r.Forget()
	for {
		r.mu.Lock()
		generation, localRevision, decides := r.generation, r.localRevision+1, r.decides
		r.mu.Unlock()
		active, fault, err := r.reopenActive(ctx, local)
		if err != nil {
			return nil, err
		}
		next := setOf(generation, localRevision, local, active)
		var b built
		if fault == nil {
			b, fault = r.compile(ctx, next, decides)
		}
		r.mu.Lock()
		if r.generation != generation { // an activation was quicker
			r.mu.Unlock()
			continue
		}
		if fault == nil || r.opts.Engine.Snapshot() == nil {
			r.generation, r.localRevision, r.local, r.active = generation+1, localRevision, local, active
		}
		if fault == nil {
			r.live(b)
		}
		r.mu.Unlock()
		return b.warnings, fault
	}
}

// live makes what was built live. The caller holds mu.
func (r *Registry) live(b built) {
	r.decides = !b.fallback
	r.opts.Engine.Swap(b.snapshot)
	ring(r.changed)
	r.wake()
}

// reopenActive reads the active bundles. A fault is theirs, an error the
// store's.
func (r *Registry) reopenActive(ctx context.Context, local []engine.Bundle) (active map[string]*opened, fault, err error) {
	stored, err := r.opts.Store.Active(ctx, r.tenant)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // says what it did
	}
	active = make(map[string]*opened, len(stored))
	var faults []error
	for _, b := range stored {
		o, err := r.reopen(ctx, b)
		if err != nil {
			faults = append(faults, fmt.Errorf("active bundle %s (%s): %w", b.Name, short(b.Digest), err))
			// Its place is kept, so that another bundle is not compiled as if this
			// one had never been.
			o = &opened{name: b.Name, digest: b.Digest, revision: b.Revision, sequence: b.Sequence, missing: true}
			o.own = newLine()
			if o.changes, err = r.opts.Store.LastChange(ctx, r.tenant, b.Name, b.Digest); err != nil {
				return nil, nil, err //nolint:wrapcheck // says what it did
			}
		}
		active[b.Name] = o
	}
	for _, l := range local {
		if active[l.Name] != nil {
			faults = append(faults, errorf(bundles.CodeNameLocal, "", "bundle %q is given by the operator, and a pushed bundle of this name is active", l.Name))
		}
	}
	return active, errors.Join(faults...), nil
}

// reopen reads a stored archive and verifies it again.
func (r *Registry) reopen(ctx context.Context, b store.Bundle) (*opened, error) {
	archive, err := r.opts.Store.Archive(b.Digest)
	if err != nil {
		return nil, err
	}
	return r.open(ctx, b.Name, b.Digest, archive)
}

// open verifies an archive, and makes the changes of its data that are stored. Only
// what is verified is read.
func (r *Registry) open(ctx context.Context, name, digest string, archive []byte) (*opened, error) {
	epoch := r.epoch.Load() // before the keys of now are looked at
	var content bundles.Content
	var err error
	ended := r.stage(StageVerify, name)
	quietly(func() { content, err = r.opts.Verify(archive) })
	ended()
	if err != nil {
		return nil, err //nolint:wrapcheck // coded
	}
	o, err := openedOf(name, digest, content, epoch)
	if err != nil || content.Delta != nil {
		return o, err
	}
	return r.catchUp(ctx, o)
}

func openedOf(name, digest string, content bundles.Content, epoch uint64) (*opened, error) {
	if len(content.Bundle.Revision) > maxRevision || strings.ContainsFunc(content.Bundle.Revision, unicode.IsControl) {
		return nil, errorf(bundles.CodeManifestInvalid, ".manifest#/revision", "must be one line of at most %d bytes", maxRevision)
	}
	// One key may sign several bundles: a source must not pass one for another.
	if made, ok := content.Bundle.Metadata.Get("name"); ok && made.Text() != name {
		return nil, errorf(bundles.CodeNameOther, ".manifest#/metadata/authzd/name", "this bundle is made for the name %q", clip(made.Text()))
	}
	content.Bundle.Name = name
	o := &opened{own: newLine(), name: name, digest: digest, revision: content.Bundle.Revision, content: content, epoch: epoch, writable: content.Bundle.WritableData()}
	var err error
	o.sequence, err = sequenceOf(&content.Bundle)
	o.latest = o.sequence
	return o, err
}

// tag names the archive with its changes.
func (o *opened) tag() string { return tagOf(o.digest, o.changes, o.line) }

// tagOf is the digest of an archive, and behind dots the number and the line of a change.
func tagOf(digest string, number int64, line string) string {
	if number == 0 {
		return digest
	}
	return digest + "." + strconv.FormatInt(number, 10) + "." + line
}

// parseTag takes a tag apart; number 0: it is that of an archive.
func parseTag(tag string) (digest string, number int64, line string, ok bool) {
	digest, rest, changed := strings.Cut(tag, ".")
	if !changed {
		return digest, 0, "", true
	}
	text, line, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseInt(text, 10, 64)
	return digest, n, line, err == nil && n > 0 && n < maxNumber && len(line) == lineLength && strconv.FormatInt(n, 10) == text
}

const (
	// maxNumber bounds the numbers that a source gives: one goes on from there.
	maxNumber = 1 << 62
	// lineLength is of the names of lines: so many letters.
	lineLength = 13
)

// newLine names a line of changes: whoever numbers them on from where others, or this
// server before it has lost some, have done so takes another name.
func newLine() string { return rand.Text()[:lineLength] }

// revisionAt is how the revision is called after a change.
func (o *opened) revisionAt(number int64) string {
	return strings.TrimSuffix(o.revision, o.suffix) + "#" + strconv.FormatInt(number, 10)
}

// Named tells whether name may be the name of a bundle.
func Named(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`).MatchString(name)
}

// Forget drops what was compiled and verified before, so that the next
// activation verifies again: keys have changed. Who waits by Active looks again.
func (r *Registry) Forget() {
	r.epoch.Add(1)
	r.compiled.clear()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake()
}

// wake tells those who wait by Active. The caller holds mu.
func (r *Registry) wake() {
	close(r.swapped)
	r.swapped = make(chan struct{})
}

// Pushed tells whether any pushed bundle is active.
func (r *Registry) Pushed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.active) > 0
}

func errorf(code bundles.Code, path, format string, args ...any) *bundles.Error {
	return &bundles.Error{Code: code, Path: path, Err: fmt.Errorf(format, args...)}
}

// storeSays tells whether err is a fault that the store gives this code.
func storeSays(err error, code store.Code) bool {
	fault, ok := errors.AsType[*store.Error](err)
	return ok && fault.Code == code
}

// short is a digest for people.
func short(digest string) string {
	return digest[:min(len(digest), len("sha256:")+12)]
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
