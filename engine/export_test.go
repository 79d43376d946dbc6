package engine

import "context"

// VerifyPending compares what waits to be compared, and counts the differences.
func VerifyPending(ctx context.Context, e *Engine) (different uint64) {
	for {
		select {
		case one := <-e.samples:
			e.verify(ctx, &one)
		default:
			return e.counters.different.Load()
		}
	}
}
