// Package interop readies what the tests beneath it run against: programs in
// JavaScript, of the versions that package-lock.json pins. It is used by tests
// only; [Node] may be called by several test binaries at once.
package interop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// stamp, in node_modules, tells which lock file was installed. npm ci begins by
// removing the folder, so a stamp never outlives what it speaks of.
const stamp = "node_modules/.installed-from"

// Node installs the packages of dir, which holds package-lock.json, unless they
// are there, and returns the program that runs them. The runtime is a pinned
// package too, because the authorization server supports Node 22 and later;
// where that package has no build for this machine, it is the node of PATH.
func Node(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	// Beside the folder, because npm ci removes what is in it.
	unlock, err := lockedfile.MutexAt(filepath.Join(dir, ".install.lock")).Lock()
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}
	defer unlock()
	sum := sha256.Sum256(lock)
	want := hex.EncodeToString(sum[:]) + " " + runtime.GOOS + "/" + runtime.GOARCH
	if have, err := os.ReadFile(filepath.Join(dir, stamp)); err != nil || string(have) != want {
		if err := install(ctx, dir, want); err != nil {
			return "", err
		}
	}
	return program(dir)
}

func install(ctx context.Context, dir, want string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("these tests need Node.js 20 or later with npm (or -short, which skips them): %w", err)
	}
	// No package may run a script of its own on this machine.
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in %s: %w\n%s", dir, err, tail(string(out)))
	}
	return os.WriteFile(filepath.Join(dir, stamp), []byte(want), 0o600)
}

// tail keeps what npm says last, where its error stands.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func program(dir string) (string, error) {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	pinned := filepath.Join(dir, "node_modules", "node-"+runtime.GOOS+"-"+arch, "bin", "node")
	if _, err := os.Stat(pinned); err == nil {
		return pinned, nil
	}
	return exec.LookPath("node")
}
