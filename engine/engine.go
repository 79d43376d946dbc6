// Package engine compiles policy bundles into immutable snapshots and decides
// queries on them: allow, or deny with the remediation that would turn the
// deny into an allow.
//
// It refuses: policy that could fail open (see package
// engine/internal/contract and docs/policy.md), malformed queries (an *Error
// and the zero Decision, which is a deny), and every outcome that it does not
// know. An error never comes with an allow.
//
// It is called by package api for every door, by cmd/authzd, and by whoever
// embeds authzd as a library. An *Engine may be used by any number of
// goroutines; a *Snapshot is never changed after Compile returned it.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
)

// DefaultBudget is how long one evaluation may take before the decision is a
// deny with engine.budget.
const DefaultBudget = time.Second

// DefaultAllowTTL is how long an allow may be acted on (Decision.ExpiresAt),
// unless a credential it rests on expires earlier.
const DefaultAllowTTL = 30 * time.Second

// Options configure an Engine. The zero value is ready for production.
type Options struct {
	// Now is the clock; default time.Now.
	Now func() time.Time
	// NewID makes decision ids; default a ULID from crypto/rand.
	NewID func() string
	// NewContextID makes authorization context ids, opaque and random (SEP-2643,
	// "the handle"); default "authzctx_" and 128 random bits.
	NewContextID func() string
	// Budget bounds one evaluation; default DefaultBudget.
	Budget time.Duration
	// MaxSteps bounds one evaluation by the interpreter, whatever the machine's speed:
	// expressions that it evaluates, each time. Default DefaultMaxSteps.
	MaxSteps int64
	// AllowTTL bounds Decision.ExpiresAt; default DefaultAllowTTL.
	AllowTTL time.Duration
	// ReferenceKeys make the authorization_reference of hints, the first of them
	// the one that is sent. They are the same on all replicas and kept over
	// restarts. Default none: hints carry no reference.
	ReferenceKeys []rar.ReferenceKey
	// Compiled has Prepare compile policy to Go closures. Default: OPA's interpreter
	// evaluates all of it.
	Compiled bool
	// VerifySample is how many evaluations of compiled policy there are to one that
	// Verify compares with OPA's interpreter; default DefaultVerifySample, negative
	// none.
	VerifySample int
	// Tracer sees what OPA's interpreter evaluates in order to decide, and nothing of
	// what compiled policy does; by several decisions at once if there are. Default none.
	Tracer topdown.QueryTracer
	// Log receives what Verify finds; default nothing.
	Log *slog.Logger
}

// DefaultVerifySample is one evaluation in ten thousand.
const DefaultVerifySample = 10000

// Engine decides queries on the live snapshot.
type Engine struct {
	opts Options
	live atomic.Pointer[Snapshot]
	swap sync.Mutex
	keys atomic.Pointer[[]rar.ReferenceKey]
	// blocks are looked at by every decision, whatever its snapshot.
	blocks atomic.Pointer[blocks]
	// samples wait for Verify.
	samples  chan sampled
	counters counters
	// distrusted: compiled policy has answered otherwise than topdown once.
	distrusted atomic.Bool
}

// New returns an engine without a snapshot: every Decide is engine.not_ready
// until Swap.
func New(opts Options) *Engine {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.NewID == nil {
		opts.NewID = func() string { return ulid.Make().String() }
	}
	if opts.NewContextID == nil {
		opts.NewContextID = newContextID
	}
	if opts.Budget <= 0 {
		opts.Budget = DefaultBudget
	}
	if opts.MaxSteps <= 0 {
		opts.MaxSteps = DefaultMaxSteps
	}
	if opts.AllowTTL <= 0 {
		opts.AllowTTL = DefaultAllowTTL
	}
	if opts.VerifySample == 0 {
		opts.VerifySample = DefaultVerifySample
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opts: opts, samples: make(chan sampled, maxSampled), counters: counters{handedOver: noneHandedOver()}}
	e.SetReferenceKeys(opts.ReferenceKeys)
	return e
}

// SetReferenceKeys replaces Options.ReferenceKeys for decisions from now on.
func (e *Engine) SetReferenceKeys(keys []rar.ReferenceKey) {
	keys = append([]rar.ReferenceKey(nil), keys...)
	e.keys.Store(&keys)
}

func newContextID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24.
	return "authzctx_" + base64.RawURLEncoding.EncodeToString(b[:])
}

// Swap makes s the live snapshot and returns the one it replaces (nil at
// first). Decisions under way end on the snapshot they began with. A nil s
// makes the engine not ready.
func (e *Engine) Swap(s *Snapshot) *Snapshot {
	e.swap.Lock()
	defer e.swap.Unlock()
	return e.live.Swap(s)
}

// Snapshot returns the live snapshot, nil if there is none.
func (e *Engine) Snapshot() *Snapshot { return e.live.Load() }

// Decide answers q on the snapshot that is live when it begins.
//
// A deny is not an error. An error (always an *Error, or the context's error
// wrapped in one) means that no decision was made: malformed query, no
// snapshot, cancellation, the caller's deadline. A PEP treats it as a deny.
func (e *Engine) Decide(ctx context.Context, q *Query) (Decision, error) {
	return e.DecideOn(ctx, e.live.Load(), q)
}
