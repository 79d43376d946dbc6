package peers_test

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// way is how a client reaches a server.
type way struct {
	name string
	// stdio returns the command to start instead of the server's.
	stdio func(t *testing.T, command []string) []string
	// http returns the URL to call instead of the server's.
	http func(t *testing.T, target string) string
	// guards: it decides, and so differs where expected and withGuards say so.
	guards bool
}

// expected is what a client should see over the way, from what it sees without.
func (w way) expected(direct *transcript) *transcript {
	if !w.guards {
		return direct
	}
	same := *direct
	same.Steps = slices.Clone(same.Steps)
	for i, s := range same.Steps {
		same.Steps[i].Responses = slices.Clone(s.Responses)
		for j, r := range s.Responses {
			if isList.MatchString(r.Text) {
				// What is shown depends on who asks (MCP 2026-07-28, caching).
				same.Steps[i].Responses[j].Text = strings.Replace(r.Text, `"cacheScope":"public"`, `"cacheScope":"private"`, 1)
			}
		}
	}
	return &same
}

var isList = regexp.MustCompile(`"(tools|resources|resourceTemplates|prompts)":\[`)

// direct is without anything in between.
func direct() way {
	return way{
		name:  "direct",
		stdio: func(_ *testing.T, command []string) []string { return command },
		http:  func(_ *testing.T, target string) string { return target },
	}
}

// guarded is behind authzd wrap or authzd proxy, with a bundle of testdata.
func guarded(bundle string) way {
	return way{
		name:   "authzd",
		guards: true,
		stdio: func(t *testing.T, command []string) []string {
			t.Helper()
			return append([]string{authzd(t), "wrap", "--bundle", bundleFlag(t, bundle), "--subject", "alice", "--"}, command...)
		},
		http: func(t *testing.T, target string) string {
			t.Helper()
			program := authzd(t)
			return startProxy(t, program, target, "proxy",
				"--bundle", bundleFlag(t, bundle), "--subject", "alice", "--upstream", target, "--listen", "127.0.0.1:0")
		},
	}
}

func bundleFlag(t *testing.T, bundle string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", bundle))
	if err != nil {
		t.Fatal(err)
	}
	return "peers=" + dir
}

// authzd returns the built binary.
func authzd(t *testing.T) string {
	t.Helper()
	program, err := authzdBinary()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// startProxy runs a program that serves the MCP endpoint of target under the
// same path, and says where in its ready line.
func startProxy(t *testing.T, program, target string, args ...string) string {
	t.Helper()
	line := startLine(t, exec.CommandContext(t.Context(), program, args...))
	var ready struct{ Event, Listen string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Event != "ready" {
		t.Fatalf("ready line %q: %v", line, err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = ready.Listen
	return u.String()
}

// startLine starts a program and returns its first line on stdout. The program
// ends with the test; what it says on stderr is shown if the test fails.
func startLine(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	said := &strings.Builder{}
	cmd.Stderr, cmd.WaitDelay = said, 5*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ok := lines.Scan()
	line := lines.Text()
	done := make(chan struct{})
	go func() { // so that it never waits for a reader of what it prints later
		defer close(done)
		for lines.Scan() {
		}
	}()
	t.Cleanup(func() {
		<-done
		_ = cmd.Wait() // t.Context ended it
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), said)
		}
	})
	if !ok {
		t.Fatalf("%v ended without a line", cmd.Args)
	}
	return line
}
