// Package blocklist keeps what administrators have blocked: on disk, so that it
// survives a restart, and in an engine, which denies it.
//
// It refuses a block without an end, a target or a reason, one that lasts longer
// than MaxFor, and more than engine.MaxBlocks at a time. A list that can not be
// read or made to hold is an error of Open: whoever serves without it would
// allow what is blocked.
//
// It is called by package api for administrators and by cmd/authzd at start. A
// *List may be used by any number of goroutines, and starts none.
package blocklist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/store"
)

// MaxFor bounds how long a block lasts. What is to be denied for longer belongs
// into policy.
const MaxFor = 30 * 24 * time.Hour

// Options configure a List. Store and Engine are required.
type Options struct {
	Store  *store.Store
	Engine *engine.Engine
	// Now is the engine's clock; default time.Now.
	Now func() time.Time
	// NewID makes ids of blocks; default a ULID.
	NewID func() string
	// Log receives one line for each change; default nothing.
	Log *slog.Logger
}

// List is the block list of one engine.
type List struct {
	opts Options
	// mu is held by the one who changes the list; list is what the engine has:
	// all that were not lifted. Those that have ended are among them, because a
	// clock that was ahead makes blocks end that hold again once it is right.
	mu   sync.Mutex
	list []engine.Block
}

// Open makes the stored blocks hold. After an error do not serve.
func Open(ctx context.Context, o Options) (*List, error) {
	if o.Store == nil || o.Engine == nil {
		return nil, errors.New("blocklist: Options.Store and Engine are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = func() string { return ulid.Make().String() }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &List{opts: o}
	stored, err := l.Blocks(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the block list: %w", err)
	}
	active, newest := 0, time.Time{}
	for i := range stored {
		if stored[i].State != Lifted {
			l.list = append(l.list, stored[i].held())
		}
		if stored[i].State == Active {
			active++
		}
		if newest.Before(stored[i].CreatedAt) {
			newest = stored[i].CreatedAt
		}
	}
	l.list = l.bounded(l.list)
	if err := o.Engine.SetBlocks(l.list); err != nil {
		return nil, fmt.Errorf("load the block list: %w", err)
	}
	if len(stored) > 0 {
		o.Log.InfoContext(ctx, "block list loaded", "active", active, "newest", newest)
	}
	return l, nil
}

// bounded leaves out those that ended first, if they are too many.
func (l *List) bounded(list []engine.Block) []engine.Block {
	if len(list) <= engine.MaxBlockList {
		return list
	}
	list = slices.SortedStableFunc(slices.Values(list), func(a, b engine.Block) int { return b.Until.Compare(a.Until) })
	return list[:engine.MaxBlockList]
}

// State says whether a block holds.
type State string

// The states of a block.
const (
	Active State = "active"
	Ended  State = "ended"
	Lifted State = "lifted"
)

// Block is a block as it is recorded.
type Block struct {
	store.Block
	State State
}

func (b *Block) held() engine.Block {
	return engine.Block{ID: b.ID, Kind: engine.BlockKind(b.Kind), Value: b.Target, Issuer: b.Issuer, Until: b.EndsAt, Why: b.Why}
}

func (l *List) stated(b store.Block) Block {
	switch {
	case !b.LiftedAt.IsZero():
		return Block{b, Lifted}
	case !l.opts.Now().Before(b.EndsAt):
		return Block{b, Ended}
	}
	return Block{b, Active}
}

// Request asks for a block.
type Request struct {
	Kind          engine.BlockKind
	Value, Issuer string
	For           time.Duration
	// Who blocks, empty where callers are not told apart, and Why.
	Who, Why string
}

// Create records a block and makes it hold, in this order: when it returns, every
// decision that begins is denied, also after a restart.
func (l *List) Create(ctx context.Context, r Request) (Block, error) {
	if r.For <= 0 || r.For > MaxFor {
		return Block{}, invalid("/for_seconds", "a block lasts from a second to %d seconds", int(MaxFor.Seconds()))
	}
	if r.Why == "" {
		return Block{}, invalid("/why", "a block needs a reason, for the record")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The database keeps microseconds.
	now := l.opts.Now().UTC().Truncate(time.Microsecond)
	b := Block{store.Block{
		Tenant: engine.DefaultTenant, ID: l.opts.NewID(), Kind: string(r.Kind), Target: r.Value, Issuer: r.Issuer,
		Why: r.Why, CreatedBy: r.Who, CreatedAt: now, EndsAt: now.Add(r.For),
	}, Active}
	held := b.held()
	if err := held.Valid(); err != nil {
		return Block{}, err
	}
	if l.holding(l.opts.Now()) >= engine.MaxBlocks {
		return Block{}, &engine.Error{Code: engine.CodeBlocksFull, Err: fmt.Errorf("%d blocks hold already: lift one", engine.MaxBlocks)}
	}
	if err := l.opts.Store.AddBlock(ctx, b.Block); err != nil {
		return Block{}, err //nolint:wrapcheck // says what was attempted
	}
	if err := l.set(l.bounded(append(l.without(""), held))); err != nil {
		return Block{}, err
	}
	l.log(ctx, "blocked", &b, r.Who, r.Why)
	return b, nil
}

// Lift ends a block, also one that has ended by itself, so that it does not hold
// again if the clock is set back. One that was lifted stays as it is recorded.
func (l *List) Lift(ctx context.Context, id, who, why string) (Block, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := l.find(ctx, id)
	if err != nil || b.State == Lifted {
		return b, err
	}
	now := l.opts.Now().UTC().Truncate(time.Microsecond)
	if err := l.opts.Store.LiftBlock(ctx, b.Tenant, id, who, why, now); err != nil {
		return Block{}, err //nolint:wrapcheck // says what was attempted
	}
	b.LiftedBy, b.LiftedWhy, b.LiftedAt, b.State = who, why, now, Lifted
	if err := l.set(l.without(id)); err != nil {
		return Block{}, err
	}
	l.log(ctx, "block lifted", &b, who, why)
	return b, nil
}

// Blocks returns the recorded blocks, the newest first, also those that do not
// hold any more.
func (l *List) Blocks(ctx context.Context) ([]Block, error) {
	stored, err := l.opts.Store.Blocks(ctx, engine.DefaultTenant)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what was attempted
	}
	return l.all(stored), nil
}

// Page returns up to limit of what Blocks returns, behind one of them; of none,
// from the beginning.
func (l *List) Page(ctx context.Context, behind store.Block, limit int) ([]Block, error) {
	stored, err := l.opts.Store.BlocksBehind(ctx, engine.DefaultTenant, behind, limit)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what was attempted
	}
	return l.all(stored), nil
}

func (l *List) all(stored []store.Block) []Block {
	out := make([]Block, 0, len(stored))
	for _, b := range stored {
		out = append(out, l.stated(b))
	}
	return out
}

func (l *List) find(ctx context.Context, id string) (Block, error) {
	b, ok, err := l.opts.Store.Block(ctx, engine.DefaultTenant, id)
	if err != nil {
		return Block{}, err //nolint:wrapcheck // says what was attempted
	}
	if ok {
		return l.stated(b), nil
	}
	return Block{}, &engine.Error{Code: engine.CodeBlockNotFound, Path: "/id", Err: errors.New("there is no such block")}
}

// without is the list, but for one id.
func (l *List) without(id string) []engine.Block {
	out := make([]engine.Block, 0, len(l.list)+1)
	for _, b := range l.list {
		if b.ID != id {
			out = append(out, b)
		}
	}
	return out
}

// holding counts the blocks that have not ended.
func (l *List) holding(now time.Time) int {
	n := 0
	for i := range l.list {
		if now.Before(l.list[i].Until) {
			n++
		}
	}
	return n
}

func (l *List) set(next []engine.Block) error {
	if err := l.opts.Engine.SetBlocks(next); err != nil {
		return fmt.Errorf("make the block list hold: %w", err)
	}
	l.list = next
	return nil
}

func (l *List) log(ctx context.Context, message string, b *Block, who, why string) {
	l.opts.Log.LogAttrs(ctx, slog.LevelWarn, message, //nolint:sloglint // one of two constants
		slog.String("id", b.ID), slog.String("kind", b.Kind), slog.String("value", b.Target), slog.String("issuer", b.Issuer),
		slog.Time("until", b.EndsAt), slog.String("who", who), slog.String("why", why))
}

func invalid(path, format string, args ...any) *engine.Error {
	return &engine.Error{Code: engine.CodeInvalidValue, Path: path, Err: fmt.Errorf(format, args...)}
}
