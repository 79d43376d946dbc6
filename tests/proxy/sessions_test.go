package proxy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/internal/binary"
	"github.com/authzd/authzd/tests/tokens"
)

// How many sessions, and for how long; make soak sets them.
const (
	sessionsEnv = "AUTHZD_SOAK_SESSIONS"
	timeEnv     = "AUTHZD_SOAK_TIME"
)

// perSecond is how many rounds all sessions together begin in a second, far less
// than a core can do: what is tested is their number, not the speed.
const perSecond = 250

func soakSize(t *testing.T) (sessions int, d time.Duration) {
	t.Helper()
	sessions, d = 50, 3*time.Second
	var errN, errD error
	if v := os.Getenv(sessionsEnv); v != "" {
		sessions, errN = strconv.Atoi(v)
	}
	if v := os.Getenv(timeEnv); v != "" {
		d, errD = time.ParseDuration(v)
	}
	if err := errors.Join(errN, errD); err != nil || sessions < 2 || d <= 0 {
		t.Fatalf("%s and %s: want at least 2 sessions, and a time above 0: %v", sessionsEnv, timeEnv, err)
	}
	return sessions, d
}

// scoped needs a scope for everything, and hides one tool.
const scoped = `package authz

import data.authzd.v1 as authzd

permit["all"] := {"require": [authzd.scopes(["mcp"])]} if input.resource.id != "count"
`

// soak is many people, each in a session of their own.
type soak struct {
	t     *testing.T
	proxy *binary.Process
	up    *upstream
	web   *http.Transport
	all   []*guest
	pace  time.Duration

	rounds, lists, progress, logs, tries atomic.Int64
	failed                               atomic.Int64
}

// guest is one of them.
type guest struct {
	*soak
	n       int
	secret  string
	token   string
	session *mcp.ClientSession
	id      string
	// seen are the messages of the session's own stream.
	seen atomic.Int64
}

// Each session is told its own secrets, whoever else is there, and nobody gets
// into another's. When all have left, nothing of them is left.
func TestSessions(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	n, d := soakSize(t)
	s := newSoak(t, n)
	before := s.proxy.Usage(t)
	t.Logf("%d sessions for %s, at most %d rounds a second", n, d, perSecond)
	t.Logf("before: %v", before)

	began := time.Now()
	s.each(16, func(g *guest) error { return g.begin(t.Context()) })
	if t.Failed() {
		t.Fatalf("the sessions did not begin:\n%.2000s", s.proxy.Log)
	}
	if got := sessions(t, s.proxy); got != n || s.up.open() != n {
		t.Errorf("the proxy has %d sessions, the server %d, want %d", got, s.up.open(), n)
	}
	t.Logf("began in %s: %v", time.Since(began).Round(time.Millisecond), s.proxy.Usage(t))

	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	half := make(chan binary.Usage, 1)
	go func() {
		binary.Pause(ctx, d/2)
		half <- s.proxy.Usage(t) //nolint:contextcheck // the test's, which lasts longer
	}()
	s.each(n, func(g *guest) error { return g.run(ctx) })
	t.Logf("half way: %v", <-half)
	t.Logf("at the end: %v", s.proxy.Usage(t))
	for _, g := range s.all {
		if g.seen.Load() == 0 {
			s.fault("guest %d received nothing on the session's own stream", g.n)
		}
	}

	s.each(16, func(g *guest) error { return g.session.Close() })
	if got := sessions(t, s.proxy); got != 0 {
		t.Errorf("the proxy has %d sessions after all have ended", got)
	}
	binary.WaitFor(t, 20*time.Second, func() error {
		if left := s.up.open(); left != 0 {
			return fmt.Errorf("the server has %d sessions after all have ended", left)
		}
		return nil
	})
	s.web.CloseIdleConnections()
	after := s.proxy.Calm(t, before, 60*time.Second)
	t.Logf("after all have left: %v", after)
	t.Logf("%d rounds, %d lists, %d progress notifications, %d log messages, %d attempts at other people's sessions; %d faults",
		s.rounds.Load(), s.lists.Load(), s.progress.Load(), s.logs.Load(), s.tries.Load(), s.failed.Load())
	// What nobody needs is collected within two minutes, or when there is work.
	most := before.HeapMB + 20 + 0.01*float64(n)
	binary.WaitFor(t, 3*time.Minute, func() error {
		if after = s.proxy.Usage(t); after.HeapMB > most {
			return fmt.Errorf("the heap is %.1f MB, want at most %.1f", after.HeapMB, most)
		}
		return nil
	})
	t.Logf("when it is collected: %v", after)
	if log := s.proxy.Log.String(); log != "" {
		t.Logf("the proxy's log: %.2000s", log)
	}
	if lost := s.up.lost.Load(); lost > 0 {
		t.Errorf("%d log messages could not be sent", lost)
	}
}

