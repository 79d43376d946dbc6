package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progressEvery is how often a long upload tells how far it is.
const progressEvery = 2 * time.Second

// progress tells how much of an upload is sent, in a goroutine until end.
type progress struct {
	sent  atomic.Int64
	stop  chan struct{}
	ended chan struct{}
}

func newProgress(to io.Writer, all int64) *progress {
	p := &progress{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for began := time.Now(); ; {
			select {
			case <-tick.C:
				printLine(to, progressText(p.sent.Load(), all, time.Since(began)))
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

func (p *progress) end() {
	close(p.stop)
	<-p.ended
}

// progressText is a line about an upload.
func progressText(sent, all int64, took time.Duration) string {
	if sent >= all {
		return fmt.Sprintf("sent; the server verifies and tests it (%s)", took.Round(time.Second))
	}
	const mib = 1 << 20
	return fmt.Sprintf("sent %.1f of %.1f MiB", float64(sent)/mib, float64(all)/mib)
}
