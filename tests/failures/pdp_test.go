package failures_test

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
)

// A decision service that is stopped, so that it takes connections and says nothing,
// and one that is killed: the middleware lets no call pass, and calls pass again when
// the service goes on, or another has its address.
func TestDecisionServiceAwayFromMiddleware(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	allow := policy(t, "package authz\n\npermit[\"all\"] := {}\n")
	pdp := binary.Start(t, serve(t, "", "--bundle", allow))
	conn, err := grpc.NewClient("passthrough:///"+pdp.GRPC, append(pep.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e, err := pep.New(pep.Options{Decider: pep.NewClient(conn), Server: "https://mcp.example.com", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var executed atomic.Int64
	server := mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		executed.Add(1)
		return &mcp.CallToolResult{}, nil, nil
	})
	e.Attach(server, pep.MiddlewareOptions{Identify: func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		return nil, &authzdv1.Subject{Type: "user", Id: "alice"}, nil
	}})
	near, far := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), near, nil); err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(), far, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	passes := func() error {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "count", Arguments: map[string]any{}})
		if err == nil && result.IsError {
			err = errors.New("denied")
		}
		return err
	}
	refused := func(what string) {
		t.Helper()
		before := executed.Load()
		for range 2 {
			if err := passes(); err == nil {
				t.Errorf("WRONG ALLOW: %s, and a call passed", what)
			}
		}
		if executed.Load() != before {
			t.Errorf("%s, and a tool was called", what)
		}
	}
	signal := func(s syscall.Signal) {
		if err := pdp.Cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := passes(); err != nil {
		t.Fatal(err)
	}
	signal(syscall.SIGSTOP)
	refused("the service stands still")
	signal(syscall.SIGCONT)
	binary.WaitFor(t, patience, passes)
	pdp.Kill()
	refused("the service is killed")
	binary.WaitFor(t, patience, func() error { // the port is free, unless another process was given it
		cmd := serve(t, "", "--bundle", allow, "--grpc", pdp.GRPC)
		_, err := binary.TryStart(t, cmd)
		return err
	})
	binary.WaitFor(t, patience, passes)
}
