package pep

import (
	"container/list"
	"crypto/sha256"
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

	maxProofs = 8
)

// httpSession is a session of the server and whose it is. A server behind the
// proxy sees no tokens, so the proxy is what keeps one person out of another's
// session.
type httpSession struct {
	session
	id    string
	owner *authzdv1.Identity

	proofMu sync.Mutex
	// proofs are credentials that have been found to be the owner's, and until
	// when that holds.
	proofs []proof
}

type proof struct {
	digest [sha256.Size]byte
	until  time.Time
}

// known tells whether a credential has been found to be the owner's lately.
func (h *httpSession) known(digest [sha256.Size]byte, now time.Time) bool {
	h.proofMu.Lock()
	defer h.proofMu.Unlock()
	for _, p := range h.proofs {
		if p.digest == digest && now.Before(p.until) {
			return true
		}
	}
	return false
}

func (h *httpSession) learn(digest [sha256.Size]byte, until time.Time) {
	h.proofMu.Lock()
	defer h.proofMu.Unlock()
	for i := range h.proofs {
		if h.proofs[i].digest == digest {
			h.proofs[i].until = until
			return
		}
	}
	if len(h.proofs) >= maxProofs {
		h.proofs = append(h.proofs[:0], h.proofs[1:]...)
	}
	h.proofs = append(h.proofs, proof{digest, until})
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
