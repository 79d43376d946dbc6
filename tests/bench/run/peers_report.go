package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// peersReport is everything measured, and on what.
type peersReport struct {
	Environment peersEnvironment `json:"environment"`
	// Evaluated says what evaluated policy in authzd.
	Evaluated []string `json:"evaluated"`
	Samples   []sample `json:"samples"`
}

type peersEnvironment struct {
	Machine  string `json:"machine"`
	Pinning  string `json:"pinning"`
	Versions string `json:"versions"`
	GOGC     string `json:"gogc"`
	Requests string `json:"requests"`
	Rounds   string `json:"rounds"`
}

func (p *peers) environment() peersEnvironment {
	programs := []string{"authzd", "opa"}
	for _, name := range []string{peerCerbos, peerOpenFGA} {
		if !slices.Contains(p.cfg.without, name) {
			programs = append(programs, name)
		}
	}
	versions := []string{runtime.Version()}
	for _, name := range programs {
		versions = append(versions, name+" "+moduleVersion(filepath.Join(p.cfg.bin, name)))
	}
	gogc := p.cfg.authzdGOGC
	if gogc == "" {
		gogc = "as shipped"
	}
	size := 0
	for i := range p.w.Requests {
		size += len(p.w.Requests[i].Query)
	}
	return peersEnvironment{
		Machine: fmt.Sprintf("%s, %s/%s", cpuModel(), runtime.GOOS, runtime.GOARCH), Pinning: p.cpus.String(),
		Versions: strings.Join(versions, ", "), GOGC: fmt.Sprintf("authzd %s, the others as shipped, OPA once more with %s", gogc, p.cfg.opaGOGC),
		Requests: fmt.Sprintf("%d distinct, %d bytes on average, %.1f %% allowed",
			len(p.w.Requests), size/len(p.w.Requests), 100*float64(p.w.Allowed())/float64(len(p.w.Requests))),
		Rounds: fmt.Sprintf("%d of %s each, after %s of load", p.cfg.rounds, p.cfg.secs, p.cfg.warm),
	}
}

// moduleVersion is the version of the module that a program was built from, as Go
// recorded it.
func moduleVersion(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// peerGoal holds one case against another of the same round.
type peerGoal struct {
	text     string
	of, than key
	// tail: latencies (p99) are compared, and less is better; otherwise requests a
	// second.
	tail          bool
	must, stretch float64
}

func peerGoals() []peerGoal {
	return []peerGoal{
		{"gRPC against OPA's REST, the same plain policy", key{peerGRPCPlain, 16}, key{peerOPAPlain, 16}, false, 5, 8},
		{"gRPC against OPA's REST, the same plain policy", key{peerGRPCPlain, 64}, key{peerOPAPlain, 64}, false, 5, 8},
		{"gRPC against OPA's REST, the same plain policy, the same GOGC", key{peerGRPCPlain, 16}, key{peerOPAPlainGOGC, 16}, false, 4, 6.5},
		{"gRPC against OPA's REST, the same plain policy, the same GOGC", key{peerGRPCPlain, 64}, key{peerOPAPlainGOGC, 64}, false, 4, 6.5},
		{"REST against OPA's REST, the same plain policy", key{peerRESTPlain, 16}, key{peerOPAPlain, 16}, false, 4, 6},
		{"p99, gRPC against OPA's REST, the same plain policy", key{peerGRPCPlain, 16}, key{peerOPAPlain, 16}, true, 0.35, 0.2},
		{"gRPC against OPA's REST, permits with requirements", key{peerGRPCNeeds, 16}, key{peerOPANeeds, 16}, false, 4, 7},
		{"gRPC against Cerbos's gRPC", key{peerGRPCPlain, 16}, key{peerCerbosGRPC, 16}, false, 5, 8},
		{"gRPC against OpenFGA's gRPC", key{peerGRPCPlain, 16}, key{peerOpenFGAGRPC, 16}, false, 0, 0},
		{"gRPC against gRPC alone", key{peerGRPCPlain, 16}, key{peerEcho, 16}, false, 0.3, 0.5},
		{"gRPC against OPA's REST, a policy that is handed over", key{peerGRPCHanded, 16}, key{peerOPAHanded, 16}, false, 1.8, 2.2},
		{"gRPC against OPA's REST, a policy that is not compiled", key{peerGRPCRefused, 16}, key{peerOPARefused, 16}, false, 1.8, 2.2},
	}
}

// measured are the ratios by round; none if a case was left out.
func (g *peerGoal) measured(by map[key][]sample) []float64 {
	of, than := by[g.of], by[g.than]
	if len(of) == 0 || len(of) != len(than) {
		return nil
	}
	if !g.tail {
		return ratios(of, than)
	}
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i].P99 / than[i].P99
	}
	return out
}

