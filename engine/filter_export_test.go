package engine

import "context"

// SameFilterKey tells whether answers to one caller count for the other.
func SameFilterKey(e *Engine, a, b *FilterQuery) bool {
	x, err := e.newFiltering(context.Background(), e.Snapshot(), a)
	if err != nil {
		return false
	}
	y, err := e.newFiltering(context.Background(), e.Snapshot(), b)
	return err == nil && x.key == y.key
}
