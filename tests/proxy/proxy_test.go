// Package proxy_test drives the built authzd proxy and wrap through what goes
// wrong in operation: a decision service that is killed, many people at once, and
// MCP servers that misbehave. It sees nothing else of the project.
package proxy_test

import (
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/authzd/authzd/tests/internal/binary"
)

// bin is the binary under test.
var bin string

func TestMain(m *testing.M) {
	if file := os.Getenv(stdioEnv); file != "" {
		os.Exit(serveStdio(file))
	}
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) { bin = path }))
}

// start runs authzd and waits for its ready line.
func start(t *testing.T, args ...string) *binary.Process {
	t.Helper()
	return binary.Start(t, exec.CommandContext(t.Context(), bin, args...))
}

func tryStart(t *testing.T, args ...string) (*binary.Process, error) {
	t.Helper()
	return binary.TryStart(t, exec.CommandContext(t.Context(), bin, args...))
}

// bundle writes a bundle and gives it as a flag wants it.
func bundle(t *testing.T, policy string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.rego"), policy)
	write(t, filepath.Join(dir, ".manifest"), `{"revision": "r1", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`)
	return "test=" + dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const allowAll = "package authz\n\npermit[\"all\"] := {}\n"

// sessions is how many the proxy remembers.
func sessions(t *testing.T, p *binary.Process) int {
	t.Helper()
	code, text := p.Get(t, "/readyz")
	var ready struct{ Sessions *int }
	if err := json.Unmarshal([]byte(text), &ready); err != nil || ready.Sessions == nil || code != http.StatusOK {
		t.Fatalf("readyz: %d %s %v", code, text, err)
	}
	return *ready.Sessions
}

var errStillUp = errors.New("it says that it is ready")
