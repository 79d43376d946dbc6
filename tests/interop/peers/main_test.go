// Package peers_test runs real MCP servers and clients against each other,
// directly and through a way of ours, and compares what comes over the wire.
package peers_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/authzd/authzd/tests/interop"
)

// scratch holds what the tests build.
var scratch string

// TestMain also makes the test binary the programs that the tests start: its
// first argument then names one of roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play, ok := roles()[os.Args[1]]; ok {
			if err := play(context.Background(), os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	// These tests wait for others more than they compute: programs that start,
	// operations that take their time, a server that does not heed that its
	// input ended and is killed after two seconds.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "authzd-peers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	scratch = dir
	return m.Run()
}

func roles() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"lists-stdio": listsOverStdio,
		"lives":       lives,
		"relay":       relay,
	}
}

// self is the command that plays a role.
func self(t *testing.T, role string, args ...string) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{program, role}, args...)
}

// needPeers skips with -short, and returns the program that runs JavaScript,
// with all packages installed.
func needPeers(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
	node, err := interop.Node(t.Context(), "..") // has the pinned Node.js
	if err == nil {
		_, err = interop.Node(t.Context(), ".")
	}
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// script is the path of a program of an npm package.
func script(t *testing.T, path ...string) string {
	t.Helper()
	found, err := filepath.Abs(filepath.Join(append([]string{"node_modules", "@modelcontextprotocol"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(found); err != nil {
		t.Fatal(err)
	}
	return found
}

var authzdBinary = sync.OnceValues(func() (string, error) {
	return build("authzd", "../../../cmd/authzd")
})

// The conformance server of the official Go SDK, of the version in go.mod.
var conformanceServer = sync.OnceValues(func() (string, error) {
	return build("everything-server", "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
})

func build(name, pkg string) (string, error) {
	program := filepath.Join(scratch, name)
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", program, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}
