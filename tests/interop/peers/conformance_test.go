package peers_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// conformancePeer is a server before the official conformance suite.
type conformancePeer struct {
	name string
	// requirements is the revision whose scenarios are run.
	requirements string
	// passes says how many checks succeed at least, so that a suite that ran
	// nothing is no success.
	passes int
	start  func(t *testing.T, node string) server
}

func conformancePeers() []conformancePeer {
	goServer := func(stateless string) func(*testing.T, string) server {
		return func(t *testing.T, _ string) server { t.Helper(); return startConformanceServer(t, stateless) }
	}
	return []conformancePeer{
		{"Go SDK, 2025-11-25", "2025-11-25", 80, goServer("-stateless=false")},
		{"Go SDK, 2026-07-28", "2026-07-28", 150, goServer("-stateless")},
		// It has not what the scenarios want, so half of them fail: the same half.
		{"everything, 2025-11-25", "2025-11-25", 40, func(t *testing.T, node string) server { t.Helper(); return everythingHTTP(t, node) }},
	}
}

// startConformanceServer runs the Go SDK's server for the suite. It can not
// choose a port itself, so another process may be faster: then again.
func startConformanceServer(t *testing.T, flag string) server {
	t.Helper()
	program, err := conformanceServer()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		port, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed in the next line
		if err != nil {
			t.Fatal(err)
		}
		addr := port.Addr().String()
		_ = port.Close()
		cmd := exec.CommandContext(t.Context(), program, "-http", addr, flag)
		cmd.WaitDelay = 5 * time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait() // t.Context ends it
		}()
		if listens(t, addr, ended) {
			t.Cleanup(func() { <-ended })
			return server{url: "http://" + addr + "/mcp"}
		}
	}
	t.Fatal("the conformance server did not listen")
	return server{}
}

// listens waits until addr is listened to or the program ended.
func listens(t *testing.T, addr string, ended <-chan struct{}) bool {
	t.Helper()
	for {
		select {
		case <-ended:
			return false
		case <-t.Context().Done():
			return false
		case <-time.After(20 * time.Millisecond):
			var dialer net.Dialer
			if c, err := dialer.DialContext(t.Context(), "tcp", addr); err == nil {
				_ = c.Close()
				return true
			}
		}
	}
}

