// Package failures_test brings about what docs/failure-modes.md tells of: the built
// authzd with something around it that fails. In each test nothing is allowed that
// should not be, others are answered meanwhile, nothing is left behind, and it goes
// on without a restart when the cause has gone.
package failures_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

// bin is the binary under test.
var bin string

// patience is for machines that are busy with other tests.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) { bin = path }))
}

// readOnly permits to read, loops without an end for who loops, and permits nothing else.
const readOnly = `package authz

allow if input.action.name == "read"

allow if {
	input.action.name == "loop"
	count([1 | some i in numbers.range(1, 1000); some j in numbers.range(1, 1000); some k in numbers.range(1, 1000); i + j + k == 1]) == 1
}
`

// policy writes a bundle folder, and gives it as --bundle wants it.
func policy(t *testing.T, rego string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.rego"), rego)
	write(t, filepath.Join(dir, ".manifest"), `{"revision": "r1", "roots": ["authz"], "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`)
	return "main=" + dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve is the command of a server on free ports, which may be run by a shell
// command that ends in exec "$@".
func serve(t *testing.T, shell string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{bin, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
	if shell != "" {
		args = append([]string{"sh", "-c", shell, "sh"}, args...)
	}
	return exec.CommandContext(t.Context(), args[0], args[1:]...)
}

// authzd runs the binary to its end, in a folder, and returns what it prints.
func authzd(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("authzd %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// client asks one server over connections of its own.
type client struct {
	addr string
	// key is the caller's own; "" for none.
	key string
	web *http.Client
}

func newClient(t *testing.T, p *binary.Process) *client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{addr: p.HTTP, web: &http.Client{Transport: transport, Timeout: patience}}
}

// answer is a decision, or an error with its code.
type answer struct {
	Status         int `json:"-"`
	Decision, Code string
	Message        string
	Error          struct{ Code string }
	Rejected       []struct{ Code string } `json:"rejected_credentials"`
}

// call sends a body and reads the answer.
func (c *client) call(ctx context.Context, method, path, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.addr+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.web.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

func question(action string) string {
	return `{"subject": {"type": "user", "id": "alice"}, "action": {"name": "` + action + `"}, "resource": {"type": "file", "id": "a"}}`
}

// decides fails unless the server allows what policy permits and denies the rest.
func (c *client) decides(t *testing.T) {
	t.Helper()
	for action, want := range map[string]string{"read": "ALLOW", "write": "DENY"} {
		if got, err := c.call(t.Context(), http.MethodPost, "/v1/check", question(action)); err != nil || got.Decision != want {
			t.Fatalf("%s: %+v, %v; want %s", action, got, err, want)
		}
	}
}

// has fails unless a text holds all the others.
func has(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s has no %s:\n%.3000s", what, part, text)
		}
	}
}
