package failclosed_test

import "testing"

// TestOracles holds each oracle against the base queries that were written with
// an answer in mind.
func TestOracles(t *testing.T) {
	t.Parallel()
	for _, s := range loadSuites(t) {
		for _, b := range s.queries {
			if got, want := mayAllow(oracleOf(s.name), b.Query), b.mayAllow(); got != want {
				t.Errorf("%s/%s: the oracle says %v, the query is meant to %s", s.name, b.Name, got, b.Want)
			}
		}
	}
}