// met words the median's standing.
func (g *peerGoal) met(v []float64) string {
	reached := func(goal float64) bool {
		if g.tail {
			return median(v) <= goal
		}
		return median(v) >= goal
	}
	switch {
	case len(v) == 0:
		return "left out"
	case g.must == 0:
		return "no goal"
	case reached(g.stretch):
		return "stretch met"
	case reached(g.must):
		return "met"
	default:
		return "**not met**"
	}
}

func (r *peersReport) write(out io.Writer) error {
	e := r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "\n- machine: %s; %s\n- versions: %s\n- GOGC: %s\n- requests: %s\n- rounds: %s; cells are min / median / max over rounds, single figures are medians\n",
		e.Machine, e.Pinning, e.Versions, e.GOGC, e.Requests, e.Rounds)
	for _, line := range r.Evaluated {
		fmt.Fprintf(&b, "- evaluated: %s\n", line)
	}
	keys, by := (&report{Samples: r.Samples}).rows()
	slices.SortStableFunc(keys, func(a, b key) int { return a.inFlight - b.inFlight })
	b.WriteString("\n| case | in flight | req/s | server CPU µs/req | p50 µs | p99 µs | p99.9 µs | RSS MB | client CPU µs/req |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, k := range keys {
		v := by[k]
		middle := func(field func(*sample) float64) float64 { return median(column(v, field)) }
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %.0f | %s | %.0f | %.0f | %.0f |\n", k.label, k.inFlight,
			spread("%.0f", column(v, func(s *sample) float64 { return s.RPS })),
			spread("%.0f", column(v, func(s *sample) float64 { return s.ServerCPU })),
			middle(func(s *sample) float64 { return s.P50 }),
			spread("%.0f", column(v, func(s *sample) float64 { return s.P99 })),
			middle(func(s *sample) float64 { return s.P999 }),
			middle(func(s *sample) float64 { return s.ServerRSS }),
			middle(func(s *sample) float64 { return s.ClientCPU }))
	}
	writePeerGoals(&b, by)
	_, err := io.WriteString(out, b.String())
	return err
}

// writePeerGoals holds the medians against the goals. Beside throughput stands the
// same ratio by processor time, which other load on the machine disturbs least.
func writePeerGoals(b *strings.Builder, by map[key][]sample) {
	b.WriteString("\n| goal | in flight | must | stretch | measured | | by server CPU |\n|---|---|---|---|---|---|---|\n")
	for _, g := range peerGoals() {
		v := g.measured(by)
		sign, must, stretch, measured, cpu := "≥", "", "", "", ""
		if g.tail {
			sign = "≤"
		}
		if g.must > 0 {
			must, stretch = fmt.Sprintf("%s %g", sign, g.must), fmt.Sprintf("%s %g", sign, g.stretch)
		}
		if len(v) > 0 {
			measured = spread("%.2f", v)
		}
		if len(v) > 0 && !g.tail {
			cpu = fmt.Sprintf("%.2f", median(thrift(by[g.of], by[g.than])))
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s |\n", g.text, g.of.inFlight, must, stretch, measured, g.met(v), cpu)
	}
}

func (r *peersReport) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}
