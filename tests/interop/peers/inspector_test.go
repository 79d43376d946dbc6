package peers_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inspect runs the Inspector's command line once and returns what it prints.
func inspect(t *testing.T, node string, w way, to server, args ...string) string {
	t.Helper()
	home := t.TempDir()
	var entry map[string]any
	if to.command != nil {
		command := w.stdio(t, to.command)
		entry = map[string]any{"command": command[0], "args": command[1:]}
	} else {
		entry = map[string]any{"type": "streamable-http", "url": w.http(t, to.url)}
	}
	// A file, because flags of the command would be taken for the Inspector's.
	config := filepath.Join(home, "servers.json")
	text, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"peer": entry}})
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	program := script(t, "inspector", "clients", "launcher", "build", "index.js")
	args = append([]string{program, "--cli", "--config", config, "--server", "peer", "--format", "json", "--quiet"}, args...)
	cmd := exec.CommandContext(t.Context(), node, args...)
	cmd.Env = append(os.Environ(), "HOME="+home) // it keeps a folder there
	said := &strings.Builder{}
	cmd.Stderr, cmd.WaitDelay = said, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		// A tool's error is an exit code, and what it says goes to stderr.
		return string(out) + said.String() + err.Error()
	}
	return string(out)
}

// TestInspector: the Inspector prints the same with us as without.
func TestInspector(t *testing.T) {
	t.Parallel()
	node := needPeers(t)
	dir := fullFolder(t)
	servers := map[string]func(t *testing.T) server{
		"everything over stdio": func(t *testing.T) server { t.Helper(); return everything(t, node) },
		"everything over HTTP":  func(t *testing.T) server { t.Helper(); return everythingHTTP(t, node) },
		"files over stdio":      func(t *testing.T) server { t.Helper(); return files(t, node, dir) },
	}
	calls := map[string]struct {
		args []string
		has  string // a part of what is printed
	}{
		"everything tools": {[]string{"--method", "tools/list"}, `"name":"get-sum"`},
		"everything call":  {[]string{"--method", "tools/call", "--tool-name", "get-sum", "--tool-args-json", `{"a":1.5,"b":2}`}, "is 3.5."},
		"files call":       {[]string{"--method", "tools/call", "--tool-name", "read_text_file", "--tool-arg", "path=" + dir + "/secret.txt"}, "secret"},
	}
	for name, start := range servers {
		for kind, c := range calls {
			if strings.Fields(name)[0] != strings.Fields(kind)[0] {
				continue
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				to := start(t)
				want := inspect(t, node, direct(), to, c.args...)
				if !strings.Contains(want, c.has) {
					t.Fatalf("printed %s, want %s in it", want, c.has)
				}
				for _, w := range []way{relayed("relay", change{}), guarded("allow-all")} {
					t.Run(w.name, func(t *testing.T) {
						t.Parallel()
						if diff := cmp.Diff(want, inspect(t, node, w, to, c.args...)); diff != "" {
							t.Errorf("prints something else (-direct +%s):\n%s", w.name, short(diff))
						}
					})
				}
				if to.url == "" {
					return // one of each kind is enough to see that it is seen
				}
				t.Run("changed", func(t *testing.T) {
					t.Parallel()
					bad := relayed("changed", change{From: c.has, To: strings.ToUpper(c.has)})
					if inspect(t, node, bad, to, c.args...) == want {
						t.Error("the change was not seen")
					}
				})
			})
		}
	}
}
