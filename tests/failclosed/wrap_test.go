package failclosed_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// stdioVariable makes of this test's binary the server behind authzd wrap. It holds the
// tool's entry, and stdioKept names the file for what gets through, a line each.
const (
	stdioVariable = "FAILCLOSED_STDIO"
	stdioKept     = "FAILCLOSED_STDIO_KEPT"
)

// serveStdio is that server.
func serveStdio() error {
	tool, err := parse([]byte(os.Getenv(stdioVariable)))
	if err != nil {
		return err
	}
	b := &behind{tool: tool}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the client has ended
		}
		if answer := b.answer(line); answer != nil {
			if _, err := os.Stdout.Write(append(answer, '\n')); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(os.Getenv(stdioKept), bytes.Join(b.kept, []byte("\n")), 0o600)
}

// wrapped is authzd wrap around serveStdio. It is over with carriedOut.
type wrapped struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	log  bytes.Buffer
	kept string
	n    int
}

func (c calls) wrap(t *testing.T, authzd, token string, args []string) frontDoor {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &wrapped{kept: filepath.Join(t.TempDir(), "kept")}
	w.cmd = exec.CommandContext(t.Context(), authzd, append(append([]string{"wrap", "--token-env", "FAILCLOSED_TOKEN"}, args...), "--", self)...)
	w.cmd.Env = append(os.Environ(), stdioVariable+"="+c.tool().String(), stdioKept+"="+w.kept, "FAILCLOSED_TOKEN="+token)
	w.cmd.Stderr = &w.log
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// call writes a line, and a ping behind it. Answers come in the order of the messages,
// so what comes before that of the ping is the answer; of a text of several lines, the
// last one.
func (w *wrapped) call(t *testing.T, text []byte) (answer []byte) {
	t.Helper()
	w.n++
	fence := "fence-" + strconv.Itoa(w.n)
	if _, err := w.in.Write(append(slices.Clone(text), "\n"+`{"jsonrpc":"2.0","id":"`+fence+`","method":"ping"}`+"\n"...)); err != nil {
		t.Fatalf("authzd wrap: %v: %s", err, &w.log)
	}
	for {
		line, err := w.out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("authzd wrap: %v: %s", err, &w.log)
		}
		if v, err := parse(line); err == nil && v.get("id").is(fence) {
			return answer
		}
		answer = line
	}
}

func (w *wrapped) carriedOut(t *testing.T) [][]byte {
	t.Helper()
	if err := w.in.Close(); err != nil {
		t.Error(err)
	}
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("authzd wrap: %v: %s", err, &w.log)
	}
	text, err := os.ReadFile(w.kept)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(text, []byte("\n"))
}
