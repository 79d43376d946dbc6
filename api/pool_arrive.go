package api

import (
	"context"
	"time"
)

// arrival is a call on its way through the server.
type arrival struct {
	pool *pool
	line *line
	at   int64 // its interval
	left bool
	// unwatch ends the watch over a call that may end unseen.
	unwatch func() bool
}

// arrive counts a call in that is not yet read, or refuses it.
func (p *pool) arrive(ctx context.Context, caller string) (*arrival, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Where the queue is full, who comes to it may make room.
	now := time.Now()
	p.askedBy(caller, now)
	p.count(1, now)
	if p.waiting < p.limit && !p.admits(ctx, caller, 1, now) {
		return nil, overloaded()
	}
	l, at := p.lineOf(caller), p.epoch(now)
	p.inside.turn(at)
	p.inside.add(at, 1)
	l.inside.turn(at)
	l.inside.add(at, 1)
	if l.calls++; l.calls == 1 {
		p.active++
	}
	return &arrival{pool: p, line: l, at: at}, nil
}

// leave counts it out, once. A nil arrival was not counted.
func (a *arrival) leave() {
	if a == nil {
		return
	}
	if a.unwatch != nil {
		a.unwatch()
	}
	a.out()
}

func (a *arrival) out() {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.left {
		return
	}
	a.left = true
	p.inside.add(a.at, -1)
	a.line.inside.add(a.at, -1)
	if a.line.calls--; a.line.calls == 0 {
		p.active--
		p.forget(a.line)
	}
}
