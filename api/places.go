package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/authzd/authzd/engine"
)

const (
	// maxPushes bounds the uploads at once, maxPushesOfOne those of one caller, so
	// that slow ones keep nobody else out.
	maxPushes      = 4
	maxPushesOfOne = 2
	// maxDownloads and maxDownloadsOfOne bound the archives that are being sent.
	maxDownloads      = 8
	maxDownloadsOfOne = 4
	// smallArchive is sent without a place.
	smallArchive = 256 << 10
	// placeTime is how long a download waits for a place.
	placeTime = 5 * time.Second
)

// places are taken by archives that are in memory.
type places struct {
	all, ofOne int

	mu    sync.Mutex
	taken int
	of    map[string]int
	// left is closed when a place becomes free; nil: nobody waits.
	left chan struct{}
}

// enter takes a place for a caller until leave is called. Callers that are not
// told apart, whose name is empty, share all of them.
func (p *places) enter(caller string) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.taken >= p.all:
		return nil, errorf(CodeOverloaded, "", "%d bundles are on their way already", p.all)
	case caller != "" && p.of[caller] >= p.ofOne:
		return nil, errorf(CodeOverloaded, "", "%d bundles of this caller are on their way already", p.ofOne)
	}
	if p.of == nil {
		p.of = map[string]int{}
	}
	p.taken++
	p.of[caller]++
	return func() { p.leave(caller) }, nil
}

func (p *places) leave(caller string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[caller]--; p.of[caller] == 0 {
		delete(p.of, caller)
	}
	if p.left != nil {
		close(p.left)
		p.left = nil
	}
}

func (p *places) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == nil {
		p.left = make(chan struct{})
	}
	return p.left
}

// await is enter, but waits for a place up to wait, or until ended is closed.
func (p *places) await(ctx context.Context, caller string, wait time.Duration, ended <-chan struct{}) (leave func(), err error) {
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		free := p.next() // before it is looked at
		leave, err := p.enter(caller)
		if err == nil {
			return leave, nil
		}
		select {
		case <-free:
		case <-late.C:
			return nil, err
		case <-ended:
			return nil, &engine.Error{Code: engine.CodeNotReady, Err: errors.New("the server is stopping")}
		case <-ctx.Done():
			return nil, ctx.Err() //nolint:wrapcheck // classed by its identity
		}
	}
}
