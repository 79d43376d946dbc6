package api

import (
	"context"
	"sync"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// readiness is grpc.health.v1: SERVING only while there is a live snapshot and
// the server is not stopping.
type readiness struct {
	*health.Server
	look func()

	mu      sync.Mutex
	known   bool
	serving bool
	stopped bool
	// ended is closed with stopped, for calls that wait.
	ended chan struct{}
}

func newReadiness() *readiness {
	r := &readiness{Server: health.NewServer(), ended: make(chan struct{})}
	r.set(false)
	return r
}

// Check looks at the live snapshot first, so that it is never late.
func (r *readiness) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if r.look != nil {
		r.look()
	}
	return r.Server.Check(ctx, req)
}

func (r *readiness) set(serving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.known && r.serving == serving {
		return
	}
	r.known, r.serving = true, serving
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	r.SetServingStatus("", status)
	r.SetServingStatus(authzdv1.DecisionService_ServiceDesc.ServiceName, status)
}

// stop says NOT_SERVING for good, so that load balancers turn away while calls
// under way end.
func (r *readiness) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.stopped = true
		close(r.ended)
	}
	r.Shutdown()
}

func (r *readiness) stopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}
