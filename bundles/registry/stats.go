package registry

import (
	"sync/atomic"
	"time"
)

// Stage is a part of loading a bundle.
type Stage string

// The stages, in their order.
const (
	// StageVerify unpacks an archive, verifies its signature and reads its data.
	StageVerify Stage = "verify"
	// StageCompile makes a snapshot of it and what is active beside it.
	StageCompile Stage = "compile"
	// StageTest runs its Rego tests and decision cases.
	StageTest Stage = "test"
)

// Stages returns all of them.
func Stages() []Stage { return []Stage{StageVerify, StageCompile, StageTest} }

// Stats tell what a Registry has done since New, and has now.
type Stats struct {
	// Stages are how often each was gone through, and how long that took in all.
	Stages map[Stage]StageStats
	// Made and Refused count changes of data.
	Made, Refused uint64
	// Active are the bundles that are.
	Active []ActiveStats
}

// StageStats are of one stage. Busy is how many go through it now.
type StageStats struct {
	Count uint64
	Took  time.Duration
	Busy  int64
}

// ActiveStats are of one active bundle: how many bytes its files have together, and the
// number of the last change of its data.
type ActiveStats struct {
	Name    string
	Bytes   int64
	Changes int64
}

// counts is what Stats are made of.
type counts struct {
	stages        map[Stage]*stageCounts // never changed after New
	made, refused atomic.Uint64
}

type stageCounts struct {
	count atomic.Uint64
	took  atomic.Int64
	busy  atomic.Int64
}

func newCounts() *counts {
	c := &counts{stages: map[Stage]*stageCounts{}}
	for _, s := range Stages() {
		c.stages[s] = &stageCounts{}
	}
	return c
}

// slow is from when on the end of a stage is logged.
const slow = time.Second

// stage notes that one begins; what it returns, that it has ended.
func (r *Registry) stage(s Stage, bundle string) (ended func()) {
	c := r.counts.stages[s]
	c.busy.Add(1)
	began := time.Now()
	return func() {
		took := time.Since(began)
		c.busy.Add(-1)
		c.count.Add(1)
		c.took.Add(int64(took))
		if took >= slow {
			r.opts.Log.Info("loading a bundle", "stage", string(s), "bundle", bundle, "took", took.String())
		}
	}
}

// Stats returns them.
func (r *Registry) Stats() Stats {
	out := Stats{Stages: map[Stage]StageStats{}, Made: r.counts.made.Load(), Refused: r.counts.refused.Load()}
	for s, c := range r.counts.stages {
		out.Stages[s] = StageStats{Count: c.count.Load(), Took: time.Duration(c.took.Load()), Busy: c.busy.Load()}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, o := range r.active {
		out.Active = append(out.Active, ActiveStats{Name: name, Bytes: o.content.Size, Changes: o.changes})
	}
	return out
}
