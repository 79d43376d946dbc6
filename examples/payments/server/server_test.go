package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const aliceClaims = `{"iss":"https://as.example.com","sub":"alice","exp":4102444800}`

// fakePDP answers what the test says to every tools/call and keeps those that it
// was asked about. It allows and lists everything else.
type fakePDP struct {
	authzdv1.UnimplementedDecisionServiceServer
	answer *authzdv1.CheckResponse
	asked  []*authzdv1.CheckRequest
	others []string
}

func (f *fakePDP) Check(_ context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	if method := q.GetMcp().GetMethod(); method != "tools/call" {
		f.others = append(f.others, method)
		return allow(), nil
	}
	f.asked = append(f.asked, q)
	return f.answer, nil
}

func (f *fakePDP) FilterTools(_ context.Context, q *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	out := &authzdv1.FilterToolsResponse{}
	for _, raw := range q.GetTools() {
		var tool struct{ Name string }
		if err := json.Unmarshal(raw, &tool); err != nil {
			return nil, err
		}
		out.Tools = append(out.Tools, &authzdv1.FilteredTool{Name: tool.Name, Access: authzdv1.ToolAccess_TOOL_ACCESS_POSSIBLE})
	}
	return out, nil
}

// enforcer asks the fake over gRPC on an in-memory listener. The second result
// ends the fake, as if authzd had gone.
func (f *fakePDP) enforcer(t *testing.T) (*pep.Enforcer, func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	authzdv1.RegisterDecisionServiceServer(srv, f)
	go func() { _ = srv.Serve(listener) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///pdp",
		append(pep.DialOptions(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
			grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e, err := pep.New(pep.Options{Decider: pep.NewClient(conn), Server: "https://mcp.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return e, srv.Stop
}

func allow() *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision:  authzdv1.Decision_DECISION_ALLOW,
		ExpiresAt: timestamppb.New(time.Now().Add(time.Minute)), CallDigest: "sha-256:x",
	}
}

// alice is who calls over stdio.
func alice(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return []*authzdv1.Credential{{Id: "access-token", Claims: []byte(aliceClaims)}}, nil, nil
}

// client connects the SDK's client to the payments server in memory.
func client(t *testing.T, e *pep.Enforcer, version string) (*mcp.ClientSession, *ledger) {
	t.Helper()
	l := &ledger{}
	s := newServer(l)
	e.Attach(s, pep.MiddlewareOptions{Identify: alice})
	near, far := mcp.NewInMemoryTransports()
	serverSession, err := s.Connect(t.Context(), far, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serverSession.Close() })
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := c.Connect(t.Context(), near, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	c.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return next(ctx, method, req)
		}
	})
	t.Cleanup(func() { _ = session.Close() })
	return session, l
}

func pay(amount string) *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: "payments.initiate", Arguments: json.RawMessage(
		`{"amount":"` + amount + `","currency":"EUR","creditorAccount":"DE89370400440532013000","reference":"<a & b>"}`)}
}

func TestQuerySaysWhatTheClientSent(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			pdp := &fakePDP{answer: allow()}
			e, _ := pdp.enforcer(t)
			session, l := client(t, e, version)
			params := pay("120.00")
			params.Meta = mcp.Meta{"io.modelcontextprotocol/authorization-context-id": "authzctx_1"}
			if _, err := session.CallTool(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			if len(pdp.asked) != 1 || len(l.payments) != 1 {
				t.Fatalf("asked %d times, paid %d times, want once each", len(pdp.asked), len(l.payments))
			}
			q := pdp.asked[0]
			m := q.GetMcp()
			if m.GetMethod() != "tools/call" || m.GetServer() != "https://mcp.example.com" ||
				m.GetTransport() != "stdio" || m.GetProtocolVersion() != version {
				t.Errorf("message = %v", m)
			}
			var sent struct {
				Name      string
				Arguments json.RawMessage
				Meta      map[string]any `json:"_meta"`
			}
			if err := json.Unmarshal(m.GetParams(), &sent); err != nil {
				t.Fatal(err)
			}
			if sent.Name != "payments.initiate" || !strings.Contains(string(sent.Arguments), `"120.00"`) ||
				sent.Meta["io.modelcontextprotocol/authorization-context-id"] != "authzctx_1" {
				t.Errorf("params = %s", m.GetParams())
			}
			var capabilities map[string]any
			if err := json.Unmarshal(m.GetClientCapabilities(), &capabilities); err != nil || capabilities == nil {
				t.Errorf("client_capabilities = %q, %v", m.GetClientCapabilities(), err)
			}
			if len(q.GetCredentials()) != 1 || string(q.GetCredentials()[0].GetClaims()) != aliceClaims {
				t.Errorf("credentials = %v", q.GetCredentials())
			}
		})
	}
}

func TestPDPGone(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: allow()}
	e, stop := pdp.enforcer(t)
	session, l := client(t, e, "")
	if _, err := session.CallTool(t.Context(), pay("1.00")); err != nil {
		t.Fatal(err)
	}
	stop()
	_, err := session.CallTool(t.Context(), pay("2.00"))
	var rpc *jsonrpc.Error
	if !errors.As(err, &rpc) || rpc.Code != jsonrpc.CodeInternalError {
		t.Errorf("error = %v, want a JSON-RPC internal error", err)
	}
	if len(l.payments) != 1 {
		t.Errorf("%d payments, want only the first", len(l.payments))
	}
}

// Without the token's file there is no session, and nobody is asked.
func TestTokenUnreadable(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: allow()}
	e, _ := pdp.enforcer(t)
	s, l := newServer(&ledger{}), &ledger{}
	e.Attach(s, pep.MiddlewareOptions{Identify: authority(t).ofFile(filepath.Join(t.TempDir(), "none"))})
	near, far := mcp.NewInMemoryTransports()
	over, err := s.Connect(t.Context(), far, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = over.Close() })
	if _, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), near, nil); err == nil {
		t.Error("no error")
	}
	if len(pdp.asked)+len(pdp.others) != 0 || len(l.payments) != 0 {
		t.Errorf("asked %v, paid %d, want neither", pdp.others, len(l.payments))
	}
}
