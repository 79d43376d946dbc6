package credentials

import (
	"context"
	"sync"
	"time"
)

// ReplayStore remembers DPoP proofs. Replicas that serve the same clients have
// to share one; MemoryReplay is for a single process.
type ReplayStore interface {
	// Once reports whether key is seen for the first time, and remembers it until
	// the given time. An error refuses the proof.
	Once(ctx context.Context, key [32]byte, now, until time.Time) (bool, error)
}

// DefaultReplayEntries bounds a MemoryReplay: some 300 proofs a second.
const DefaultReplayEntries = 200_000

// MemoryReplay is a ReplayStore in memory. A restart forgets, and replicas do
// not know each other's proofs: a proof may then be used once on each, within
// its five minutes. When it is full, new proofs are refused, since forgetting
// one would let it be used again. Safe for concurrent use.
type MemoryReplay struct {
	max int

	mu    sync.Mutex
	seen  map[[32]byte]time.Time
	swept time.Time
}

// NewMemoryReplay makes a store for at most n proofs; 0 means
// DefaultReplayEntries.
func NewMemoryReplay(n int) *MemoryReplay {
	if n <= 0 {
		n = DefaultReplayEntries
	}
	return &MemoryReplay{max: n, seen: map[[32]byte]time.Time{}}
}

const sweepEvery = 10 * time.Second

// Once implements ReplayStore; it never gives an error.
func (m *MemoryReplay) Once(_ context.Context, key [32]byte, now, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.seen[key]; ok && now.Before(old) {
		return false, nil
	}
	if now.Sub(m.swept) >= sweepEvery {
		m.swept = now
		for k, end := range m.seen {
			if !now.Before(end) {
				delete(m.seen, k)
			}
		}
	}
	if len(m.seen) >= m.max {
		return false, nil
	}
	m.seen[key] = until
	return true, nil
}
