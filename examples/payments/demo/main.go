// Command demo shows in one terminal what authzd is for: an agent tries to pay,
// is refused, learns from the refusal what to ask its customer for, and is then
// allowed that and nothing more. It starts the real authzd and the MCP server
// of examples/payments, and drives the server with the client of the official
// Go SDK, over HTTP and over stdio.
//
//	go run ./examples/payments/demo [-v]
//
// It exits 1 if any step does not turn out as told, so CI runs it as a test.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// limit ends a demo that hangs; a usual run takes a few seconds.
const limit = 3 * time.Minute

func main() {
	verbose := flag.Bool("v", false, "show the raw messages and the logs of the programs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := run(ctx, os.Stdout, *verbose)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, verbose bool) error {
	dir, err := os.MkdirTemp("", "authzd-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "Building authzd and the payments server ...")
	if err := build(ctx, root, dir, "./cmd/authzd", "./examples/payments/server"); err != nil {
		return err
	}
	d := &demo{screen: screen{out: out, verbose: verbose}, root: root, dir: dir}
	defer d.close()
	if err := d.start(ctx); err != nil {
		return err
	}
	d.script(ctx)
	return d.summary()
}

func moduleRoot(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	path := strings.TrimSpace(string(mod))
	if filepath.Base(path) != "go.mod" {
		return "", fmt.Errorf("run the demo inside the checkout of authzd (go env GOMOD: %q)", path)
	}
	return filepath.Dir(path), nil
}

func build(ctx context.Context, root, dir string, packages ...string) error {
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed packages into our own directory
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	return nil
}
