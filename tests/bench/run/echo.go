package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// echoArg makes of this program the server with the fixed answer.
const echoArg = "-echo"

// echoServer decodes a CheckRequest and answers without looking at it.
type echoServer struct {
	authzdv1.UnimplementedDecisionServiceServer
	answer *authzdv1.CheckResponse
}

func (e *echoServer) Check(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return e.answer, nil
}

func newEcho() *grpc.Server {
	s := grpc.NewServer()
	authzdv1.RegisterDecisionServiceServer(s, &echoServer{answer: &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_ALLOW, DecisionId: "01K000000000000000000000ZZ", Rule: "allow",
		CredentialIds: []string{"primary"}, CallDigest: strings.Repeat("A", 43),
		Policy: &authzdv1.PolicyRevision{Revision: "bench-1"},
	}})
	return s
}

func serveEcho(out io.Writer) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if _, err := fmt.Fprintf(out, "{\"event\":\"ready\",\"grpc\":%q}\n", l.Addr()); err != nil {
		return fmt.Errorf("write the ready line: %w", err)
	}
	if err := newEcho().Serve(l); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
