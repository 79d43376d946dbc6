package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authzd/authzd/engine"
)

const (
	// keyWait bounds how long one token waits for a fetch under way.
	keyWait = 2 * time.Second
	// maxWaiting bounds how many do so for one issuer, so that a slow issuer
	// does not take up every place in the server.
	maxWaiting = 64
	retryAfter = 30 * time.Second
)

// keySource keeps the keys of one issuer. Its only goroutine is run; whoever
// needs a key asks that one for a fetch and waits a bounded time.
type keySource struct {
	issuer string
	config KeySource
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	live atomic.Pointer[keySet]
	wake chan struct{}

	mu sync.Mutex
	// flight is closed when the fetch asked for or under way has ended.
	flight  chan struct{}
	waiting int
	tried   time.Time
	err     error
}

// keySet is never modified once it is stored.
type keySet struct {
	keys []key
	// at is when the fetch began: keys are at least that old.
	at time.Time
}

func newKeySource(is Issuer, o Options) *keySource {
	return &keySource{
		issuer: is.Issuer, config: is.Keys.withDefaults(), client: newClient(o.Transport),
		now: o.Now, log: o.Log, wake: make(chan struct{}, 1),
	}
}

// run fetches at the start, at intervals, and when asked, until ctx ends.
func (s *keySource) run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	defer s.landed(nil, context.Canceled)
	for {
		next := s.config.RefreshEvery
		if !s.refresh(ctx) {
			next = min(next, max(s.config.MinInterval, retryAfter))
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
	}
}

// refresh fetches once. What fails leaves the keys as they are.
func (s *keySource) refresh(ctx context.Context) bool {
	began := s.now()
	s.mu.Lock()
	s.tried = began
	if s.flight == nil {
		s.flight = make(chan struct{})
	}
	s.mu.Unlock()
	keys, err := s.fetch(ctx)
	if err != nil {
		s.landed(nil, err)
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "keys of an issuer were not read", "issuer", s.issuer, "error", err)
		}
		return false
	}
	s.landed(&keySet{keys: keys, at: began}, nil)
	return true
}

func (s *keySource) landed(set *keySet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set != nil {
		s.live.Store(set)
	}
	s.err = err
	if s.flight != nil {
		close(s.flight)
		s.flight = nil
	}
	select { // a wish that came meanwhile is fulfilled
	case <-s.wake:
	default:
	}
}

func (s *keySource) fetch(ctx context.Context) (keys []key, err error) {
	// A key set that the library chokes on is its issuer's trouble alone.
	defer func() {
		if v := recover(); v != nil {
			keys, err = nil, fmt.Errorf("the key set could not be read: panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout)
	defer cancel()
	body, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	return parseKeySet(body)
}

func (s *keySource) read(ctx context.Context) ([]byte, error) {
	if s.config.File != "" {
		return readFile(s.config.File)
	}
	address := s.config.JWKSURL
	if s.config.Discover {
		var err error
		if address, err = discover(ctx, s.client, s.issuer); err != nil {
			return nil, err
		}
	}
	return get(ctx, s.client, address)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator's configuration names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o002 != 0:
		return nil, errors.New(name + ": everybody may write to it, and so decide who is trusted: chmod o-w")
	}
	body, err := io.ReadAll(io.LimitReader(f, maxFetchBytes+1))
	if err == nil && len(body) > maxFetchBytes {
		err = errTooBig
	}
	return body, err
}

// key returns the issuer's key of that kid for that algorithm. A kid that is
// not known asks for a fetch, which happens at most once in MinInterval
// whatever is asked.
func (s *keySource) key(ctx context.Context, kid, alg string) (any, engine.Code) {
	k, code := s.known(kid, alg)
	if code == "" {
		return k, ""
	}
	if !s.await(ctx) {
		return nil, code
	}
	return s.known(kid, alg)
}

func (s *keySource) known(kid, alg string) (any, engine.Code) {
	set := s.live.Load()
	if !s.usable(set) {
		return nil, engine.CodeIssuerUnavailable
	}
	if k, ok := find(set.keys, kid, alg); ok {
		return k, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		// The key may be one that we could not learn of.
		return nil, engine.CodeIssuerUnavailable
	}
	return nil, engine.CodeTokenSignature
}

// since is the time that has passed: by the clock that nobody sets, or by the wall's
// where that is more, because the other one may stand still while the machine sleeps.
func (s *keySource) since(t time.Time) time.Duration {
	now := s.now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// usable tells whether keys are there that are not too old. Keys of the future are as
// good as none.
func (s *keySource) usable(set *keySet) bool {
	if set == nil {
		return false
	}
	age := s.since(set.at)
	return age >= 0 && age <= s.config.MaxAge
}

// await asks for a fetch and waits for its end; false: there will be none, or
// it takes too long.
func (s *keySource) await(ctx context.Context) bool {
	s.mu.Lock()
	if s.waiting >= maxWaiting {
		s.mu.Unlock()
		return false
	}
	if s.flight == nil {
		// A last time in the future was none: the clock has been set back.
		if since := s.since(s.tried); !s.tried.IsZero() && since >= 0 && since < s.config.MinInterval {
			s.mu.Unlock()
			return false
		}
		s.flight = make(chan struct{})
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	flight := s.flight
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	timer := time.NewTimer(keyWait)
	defer timer.Stop()
	select {
	case <-flight:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *keySource) status() IssuerStatus {
	st := IssuerStatus{Issuer: s.issuer}
	if set := s.live.Load(); set != nil {
		st.Keys, st.FetchedAt = len(set.keys), set.at
		st.Usable = s.usable(set)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Err = s.err
	return st
}
