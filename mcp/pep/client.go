package pep

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Client is the Decider at a gRPC address. It never waits for a service that is
// away, so that calls are refused at once, and finds it again within seconds
// when it is back. It asks a second time only where the first can not have
// counted: never with a proof of possession, which is good once, nor with a
// commit. It asks one service at a time.
type Client struct {
	decisions authzdv1.DecisionServiceClient
	details   authzdv1.AuthorizationDetailsServiceClient
}

// DialOptions are what a connection for [NewClient] should have: keep-alive and a
// short way back after an outage. Credentials are the caller's to add.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20)),
		// What a resolver says about retries and hedging is not heard.
		grpc.WithDisableServiceConfig(),
	}
}

// NewClient makes a Decider of a connection, which stays the caller's to close.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{
		decisions: authzdv1.NewDecisionServiceClient(conn),
		details:   authzdv1.NewAuthorizationDetailsServiceClient(conn),
	}
}

// Check asks for one decision.
func (c *Client) Check(ctx context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return again(q.GetCommit() == nil && repeatable(q.GetCredentials()), func() (*authzdv1.CheckResponse, error) {
		return c.decisions.Check(ctx, q)
	})
}

// CheckBatch asks for several decisions.
func (c *Client) CheckBatch(ctx context.Context, q *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	safe := repeatable(q.GetCredentials())
	for _, one := range q.GetQueries() {
		safe = safe && one.GetCommit() == nil
	}
	return again(safe, func() (*authzdv1.CheckBatchResponse, error) { return c.decisions.CheckBatch(ctx, q) })
}

// FilterTools asks about tools.
func (c *Client) FilterTools(ctx context.Context, q *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	return again(repeatable(q.GetCredentials()), func() (*authzdv1.FilterToolsResponse, error) {
		return c.decisions.FilterTools(ctx, q)
	})
}

// ListTypes asks what policy can ask for.
func (c *Client) ListTypes(ctx context.Context, q *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error) {
	return again(true, func() (*authzdv1.ListTypesResponse, error) { return c.details.ListTypes(ctx, q) })
}

func repeatable(credentials []*authzdv1.Credential) bool {
	for _, c := range credentials {
		if c.GetDpopProof() != "" {
			return false
		}
	}
	return true
}

// again asks a second time where a connection broke: the service restarted.
func again[A any](safe bool, ask func() (A, error)) (A, error) {
	answer, err := ask()
	if err != nil && safe && status.Code(err) == codes.Unavailable {
		return ask()
	}
	return answer, err
}
