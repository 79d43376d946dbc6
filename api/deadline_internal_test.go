package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What the library's own context would say, at each point of time.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, waits := range []bool{false, true} {
			d := &deadline{Context: parent, at: time.Now().Add(time.Minute)}
			want, stop := context.WithTimeout(parent, time.Minute)
			if waits {
				_ = d.Done()
			}
			for _, at := range []time.Duration{0, 59 * time.Second, time.Second, time.Second} {
				time.Sleep(at)
				synctest.Wait()
				if !errors.Is(d.Err(), want.Err()) {
					t.Errorf("waits %v: Err() = %v, want %v", waits, d.Err(), want.Err())
				}
			}
			if got, ok := d.Deadline(); !ok || got != d.at {
				t.Errorf("Deadline() = %v, %v, want %v", got, ok, d.at)
			}
			stop()
			d.end()
			select {
			case <-d.Done():
			default:
				t.Errorf("waits %v: it is over, and Done is open", waits)
			}
			if !errors.Is(d.Err(), context.DeadlineExceeded) {
				t.Errorf("waits %v: after its end Err() = %v, want the first error", waits, d.Err())
			}
		}
	})
}

// A deadline ends with its parent, has its parent's deadline if that is earlier, and wakes its children.
func TestDeadlineAndItsFamily(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		parent, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Second)
		d := &deadline{Context: parent, at: time.Now().Add(time.Minute)}
		if got, _ := d.Deadline(); got != time.Now().Add(time.Second) {
			t.Errorf("Deadline() = %v, want the parent's", got)
		}
		child, stop := context.WithCancel(d)
		defer stop()
		if child.Value(key{}) != "value" {
			t.Error("the parent's value is lost")
		}
		cancel()
		synctest.Wait()
		if !errors.Is(d.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) {
			t.Errorf("the parent is cancelled; Err() = %v, the child's %v", d.Err(), child.Err())
		}

		other := &deadline{Context: t.Context(), at: time.Now().Add(time.Minute)}
		ended, stop := context.WithCancel(other)
		defer stop()
		other.end()
		synctest.Wait()
		if !errors.Is(ended.Err(), context.Canceled) || !errors.Is(other.Err(), context.Canceled) {
			t.Errorf("it has ended; Err() = %v, the child's %v", other.Err(), ended.Err())
		}
		unasked := &deadline{Context: t.Context(), at: time.Now().Add(time.Minute)}
		unasked.end()
		if !errors.Is(unasked.Err(), context.Canceled) {
			t.Errorf("it has ended; Err() = %v", unasked.Err())
		}
	})
}
