package pep

import (
	"testing"
	"time"
)

// The proxy gives up an unused connection before the servers do that give it up
// soonest.
func TestUpstreamIdleTime(t *testing.T) {
	t.Parallel()
	if got := upstreamTransport().IdleConnTimeout; got <= 0 || got >= 5*time.Second {
		t.Errorf("a connection is kept unused for %s", got)
	}
}
