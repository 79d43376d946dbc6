package credentials_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// scene is one presentation of one credential.
type scene struct {
	jwsParts

	Scheme   string    `json:"scheme"`
	Method   string    `json:"method"`
	URL      string    `json:"url"`
	Cert     string    `json:"cert"`
	Audience string    `json:"audience"`
	Proof    *jwsParts `json:"proof"`
	// Answer is what introspection says.
	Answer any `json:"answer"`
	// Again: it is presented once more, after so many seconds, and that counts.
	Again    *int   `json:"again"`
	Asserted bool   `json:"asserted"`
	BoundBy  string `json:"bound_by"`
}

// attack is one row: a scene that verifies (base, then good), and what makes it
// one that must not (set, then remove).
type attack struct {
	Name    string         `json:"name"`
	Section string         `json:"section"`
	Base    string         `json:"base"`
	Good    map[string]any `json:"good"`
	Set     map[string]any `json:"set"`
	Remove  []string       `json:"remove"`
	Code    engine.Code    `json:"code"`
}

type attackFile struct {
	Bases   map[string]any `json:"bases"`
	Attacks []attack       `json:"attacks"`
}

func readAttacks(tb testing.TB) attackFile {
	tb.Helper()
	text, err := os.ReadFile("testdata/attacks.json")
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	var f attackFile
	if err := d.Decode(&f); err != nil {
		tb.Fatal(err)
	}
	return f
}

// edit sets and removes members of a scene by JSON Pointer.
func edit(tb testing.TB, base any, set map[string]any, remove []string) any {
	tb.Helper()
	text, err := json.Marshal(base)
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		tb.Fatal(err)
	}
	parent := func(pointer string) (map[string]any, string) {
		steps := strings.Split(pointer, "/")[1:]
		m := out
		for _, s := range steps[:len(steps)-1] {
			next, ok := m[s].(map[string]any)
			if !ok {
				tb.Fatalf("%s leads nowhere", pointer)
			}
			m = next
		}
		return m, steps[len(steps)-1]
	}
	for pointer, v := range set {
		m, name := parent(pointer)
		m[name] = v
	}
	for _, pointer := range remove {
		m, name := parent(pointer)
		if _, ok := m[name]; !ok {
			tb.Fatalf("%s is not there to be removed", pointer)
		}
		delete(m, name)
	}
	return out
}

