package pep_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// remote serves a pdp over gRPC.
type remote struct {
	authzdv1.UnimplementedDecisionServiceServer
	authzdv1.UnimplementedAuthorizationDetailsServiceServer
	*pdp

	mu sync.Mutex
	// failures is how many calls fail with code before one is answered.
	failures int
	code     codes.Code
	calls    int
}

func (r *remote) fail() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls++; r.calls <= r.failures {
		return status.Error(r.code, "secret cause")
	}
	return nil
}

func (r *remote) Check(ctx context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	return r.pdp.Check(ctx, q)
}

func (r *remote) CheckBatch(ctx context.Context, q *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	return r.pdp.CheckBatch(ctx, q)
}

func (r *remote) FilterTools(ctx context.Context, q *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	return r.pdp.FilterTools(ctx, q)
}

func (r *remote) ListTypes(context.Context, *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error) {
	if err := r.fail(); err != nil {
		return nil, err
	}
	return &authzdv1.ListTypesResponse{}, nil
}

// start serves at an address, and gives it with what ends it.
func (r *remote) start(t *testing.T, address string) (string, func()) {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	authzdv1.RegisterDecisionServiceServer(srv, r)
	authzdv1.RegisterAuthorizationDetailsServiceServer(srv, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener)
	}()
	stop := func() {
		srv.Stop()
		<-done
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

func dial(t *testing.T, address string) *pep.Client {
	t.Helper()
	conn, err := grpc.NewClient(address, append(pep.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pep.NewClient(conn)
}

// While the service is away nothing is done, at once and in plain words; when it
// is back, the same client of the same server goes on.
func TestServiceAwayAndBack(t *testing.T) {
	t.Parallel()
	for _, w := range []way{{version: "2025-11-25"}, {version: "2026-07-28", http: true, stateless: true}} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			service := &remote{pdp: &pdp{}}
			address, stop := service.start(t, "127.0.0.1:0")
			e, err := pep.New(pep.Options{Decider: dial(t, address), Server: server})
			if err != nil {
				t.Fatal(err)
			}
			j := &journal{}
			s := fullServer(j)
			e.Attach(s, w.options())
			session, err := w.join(t, e, s, "alice")
			if err != nil {
				t.Fatal(err)
			}
			call := func() error { return refusedResult(session.CallTool(t.Context(), echo())) }
			if err := call(); err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				stop()
				before := len(j.ran())
				for range 20 {
					began := time.Now()
					err := call()
					var rpc *jsonrpc.Error
					if !errors.As(err, &rpc) || rpc.Code != jsonrpc.CodeInternalError || rpc.Message != "The request could not be authorized, because the authorization service gave no decision. Nothing was done. Try again later." {
						t.Fatalf("while away: %v", err)
					}
					if took := time.Since(began); took > 3*time.Second {
						t.Errorf("refused after %v", took)
					}
				}
				if _, err := session.ListTools(t.Context(), nil); err == nil {
					t.Error("a list while away")
				}
				if got := len(j.ran()); got != before {
					t.Fatalf("%d calls ran while away", got-before)
				}
				_, stop = service.start(t, address)
				deadline := time.After(20 * time.Second)
				for call() != nil {
					select {
					case <-deadline:
						t.Fatalf("round %d: still refused", round)
					case <-time.After(10 * time.Millisecond):
					}
				}
				if got := len(j.ran()); got != before+1 {
					t.Errorf("%d calls ran, want one", got-before)
				}
			}
		})
	}
}

