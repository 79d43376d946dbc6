package main

import (
	"math"
	"math/bits"
	"time"
)

// steps is how finely each power of two is divided: quantiles are exact to
// 1.6 %.
const steps = 64

// histogram counts latencies in nanoseconds on a log-linear scale.
type histogram struct {
	buckets [64 * steps]uint32
	count   uint64
	max     int64
}

func (h *histogram) add(d time.Duration) {
	ns := max(int64(d), 0)
	h.count++
	h.max = max(h.max, ns)
	h.buckets[bucket(uint64(ns))]++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

func bucket(v uint64) int {
	if v < steps {
		return int(v)
	}
	e := bits.Len64(v) - 7                       // So that v>>e lies in [64, 128).
	return (e+1)*steps + int(v>>uint(e)) - steps //nolint:gosec // below 128
}

// middle is the value that stands for a bucket.
func middle(i int) float64 {
	if i < steps {
		return float64(i)
	}
	return (float64(i%steps+steps) + 0.5) * math.Pow(2, float64(i/steps-1))
}

// quantile is in microseconds.
func (h *histogram) quantile(p float64) float64 {
	want := uint64(math.Ceil(p * float64(h.count)))
	var seen uint64
	for i, n := range h.buckets {
		seen += uint64(n)
		if n > 0 && seen >= want {
			return math.Min(middle(i), float64(h.max)) / 1e3
		}
	}
	return float64(h.max) / 1e3
}
