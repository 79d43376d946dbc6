package credentials

import (
	"strconv"
	"testing"
	"time"
)

// TestCacheIsBounded: what is over goes first, and then anything, but never the
// answer that is being kept.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	in := newIntrospector(Issuer{Introspection: &Introspection{}}, Options{})
	now := time.Unix(1795370400, 0)
	name := func(i int) (k [32]byte) {
		copy(k[:], strconv.Itoa(i))
		return k
	}
	for i := range maxCached {
		until := now.Add(time.Minute)
		if i%2 == 0 {
			until = now
		}
		in.remember(name(i), answer{until: until}, now.Add(-time.Second))
	}
	if len(in.cached) != maxCached {
		t.Fatalf("%d answers", len(in.cached))
	}
	in.remember(name(maxCached), answer{until: now.Add(time.Minute)}, now)
	if len(in.cached) != maxCached/2+1 {
		t.Errorf("%d answers where half were over", len(in.cached))
	}
	for i := range 2 * maxCached {
		k := name(maxCached + 1 + i)
		in.remember(k, answer{until: now.Add(time.Minute)}, now)
		if _, ok := in.recall(k, now); !ok {
			t.Fatal("the newest answer is gone")
		}
	}
	if len(in.cached) != maxCached {
		t.Errorf("%d answers", len(in.cached))
	}
}
