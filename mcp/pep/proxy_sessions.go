package pep

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	// DefaultMaxSessions bounds the sessions that a Proxy remembers. Beyond it
	// the one that was not used for longest is forgotten; its client starts anew.
	DefaultMaxSessions = 10_000
	// DefaultSessionTTL is how long an unused session is remembered.
	DefaultSessionTTL = 12 * time.Hour

	maxAdmitted = 20_000
)

// httpSession is a session of the server and whose it is. A server behind the
// proxy sees no tokens, so the proxy is what keeps one person out of another's
// session.
type httpSession struct {
	session
	id    string
	owner *authzdv1.Identity
}

// admitted remembers for a while who may have a session, and in whose session
// who is its owner: credentials without proofs of possession, by session.
type admitted struct {
	mu    sync.Mutex
	until map[[sha256.Size]byte]time.Time
}

func newAdmitted() *admitted { return &admitted{until: map[[sha256.Size]byte]time.Time{}} }

func (a *admitted) has(who [sha256.Size]byte, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.until[who])
}

func (a *admitted) add(who [sha256.Size]byte, until, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, have := a.until[who]; !have && len(a.until) >= maxAdmitted {
		for one, end := range a.until {
			if !now.Before(end) {
				delete(a.until, one)
			}
		}
		if len(a.until) >= maxAdmitted {
			clear(a.until) // they are asked about again
		}
	}
	a.until[who] = until
}

// standingOf stands for a session and who acts in it.
func standingOf(session string, c Caller) [sha256.Size]byte {
	h := sha256.New()
	part := func(s string) { _, _ = fmt.Fprintf(h, "%d:%s", len(s), s) } // a hash takes everything
	part(session)
	part(c.Subject.GetId())
	for _, one := range c.Credentials {
		part(one.GetScheme())
		part(one.GetAccessToken())
		part(one.GetCertificateThumbprint())
	}
	var out [sha256.Size]byte
	h.Sum(out[:0])
	return out
}

// sessions are all that the proxy knows.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*list.Element // of *sessionEntry
	// used is in order of last use, the latest in front.
	used *list.List
	max  int
	ttl  time.Duration
	now  func() time.Time
}

type sessionEntry struct {
	session *httpSession
	last    time.Time
}

func newSessions(limit int, ttl time.Duration, now func() time.Time) *sessions {
	return &sessions{byID: map[string]*list.Element{}, used: list.New(), max: limit, ttl: ttl, now: now}
}

// get finds a session and notes its use.
func (s *sessions) get(id string) *httpSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	e, ok := s.byID[id]
	if !ok {
		return nil
	}
	entry := entryOf(e)
	entry.last = s.now()
	s.used.MoveToFront(e)
	return entry.session
}

// put remembers a session that the server has begun. An id that is known
// already stays whose it is.
func (s *sessions) put(h *httpSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.byID[h.id]; taken {
		return false
	}
	s.byID[h.id] = s.used.PushFront(&sessionEntry{session: h, last: s.now()})
	s.expire()
	return true
}

// drop forgets a session that has ended.
func (s *sessions) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byID[id]; ok {
		s.remove(e)
	}
}

func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

func (s *sessions) expire() {
	for e := s.used.Back(); e != nil && (len(s.byID) > s.max || s.now().Sub(entryOf(e).last) > s.ttl); e = s.used.Back() {
		s.remove(e)
	}
}

func (s *sessions) remove(e *list.Element) {
	delete(s.byID, entryOf(e).session.id)
	s.used.Remove(e)
}

func entryOf(e *list.Element) *sessionEntry {
	entry, _ := e.Value.(*sessionEntry)
	return entry
}
