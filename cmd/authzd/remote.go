package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// remoteError is an error that the server reported.
type remoteError struct {
	fault
	err error
}

// Error formats code, place and message.
func (e *remoteError) Error() string {
	s := e.code
	if e.path != "" {
		s += " at " + e.path
	}
	return s + ": " + e.message
}

// Unwrap returns the gRPC status.
func (e *remoteError) Unwrap() error { return e.err }

// dial connects to a server. Servers listen on loopback only until callers have
// rights, so the connection is plain.
func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

// askServer asks the server at addr over gRPC.
func askServer(ctx context.Context, addr string, query []byte, timeout time.Duration) (rar.Value, error) {
	var request authzdv1.CheckRequest
	if err := api.UnmarshalJSON(query, &request, api.Limits{}); err != nil {
		return rar.Value{}, err
	}
	conn, err := dial(addr)
	if err != nil {
		return rar.Value{}, err
	}
	defer conn.Close() //nolint:errcheck // the answer is in hand
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := authzdv1.NewDecisionServiceClient(conn).Check(ctx, &request)
	if err != nil {
		return rar.Value{}, serverError(addr, err)
	}
	text, err := api.MarshalJSON(response)
	if err != nil {
		return rar.Value{}, fmt.Errorf("read the response: %w", err)
	}
	v, err := rar.DecodeStrict(text, responseLimits())
	if err != nil {
		return rar.Value{}, fmt.Errorf("read the response: %w", err)
	}
	return v, nil
}

// serverError finds our code in a gRPC status.
func serverError(addr string, err error) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "authzd" {
			return &remoteError{
				fault: fault{code: info.GetReason(), message: st.Message(), path: info.GetMetadata()["path"]}, err: err,
			}
		}
	}
	return fmt.Errorf("ask %s: %w", addr, err)
}
