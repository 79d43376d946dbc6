package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxQueuedLog bounds what waits to be written, in bytes.
	maxQueuedLog = 4 << 20
	// lastLog is how long the end of a process waits for its last lines.
	lastLog = time.Second
)

// logQueue is a writer of log lines that nobody waits for: who reads the log may
// stand still, or its disk be full, and decisions go on. A line that can not be
// kept or written is lost, counted, and told of once lines can be written again.
// Its Write may be used by many goroutines.
type logQueue struct {
	to   io.Writer
	lost atomic.Uint64

	mu    sync.Mutex
	lines [][]byte
	bytes int
	// more has a token while there may be lines.
	more chan struct{}
}

// newLog makes the log of a command that serves; start the queue, and end it last. A
// reader of standard error that has gone ends such a command no more than a full disk.
func newLog(std stdio, level slog.Level) (*slog.Logger, *logQueue) {
	signal.Ignore(syscall.SIGPIPE)
	q := &logQueue{to: std.err, more: make(chan struct{}, 1)}
	return slog.New(slog.NewJSONHandler(q, &slog.HandlerOptions{Level: level})), q
}

// Write keeps one line. It never fails: what does not fit is lost.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+len(line) > maxQueuedLog {
		q.lost.Add(1)
		return len(line), nil
	}
	q.lines = append(q.lines, append([]byte(nil), line...))
	q.bytes += len(line)
	select {
	case q.more <- struct{}{}:
	default:
	}
	return len(line), nil
}

// next takes the oldest line.
func (q *logQueue) next() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		q.lines = nil
		return nil, false
	}
	line := q.lines[0]
	q.lines, q.bytes = q.lines[1:], q.bytes-len(line)
	return line, true
}

// run writes until ctx is done, and then what is left. It does not return while a
// write stands still.
func (q *logQueue) run(ctx context.Context) {
	var told uint64
	for {
		for line, ok := q.next(); ok; line, ok = q.next() {
			if _, err := q.to.Write(line); err != nil {
				q.lost.Add(1)
				continue
			}
			if lost := q.lost.Load(); lost != told {
				_, err := fmt.Fprintf(q.to, "{\"time\":%q,\"level\":\"ERROR\",\"msg\":\"lines of the log are lost\",\"lost\":%d}\n", time.Now().UTC().Format(time.RFC3339Nano), lost)
				if err == nil {
					told = lost
				}
			}
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			select {
			case <-q.more:
				continue
			default:
				return
			}
		}
	}
}

// start begins to write, and returns what ends it, within lastLog; the end of ctx does
// not, for a command has something to say after it.
func (q *logQueue) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(lastLog):
		}
	}
}
