// Package clients_test shows what the official MCP clients do today when a
// server denies a call to a token that is good, in each form in which authzd
// could say so. The choices of package mcp rest on it: an upgrade of an SDK
// that behaves otherwise changes testdata/behaviour.tsv or breaks a claim.
package clients_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/behaviour.tsv")

// outcome is what one client made of one denial.
type outcome struct {
	// First is the denied call. Second is the one after the user consented to
	// the page that the client opened, if it opened one; Retried, if that call
	// was made at all.
	First   attempt  `json:"first"`
	Second  *attempt `json:"second"`
	Retried bool     `json:"retried"`
	// SameToken: before any consent, the good token is still in use.
	SameToken bool `json:"sameToken"`
	// Alive: the session takes another request.
	Alive bool `json:"alive"`
	// Events are what the SDK did to the credentials it was given to keep.
	Events  []string `json:"events"`
	Version string   `json:"version"`
	Failed  string   `json:"failed"`
}

// attempt is what the caller of a tool has in hand.
type attempt struct {
	Kind string `json:"kind"` // done, refused, thrown
	Name string `json:"name"` // of the error
	// Told is all that can be read from the result or the error.
	Told string `json:"told"`
}

// reads says what of the denial reached the caller.
func (a attempt) reads() string {
	words := strings.Contains(a.Told, wordsOfDenial)
	// The second is how the first begins in base64url.
	hint := strings.Contains(a.Told, "instructedAmount") || strings.Contains(a.Told, "eyJhdXRob3JpemF0aW9uX2RldGFpbHMi")
	switch {
	case words && hint:
		return "words and hint"
	case words:
		return "words"
	case hint:
		return "hint"
	default:
		return "nothing"
	}
}

// client is one SDK with one way to authenticate.
type client struct{ sdk, mode string }

func (c client) String() string { return c.sdk + " " + c.mode }

// signsIn: the SDK itself obtains tokens.
func (c client) signsIn() bool { return c.mode != goPlain }

func clients() []client {
	var list []client
	for _, mode := range []string{goHandler, goReader, goPlain} {
		list = append(list, client{"go", mode})
	}
	for _, sdk := range []string{"ts1", "ts2"} {
		for _, mode := range []string{"redirect", "reader", "refresh", "machine", "fetch", "plain"} {
			list = append(list, client{sdk, mode})
		}
	}
	return list
}

// seen is one client's behaviour before one form.
type seen struct {
	form   form
	client client
	outcome
	log record
}

// calls counts the requests that the one denied call became.
func (s seen) calls() int {
	if s.Retried {
		return len(s.log.Calls) - 1
	}
	return len(s.log.Calls)
}

// asks lists what was requested of the authorization server.
func (s seen) asks() string {
	var list []string
	for _, q := range s.log.Authorize {
		scopes := strings.Fields(q.Get("scope"))
		slices.Sort(scopes) // one SDK has them in the order of a map
		list = append(list, "page "+strings.Join(scopes, " "))
	}
	for _, g := range s.log.Grants {
		if g != "authorization_code" { // the end of a page
			list = append(list, g)
		}
	}
	n := len(list)
	if list = slices.Compact(list); len(list) == 1 && n > 1 {
		return fmt.Sprintf("%d times %s", n, list[0])
	}
	return strings.Join(list, ", ")
}

// row is the line of testdata/behaviour.tsv.
func (s seen) row() string {
	pick := func(when bool, yes, no string) string {
		if when {
			return yes
		}
		return no
	}
	after := ""
	if s.Second != nil {
		after = s.Second.Kind
	}
	return strings.Join([]string{
		s.form.name, s.client.String(),
		strings.TrimSpace(s.First.Kind + " " + s.First.Name), s.First.reads(),
		pick(s.SameToken, "kept", "replaced"), pick(s.Alive, "open", "closed"),
		strconv.Itoa(s.calls()), s.asks(), after,
	}, "\t")
}

const header = "form\tclient\tcaller has\treads\ttoken\tsession\tcalls\tasks the authorization server for\tafter consent"

// survey tries every form on every client.
func survey(t *testing.T) []seen {
	t.Helper()
	n := startNode(t)
	var all []seen
	for _, f := range forms() {
		for _, c := range clients() {
			w := newWorld(t, f)
			s := seen{form: f, client: c}
			if c.sdk == "go" {
				s.outcome = runGo(t, w, c.mode)
			} else {
				s.outcome = n.run(t, w, c.sdk, c.mode)
			}
			s.log = w.seen()
			all = append(all, s)
		}
	}
	return all
}

func TestClients(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
	all := survey(t)
	t.Run("behaviour", func(t *testing.T) {
		t.Parallel()
		compare(t, all)
	})
	for name, claim := range claims() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tried := 0
			for _, s := range all {
				if applies, ok := claim(s); applies {
					tried++
					if !ok {
						t.Errorf("not so: %s", s.row())
					}
				}
			}
			if tried == 0 {
				t.Error("nothing to try it on")
			}
		})
	}
}

func compare(t *testing.T, all []seen) {
	t.Helper()
	lines := []string{header}
	for _, s := range all {
		lines = append(lines, s.row())
	}
	got := strings.Join(lines, "\n") + "\n"
	file := filepath.Join("testdata", "behaviour.tsv")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("clients behave otherwise; if mcp's choices still hold, run with -update (-was +is):\n%s", diff)
	}
}
