package registry

import (
	"runtime"
	"sync"
)

// quietly runs work that takes long, such as compiling, so that decisions are
// hardly slower meanwhile: on a thread of low priority, and with one more
// processor for Go's scheduler, which would otherwise let that work have one of
// theirs by turns of 10 ms and more. The operating system then shares out the
// cores, and gives decisions theirs first.
func quietly(do func()) {
	more.begin()
	defer more.end()
	done := make(chan any, 1)
	go func() {
		// Never unlocked: the thread ends with its goroutine, and its priority with
		// it. Go starts other threads from one that was not touched.
		runtime.LockOSThread()
		defer func() { done <- recover() }()
		yieldCores()
		do()
	}()
	if v := <-done; v != nil {
		panic(v) // where it would have been without the thread
	}
}

// processors counts those who have one more.
type processors struct {
	mu           sync.Mutex
	busy, before int
}

//nolint:gochecknoglobals // of the process, as runtime.GOMAXPROCS is
var more processors

func (p *processors) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy++; p.busy == 1 {
		p.before = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(p.before + 1)
	}
}

func (p *processors) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy > 0 {
		return
	}
	// The default follows the machine. A number that somebody has chosen comes back
	// instead.
	if runtime.SetDefaultGOMAXPROCS(); runtime.GOMAXPROCS(0) != p.before {
		runtime.GOMAXPROCS(p.before)
	}
}
