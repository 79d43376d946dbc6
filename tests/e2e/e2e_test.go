// Package e2e_test drives the built authzd binary as its users do: by command
// line, signals, HTTP and gRPC. It sees nothing else of the project.
package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/authzd/authzd/tests/internal/binary"
)

// binDir holds the binary under test.
var binDir string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) { binDir = filepath.Dir(path) }))
}

func skipIfShort(t *testing.T) {
	t.Helper()
	binary.SkipIfShort(t)
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestScripts runs the command lines of testdata/script.
func TestScripts(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	root := repository(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("PAYMENTS", filepath.Join(root, "policies", "examples", "payments"))
			env.Setenv("QUERIES", filepath.Join(root, "examples", "payments"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits runs a command that must end with the given code: exits CODE CMD ARGS…
// Standard output and error go to the files out and err.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE CMD ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // returned as it is
		got = strconv.Itoa(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	for name, stream := range map[string]string{"out": "stdout", "err": "stderr"} {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(ts.ReadFile(stream)), 0o600))
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// server is a running authzd serve.
type server struct{ *binary.Process }

type logBuffer = binary.Log

// start runs authzd serve on free ports and waits for its ready line.
func start(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	args = append([]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), args...)
	cmd.Env = append(os.Environ(), env...)
	return &server{binary.Start(t, cmd)}
}

// stop sends sig and returns the exit code.
func (s *server) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := s.Cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for s.Lines.Scan() {
		t.Errorf("standard output holds more than the ready line: %q", s.Lines.Text())
	}
	_ = s.Cmd.Wait()
	return s.Cmd.ProcessState.ExitCode()
}

// answer is what tests look at in a response.
type answer struct {
	Status   int `json:"-"`
	Decision string
	Rule     string
	Code     string
	Path     string
	Policy   struct{ Bundle, Revision string }
}

// check posts a query.
func (s *server) check(t *testing.T, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := s.tryCheck(ctx, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *server) tryCheck(ctx context.Context, body string) (answer, error) {
	status, text, err := s.Ask(ctx, http.MethodPost, "/v1/check", "", body)
	if err != nil {
		return answer{}, fmt.Errorf("ask: %w", err)
	}
	a := answer{Status: status}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

// must asks what is answered 200, and returns the answer as it came.
func (s *server) must(t *testing.T, method, path, body string) string {
	t.Helper()
	status, text, err := s.Ask(t.Context(), method, path, "", body)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: %d %s, %v", method, path, status, text, err)
	}
	return text
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository(t), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
