package registry

import (
	"runtime"
	"sync"
	"testing"
)

// Whatever is done quietly leaves the processors as they were, a panic of it
// comes where it would have come, and several may be under way.
func TestQuietly(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			done := false
			quietly(func() { done = true })
			if !done {
				t.Error("not done")
			}
		})
	}
	group.Wait()
	during := 0
	func() {
		defer func() {
			if v := recover(); v != "now" {
				t.Errorf("recovered %v", v)
			}
		}()
		quietly(func() { during = runtime.GOMAXPROCS(0); panic("now") })
	}()
	if after := runtime.GOMAXPROCS(0); after != before || during != before+1 {
		t.Errorf("%d processors before, %d during, %d after", before, during, after)
	}
}
