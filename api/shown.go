package api

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/authzd/authzd/api/callers"
)

const (
	// shownFor is how long a proof may shorten a list after it was used up for the
	// request for that list.
	shownFor = time.Minute
	maxShown = 10_000
)

// shown remembers what has been presented with a proof of possession. A proof
// counts once, and an enforcement point has two questions about one request for
// a list: may it be made, and, when the server has answered, what of the answer
// may be seen. The second authorizes nothing.
type shown struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]shownEntry
	order   [][sha256.Size]byte
	now     func() time.Time
}

type shownEntry struct {
	out   outcomes
	until time.Time
}

func newShown() *shown {
	return &shown{entries: map[[sha256.Size]byte]shownEntry{}, now: time.Now}
}

// keep notes what was found, if a proof was among what was presented.
func (s *shown) keep(c call, audience string, presented []presented, out outcomes) {
	if !withProof(presented) {
		return
	}
	key := shownKey(c, audience, presented)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, have := s.entries[key]; have {
		return
	}
	for len(s.order) > 0 && (len(s.order) >= maxShown || !s.now().Before(s.entries[s.order[0]].until)) {
		delete(s.entries, s.order[0])
		s.order = s.order[1:]
	}
	s.entries[key] = shownEntry{out, s.now().Add(shownFor)}
	s.order = append(s.order, key)
}

// find gives what was found when the same caller presented the very same.
func (s *shown) find(c call, audience string, presented []presented) (outcomes, bool) {
	if !withProof(presented) {
		return outcomes{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[shownKey(c, audience, presented)]
	return e.out, ok && s.now().Before(e.until)
}

func withProof(list []presented) bool {
	for i := range list {
		if list[i].proof != "" {
			return true
		}
	}
	return false
}

// shownKey stands for all of it, and for who says so.
func shownKey(c call, audience string, list []presented) [sha256.Size]byte {
	h := sha256.New()
	part := func(s string) {
		var n [8]byte
		for i := range n {
			n[i] = byte(len(s) >> (8 * i)) //nolint:gosec // the low byte is meant
		}
		h.Write(n[:])
		h.Write([]byte(s))
	}
	part(c.caller.Name)
	assert := "0"
	if c.caller.Rights.Has(callers.Assert) {
		assert = "1"
	}
	part(assert)
	part(audience)
	for i := range list {
		p := &list[i]
		for _, s := range []string{p.id, p.accessToken, p.boundBy, p.scheme, p.proof, p.method, p.url, p.certificate} {
			part(s)
		}
		part(string(p.claims.AppendCanonical(nil)))
	}
	var key [sha256.Size]byte
	h.Sum(key[:0])
	return key
}
