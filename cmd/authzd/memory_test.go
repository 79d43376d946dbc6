package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/bundles"
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

// TestBundlesFitMemory: what is pushed may take a part of the budget, and is refused by
// code beyond it.
func TestBundlesFitMemory(t *testing.T) {
	for budget, want := range map[memory]int64{"100MiB": 100 << 20 / 10 * 9 / 4, "8GiB": bundles.DefaultMaxBytes, memoryOff: 0} {
		if l, err := budget.bundleLimits(); err != nil || l.MaxBytes != want || l.MaxFileBytes != want {
			t.Errorf("%s: %+v, %v", budget, l, err)
		}
	}
	if _, err := memory("1GB").bundleLimits(); err == nil {
		t.Error("a budget that is none")
	}
	p := newPushStand(t)
	// One long text: what counts is its size.
	data := `{"users": {"first": 1, "pad": "` + strings.Repeat("x", 15<<20) + `"}}`
	if err := os.Mkdir(p.path("large"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".manifest":   `{"revision":"large","roots":["authz","users"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":9}}}`,
		"policy.rego": "package authz\n\npermit[\"large\"] := {} if data.users[input.action.name]\n", "data.json": data,
	} {
		if err := os.WriteFile(filepath.Join(p.path("large"), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.want(t, 0, "", "bundle", "build", p.path("large"), "-o", p.path("large.tar.gz"))
	p.want(t, 0, "", "bundle", "sign", p.path("large.tar.gz"), "--key", p.path("k.pem"))
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	for _, c := range []struct {
		code   int
		text   string
		budget []string
	}{{2, "bundle.too_large", []string{"--memory-budget", "64MiB"}}, {0, "large is staged", nil}} {
		_, stop := p.serve(t, c.budget...)
		p.remote(t, 0, "", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
		p.remote(t, c.code, c.text, "bundle", "push", p.path("large.tar.gz"), "--name", "main")
		p.remote(t, 0, "v1", "bundle", "show", "main") // what was there is
		if code := stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
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

// A time that is not above 0 is refused in the same words by every command.
func TestTimesAreAboveZero(t *testing.T) {
	p := &pushStand{dir: t.TempDir()}
	for _, c := range []struct {
		args, flags []string
	}{
		{[]string{"proxy", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1", "--subject", "a", "--bundle", "x=x"}, []string{"shutdown-grace", "session-ttl", "decision-timeout", "ask-timeout"}},
		{[]string{"wrap", "--subject", "a", "--bundle", "x=x"}, []string{"shutdown-grace", "decision-timeout", "ask-timeout"}},
	} {
		for _, flag := range c.flags {
			for _, d := range []string{"0s", "-1s"} {
				args := append(slices.Clone(c.args), "--"+flag+"="+d)
				if c.args[0] == "wrap" {
					args = append(args, "--", "true")
				}
				p.want(t, 1, flag+": "+d+" is not a time above 0", args...)
			}
		}
	}
}
