package peers_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// peer is a client before a server, with what they do.
type peer struct {
	name     string
	sdk      string
	scripts  []string
	revision string // that they agree on
	// start starts a server of its own for each session.
	start func(t *testing.T, node string, s *session) server
}

func peers() []peer {
	everythingStdio := func(t *testing.T, node string, _ *session) server { t.Helper(); return everything(t, node) }
	everythingWeb := func(t *testing.T, node string, _ *session) server { t.Helper(); return everythingHTTP(t, node) }
	filesStdio := func(t *testing.T, node string, s *session) server {
		t.Helper()
		s.Dir = fullFolder(t)
		s.Root = "file://" + s.Dir
		return files(t, node, s.Dir)
	}
	listsStdio := func(t *testing.T, _ string, _ *session) server { t.Helper(); return lists(t) }
	listsWeb := func(o mcp.StreamableHTTPOptions) func(*testing.T, string, *session) server {
		return func(t *testing.T, _ string, _ *session) server { t.Helper(); return listsHTTP(t, &o) }
	}
	return []peer{
		{"everything over stdio", "ts1", []string{"everything"}, "2025-11-25", everythingStdio},
		{"everything over HTTP", "ts1", []string{"everything"}, "2025-11-25", everythingWeb},
		{"everything over HTTP, second SDK", "ts2", []string{"everything"}, "2025-11-25", everythingWeb},
		{"files over stdio", "ts1", []string{"files"}, "2025-11-25", filesStdio},
		{"lists over stdio", "ts1", []string{"lists", "waits"}, "2025-11-25", listsStdio},
		{"lists over stdio, second SDK", "ts2", []string{"lists", "waits"}, "2026-07-28", listsStdio},
		{"lists over HTTP", "ts1", []string{"lists", "waits"}, "2025-11-25", listsWeb(mcp.StreamableHTTPOptions{})},
		{"lists over HTTP, second SDK", "ts2", []string{"lists", "waits"}, "2026-07-28", listsWeb(mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})},
		{"lists over HTTP, JSON", "ts1", []string{"lists"}, "2025-11-25", listsWeb(mcp.StreamableHTTPOptions{JSONResponse: true})},
		{"lists over HTTP, JSON, second SDK", "ts2", []string{"lists"}, "2026-07-28", listsWeb(mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true})},
	}
}

func (p peer) play(t *testing.T, node string, w way) *transcript {
	t.Helper()
	s := session{SDK: p.sdk, Steps: steps(t, p.scripts...)}
	to := p.start(t, node, &s)
	return play(t, node, w, to, s)
}

// TestSame: with a policy that allows all, a client sees byte for byte what it
// sees without us; lists alone say that they are private.
func TestSame(t *testing.T) {
	t.Parallel()
	node := needPeers(t)
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			want := p.play(t, node, direct())
			if want.Revision != p.revision {
				t.Errorf("revision %s, want %s", want.Revision, p.revision)
			}
			for _, w := range []way{relayed("relay", change{}), guarded("allow-all")} {
				t.Run(w.name, func(t *testing.T) {
					t.Parallel()
					if diff := cmp.Diff(w.expected(want), p.play(t, node, w)); diff != "" {
						t.Errorf("%s differs from direct (-direct +%s):\n%s", w.name, w.name, short(diff))
					}
				})
			}
		})
	}
}

// TestDifferent: the comparison sees it if one byte is another, or comes late.
func TestDifferent(t *testing.T) {
	t.Parallel()
	node := needPeers(t)
	changes := map[string]struct {
		change
		Stdio bool // try it over stdio, too
	}{
		"a result":       {change: change{From: "Echo: h", To: "Echo: H"}, Stdio: true},
		"an error":       {change: change{From: "Prompt none", To: "Prompt None"}},
		"a page":         {change: change{From: `"name":"get-sum"`, To: `"name":"get-Sum"`}},
		"a notification": {change: change{From: "resources/updated", To: "resources/Updated"}},
		"white space":    {change: change{From: `"tools":[{`, To: `"tools": [{`}, Stdio: true},
		"an escape":      {change: change{From: "é", To: `\u00e9`}, Stdio: true},
		"progress, late": {change: change{Late: true}},
	}
	for _, p := range peers()[:2] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			run := func(t *testing.T, w way, c change) *transcript {
				t.Helper()
				names := []string{"tools", "no such prompt", "echo", "subscribe", "updates on", "updates off"}
				if c.Late {
					names = []string{"long, cancelled"}
				}
				s := session{SDK: p.sdk, Steps: pick(steps(t, p.scripts...), names...)}
				return play(t, node, w, p.start(t, node, &s), s)
			}
			want := map[bool]*transcript{false: run(t, direct(), change{})}
			if !strings.HasSuffix(p.name, "stdio") {
				want[true] = run(t, direct(), change{Late: true})
			}
			for name, c := range changes {
				if stdio := strings.HasSuffix(p.name, "stdio"); stdio && !c.Stdio {
					continue // sessions over stdio end slowly
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					if cmp.Equal(want[c.Late], run(t, relayed(name, c.change), c.change)) {
						t.Error("the change was not seen")
					}
				})
			}
		})
	}
}

// pick keeps the steps of these names, and lets none wait for messages that
// others cause.
func pick(steps []any, names ...string) []any {
	var some []any
	for _, s := range steps {
		m, _ := s.(map[string]any)
		for _, name := range names {
			if m["name"] == name {
				delete(m, "await")
				some = append(some, m)
			}
		}
	}
	return some
}

// short keeps a failure readable: transcripts hold images.
func short(diff string) string {
	lines := strings.Split(diff, "\n")
	for i, line := range lines {
		if len(line) > 2000 {
			lines[i] = line[:2000] + " …"
		}
	}
	return strings.Join(lines[:min(len(lines), 200)], "\n")
}
