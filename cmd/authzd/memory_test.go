package main

import (
	"log/slog"
	"runtime/debug"
	"testing"
)

func TestMemoryBudget(t *testing.T) {
	for text, want := range map[string]uint64{
		"64MiB": 64 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40, "65536KiB": 64 << 20,
		"": 0, "1GB": 0, "-1GiB": 0, "63MiB": 0, "99999999999999TiB": 0, "1.5GiB": 0, "GiB": 0, "2 GiB": 0,
	} {
		n, err := memory(text).bytes()
		if n != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	for _, c := range []struct {
		budget  memory
		env     map[string]string
		percent int
		limit   int64
	}{
		{"1000MiB", nil, usualPercent, 900 << 20},
		{memoryOff, nil, 100, limit},
		{"1000MiB", map[string]string{"GOGC": "50"}, 100, 900 << 20},
		{"1000MiB", map[string]string{"GOMEMLIMIT": "1GiB"}, usualPercent, limit},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(limit)
		std := stdio{getenv: func(name string) string { return c.env[name] }}
		if _, err := c.budget.set(std, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if p, l := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); p != c.percent || l != c.limit {
			t.Errorf("%s %v: %d %%, %d", c.budget, c.env, p, l)
		}
	}
	for live, want := range map[uint64]int{0: 2000, 8 << 20: 800, 100 << 20: 400, 256 << 20: 200, 512 << 20: 100, 8 << 30: 75} {
		if got := percentFor(live, live); got != want {
			t.Errorf("%d live: %d %%", live, got)
		}
	}
	// Of large data little is looked through.
	for live, want := range map[uint64]int{100 << 20: 64, 200 << 20: 32, 8 << 30: 10} {
		if got := percentFor(live, 10<<20); got != want {
			t.Errorf("%d live, 10 MiB looked through: %d %%", live, got)
		}
	}
	if n, err := memory("").limit(); err != nil || n < leastMemory {
		t.Error(n, err)
	}
}

// What the new settings can not mean is refused at the start, by name.
func TestSettingsRefused(t *testing.T) {
	p := &pushStand{dir: t.TempDir()}
	for _, args := range [][]string{
		{"--memory-budget", "2GB"}, {"--memory-budget", "1MiB"}, {"--evaluator", "wasm"}, {"--evaluator", ""}, {"--verify-sample", "-1"},
	} {
		p.want(t, 1, args[0][2:]+": ", append([]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)...)
	}
	p.want(t, 1, "evaluator: ", "proxy", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1", "--resource", "http://127.0.0.1:1", "--bundle", "x=x", "--evaluator", "fast")
}
