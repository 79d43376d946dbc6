package soak_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

// How much more than in the second quarter may be resident in the last, by the
// medians, before memory counts as growing: so many parts of it, and so many MB. The
// collector lets 64 to 512 MiB of garbage lie, so that it goes up and down.
const (
	marginShare = 0.10
	marginMB    = 32
)

// warm is how many seconds there have to be for that: what is shorter warms up.
const warm = 120

// overloadShare: one request in so many may be refused for want of room, where the
// machine, and so the server, stood still for seconds.
const overloadShare = 10_000

// report is what was seen beside the answers.
type report struct {
	*stand
	// base is what the server held before anybody asked, after once all have gone.
	base, after binary.Usage
	// samples are of each second of the load.
	samples []binary.Usage
}

// usage asks the server what it holds, on a connection of its own.
func (s *stand) usage(t *testing.T) binary.Usage {
	t.Helper()
	u, err := s.tryUsage(t.Context())
	if err != nil {
		t.Error(err)
	}
	return u
}

func (s *stand) tryUsage(ctx context.Context) (binary.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, text, err := s.server.Ask(ctx, http.MethodGet, "/metrics", s.keys["admin"], "")
	if err != nil {
		return binary.Usage{}, err
	}
	return binary.ReadUsage(text)
}

// watch asks every second until stop is closed, and tells every minute.
func (r *report) watch(t *testing.T, stop <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		u := r.usage(t)
		r.samples = append(r.samples, u)
		if len(r.samples)%60 == 0 {
			t.Log(u)
		}
	}
}

// calm waits until the server holds no more goroutines and descriptors than before.
func (s *stand) calm(t *testing.T, before binary.Usage) binary.Usage {
	t.Helper()
	for began := time.Now(); ; {
		now := s.usage(t)
		if !now.Leaks(before) {
			return now
		}
		if time.Since(began) > time.Minute || !pause(t.Context(), 100*time.Millisecond) {
			return now
		}
	}
}

// quarter is the median of something in a quarter of the load, from 0 on.
func (r *report) quarter(n int, of func(binary.Usage) float64) float64 {
	part := r.samples[n*len(r.samples)/4 : (n+1)*len(r.samples)/4]
	var values []float64
	for _, u := range part {
		values = append(values, of(u))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func resident(u binary.Usage) float64    { return u.RSSMB }
func goroutines(u binary.Usage) float64  { return u.Goroutines }
func descriptors(u binary.Usage) float64 { return u.Descriptors }

// judge fails the test if anything is not as it has to be.
func (r *report) judge(t *testing.T, l *load, a *admin) {
	t.Helper()
	second, last := r.quarter(1, resident), r.quarter(3, resident)
	if most := second*(1+marginShare) + marginMB; len(r.samples) >= warm && last > most {
		t.Errorf("%.1f MB are resident in the last quarter, and %.1f in the second: want at most %.1f", last, second, most)
	}
	if r.after.Leaks(r.base) {
		t.Errorf("the server holds %v, and held %v before", r.after, r.base)
	}
	if n, all := l.overloaded.Load(), l.done.Load(); n > all/overloadShare {
		t.Errorf("%d of %d requests were refused for want of room", n, all)
	}
	if n := l.wrong.Load() + l.failed.Load(); n > 0 {
		t.Errorf("%d requests were answered wrongly or not at all", n)
	}
	for what, n := range map[string]int64{
		"allowed": l.allowed.Load(), "denied with a hint": l.hinted.Load(), "refused": l.refused.Load(),
		"activations": int64(a.swaps), "changes of data": int64(a.dataChanges),
	} {
		if n == 0 {
			t.Errorf("nothing was exercised: no %s", what)
		}
	}
}

// table says all in figures.
func (r *report) table(l *load, a *admin) string {
	slices.Sort(l.took)
	quantile := func(p float64) float64 { return float64(l.took[int(p*float64(len(l.took)-1))]) / 1e3 }
	slices.Sort(l.possible)
	most := len(l.possible) - 1
	var cpu float64
	if n := len(r.samples); n > 1 {
		cpu = (r.samples[n-1].CPUSeconds - r.samples[0].CPUSeconds) / float64(n-1)
	}
	quarters := func(of func(binary.Usage) float64) string {
		return fmt.Sprintf("%.0f / %.0f / %.0f / %.0f", r.quarter(0, of), r.quarter(1, of), r.quarter(2, of), r.quarter(3, of))
	}
	var b strings.Builder
	_, _ = b.WriteString("| what | measured |\n|---|---|\n")
	for _, row := range [][2]string{
		{"stretches at 70 % load / minutes of these", fmt.Sprintf("%d / %.1f", len(l.possible), l.paced.Minutes())},
		{"requests a second that were found possible: least / median / most", fmt.Sprintf("%.0f / %.0f / %.0f", l.possible[0], l.possible[most/2], l.possible[most])},
		{"requests a second at 70 % load", fmt.Sprintf("%.0f", float64(len(l.took))/l.paced.Seconds())},
		{"requests in all / left out because the machine was busy", fmt.Sprintf("%d / %d", l.done.Load(), l.leftOut.Load())},
		{"allowed / denied / of these with a hint / malformed and refused", fmt.Sprintf("%d / %d / %d / %d", l.allowed.Load(), l.denied.Load(), l.hinted.Load(), l.refused.Load())},
		{"activations / rollbacks / changes of data", fmt.Sprintf("%d / %d / %d", a.swaps, a.rollbacks, a.dataChanges)},
		{"wrong answers", strconv.FormatInt(l.wrong.Load(), 10)},
		{"errors / refused for want of room", fmt.Sprintf("%d / %d", l.failed.Load(), l.overloaded.Load())},
		{"p50 / p99 / most, ms, since a request was due", fmt.Sprintf("%.2f / %.2f / %.0f", quantile(0.5), quantile(0.99), quantile(1))},
		{"processors that the server kept busy", fmt.Sprintf("%.2f", cpu)},
		{"resident MB before any question / at the end", fmt.Sprintf("%.0f / %.0f", r.base.RSSMB, r.after.RSSMB)},
		{"resident MB, medians of the quarters", quarters(resident)},
		{"goroutines before / medians of the quarters / after", fmt.Sprintf("%.0f / %s / %.0f", r.base.Goroutines, quarters(goroutines), r.after.Goroutines)},
		{"descriptors before / medians of the quarters / after", fmt.Sprintf("%.0f / %s / %.0f", r.base.Descriptors, quarters(descriptors), r.after.Descriptors)},
	} {
		_, _ = fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	return b.String()
}
