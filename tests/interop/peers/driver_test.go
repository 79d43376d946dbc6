package peers_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// session is what driver.mjs is told to do.
type session struct {
	SDK     string   `json:"sdk"`
	Command []string `json:"command,omitempty"`
	URL     string   `json:"url,omitempty"`
	Root    string   `json:"root"`
	Dir     string   `json:"dir,omitempty"`
	Steps   []any    `json:"steps"`
}

// transcript is what driver.mjs writes: all that came over the wire, with what
// is random by nature made steady (see there).
type transcript struct {
	Revision string `json:"revision"`
	Steps    []step `json:"steps"`
	// Messages are those from the server that are no response, by method.
	Messages map[string][]string `json:"messages"`
	// HTTP says how requests were answered: status, content type and challenge.
	HTTP   map[string][]string `json:"http"`
	Failed string              `json:"failed"`
}

type step struct {
	Name      string     `json:"name"`
	Outcome   string     `json:"outcome"` // result, cancelled, or the error
	Responses []response `json:"responses"`
}

// response is one as it came, and how much progress came before it.
type response struct {
	Text     string `json:"text"`
	Progress int    `json:"progress"`
}

// step returns the one of that name.
func (tr *transcript) step(t *testing.T, name string) step {
	t.Helper()
	for _, s := range tr.Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %q", name)
	return step{}
}

// steps reads scripts of testdata/scripts, one after the other.
func steps(t *testing.T, names ...string) []any {
	t.Helper()
	var all []any
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "scripts", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var some []any
		if err := json.Unmarshal(text, &some); err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// play runs one session over the way.
func play(t *testing.T, node string, w way, to server, s session) *transcript {
	t.Helper()
	if to.command != nil {
		s.Command = w.stdio(t, to.command)
	} else {
		s.URL = w.http(t, to.url)
	}
	if s.Root == "" {
		s.Root = "file:///home/ann/work"
	}
	in, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for left := chances; ; left-- {
		tr, said := drive(t, node, in)
		if tr.Failed == "" {
			return tr
		}
		if left == 1 || !strings.Contains(tr.Failed, lostAsk) {
			t.Fatalf("%s: %s\n%s", w.name, tr.Failed, said)
		}
		t.Logf("%s: %s; once more", w.name, tr.Failed)
	}
}

// The server of the examples asks for roots a moment after a session has begun. Where the
// client has not opened its stream by then, with or without us, what it asks is lost.
const (
	lostAsk = "awaited by roots are asked for, did not come"
	chances = 4
)

// drive has the driver play a session.
func drive(t *testing.T, node string, in []byte) (tr *transcript, log string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, "driver.mjs")
	said := &strings.Builder{}
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(in), said, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("driver.mjs: %v\n%s", err, said)
	}
	if err := json.Unmarshal(out, &tr); err != nil {
		t.Fatal(err)
	}
	return tr, said.String()
}
