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

// LookedUp are the indexes that the policy of s looks rows up by, as path.member.
func LookedUp(s *Snapshot) []string { return s.eval.topdown.lookedUp() }

// LookedUpInLists are those of its weaker form for lists.
func LookedUpInLists(s *Snapshot) []string {
	s.filter.make()
	return s.filter.made.eval.lookedUp()
}

func (t *topdownEvaluator) lookedUp() (names []string) {
	if t == nil {
		return nil
	}
	for i := range t.indexes {
		for _, m := range t.indexes[i].Members {
			names = append(names, t.indexes[i].Name()+"."+m)
		}
	}
	return names
}
