package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxFiltered bounds the answers that one of the cache's two halves holds,
	// filterTTL how long one counts. What a credential holds and whether it is
	// usable is part of the key; only the age of a sign-in goes on within it.
	maxFiltered = 16384
	filterTTL   = 10 * time.Second
	// maxFilteredText bounds the texts of one answer that is kept. They are names
	// of rules and scopes; a policy that makes some of what a caller sends is free
	// to, but not to fill the memory with them.
	maxFilteredText = 1024
)

type filterKey [sha256.Size]byte

// filterCache holds answers by all that the weaker policy and the judging of
// requirements look at. It ends with its snapshot.
type filterCache struct {
	mu sync.Mutex
	// Answers go from recent to older when recent is full, and are gone with the
	// next time.
	recent, older map[filterKey]filtered
}

type filtered struct {
	tool  FilteredTool
	until time.Time
}

func (c *filterCache) get(k filterKey, now time.Time) (FilteredTool, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.recent[k]
	if !ok {
		f, ok = c.older[k]
	}
	// An answer from later is of a clock that was set back.
	if !ok || !now.Before(f.until) || now.Before(f.until.Add(-filterTTL)) {
		return FilteredTool{}, false
	}
	return f.tool, true
}

func (c *filterCache) put(k filterKey, t FilteredTool, now time.Time) {
	kept, small := t.kept()
	if !small {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recent == nil || len(c.recent) >= maxFiltered {
		c.older, c.recent = c.recent, make(map[filterKey]filtered)
	}
	c.recent[k] = filtered{tool: kept, until: now.Add(filterTTL)}
}

// kept is t without its name and with texts of its own: a piece of a request
// would keep the whole of it in memory.
func (t FilteredTool) kept() (FilteredTool, bool) {
	out := FilteredTool{Access: t.Access, Rule: strings.Clone(t.Rule)}
	size := len(t.Rule)
	clone := func(list []string) []string {
		texts := make([]string, len(list))
		for i, s := range list {
			texts[i] = strings.Clone(s)
			size += len(s)
		}
		return texts
	}
	if t.Needs != nil {
		n := *t.Needs
		n.Scopes, n.DetailTypes, n.ACRValues = clone(n.Scopes), clone(n.DetailTypes), clone(n.ACRValues)
		out.Needs = &n
	}
	return out, size <= maxFilteredText
}

// callerKey is of who asks and from where: of the members of the input document
// that are not about one tool, and of what requirements see beside it.
func callerKey(in *input, caller pairs) filterKey {
	m := in.query.MCP
	text := appendTexts(nil, terms{}.close(caller).String(), in.query.audience(), m.Transport, m.ProtocolVersion, strconv.Itoa(int(in.query.Actionable)),
		strconv.FormatBool(in.query.CarriesObligations))
	for _, u := range in.usable {
		// The document has whole seconds; what is judged may have more.
		text = appendTexts(text, u.AuthTime.UTC().Format(time.RFC3339Nano))
	}
	return sha256.Sum256(text)
}

// of is the key of one tool for the caller.
func (k filterKey) of(t *ListedTool) filterKey {
	text := appendTexts(k[:], t.Name, strconv.FormatBool(t.ArgumentsMapped))
	return sha256.Sum256(t.Entry.AppendJSON(text))
}

// appendTexts keeps texts apart by their lengths.
func appendTexts(dst []byte, texts ...string) []byte {
	for _, s := range texts {
		dst = binary.BigEndian.AppendUint64(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}