// scenarioFolder is the scenario, and when it was run.
var scenarioFolder = regexp.MustCompile(`^server-(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// conform runs the suite and returns, by scenario, each check with its status.
func conform(t *testing.T, node string, w way, p conformancePeer) map[string][]string {
	t.Helper()
	out := t.TempDir()
	to := p.start(t, node)
	cmd := exec.CommandContext(t.Context(), node, script(t, "conformance", "dist", "index.js"), "server",
		"--url", w.http(t, to.url), "--requirements", p.requirements, "--output-dir", out)
	cmd.WaitDelay = 5 * time.Second
	// The exit code tells that something failed, which it may.
	said, _ := cmd.CombinedOutput()
	folders, err := os.ReadDir(out)
	if err != nil || len(folders) == 0 {
		t.Fatalf("%s: no results: %v\n%s", w.name, err, said)
	}
	results := map[string][]string{}
	for _, folder := range folders {
		name := scenarioFolder.FindStringSubmatch(folder.Name())
		if name == nil {
			t.Fatalf("no scenario: %s", folder.Name())
		}
		text, err := os.ReadFile(filepath.Join(out, folder.Name(), "checks.json"))
		if err != nil {
			t.Fatal(err)
		}
		var checks []struct{ ID, Status, ErrorMessage string }
		if err := json.Unmarshal(text, &checks); err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			line := fmt.Sprintf("%s %s %s", c.ID, c.Status, steadyError(c.ErrorMessage))
			results[name[1]] = append(results[name[1]], strings.TrimSpace(line))
		}
	}
	return results
}

// steadyError takes out of an error what differs from run to run.
func steadyError(text string) string {
	return regexp.MustCompile(`127\.0\.0\.1:\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+ ?ms`).ReplaceAllString(text, "…")
}

// guardedChecks pass with us though the server fails them: we refuse strange
// hosts ourselves, and know of sessions that ended.
func guardedChecks() []string {
	return []string{"localhost-host-rebinding-rejected", "server-session-terminated-returns-404"}
}

// withGuards is what the suite should say of a server behind us.
func withGuards(w way, results map[string][]string) map[string][]string {
	if !w.guards {
		return results
	}
	better := map[string][]string{}
	for name, checks := range results {
		for _, c := range checks {
			if id, _, _ := strings.Cut(c, " "); slices.Contains(guardedChecks(), id) {
				c = id + " SUCCESS"
			}
			better[name] = append(better[name], c)
		}
	}
	return better
}

// rounds is how often the suite is run before a difference counts. It has checks
// that fail by chance on a busy machine, with and without anything in between:
// three streams at once, say, or progress in time.
const rounds = 4

// differs tells which scenarios had another result with w in every round than
// they ever had without.
func differs(t *testing.T, node string, w way, p conformancePeer, want map[string][]string) string {
	t.Helper()
	directly := []map[string][]string{withGuards(w, want)}
	got := conform(t, node, w, p)
	for round := 1; ; round++ {
		diff := cmp.Diff(directly[len(directly)-1], got)
		if diff == "" || agrees(directly, got) {
			return ""
		}
		if round == rounds {
			return diff
		}
		t.Logf("round %d: %s", round, short(diff))
		again := conform(t, node, w, p)
		directly = append(directly, withGuards(w, conform(t, node, direct(), p)))
		for name, checks := range again { // what agreed once stays
			if !seen(directly, name, got[name]) {
				got[name] = checks
			}
		}
	}
}

func agrees(directly []map[string][]string, got map[string][]string) bool {
	for name := range directly[0] {
		if !seen(directly, name, got[name]) {
			return false
		}
	}
	return len(got) == len(directly[0])
}

// seen tells whether a scenario had these results without anything in between.
func seen(directly []map[string][]string, name string, checks []string) bool {
	return slices.ContainsFunc(directly, func(d map[string][]string) bool { return slices.Equal(d[name], checks) })
}

// TestConformance: each check of the official suite has the same result with
// us as without; what we guard ourselves has a better one.
func TestConformance(t *testing.T) {
	t.Parallel()
	node := needPeers(t)
	for _, p := range conformancePeers() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			want := conform(t, node, direct(), p)
			passed := 0
			for _, checks := range want {
				for _, c := range checks {
					if strings.Contains(c+" ", " SUCCESS ") {
						passed++
					}
				}
			}
			if passed < p.passes {
				t.Fatalf("%d checks passed, want %d", passed, p.passes)
			}
			t.Logf("%d scenarios, %d checks passed", len(want), passed)
			for _, w := range []way{relayed("relay", change{}), guarded("allow-all")} {
				t.Run(w.name, func(t *testing.T) {
					t.Parallel()
					if diff := differs(t, node, w, p, want); diff != "" {
						t.Errorf("other results (-direct +%s):\n%s", w.name, short(diff))
					}
				})
			}
			t.Run("changed", func(t *testing.T) {
				t.Parallel()
				bad := relayed("changed", change{From: `"tools":`, To: `"toolz":`})
				if cmp.Equal(want, conform(t, node, bad, p)) {
					t.Error("the change was not seen")
				}
			})
		})
	}
}

// A difference that is there in every round is one.
func TestAgrees(t *testing.T) {
	t.Parallel()
	directly := []map[string][]string{
		{"a": {"x SUCCESS"}, "b": {"y SUCCESS"}},
		{"a": {"x WARNING"}, "b": {"y SUCCESS"}},
	}
	for _, tt := range []struct {
		got  map[string][]string
		want bool
	}{
		{map[string][]string{"a": {"x SUCCESS"}, "b": {"y SUCCESS"}}, true},
		{map[string][]string{"a": {"x WARNING"}, "b": {"y SUCCESS"}}, true},
		{map[string][]string{"a": {"x SUCCESS"}, "b": {"y FAILURE"}}, false},
		{map[string][]string{"a": {"x SUCCESS"}}, false},
		{map[string][]string{"a": {"x SUCCESS"}, "b": {"y SUCCESS"}, "c": {"z SUCCESS"}}, false},
		{map[string][]string{"a": {"x SUCCESS", "x SUCCESS"}, "b": {"y SUCCESS"}}, false},
	} {
		if got := agrees(directly, tt.got); got != tt.want {
			t.Errorf("agrees(%v) = %t, want %t", tt.got, got, tt.want)
		}
	}
}
