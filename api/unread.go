package api

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// maxUnread is how many bytes of answers a caller may leave unread.
const maxUnread = 16 << 20

var errUnread = errorf(CodeOverloaded, "", "%d MiB of answers and more have not been read yet; read them, or end their calls", maxUnread>>20)

// unreadAnswers counts the bytes of answers that clients of gRPC have not taken. The server of
// grpc-go keeps what a client opens no window for (RFC 9113, section 5.2) as long as the
// connection lives, however many answers that are; so who has too many unread is given
// no more. Answers of up to a KiB are not counted: of those, maxStreams bounds a
// connection's. A stream may have many such messages.
type unreadAnswers struct {
	// total is written with mu, and read by whoever.
	total atomic.Int64

	mu sync.Mutex
	of map[string]int64
}

// connected makes the connection one that is counted.
func (u *unreadAnswers) connected(conn net.Conn) net.Conn {
	return &rpcConn{Conn: conn, from: &rpcPeer{Addr: conn.RemoteAddr(), unread: u}}
}

// full tells whether a caller has too much unread, on all its connections; one that has
// no name, on this.
func (u *unreadAnswers) full(p *rpcPeer, caller string) bool {
	if u.total.Load() < maxUnread {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if caller == "" {
		return p.bytes[""] >= maxUnread
	}
	return u.of[caller] >= maxUnread
}

// add counts n more, or fewer if n is negative.
func (u *unreadAnswers) add(p *rpcPeer, caller string, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.gone {
		return
	}
	if u.of == nil {
		u.of = map[string]int64{}
	}
	if p.bytes == nil {
		p.bytes = map[string]int64{}
	}
	u.total.Add(n)
	for _, m := range []map[string]int64{u.of, p.bytes} {
		if m[caller] += n; m[caller] == 0 {
			delete(m, caller)
		}
	}
}

func (u *unreadAnswers) closed(p *rpcPeer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.gone {
		return
	}
	p.gone = true
	for caller, n := range p.bytes {
		u.total.Add(-n)
		if u.of[caller] -= n; u.of[caller] == 0 {
			delete(u.of, caller)
		}
	}
	p.bytes = nil
}

func (u *unreadAnswers) bytes() float64 { return float64(u.total.Load()) }

// reply is an answer on its way to the codec, or a message of a stream, with whom it is for.
type reply struct {
	proto.Message
	from   *rpcPeer
	caller string
	stream bool
}

// leastCounted is the capacity of a buffer that grpc-go tells of, one byte more than those
// that it does not; kept as it is for a short message of a stream, it stands for what
// grpc-go has of each beside.
const leastCounted = 1<<10 + 1

// marshal encodes the answer and has its bytes counted until they are sent. They have a
// buffer of their length: one of grpc-go's pool may be many times as large, and would be
// kept as long.
func (r *reply) marshal(short func(any) (mem.BufferSlice, error)) (mem.BufferSlice, error) {
	n := proto.Size(r.Message)
	if mem.IsBelowBufferPoolingThreshold(n) {
		if !r.stream {
			return short(r.Message)
		}
		n = leastCounted
	}
	text, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, n), r.Message)
	if err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	c := &charge{from: r.from, caller: r.caller, bytes: int64(cap(text))}
	c.from.unread.add(c.from, c.caller, c.bytes)
	counted := &countedAnswer{charge: c}
	counted.dropped = runtime.AddCleanup(counted, (*charge).out, c)
	return mem.BufferSlice{mem.NewBuffer(&text, counted)}, nil
}

// charge is what an answer adds to what is unread.
type charge struct {
	from   *rpcPeer
	caller string
	bytes  int64
	isOut  atomic.Bool
}

// out counts it out, once.
func (c *charge) out() {
	if !c.isOut.Swap(true) {
		c.from.unread.add(c.from, c.caller, -c.bytes)
	}
}

// countedAnswer is told when nobody needs the bytes of an answer any more: as their pool, or
// by the collector. grpc-go drops what a call that has ended had yet to send, and frees
// some of it only.
type countedAnswer struct {
	charge  *charge
	dropped runtime.Cleanup
}

// Get makes it a mem.BufferPool; grpc-go asks the pool of a buffer for none.
func (*countedAnswer) Get(n int) *[]byte { return mem.DefaultBufferPool().Get(n) }

// Put is called with the bytes, which are nobody's then.
func (c *countedAnswer) Put(*[]byte) {
	c.dropped.Stop()
	c.charge.out()
}
