package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Local is the decision service within this process, for an enforcement point
// that carries its own: what a gRPC client gets without the connection. Calls go
// through the same chain as those of the doors, with every right.
//
// A Server that is only asked this way needs [Server.RunLocal] instead of Run.
type Local struct {
	server  *Server
	service *decisionService
}

// Local returns the service of s.
func (s *Server) Local() *Local { return &Local{server: s, service: &decisionService{server: s}} }

// RunLocal runs what calls of [Local] need, until ctx is done, and listens on
// nothing. Calls before it wait. It may be called again once it has returned.
func (s *Server) RunLocal(ctx context.Context) error {
	s.observe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.pool.serve(ctx) })
	group.Go(func() error { s.watch(ctx); return nil })
	return group.Wait() //nolint:wrapcheck // it says what fails
}

// ServeMetrics writes the server's metrics in the form of Prometheus.
func (s *Server) ServeMetrics(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// Check decides one query; as DecisionService.Check. Errors are gRPC statuses.
func (l *Local) Check(ctx context.Context, m *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return ask(ctx, l.server, m, l.service.Check)
}

// CheckBatch decides several queries; as DecisionService.CheckBatch.
func (l *Local) CheckBatch(ctx context.Context, m *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	return ask(ctx, l.server, m, l.service.CheckBatch)
}

// FilterTools judges tools; as DecisionService.FilterTools.
func (l *Local) FilterTools(ctx context.Context, m *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	return ask(ctx, l.server, m, l.service.FilterTools)
}

// ListTypes tells what policy can ask for; as
// AuthorizationDetailsService.ListTypes.
func (l *Local) ListTypes(ctx context.Context, m *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error) {
	return ask(ctx, l.server, m, (&detailsService{server: l.server}).ListTypes)
}

func ask[Q, A any](ctx context.Context, s *Server, q *Q, method func(context.Context, *Q) (*A, error)) (*A, error) {
	c := call{door: doorLocal, requestID: s.opts.NewRequestID(), caller: callers.Caller{Rights: callers.All}}
	ctx = context.WithValue(ctx, callKey{}, c)
	var answer *A
	err := s.guard(ctx, c, func(ctx context.Context) error {
		a, err := s.pool.arrive(ctx, "")
		if err != nil {
			return err
		}
		defer a.leave()
		if q == nil {
			return errors.New("no message")
		}
		answer, err = method(ctx, q)
		return err
	})
	if err != nil {
		return nil, grpcError(err, c.requestID)
	}
	return answer, nil
}
