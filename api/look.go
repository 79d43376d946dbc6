package api

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"
)

// lookAfter is how long calls are decided one after the other before the network is
// looked at again.
const lookAfter = 500 * time.Microsecond

const (
	// lookLate is how long that may take. It takes a third of it as a rule.
	lookLate = time.Millisecond
	// stopRest is how many times longer than a stop of all goroutines took the next one is
	// to be away.
	stopRest = 20
)

// look has the network looked at. While goroutines can run the scheduler of Go does so
// every ten milliseconds only, and where all processors decide without a break there
// always is one that can: a call of another caller would not be seen for that long.
// Whoever waits here waits for the network itself.
type look struct {
	r, w *os.File
	seen chan struct{}
	// due receives when it is time for it, from somebody who leaves his place to it.
	due chan struct{}
	// stop stops and starts all goroutines, which is not to be before next.
	stop func()
	next time.Time
}

func newLook() (*look, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return &look{r: r, w: w, seen: make(chan struct{}, 1), due: make(chan struct{}), stop: stopAll}, nil
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
	late := time.NewTimer(max(lookLate, time.Until(l.next)))
	defer late.Stop()
	for {
		select {
		case <-l.seen:
			return
		case <-late.C:
		}
		// After a collection of garbage Go sweeps in the background for several milliseconds,
		// by a goroutine that can run all the time. When all go on after a stop the network is
		// looked at.
		began := time.Now()
		l.stop()
		rest := stopRest * time.Since(began)
		l.next = time.Now().Add(rest)
		late.Reset(max(lookLate, rest))
	}
}

// stopAll stops and starts all goroutines: whoever asks for more than there is room for
// gets that and little else.
func stopAll() { runtime.GoroutineProfile(make([]runtime.StackRecord, 1)) }

// lookAround has the network looked at now and then while calls wait, and tells whether it
// is. Whoever does so gets the caller's place, and with it fewer are given than there are
// processors: where each has a decision, and the next one ready, nobody would look.
func (p *pool) lookAround() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.look == nil || p.waiting == 0 || p.looking || time.Since(p.looked) < lookAfter {
		return false
	}
	select {
	case p.look.due <- struct{}{}:
		p.looking = true
		return true
	default: // nobody is there to look
		return false
	}
}

// lookBy has the network looked at by l from now on.
func (p *pool) lookBy(l *look) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look = l
}

// lookout looks at the network by l when it is due, and gives the place away after that.
func (p *pool) lookout(ctx context.Context, l *look) {
	for {
		select {
		case <-l.due:
		case <-ctx.Done():
			return
		}
		l.around()
		p.mu.Lock()
		p.looking, p.looked = false, time.Now()
		p.mu.Unlock()
		p.give()
	}
}

// places is how many decisions may be under way at once now.
func (p *pool) places() int {
	if p.looking {
		return min(p.workers, p.processors)
	}
	return p.workers
}
