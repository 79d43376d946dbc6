package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
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
	// retellLog is how often it is tried to tell of lost lines when nothing else is
	// written.
	retellLog = 5 * time.Second
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
	// Nobody reads the signal; ignored, it would be ignored by what wrap starts as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
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
	w := lineWriter{to: q.to}
	for {
		for line, ok := q.next(); ok; line, ok = q.next() {
			if !w.write(line) {
				q.lost.Add(1)
				continue
			}
			w.tell(q.lost.Load())
		}
		var again <-chan time.Time
		if q.lost.Load() != w.told {
			again = time.After(retellLog)
		}
		select {
		case <-q.more:
		case <-again:
			w.tell(q.lost.Load())
		case <-ctx.Done():
			select {
			case <-q.more:
				continue
			default:
				w.tell(q.lost.Load())
				return
			}
		}
	}
}

// lineWriter writes whole lines: what is left of one that failed does not begin the
// next.
type lineWriter struct {
	to   io.Writer
	torn bool
	// told is the number of lost lines that was told last.
	told uint64
}

func (w *lineWriter) write(line []byte) bool {
	if w.torn {
		if _, err := w.to.Write([]byte{'\n'}); err != nil {
			return false
		}
		w.torn = false
	}
	n, err := w.to.Write(line)
	w.torn = err != nil && n > 0
	return err == nil
}

// tell writes how many lines are lost, unless that was told.
func (w *lineWriter) tell(lost uint64) {
	if lost == w.told {
		return
	}
	line := fmt.Appendf(nil, "{\"time\":%q,\"level\":\"ERROR\",\"msg\":\"lines of the log are lost\",\"lost\":%d}\n", time.Now().UTC().Format(time.RFC3339Nano), lost)
	if w.write(line) {
		w.told = lost
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