// The second question comes only where the first can not have counted.
func TestClientAsksAgainWhereSafe(t *testing.T) {
	t.Parallel()
	token := &authzdv1.Credential{Id: "t", AccessToken: "alice"}
	proof := &authzdv1.Credential{Id: "p", AccessToken: "alice", DpopProof: "proof"}
	commit := &authzdv1.Commit{}
	check := func(q *authzdv1.CheckRequest) func(context.Context, *pep.Client) error {
		return func(ctx context.Context, c *pep.Client) error {
			_, err := c.Check(ctx, q)
			return err
		}
	}
	batch := func(q *authzdv1.CheckBatchRequest) func(context.Context, *pep.Client) error {
		return func(ctx context.Context, c *pep.Client) error {
			_, err := c.CheckBatch(ctx, q)
			return err
		}
	}
	filter := func(q *authzdv1.FilterToolsRequest) func(context.Context, *pep.Client) error {
		return func(ctx context.Context, c *pep.Client) error {
			_, err := c.FilterTools(ctx, q)
			return err
		}
	}
	list := func(ctx context.Context, c *pep.Client) error {
		_, err := c.ListTypes(ctx, &authzdv1.ListTypesRequest{})
		return err
	}
	for name, c := range map[string]struct {
		ask      func(context.Context, *pep.Client) error
		code     codes.Code
		failures int
		calls    int
		fails    bool
	}{
		"check":                   {check(&authzdv1.CheckRequest{Credentials: []*authzdv1.Credential{token}}), codes.Unavailable, 1, 2, false},
		"check, no failure":       {check(&authzdv1.CheckRequest{}), codes.Unavailable, 0, 1, false},
		"check, twice away":       {check(&authzdv1.CheckRequest{}), codes.Unavailable, 2, 2, true},
		"check, a proof":          {check(&authzdv1.CheckRequest{Credentials: []*authzdv1.Credential{token, proof}}), codes.Unavailable, 1, 1, true},
		"check, a commit":         {check(&authzdv1.CheckRequest{Commit: commit}), codes.Unavailable, 1, 1, true},
		"check, other code":       {check(&authzdv1.CheckRequest{}), codes.ResourceExhausted, 1, 1, true},
		"check, internal":         {check(&authzdv1.CheckRequest{}), codes.Internal, 1, 1, true},
		"batch":                   {batch(&authzdv1.CheckBatchRequest{Queries: []*authzdv1.CheckBatchQuery{{}}}), codes.Unavailable, 1, 2, false},
		"batch, a proof":          {batch(&authzdv1.CheckBatchRequest{Credentials: []*authzdv1.Credential{proof}}), codes.Unavailable, 1, 1, true},
		"batch, the first commit": {batch(&authzdv1.CheckBatchRequest{Queries: []*authzdv1.CheckBatchQuery{{Commit: commit}, {}}}), codes.Unavailable, 1, 1, true},
		"batch, the last commit":  {batch(&authzdv1.CheckBatchRequest{Queries: []*authzdv1.CheckBatchQuery{{}, {Commit: commit}}}), codes.Unavailable, 1, 1, true},
		"filter":                  {filter(&authzdv1.FilterToolsRequest{Credentials: []*authzdv1.Credential{token}}), codes.Unavailable, 1, 2, false},
		"filter, a proof":         {filter(&authzdv1.FilterToolsRequest{Credentials: []*authzdv1.Credential{proof}}), codes.Unavailable, 1, 1, true},
		"types":                   {list, codes.Unavailable, 1, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &remote{pdp: &pdp{}, failures: c.failures, code: c.code}
			address, _ := service.start(t, "127.0.0.1:0")
			if err := c.ask(t.Context(), dial(t, address)); (err != nil) != c.fails {
				t.Errorf("%v, want an error: %t", err, c.fails)
			}
			if service.calls != c.calls {
				t.Errorf("%d calls, want %d", service.calls, c.calls)
			}
		})
	}
}

// Over the wire a call is asked about as in process, and a refusal tells nothing
// of its cause.
func TestClientOverTheWire(t *testing.T) {
	t.Parallel()
	service := &remote{pdp: &pdp{deny: []string{"rm"}}}
	address, _ := service.start(t, "127.0.0.1:0")
	j := &journal{}
	s := fullServer(j)
	e, err := pep.New(pep.Options{Decider: dial(t, address), Server: server})
	if err != nil {
		t.Fatal(err)
	}
	e.Attach(s, pep.MiddlewareOptions{})
	session, err := way{version: "2026-07-28", http: true, stateless: true, plain: true}.join(t, e, s, "alice")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tool, err := range session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	if got := strings.Join(names, " "); got != "echo pay view" {
		t.Errorf("listed %s", got)
	}
	if err := refusedResult(session.CallTool(t.Context(), echo())); err != nil {
		t.Error(err)
	}
	if err := refusedResult(session.CallTool(t.Context(), &mcp.CallToolParams{Name: "rm", Arguments: map[string]any{"text": "x"}})); err == nil || err.Error() != "no" {
		t.Errorf("rm: %v", err)
	}
	for _, code := range []codes.Code{codes.Unavailable, codes.Unauthenticated, codes.PermissionDenied, codes.DeadlineExceeded, codes.Unimplemented} {
		service.mu.Lock()
		service.failures, service.calls, service.code = 2, 0, code
		service.mu.Unlock()
		if err := refusedResult(session.CallTool(t.Context(), echo())); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", code, err)
		}
	}
	if got := len(j.ran()); got != 1 {
		t.Errorf("%d calls ran, want one", got)
	}
}
