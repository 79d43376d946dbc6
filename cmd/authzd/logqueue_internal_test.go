package main

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// tornWriter takes part of each write while it is full.
type tornWriter struct {
	strings.Builder
	full atomic.Bool
}

func (w *tornWriter) Write(p []byte) (int, error) {
	if w.full.Load() {
		n, _ := w.Builder.Write(p[:len(p)/2])
		return n, errors.New("full")
	}
	return w.Builder.Write(p)
}

func TestLineWriter(t *testing.T) {
	t.Parallel()
	to := &tornWriter{}
	to.full.Store(true)
	w := lineWriter{to: to}
	if w.write([]byte("abcd\n")) || w.write([]byte("efgh\n")) {
		t.Fatal("a line that was torn is written")
	}
	w.tell(2)
	to.full.Store(false)
	if !w.write([]byte("ijkl\n")) {
		t.Fatal("not written")
	}
	if got := to.String(); got != "ab\nijkl\n" {
		t.Fatalf("%q", got)
	}
	w.tell(3)
	w.tell(3)
	if got := to.String(); strings.Count(got, `"lost":3}`+"\n") != 1 || w.told != 3 {
		t.Errorf("%q, told %d", got, w.told)
	}
}

// What is lost is told once it can be, also when nothing else is written, and at the end.
func TestLostLinesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to := &tornWriter{}
		to.full.Store(true)
		q := &logQueue{to: to, more: make(chan struct{}, 1)}
		stop := q.start(t.Context())
		_, _ = q.Write([]byte("lost\n"))
		synctest.Wait()
		to.full.Store(false)
		want := func(when string, lost uint64) {
			t.Helper()
			if got := fmt.Sprintf("\"lost\":%d}\n", lost); q.lost.Load() != lost || strings.Count(to.String(), got) != 1 {
				t.Errorf("%s: %d are lost, want %d, once in %q", when, q.lost.Load(), lost, to.String())
			}
		}
		time.Sleep(retellLog)
		synctest.Wait()
		want("when nothing is written", 1)
		to.full.Store(true)
		_, _ = q.Write([]byte("lost, too\n"))
		synctest.Wait()
		to.full.Store(false)
		stop()
		want("at the end", 2)
	})
}
