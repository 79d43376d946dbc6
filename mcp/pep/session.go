package pep

import (
	"slices"
	"sync"

	"github.com/authzd/authzd/rar"
)

const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"

	// maxPending bounds the requests of one session whose answers are looked at.
	maxPending = 1024
	maxRecent  = 4096
)

// session is what is remembered of one client's talk with one server: until
// 2025-11-25 a client says once, in initialize, what it is.
type session struct {
	mu           sync.Mutex
	version      string
	capabilities []byte
	// pending are requests whose answer is to be looked at, by id.
	pending map[string]pending
	// recent are ids of requests that have gone on, the last recall of them at
	// most. MCP forbids a client to use one twice. Without recall, which is over
	// HTTP, an answer to a forgotten request is known by its form.
	recent []string
	recall int
	tools  toolBook
}

// pending is a request that has gone on to the server.
type pending struct {
	method string
	caller Caller
}

// describe fills in what a message, or an earlier one, says of its client.
func (s *session) describe(c Caller, m *message) Caller {
	s.mu.Lock()
	c.ProtocolVersion, c.Capabilities = s.version, s.capabilities
	s.mu.Unlock()
	said, capabilities := text(m.params, "protocolVersion"), rar.Value{}
	if m.method == methodInitialize {
		c.ProtocolVersion, c.Capabilities = said, nil
		capabilities, _ = m.params.Get("capabilities")
	}
	if meta, ok := m.params.Get("_meta"); ok {
		if v := text(meta, metaVersion); v != "" {
			c.ProtocolVersion = v
			capabilities, _ = meta.Get(metaCapabilities)
			c.Capabilities = nil
		}
	}
	if capabilities.Kind() == rar.Object {
		c.Capabilities = capabilities.AppendJSON(nil)
	}
	return c
}

// expect remembers a request whose answer is to be looked at; false: the request
// must not go on, because its answer could be taken for that of another.
func (s *session) expect(m *message, c Caller) bool {
	tracked := m.method == methodInitialize || listMember(m.method) != ""
	key := idKey(m.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, same := s.pending[key]; same || tracked && slices.Contains(s.recent, key) {
		return false
	}
	if tracked && len(s.pending) >= maxPending {
		if s.recall > 0 {
			return false
		}
		for one := range s.pending {
			delete(s.pending, one)
			break
		}
	}
	if s.recall > 0 {
		if len(s.recent) >= s.recall {
			s.recent = append(s.recent[:0], s.recent[s.recall/2:]...)
		}
		s.recent = append(s.recent, key)
	}
	if tracked {
		if s.pending == nil {
			s.pending = map[string]pending{}
		}
		s.pending[key] = pending{method: m.method, caller: c}
	}
	return true
}

// waiting tells whether any answer is to be looked at.
func (s *session) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
}

// answers takes the request that a response answers. A result without the
// member that the request asks for answers another request of the same id.
func (s *session) answers(id, result rar.Value) (pending, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := idKey(id)
	p, ok := s.pending[key]
	if !ok {
		return pending{}, false
	}
	if member := listMember(p.method); member != "" && result.Kind() != rar.Absent {
		if _, has := result.Get(member); !has {
			return pending{}, false
		}
	}
	delete(s.pending, key)
	return p, true
}

// answered forgets a request that was answered by us.
func (s *session) answered(id rar.Value) { s.forget(idKey(id)) }

func (s *session) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, key)
}

// initialized notes what initialize has settled.
func (s *session) initialized(p pending, result rar.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capabilities = p.caller.Capabilities
	if s.version = text(result, "protocolVersion"); s.version == "" {
		s.version = p.caller.ProtocolVersion
	}
}
