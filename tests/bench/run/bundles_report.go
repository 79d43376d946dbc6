package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// bundlesReport is everything measured, and on what.
type bundlesReport struct {
	Environment bundlesEnvironment `json:"environment"`
	Tally       tally              `json:"tally"`
	Samples     []outcome          `json:"samples"`
	// made counts the revisions that were made, beside the base.
	made int
	// dataMB is how much JSON the data is; large, that it is what is measured.
	dataMB float64
	large  bool
}

type bundlesEnvironment struct {
	Machine string `json:"machine"`
	Pinning string `json:"pinning"`
	Go      string `json:"go"`
	OPA     string `json:"opa"`
	Authzd  string `json:"authzd"`
	GOGC    string `json:"gogc"`
	Bundle  string `json:"bundle"`
	Load    string `json:"load"`
	Rounds  string `json:"rounds"`
}

func (r *bundlesReport) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}

// phase is one row of the table.
type phase struct{ label, phase string }

// rows lists the rows as measured, and each row's samples by round.
func (r *bundlesReport) rows() ([]phase, map[phase][]outcome) {
	var keys []phase
	by := map[phase][]outcome{}
	for i := range r.Samples {
		k := phase{r.Samples[i].Case, r.Samples[i].Phase}
		if by[k] == nil {
			keys = append(keys, k)
		}
		by[k] = append(by[k], r.Samples[i])
	}
	return keys, by
}

// against are the p99 of a phase against the steady ones of the same rounds.
func against(v, steady []outcome) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = v[i].P99 / steady[i].P99
	}
	return out
}

func outcomes(v []outcome, field func(*outcome) float64) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = field(&v[i])
	}
	return out
}

func (r *bundlesReport) writeTable(out io.Writer) error {
	e := r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "\n- machine: %s; %s\n- versions: %s; OPA: %s; authzd: %s; GOGC: %s\n- bundle: %s\n- load: %s; latency counts from when a request was due\n",
		e.Machine, e.Pinning, e.Go, e.OPA, e.Authzd, e.GOGC, e.Bundle, e.Load)
	fmt.Fprintf(&b, "- rounds: %s; cells are min / median / max over rounds\n\n", e.Rounds)
	b.WriteString("| case | phase | it took ms | requests | p50 ms | p99 ms | p99 against steady | max ms | RSS before MB | after MB | peak MB |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	keys, by := r.rows()
	for _, k := range keys {
		v := by[k]
		took := ""
		if k.phase != phaseSteady {
			took = spread("%.0f", outcomes(v, func(o *outcome) float64 { return o.Took }))
		}
		ms := func(field func(*outcome) float64) string {
			return spread("%.2f", outcomes(v, func(o *outcome) float64 { return field(o) / 1e3 }))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.0f | %s | %s | %s | %s | %s | %s | %s |\n", k.label, k.phase, took,
			median(outcomes(v, func(o *outcome) float64 { return float64(o.Requests) })),
			ms(func(o *outcome) float64 { return o.P50 }), ms(func(o *outcome) float64 { return o.P99 }),
			spread("%.2f", against(v, by[phase{k.label, phaseSteady}])), ms(func(o *outcome) float64 { return o.Max }),
			spread("%.0f", outcomes(v, func(o *outcome) float64 { return o.Rest })),
			spread("%.0f", outcomes(v, func(o *outcome) float64 { return o.RSS })),
			spread("%.0f", outcomes(v, func(o *outcome) float64 { return o.Peak })))
	}
	if r.large {
		r.writeDataGoals(&b, keys, by)
	} else {
		r.writeGoals(&b, keys, by)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// writeGoals holds the medians against the goals.
func (r *bundlesReport) writeGoals(b *strings.Builder, keys []phase, by map[phase][]outcome) {
	b.WriteString("\n| goal | wanted | case | measured | |\n|---|---|---|---|---|\n")
	row := func(goal, wanted, label, measured string, met bool) {
		verdict := "**not met**"
		if met {
			verdict = "met"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", goal, wanted, label, measured, verdict)
	}
	t := r.Tally
	row("requests that failed, were answered wrongly, or by a revision that was not live", "none", "all",
		fmt.Sprintf("%d, %d, %d of %d", t.Failed, t.Wrong, t.Stale, t.Requests), t.err() == nil)
	for _, k := range keys {
		v := by[k]
		switch k.phase {
		case phaseActivation, stepPublish:
			got := against(v, by[phase{k.label, phaseSteady}])
			row("p99 during the activation against steady", fmt.Sprintf("at most %.1f", goalRatio), k.label, spread("%.2f", got), median(got) <= goalRatio)
		}
	}
	for _, k := range keys {
		v := by[k]
		switch k.phase {
		case stepRollback, stepRepublish:
			got := outcomes(v, func(o *outcome) float64 { return o.Took })
			goal := float64(goalRollback) / float64(time.Millisecond)
			row(k.phase, fmt.Sprintf("under %.0f ms", goal), k.label, spread("%.0f", got)+" ms", slices.Max(got) < goal)
		}
	}
}

// Goals for large data: memory as a multiple of its JSON, the longest latency as one of
// the steady load's, the activation as one of OPA's.
const (
	goalRest, goalPeak = 4, 8
	goalMax            = 3
	goalTook           = 0.4
	goalChange         = 500 // ms
)

// writeDataGoals is writeGoals for large data.
func (r *bundlesReport) writeDataGoals(b *strings.Builder, keys []phase, by map[phase][]outcome) {
	b.WriteString("\n| goal | wanted | case | measured | |\n|---|---|---|---|---|\n")
	row := func(goal string, wanted float64, label string, v []float64) {
		verdict := "**not met**"
		if median(v) <= wanted {
			verdict = "met"
		}
		fmt.Fprintf(b, "| %s | at most %g | %s | %s | %s |\n", goal, wanted, label, spread("%.2f", v), verdict)
	}
	t := r.Tally
	fmt.Fprintf(b, "| requests that failed, were answered wrongly, or by a revision that was not live | none | all | %d, %d, %d of %d | |\n", t.Failed, t.Wrong, t.Stale, t.Requests)
	opa := by[phase{"OPA REST", stepPublish}]
	for _, k := range keys {
		v := by[k]
		if k.phase == stepChange {
			row("one row changed, from the request to the first decision on it, ms", goalChange, k.label, outcomes(v, func(o *outcome) float64 { return o.Took }))
		}
		if k.phase != phaseActivation && k.phase != stepPublish {
			continue
		}
		steady := by[phase{k.label, phaseSteady}]
		longest, took := make([]float64, len(v)), make([]float64, 0, len(v))
		for i := range v {
			longest[i] = v[i].Max / steady[i].Max
			if i < len(opa) {
				took = append(took, v[i].Took/opa[i].Took)
			}
		}
		row("resident memory before a change against the JSON", goalRest, k.label, outcomes(v, func(o *outcome) float64 { return o.Rest / r.dataMB }))
		row("resident memory after it", goalRest, k.label, outcomes(v, func(o *outcome) float64 { return o.RSS / r.dataMB }))
		row("peak memory", goalPeak, k.label, outcomes(v, func(o *outcome) float64 { return o.Peak / r.dataMB }))
		row("longest latency during the activation against steady", goalMax, k.label, longest)
		if len(took) > 0 && k.phase == phaseActivation {
			row("activation against OPA's", goalTook, k.label, took)
		}
	}
}
