package api

import (
	"net"
	"sync"
	"time"
)

// holdTime is how long a connection is not read whose only caller was refused while
// others ask: to refuse costs a processor's time as well, which those need.
const holdTime = time.Millisecond

// rpcConn is a connection of gRPC. Its calls name its address, and so find it.
type rpcConn struct {
	net.Conn
	from *rpcPeer
}

// RemoteAddr is the *rpcPeer.
func (c *rpcConn) RemoteAddr() net.Addr { return c.from }

// Close forgets what is unread: nobody will read it.
func (c *rpcConn) Close() error {
	c.from.unread.closed(c.from)
	return c.Conn.Close() //nolint:wrapcheck // a connection's own
}

// rpcPeer is the other end of one, and what is known of it.
type rpcPeer struct {
	net.Addr
	unread *unreadAnswers

	mu sync.Mutex
	// caller is who used it first. shared: calls of somebody else have come.
	caller string
	shared bool

	// bytes are of answers that it has not taken, by caller; gone: it is closed. Both
	// are unread's.
	bytes map[string]int64
	gone  bool
}

// usedBy notes that a caller uses the connection, and tells whether nobody else has.
func (p *rpcPeer) usedBy(caller string) (alone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.caller == "" {
		p.caller = caller
	}
	p.shared = p.shared || p.caller != caller
	return !p.shared
}
