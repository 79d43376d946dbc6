package failures_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
)

// overloaded is the metric of calls that were refused because there was too much to do.
const overloaded = `authzd_errors_total{code="api.overloaded",door="rest"}`

// work is a policy whose reads take some time.
const work = `package authz

allow if {
	input.action.name == "read"
	count([1 | some i in numbers.range(1, 300); i % 7 == 1]) > 0
}
`

// outcomes counts answers by decision and code.
type outcomes struct {
	mu   sync.Mutex
	seen map[string]int
}

func (o *outcomes) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[what]++
}

func (o *outcomes) of(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[what]
}

// flood asks over many connections until it is stopped, and counts the answers.
func (c *client) flood(t *testing.T, connections int, key, action string) (seen *outcomes, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	o := &outcomes{seen: map[string]int{}}
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	mine := &client{addr: c.addr, key: key, web: &http.Client{Transport: transport}}
	for range connections {
		all.Go(func() {
			for ctx.Err() == nil {
				got, err := mine.call(ctx, http.MethodPost, "/v1/check", question(action))
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if err == nil {
					o.add(got.Decision + got.Code)
				}
			}
		})
	}
	stop = func() {
		cancel()
		all.Wait()
		transport.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return o, stop
}

// More calls than can be decided: some are refused with a code, the others are
// decided as ever, and afterwards all are.
func TestTooManyCalls(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, work), "--workers", "1", "--queue", "4", "--queue-time", "1ms"))
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	seen, stop := c.flood(t, 64, "", "read")
	binary.WaitFor(t, patience, func() error { return atLeast(seen, "api.overloaded", 50) })
	binary.WaitFor(t, patience, func() error { return atLeast(seen, "ALLOW", 50) })
	stop()
	for what := range seen.seen {
		if what != "ALLOW" && what != "api.overloaded" {
			t.Errorf("answers %v", seen.seen)
		}
	}
	if p.Metric(t, overloaded) == 0 {
		t.Error("not counted")
	}
	binary.WaitFor(t, patience, func() error {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check", question("read"))
		if err == nil && got.Decision != "ALLOW" {
			err = &codeError{got.Code}
		}
		return err
	})
	p.Calm(t, before, patience)
}

type codeError struct{ code string }

func (e *codeError) Error() string { return "answered " + e.code }

func atLeast(o *outcomes, what string, n int) error {
	if got := o.of(what); got < n {
		return &codeError{what + " not often enough"}
	}
	return nil
}

// One caller floods: another, who is known by a key of their own, is answered each time.
func TestOneCallerFloods(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := t.TempDir()
	key := func(name string) string {
		return strings.TrimSpace(authzd(t, dir, "keys", "create", name, "--rights", "check,assert", "--keys-file", "keys.json"))
	}
	greedy, modest := key("greedy"), key("modest")
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, work), "--workers", "1", "--queue", "4", "--queue-time", "20ms", "--keys-file", dir+"/keys.json"))
	c := newClient(t, p)
	c.key = modest
	c.decides(t)
	seen, stop := c.flood(t, 64, greedy, "read")
	binary.WaitFor(t, patience, func() error { return atLeast(seen, "api.overloaded", 50) })
	refused := 0
	const asked = 100
	for range asked {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check", question("read"))
		if err != nil || got.Decision != "ALLOW" && got.Code != "api.overloaded" {
			t.Fatalf("%+v, %v", got, err)
		}
		if got.Code != "" {
			refused++
		}
	}
	stop()
	if refused > asked/10 {
		t.Errorf("of %d calls of the caller who does not flood %d are refused", asked, refused)
	}
}

// A batch that there is no room for is refused as a whole.
func TestBatchWithoutRoom(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, work), "--workers", "1", "--queue", "4", "--queue-time", "1ms"))
	c := newClient(t, p)
	c.decides(t)
	seen, stop := c.flood(t, 64, "", "read")
	binary.WaitFor(t, patience, func() error { return atLeast(seen, "api.overloaded", 50) })
	batch := `{"queries":[` + strings.Repeat(question("read")+",", 99) + question("read") + `]}`
	binary.WaitFor(t, patience, func() error {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check:batch", batch)
		if err == nil && (got.Status != http.StatusTooManyRequests || got.Code != "api.overloaded") {
			err = &codeError{got.Code}
		}
		return err
	})
	stop()
	binary.WaitFor(t, patience, func() error {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check:batch", batch)
		if err == nil && got.Status != http.StatusOK {
			err = &codeError{got.Code}
		}
		return err
	})
}

// More decisions that take long than may be at once: one more is refused, others are
// answered, and a call that can not be answered before its deadline gets an error.
func TestTooManySlow(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly), "--workers", "1", "--decision-timeout", "5s"))
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	seen, stop := c.flood(t, 40, "", "loop")
	binary.WaitFor(t, patience, func() error { return atLeast(seen, "api.overloaded", 1) })
	if p.Metric(t, "authzd_slow_evaluations") == 0 {
		t.Error("no slow evaluation is counted")
	}
	binary.WaitFor(t, patience, func() error {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check", question("read"))
		if err == nil && got.Decision != "ALLOW" {
			err = &codeError{got.Code}
		}
		return err
	})
	deadline(t, p)
	stop()
	if seen.of("ALLOW") > 0 {
		t.Errorf("WRONG ALLOW: %v", seen.seen)
	}
	p.Calm(t, before, patience)
	c.decides(t)
}

// deadline asks over gRPC what takes longer than there is time for.
func deadline(t *testing.T, p *binary.Process) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	got, err := authzdv1.NewDecisionServiceClient(conn).Check(ctx, &authzdv1.CheckRequest{
		Subject: &authzdv1.Subject{Type: "user", Id: "alice"}, Action: &authzdv1.Action{Name: "loop"}, Resource: &authzdv1.Resource{Type: "file", Id: "a"},
	})
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.ResourceExhausted || got.GetDecision() == authzdv1.Decision_DECISION_ALLOW {
		t.Errorf("a call without the time that it takes: %v, %v", got, err)
	}
}