func readScene(tb testing.TB, v any) scene {
	tb.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	var s scene
	if err := d.Decode(&s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// logged is a log that tests read.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// play presents the scene to a Verifier of its own and gives the last answer
// and all that was logged or could be printed.
func play(tb testing.TB, s scene) (engine.Credential, *engine.RejectedCredential, credentials.Presented, string) {
	tb.Helper()
	w, c, log := newWorld(), newClock(), &logged{}
	v := start(tb, trust(tb, w), credentials.Options{
		Now: c.now, Transport: w, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	for _, endpoint := range []string{"https://opaque.example/introspect", "https://revocable.example/introspect"} {
		answerAt(tb, w, endpoint, s.Answer)
	}
	// Where redirects lead; nobody may go there.
	w.text("http://127.0.0.1/", 200, `{"active": true, "sub": "root", "aud": "`+server+`", "client_id": "agent", "exp": 4102444800}`)
	defer func() {
		if w.count("http://127.0.0.1/") > 0 {
			tb.Error("a redirect was followed")
		}
	}()
	if s.Asserted {
		claims, err := rar.DecodeStrict(resolve(tb, s.Claims, ""), rar.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		got, rejected := v.Asserted("c", s.BoundBy, s.Audience, claims)
		return got, rejected, credentials.Presented{}, log.String()
	}
	p := present(tb, s)
	got, rejected := v.Verify(tb.Context(), p)
	if s.Again != nil {
		if rejected != nil {
			tb.Errorf("the first time: %s", rejected.Code)
		}
		c.add(time.Duration(*s.Again) * time.Second)
		got, rejected = v.Verify(tb.Context(), p)
	}
	slog.New(slog.NewJSONHandler(log, nil)).Info("presented", "credential", p, "pointer", &p, "in a group", []any{p})
	return got, rejected, p, log.String() + fmt.Sprintf("%v %+v %#v %s", p, p, p, p) + fmt.Sprint(v.Status())
}

func answerAt(tb testing.TB, w *world, endpoint string, answer any) {
	tb.Helper()
	status, body := 200, `{"active": true}`
	if s, ok := answer.(string); ok && strings.HasPrefix(s, "$status:") {
		_, _ = fmt.Sscanf(s, "$status:%d", &status)
	} else {
		body = string(resolve(tb, answer, ""))
	}
	w.text(endpoint, status, body)
}

// TestAttacks is the table of testdata/attacks.json: each attack is refused
// with its code, and its nearest good neighbour is not.
func TestAttacks(t *testing.T) {
	t.Parallel()
	f := readAttacks(t)
	section := regexp.MustCompile(`^([1-7]|2\.([1-9]|1[0-2]))$`)
	names := map[string]bool{}
	for _, a := range f.Attacks {
		if names[a.Name] || !section.MatchString(a.Section) {
			t.Errorf("%q: named twice, or section %q", a.Name, a.Section)
		}
		names[a.Name] = true
		t.Run(strings.ReplaceAll(a.Name, "/", "_"), func(t *testing.T) {
			t.Parallel()
			base, ok := f.Bases[a.Base]
			if !ok {
				t.Fatalf("no base %q", a.Base)
			}
			good := edit(t, base, a.Good, nil)
			accepted(t, readScene(t, good))
			got, rejected, p, printed := play(t, readScene(t, edit(t, good, a.Set, a.Remove)))
			if rejected == nil {
				t.Fatalf("verified: %+v", got)
			}
			if rejected.Code != a.Code || rejected.ID != "c" && p.ID != "" {
				t.Errorf("code %s, want %s", rejected.Code, a.Code)
			}
			if diff := cmp.Diff(engine.Credential{}, got, cmp.AllowUnexported(rar.Value{})); diff != "" {
				t.Errorf("a credential comes with the rejection:\n%s", diff)
			}
			silent(t, p, printed+fmt.Sprintf("%v %+v", rejected, *rejected))
		})
	}
	if len(f.Attacks) < 60 {
		t.Errorf("only %d attacks", len(f.Attacks))
	}
}

func accepted(t *testing.T, s scene) {
	t.Helper()
	got, rejected, p, printed := play(t, s)
	if rejected != nil {
		t.Fatalf("the good neighbour is refused: %s", rejected.Code)
	}
	if got.ID != "c" || got.Subject == "" || got.Issuer == "" || got.ClientID == "" || got.ExpiresAt.IsZero() {
		t.Errorf("the good neighbour lacks something: %+v", got)
	}
	silent(t, p, printed+fmt.Sprintf("%+v", got))
}

// silent: nothing that is printed holds a token or a proof, nor the part that
// makes either worth stealing.
func silent(t *testing.T, p credentials.Presented, printed string) {
	t.Helper()
	for _, secret := range []string{p.Token, p.Proof} {
		parts := append(strings.Split(secret, "."), secret)
		for _, part := range parts {
			if len(part) >= 8 && strings.Contains(printed, part) {
				t.Errorf("%q is printed in %q", part, printed)
			}
		}
	}
}

func run(tb testing.TB, v *credentials.Verifier) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it has to outlive the test's own, for Cleanup
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
}

// present builds what a scene presents, its proof included.
func present(tb testing.TB, s scene) credentials.Presented {
	tb.Helper()
	p := credentials.Presented{
		ID: "c", Token: s.build(tb, ""), Scheme: s.Scheme, Method: s.Method, URL: s.URL, CertThumbprint: s.Cert, Audience: s.Audience,
	}
	if s.Proof != nil {
		sum := sha256.Sum256([]byte(p.Token))
		p.Proof = s.Proof.build(tb, b64(sum[:]))
	}
	return p
}
