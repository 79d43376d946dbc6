package clients_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/interop"
)

// node is client.mjs, which drives the TypeScript clients.
type node struct {
	in     *json.Encoder
	out    *bufio.Scanner
	errors *strings.Builder
}

func startNode(t *testing.T) *node {
	t.Helper()
	program, err := interop.Node(t.Context(), "..")
	if err == nil {
		_, err = interop.Node(t.Context(), ".")
	}
	if err != nil {
		t.Fatal(err)
	}
	n := &node{errors: &strings.Builder{}}
	cmd := exec.CommandContext(t.Context(), program, "client.mjs")
	cmd.Stderr, cmd.WaitDelay = n.errors, 5*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // t.Context ends it if it does not end itself
	})
	n.in, n.out = json.NewEncoder(in), bufio.NewScanner(out)
	n.out.Buffer(nil, 1<<20)
	return n
}

// run makes the denied call with a TypeScript client.
func (n *node) run(t *testing.T, w *world, sdk, mode string) outcome {
	t.Helper()
	if err := n.in.Encode(map[string]any{"sdk": sdk, "mode": mode, "base": w.URL}); err != nil {
		t.Fatal(err)
	}
	if !n.out.Scan() {
		t.Fatalf("client.mjs ended: %v\n%s", n.out.Err(), n.errors)
	}
	var o outcome
	if err := json.Unmarshal(n.out.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	if o.Failed != "" {
		t.Fatal(o.Failed)
	}
	return o
}
