package proxy_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/internal/binary"
)

// undecided is what a client is told without a decision.
const undecided = "The request could not be authorized, because the authorization service gave no decision. Nothing was done."

// caller calls a tool again and again, and counts what comes of it.
type caller struct {
	t       *testing.T
	session *mcp.ClientSession
	// dead is set while there is no decision service.
	dead             *atomic.Bool
	allowed, refused *atomic.Int64
}

func (c caller) run(ctx context.Context) {
	for ctx.Err() == nil {
		dead := c.dead.Load()
		// A call that has begun is let end: its outcome counts.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		result, err := c.session.CallTool(call, &mcp.CallToolParams{Name: "count", Arguments: map[string]any{}})
		cancel()
		switch {
		case err == nil && !result.IsError:
			c.allowed.Add(1)
			if dead && c.dead.Load() {
				c.t.Error("a call was allowed, and nobody could have decided it")
			}
		case err != nil && strings.Contains(err.Error(), undecided):
			c.refused.Add(1)
		default:
			c.t.Errorf("call: %v, %v", result, err)
			return
		}
		binary.Pause(ctx, time.Millisecond)
	}
}

// outage kills the decision service under load and starts it again.
func outage(t *testing.T, pdp *binary.Process, policy string, sessions []*mcp.ClientSession, executed func() int64, whileDead func()) {
	t.Helper()
	var dead atomic.Bool
	var allowed, refused atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { caller{t, s, &dead, &allowed, &refused}.run(ctx) })
	}
	more := func(of *atomic.Int64, what string) {
		t.Helper()
		from := of.Load()
		binary.WaitFor(t, 30*time.Second, func() error {
			if of.Load() < from+int64(3*len(sessions)) {
				return &notYetError{what}
			}
			return nil
		})
	}
	more(&allowed, "calls are allowed")
	pdp.Kill()
	dead.Store(true)
	more(&refused, "calls are refused")
	whileDead()
	before, was := executed(), allowed.Load()
	more(&refused, "calls are refused")
	if now := executed(); now != before || allowed.Load() != was {
		t.Errorf("the server carried out %d calls, and then %d, while nobody could decide", before, now)
	}
	dead.Store(false)
	// The port is free at once, unless another process was given it meanwhile.
	binary.WaitFor(t, 30*time.Second, func() error {
		_, err := tryStart(t, "serve", "--http", "127.0.0.1:0", "--grpc", pdp.GRPC, "--bundle", policy)
		return err
	})
	more(&allowed, "calls are allowed again")
	stop()
	wg.Wait()
	if got := executed(); got != allowed.Load() {
		t.Errorf("the server carried out %d calls, and %d were allowed", got, allowed.Load())
	}
	t.Logf("%d allowed and carried out, %d refused", allowed.Load(), refused.Load())
}

type notYetError struct{ what string }

func (e *notYetError) Error() string { return "not yet: " + e.what }

func TestDecisionServiceKilledBehindProxy(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	policy := bundle(t, allowAll)
	pdp := start(t, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", policy)
	up := newUpstream(t)
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--upstream", up.url, "--pdp", pdp.GRPC, "--subject", "alice", "--log-level", "error")
	var sessions []*mcp.ClientSession
	for range 8 {
		s, err := connect(t.Context(), p, "", http.DefaultTransport, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		sessions = append(sessions, s)
	}
	if code, text := p.Get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz: %d %s", code, text)
	}
	outage(t, pdp, policy, sessions, up.executed.Load, func() {
		binary.WaitFor(t, 10*time.Second, func() error {
			code, text := p.Get(t, "/readyz")
			if code != http.StatusServiceUnavailable || !strings.Contains(text, "not ready") {
				return errStillUp
			}
			return nil
		})
		if code, _ := p.Get(t, "/healthz"); code != http.StatusOK {
			t.Errorf("healthz: %d; a restart of the proxy would mend nothing", code)
		}
		if s, err := connect(t.Context(), p, "", http.DefaultTransport, nil); err == nil {
			_ = s.Close()
			t.Error("a session began without a decision")
		}
	})
	binary.WaitFor(t, 10*time.Second, func() error {
		if code, text := p.Get(t, "/readyz"); code != http.StatusOK {
			return &notYetError{text}
		}
		return nil
	})
}

func TestDecisionServiceKilledBehindWrap(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	policy := bundle(t, allowAll)
	pdp := start(t, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", policy)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	counted := filepath.Join(t.TempDir(), "executed")
	write(t, counted, "")
	cmd := exec.CommandContext(t.Context(), bin, "wrap", "--pdp", pdp.GRPC, "--subject", "alice", "--log-level", "error", "--", self)
	cmd.Env = append(os.Environ(), stdioEnv+"="+counted)
	log := &binary.Log{}
	cmd.Stderr = log
	s, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err, log)
	}
	t.Cleanup(func() { _ = s.Close() })
	// Several at once over the one pipe.
	outage(t, pdp, policy, []*mcp.ClientSession{s, s, s, s}, func() int64 {
		info, err := os.Stat(counted)
		if err != nil {
			t.Error(err)
			return 0
		}
		return info.Size()
	}, func() {})
}
