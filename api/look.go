package api

import (
	"context"
	"fmt"
	"os"
	"time"
)

// lookAfter is how long calls are decided one after the other before the network is
// looked at again.
const lookAfter = 500 * time.Microsecond

// look has the network looked at. While goroutines can run the scheduler of Go does so
// every ten milliseconds only, and where all processors decide without a break there
// always is one that can: a call of another caller would not be seen for that long.
// Whoever waits here waits for the network itself.
type look struct {
	r, w *os.File
	seen chan struct{}
}

func newLook() (*look, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return &look{r: r, w: w, seen: make(chan struct{}, 1)}, nil
}

// serve works until ctx is done.
func (l *look) serve(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _, _ = l.r.Close(), l.w.Close() })()
	var b [1]byte
	for {
		if _, err := l.r.Read(b[:]); err != nil {
			close(l.seen)
			return
		}
		l.seen <- struct{}{}
	}
}

// around returns once all that came over the network before has been found. It is for
// one at a time.
func (l *look) around() {
	if _, err := l.w.Write([]byte{0}); err != nil {
		return
	}
	<-l.seen
}

// lookAround has the network looked at now and then while calls wait. Who does so has its
// place meanwhile, and with it fewer are given than there are processors: where each has a
// decision, and the next one ready, nobody would look.
func (p *pool) lookAround() {
	if p.look == nil {
		return
	}
	p.mu.Lock()
	due := p.waiting > 0 && !p.looking && time.Since(p.looked) >= lookAfter
	p.looking = p.looking || due
	p.mu.Unlock()
	if !due {
		return
	}
	p.look.around()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking, p.looked = false, time.Now()
	p.next(p.looked)
}

// places is how many decisions may be under way at once now.
func (p *pool) places() int {
	if p.looking {
		return min(p.workers, p.processors)
	}
	return p.workers
}
