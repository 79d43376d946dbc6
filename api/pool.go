package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// pool bounds how many decisions run at once and how many wait. Decisions of
// gRPC calls run on its long-lived workers: evaluation grows the stack, and a
// call of grpc-go starts on a fresh small one, which costs a third of the
// throughput. A connection of HTTP/1.1 has a goroutine of its own that stays,
// so REST only takes a place.
type pool struct {
	tasks  chan *task
	places chan struct{}
	// admitted counts what waits and what runs.
	admitted atomic.Int64
	limit    int64
}

type task struct {
	run  func()
	done chan struct{}
	// panicked is what run panicked with, for the goroutine that waits.
	panicked *panicked
}

// panicked carries a panic and the stack that it happened on from a worker to
// the caller, whose recovery denies.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func newPool(workers, queue int) *pool {
	return &pool{
		tasks:  make(chan *task),
		places: make(chan struct{}, workers),
		limit:  int64(workers + queue),
	}
}

// serve runs the workers until ctx ends. Calls that wait then are refused by
// their own contexts.
func (p *pool) serve(ctx context.Context) {
	var workers sync.WaitGroup
	for range cap(p.places) {
		workers.Go(func() {
			for {
				select {
				case t := <-p.tasks:
					t.work()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	workers.Wait()
}

func (t *task) work() {
	defer close(t.done)
	defer func() {
		if v := recover(); v != nil {
			t.panicked = &panicked{value: v, stack: debug.Stack()}
		}
	}()
	t.run()
}

// admit counts one call in, or refuses it because too many wait.
func (p *pool) admit() error {
	if p.admitted.Add(1) > p.limit {
		p.admitted.Add(-1)
		return errorf(CodeOverloaded, "", "too many calls are waiting for a decision; try again later")
	}
	return nil
}

func (p *pool) leave() { p.admitted.Add(-1) }

// waiting is how many calls wait for a place, near enough for a gauge.
func (p *pool) waiting() int64 { return max(p.admitted.Load()-int64(len(p.places)), 0) }

func (p *pool) take(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pool) give() { <-p.places }

// here runs f on the calling goroutine once there is a place.
func (p *pool) here(ctx context.Context, f func()) error {
	if err := p.admit(); err != nil {
		return err
	}
	defer p.leave()
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	f()
	return nil
}

// onWorker runs f on a worker and waits for its end. A call whose context ends
// before a worker is free never runs; after that f itself watches the context.
func (p *pool) onWorker(ctx context.Context, f func()) error {
	if err := p.admit(); err != nil {
		return err
	}
	defer p.leave()
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.give()
	t := &task{run: f, done: make(chan struct{})}
	select {
	case p.tasks <- t:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-t.done
	if t.panicked != nil {
		panic(t.panicked)
	}
	return nil
}
