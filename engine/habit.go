package engine

import (
	"sync/atomic"

	"github.com/authzd/authzd/engine/internal/compiled"
)

// reasonHabit is the reason of evaluations for which the compiled policy was not
// asked, because it hands most over.
const reasonHabit compiled.Reason = "habit"

const (
	// habitWindow evaluations of the compiled policy are one trial.
	habitWindow = 64
	// habitRest evaluations go to topdown at once after a trial that handed three in
	// four over: beginning those twice costs more than the others gain.
	habitRest = 2048
)

// habit tells whether a compiled policy is worth asking. Topdown's answer always
// counts, so that a race between goroutines may make a trial longer, but nothing
// wrong. The zero value has seen nothing.
type habit struct {
	tries, handed, rest atomic.Int32
}

// resting tells whether topdown is to be asked at once, and counts that down.
func (h *habit) resting() bool {
	return h.rest.Load() > 0 && h.rest.Add(-1) >= 0
}

// note records how one evaluation came out.
func (h *habit) note(handedOver bool) {
	if handedOver {
		h.handed.Add(1)
	}
	if h.tries.Add(1) < habitWindow {
		return
	}
	if h.handed.Load() >= habitWindow*3/4 {
		h.rest.Store(habitRest)
	}
	h.tries.Store(0)
	h.handed.Store(0)
}
