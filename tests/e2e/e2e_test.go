// Package e2e_test drives the built authzd binary as its users do: by command
// line, signals, HTTP and gRPC. It sees nothing else of the project.
package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
type server struct {
	HTTP, GRPC, Revision string

	cmd   *exec.Cmd
	lines *bufio.Scanner
	log   *logBuffer
}

type logBuffer = binary.Log

// start runs authzd serve on free ports and waits for its ready line.
func start(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	args = append([]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), args...)
	cmd.Env = append(os.Environ(), env...)
	p := binary.Start(t, cmd)
	return &server{HTTP: p.HTTP, GRPC: p.GRPC, Revision: p.Revision, cmd: p.Cmd, lines: p.Lines, log: p.Log}
}

// stop sends sig and returns the exit code.
func (s *server) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for s.lines.Scan() {
		t.Errorf("standard output holds more than the ready line: %q", s.lines.Text())
	}
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
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
	return do(t, s.checkRequest(t, body))
}

// checkText posts a query and returns the answer as it came.
func (s *server) checkText(t *testing.T, body string) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(s.checkRequest(t, body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(text)
}

func (s *server) checkRequest(t *testing.T, body string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTP+"/v1/check", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func (s *server) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTP+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func do(t *testing.T, req *http.Request) answer {
	t.Helper()
	a, err := tryDo(req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryDo(req *http.Request) (answer, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository(t), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
