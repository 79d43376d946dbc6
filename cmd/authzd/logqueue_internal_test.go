package main

import (
	"errors"
	"strings"
	"testing"
)

// tornWriter takes part of each write while it is full.
type tornWriter struct {
	strings.Builder
	full bool
}

func (w *tornWriter) Write(p []byte) (int, error) {
	if w.full {
		n, _ := w.Builder.Write(p[:len(p)/2])
		return n, errors.New("full")
	}
	return w.Builder.Write(p)
}

func TestLineWriter(t *testing.T) {
	t.Parallel()
	to := &tornWriter{full: true}
	w := lineWriter{to: to}
	if w.write([]byte("abcd\n")) || w.write([]byte("efgh\n")) {
		t.Fatal("a line that was torn is written")
	}
	w.tell(2)
	to.full = false
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