func newSoak(t *testing.T, n int) *soak {
	t.Helper()
	issuer, err := tokens.New("https://as.example.com")
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := issuer.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{t: t, up: newUpstream(t), pace: time.Duration(n) * time.Second / perSecond}
	const resource = "https://mcp.example.com/mcp"
	s.proxy = start(t, "proxy", "--listen", "127.0.0.1:0", "--upstream", s.up.url, "--bundle", bundle(t, scoped), "--issuers", issuers,
		"--resource", resource, "--log-level", "error",
		"--decision-timeout", "20s", "--ask-timeout", "30s") // a machine that is busy elsewhere is no fault
	// A connection that was opened and then not needed is closed by the proxy after
	// the ten seconds that a request's head may take, so the client does it before.
	s.web = &http.Transport{MaxIdleConnsPerHost: 2 * n, IdleConnTimeout: 5 * time.Second}
	t.Cleanup(s.web.CloseIdleConnections)
	for k := range n {
		who := fmt.Sprintf("person-%d", k)
		token, err := issuer.Token(map[string]any{"sub": who, "aud": resource, "scope": "mcp"})
		if err != nil {
			t.Fatal(err)
		}
		s.all = append(s.all, &guest{soak: s, n: k, secret: fmt.Sprintf("<secret of %s: %s>", who, rand.Text()), token: token})
	}
	return s
}

// spread is a time below d.
func spread(d time.Duration) time.Duration { return mathrand.N(d) } //nolint:gosec // no secret

func below(n int) int { return mathrand.IntN(n) } //nolint:gosec // as above

// fault reports, but not a thousand times.
func (s *soak) fault(format string, args ...any) {
	if s.failed.Add(1) <= 10 {
		s.t.Errorf(format, args...)
	}
}

// each lets all guests act, so many at once.
func (s *soak) each(atOnce int, act func(*guest) error) {
	var wg sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, g := range s.all {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := act(g); err != nil {
				s.fault("guest %d: %v", g.n, err)
			}
		})
	}
	wg.Wait()
}

func (g *guest) begin(ctx context.Context) error {
	var err error
	g.session, err = connect(ctx, g.proxy, g.token, g.web, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			g.progress.Add(1)
			if r.Params.Message != g.secret || r.Params.ProgressToken != g.secret {
				g.fault("guest %d was told the progress of %q, %v", g.n, r.Params.Message, r.Params.ProgressToken)
			}
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) { //nolint:staticcheck // deprecated with 2026-07-28, and in use
			g.logs.Add(1)
			g.seen.Add(1)
			if r.Params.Data != g.secret {
				g.fault("guest %d was sent the log message %q", g.n, r.Params.Data)
			}
		},
	})
	if err != nil {
		return err
	}
	g.id = g.session.ID()
	if err := g.session.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "debug"}); err != nil { //nolint:staticcheck // as above
		return err
	}
	_, err = g.session.CallTool(ctx, &mcp.CallToolParams{Name: "remember", Arguments: map[string]any{"secret": g.secret}})
	return err
}

func (g *guest) run(ctx context.Context) error {
	// Not all at the same time.
	binary.Pause(ctx, spread(g.pace))
	for round := 0; ctx.Err() == nil; round++ {
		// What has begun is let end.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		began := time.Now()
		err := g.round(call, round)
		cancel()
		if err != nil {
			return fmt.Errorf("round %d, of %s: %w", round, time.Since(began).Round(time.Millisecond), err)
		}
		g.rounds.Add(1)
		binary.Pause(ctx, g.pace/2+spread(g.pace))
	}
	return nil
}

func (g *guest) round(ctx context.Context, round int) error {
	params := &mcp.CallToolParams{Name: "recall", Arguments: map[string]any{}}
	params.SetProgressToken(g.secret)
	result, err := g.session.CallTool(ctx, params)
	if err != nil {
		return err
	}
	if said := words(result); said != g.secret || result.IsError {
		return fmt.Errorf("was told %q (error %t), and the secret is %q", said, result.IsError, g.secret)
	}
	switch (round + g.n) % 4 {
	case 0:
		g.lists.Add(1)
		list, err := g.session.ListTools(ctx, nil)
		if err != nil {
			return err
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
		}
		if slices.Sort(names); !slices.Equal(names, []string{"recall", "remember"}) {
			return fmt.Errorf("was listed %v", names)
		}
	case 2:
		return g.trespass(ctx)
	}
	return nil
}

func words(r *mcp.CallToolResult) string {
	if len(r.Content) != 1 {
		return ""
	}
	text, ok := r.Content[0].(*mcp.TextContent)
	if !ok {
		return ""
	}
	return text.Text
}

// trespass tries to get into another's session, by every method.
func (g *guest) trespass(ctx context.Context) error {
	other := g.all[(g.n+1+below(len(g.all)-1))%len(g.all)]
	for _, try := range []struct{ method, body string }{
		{http.MethodPost, `{"jsonrpc":"2.0","id":"theft","method":"tools/call","params":{"name":"recall","arguments":{}}}`},
		{http.MethodPost, `{"jsonrpc":"2.0","id":"theft","method":"tools/list"}`},
		{http.MethodPost, `{"jsonrpc":"2.0","id":"theft","method":"ping"}`},
		{http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`},
		{http.MethodGet, ""},
		{http.MethodDelete, ""},
	} {
		g.tries.Add(1)
		code, text, err := g.send(ctx, try.method, try.body, other.id)
		if err != nil {
			return err
		}
		if code != http.StatusNotFound || strings.Contains(text, "secret of") {
			return fmt.Errorf("%s %s in another's session is answered %d %s", try.method, try.body, code, text)
		}
	}
	return nil
}

// send sends one request as this guest, in some session.
func (g *guest) send(ctx context.Context, method, body, session string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.proxy.Listen+"/mcp", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + g.token,
		"Mcp-Session-Id": session, "Mcp-Protocol-Version": "2025-11-25",
	} {
		req.Header.Set(name, value)
	}
	resp, err := g.web.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
