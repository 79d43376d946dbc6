package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/authzd/authzd/tests/bench/workload"
)

// report is everything measured, and on what.
type report struct {
	Environment environment `json:"environment"`
	Samples     []sample    `json:"samples"`
}

type environment struct {
	Machine  string `json:"machine"`
	Pinning  string `json:"pinning"`
	Go       string `json:"go"`
	OPA      string `json:"opa"`
	Authzd   string `json:"authzd"`
	GOGC     string `json:"authzd_gogc"`
	Requests string `json:"requests"`
	Rounds   string `json:"rounds"`
}

func (s *servers) environment(ctx context.Context, cfg config, cpus cpuPlan, w *workload.Workload) environment {
	size := 0
	for i := range w.Requests {
		size += len(w.Requests[i].Query)
	}
	gogc := cfg.authzdGOGC
	if gogc == "" {
		gogc = "as shipped"
	}
	return environment{
		Machine: fmt.Sprintf("%s, %s/%s", cpuModel(), runtime.GOOS, runtime.GOARCH),
		Pinning: cpus.String(), Go: runtime.Version(),
		OPA:    versionOf(ctx, filepath.Join(cfg.bin, "opa")),
		Authzd: versionOf(ctx, filepath.Join(cfg.bin, "authzd")), GOGC: gogc,
		Requests: fmt.Sprintf("%d distinct, %d bytes on average, %.1f %% allowed",
			len(w.Requests), size/len(w.Requests), 100*float64(w.Allowed())/float64(len(w.Requests))),
		Rounds: fmt.Sprintf("%d of %s each, after %s of load", cfg.rounds, cfg.secs, cfg.warm),
	}
}

// versionOf is the first line that a program prints for version.
func versionOf(ctx context.Context, program string) string {
	out, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}

// key is one row of the table.
type key struct {
	label    string
	inFlight int
}

// rows lists the rows as measured, by requests in flight, and each row's
// samples by round.
func (r *report) rows() ([]key, map[key][]sample) {
	var keys []key
	by := map[key][]sample{}
	for _, s := range r.Samples {
		k := key{s.Case, s.InFlight}
		if by[k] == nil {
			keys = append(keys, k)
		}
		by[k] = append(by[k], s)
	}
	return keys, by
}

// ratios are throughputs against the reference's of the same round.
func ratios(v, ref []sample) []float64 {
	out := make([]float64, 0, len(v))
	for i := range v {
		out = append(out, v[i].RPS/ref[i].RPS)
	}
	return out
}

// thrift is how many times less processor time a request takes than the
// reference's in the same round: the figure that other load on the machine
// disturbs least. Zero where processor time is not known.
func thrift(v, ref []sample) []float64 {
	out := make([]float64, 0, len(v))
	for i := range v {
		if v[i].ServerCPU == 0 {
			out = append(out, 0)
			continue
		}
		out = append(out, ref[i].ServerCPU/v[i].ServerCPU)
	}
	return out
}

func (r *report) writeTable(out io.Writer) error {
	e := r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "\n- machine: %s; %s\n- versions: %s; OPA: %s; authzd: %s (GOGC %s)\n- requests: %s\n- rounds: %s; cells are min / median / max over rounds, latencies are medians\n\n",
		e.Machine, e.Pinning, e.Go, e.OPA, e.Authzd, e.GOGC, e.Requests, e.Rounds)
	b.WriteString("| case | in flight | req/s | req/s against OPA as shipped | req/s against OPA GOGC=400 | server CPU µs/req | OPA's CPU against it | p50 µs | p99 µs | p99.9 µs | RSS MB | client CPU µs/req |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	keys, by := r.rows()
	for _, k := range keys {
		v := by[k]
		shipped := ratios(v, by[key{labelOPA, k.inFlight}])
		tuned := ratios(v, by[key{labelOPAGC, k.inFlight}])
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %.0f | %.0f | %.0f | %.0f | %.0f |\n", k.label, k.inFlight,
			spread("%.0f", column(v, func(s *sample) float64 { return s.RPS })),
			spread("%.2f", shipped), spread("%.2f", tuned),
			spread("%.0f", column(v, func(s *sample) float64 { return s.ServerCPU })),
			spread("%.2f", thrift(v, by[key{labelOPA, k.inFlight}])),
			median(column(v, func(s *sample) float64 { return s.P50 })),
			median(column(v, func(s *sample) float64 { return s.P99 })),
			median(column(v, func(s *sample) float64 { return s.P999 })),
			median(column(v, func(s *sample) float64 { return s.ServerRSS })),
			median(column(v, func(s *sample) float64 { return s.ClientCPU })))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// judge compares gRPC's median ratio at the most in flight with the goal.
func (r *report) judge(cfg config) error {
	if cfg.want <= 0 {
		return nil
	}
	most := slices.Max(cfg.inFlight)
	_, by := r.rows()
	got := median(ratios(by[key{labelGRPC, most}], by[key{labelOPA, most}]))
	if got < cfg.want {
		return fmt.Errorf("gRPC at %d in flight has %.2f times the throughput of OPA's REST, want %.2f", most, got, cfg.want)
	}
	return nil
}

func column(v []sample, field func(*sample) float64) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = field(&v[i])
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func spread(format string, v []float64) string {
	return fmt.Sprintf(format+" / "+format+" / "+format, slices.Min(v), median(v), slices.Max(v))
}
