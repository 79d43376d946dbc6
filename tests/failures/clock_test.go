package failures_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
	"github.com/authzd/authzd/store"
	"github.com/authzd/authzd/tests/internal/binary"
	"github.com/authzd/authzd/tests/tokens"
)

// clock is one that somebody sets.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) }
func (c *clock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// A clock that steps forward ends tokens and the keys that they are verified by; one
// that steps back lets no token count before it was issued. Set right, all is as before.
func TestClockStepsTokens(t *testing.T) {
	t.Parallel()
	const name, audience = "https://as.example.com", "https://mcp.example.com"
	issuer, err := tokens.New(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := issuer.Write(dir); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys)
	}))
	t.Cleanup(web.Close)
	var c clock
	v, err := credentials.New(credentials.Config{Issuers: []credentials.Issuer{{
		Issuer: name, Keys: credentials.KeySource{JWKSURL: web.URL, MinInterval: time.Nanosecond},
	}}}, credentials.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	long, err := issuer.Token(map[string]any{"sub": "alice", "aud": audience, "exp": time.Now().Add(24 * time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	short, err := issuer.Token(map[string]any{"sub": "alice", "aud": audience}) // an hour
	if err != nil {
		t.Fatal(err)
	}
	says := func(token string, want engine.Code) error {
		_, rejected := v.Verify(t.Context(), credentials.Presented{ID: "primary", Token: token, Audience: audience})
		var got engine.Code
		if rejected != nil {
			got = rejected.Code
		}
		if got != want {
			return fmt.Errorf("the token is answered %q, want %q", got, want)
		}
		return nil
	}
	binary.WaitFor(t, patience, func() error { return says(short, "") })
	for _, step := range []struct {
		ahead time.Duration
		token string
		away  bool
		want  engine.Code
	}{
		{90 * time.Minute, short, false, "token.expired"},
		{90 * time.Minute, long, false, ""},
		{0, short, false, ""},
		{3 * time.Hour, long, true, "engine.issuer_unavailable"}, // its keys are 2 hours old at the most
		{3 * time.Hour, long, false, ""},                         // and are fetched again
		{-time.Hour, long, true, "engine.issuer_unavailable"},    // its keys are of the future
		{-time.Hour, long, false, "token.not_yet"},
		{0, long, false, ""},
		{0, short, false, ""},
	} {
		away.Store(step.away)
		c.set(step.ahead)
		if err := says(step.token, step.want); err != nil {
			t.Errorf("%v ahead, issuer away %v: %v", step.ahead, step.away, err)
		}
	}
}

// A block that a clock ahead has ended holds again once the clock is right, also for
// who starts in between; one that was made by a clock that is behind does not end early.
func TestClockStepsBlocks(t *testing.T) {
	t.Parallel()
	var c clock
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e := engine.New(engine.Options{Now: c.now})
	_, dir, _ := strings.Cut(policy(t, readOnly), "=")
	content, err := bundles.Open(dir, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	content.Bundle.Name = "main"
	live, _, err := engine.Compile(t.Context(), []engine.Bundle{content.Bundle})
	if err != nil {
		t.Fatal(err)
	}
	e.Swap(live)
	open := func() *blocklist.List {
		l, err := blocklist.Open(t.Context(), blocklist.Options{Store: s, Engine: e, Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	allowed := func(when string, want bool) {
		t.Helper()
		d, err := e.Decide(t.Context(), &engine.Query{
			Subject: &engine.Subject{Type: "user", ID: "alice"}, Action: engine.Action{Name: "read"}, Resource: engine.Resource{Type: "file", ID: "a"},
		})
		if err != nil || d.Allow != want {
			t.Errorf("%s: allow %v, %v; want %v", when, d.Allow, err, want)
		}
	}
	list := open()
	allowed("before", true)
	if _, err := list.Create(t.Context(), blocklist.Request{Kind: engine.BlockSubject, Value: "alice", For: time.Hour, Why: "test"}); err != nil {
		t.Fatal(err)
	}
	allowed("blocked", false)
	c.set(2 * time.Hour)
	allowed("after its end", true)
	open()
	c.set(0)
	allowed("the clock is right again, and the server has started while it was not", false)
	c.set(-2 * time.Hour)
	allowed("before its beginning", false)
	c.set(0)
	allowed("at last", false)
}
