package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const aliceClaims = `{"iss":"https://as.example.com","sub":"alice","exp":4102444800}`

// fakePDP answers what the test says and keeps what it was asked.
type fakePDP struct {
	authzdv1.UnimplementedDecisionServiceServer
	answer func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error)
	asked  []*authzdv1.CheckRequest
}

func (f *fakePDP) Check(ctx context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	f.asked = append(f.asked, q)
	return f.answer(ctx, q)
}

// dial serves the fake over gRPC on an in-memory listener. The second result
// ends the server, as if authzd had gone.
func (f *fakePDP) dial(t *testing.T) (authzdv1.DecisionServiceClient, func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	authzdv1.RegisterDecisionServiceServer(srv, f)
	go func() { _ = srv.Serve(listener) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///pdp",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return authzdv1.NewDecisionServiceClient(conn), srv.Stop
}

func allow() *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision:  authzdv1.Decision_DECISION_ALLOW,
		ExpiresAt: timestamppb.New(time.Now().Add(time.Minute)),
	}
}

func denyResult(result string) *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY,
		Denial:   &authzdv1.Denial{McpResult: []byte(result)},
	}
}

func answering(r *authzdv1.CheckResponse) func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) { return r, nil }
}

func testGuard(pdp authzdv1.DecisionServiceClient) *guard {
	return &guard{
		pdp: pdp, server: "https://mcp.example.com", transport: "stdio",
		claims: func(context.Context, *mcp.CallToolRequest) (json.RawMessage, error) {
			return json.RawMessage(aliceClaims), nil
		},
		log: slog.New(slog.DiscardHandler),
	}
}

// client connects the SDK's client to the payments server in memory.
func client(t *testing.T, g *guard, version string) (*mcp.ClientSession, *ledger) {
	t.Helper()
	l := &ledger{}
	near, far := mcp.NewInMemoryTransports()
	serverSession, err := newServer(l, g).Connect(t.Context(), far, nil)
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
			pdp := &fakePDP{answer: answering(allow())}
			conn, _ := pdp.dial(t)
			session, l := client(t, testGuard(conn), version)
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

// Digits and text of the arguments travel as they came, even those that a
// decoder into float64 would change.
func TestArgumentsKeepTheirDigits(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: answering(denyResult(`{"content":[],"isError":true}`))}
	conn, _ := pdp.dial(t)
	session, _ := client(t, testGuard(conn), "")
	const arguments = `{"amount":12000.50,"id":9007199254740993,"reference":"<a & b>"}`
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{
		Name: "payments.initiate", Arguments: json.RawMessage(arguments),
	}); err != nil {
		t.Fatal(err)
	}
	got := string(pdp.asked[0].GetMcp().GetParams())
	if !strings.Contains(got, "12000.50") || !strings.Contains(got, "9007199254740993") {
		t.Errorf("params = %s, want the digits of %s", got, arguments)
	}
}

func TestOnlyAnAllowRunsTheTool(t *testing.T) {
	t.Parallel()
	withObligation := allow()
	withObligation.Obligations = [][]byte{[]byte(`{"id":"notify"}`)}
	stale := allow()
	stale.ExpiresAt = timestamppb.New(time.Now().Add(-time.Second))
	eternal := allow()
	eternal.ExpiresAt = nil
	failed := func(code codes.Code) func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		return func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
			return nil, status.Error(code, "secret cause")
		}
	}
	for name, answer := range map[string]func(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error){
		"deny":                       answering(denyResult(`{"content":[{"type":"text","text":"no"}],"isError":true}`)),
		"deny without a denial":      answering(&authzdv1.CheckResponse{Decision: authzdv1.Decision_DECISION_DENY}),
		"deny, result is not JSON":   answering(denyResult(`{`)),
		"no decision":                answering(&authzdv1.CheckResponse{}),
		"unknown decision":           answering(&authzdv1.CheckResponse{Decision: 7}),
		"allow with an obligation":   answering(withObligation),
		"allow that has expired":     answering(stale),
		"allow without an end":       answering(eternal),
		"error: unavailable":         failed(codes.Unavailable),
		"error: invalid argument":    failed(codes.InvalidArgument),
		"error: failed precondition": failed(codes.FailedPrecondition),
		"error: internal":            failed(codes.Internal),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdp := &fakePDP{answer: answer}
			conn, _ := pdp.dial(t)
			session, l := client(t, testGuard(conn), "")
			result, err := session.CallTool(t.Context(), pay("1.00"))
			if err == nil && !result.IsError {
				t.Errorf("result = %+v, want a refusal", result)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the client gets no answer")
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the client is told the cause: %v", err)
			}
			if len(l.payments) != 0 {
				t.Error("the tool ran")
			}
		})
	}
}

func TestPDPGone(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: answering(allow())}
	conn, stop := pdp.dial(t)
	session, l := client(t, testGuard(conn), "")
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

func TestPDPTooSlow(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: func(ctx context.Context, _ *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		<-ctx.Done()
		return allow(), nil
	}}
	conn, _ := pdp.dial(t)
	session, l := client(t, testGuard(conn), "")
	begin := time.Now()
	if _, err := session.CallTool(t.Context(), pay("1.00")); err == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > 2*decisionTimeout {
		t.Errorf("refused after %v, want about %v", took, decisionTimeout)
	}
	if len(l.payments) != 0 {
		t.Error("the tool ran")
	}
}

func TestTokenUnreadable(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: answering(allow())}
	conn, _ := pdp.dial(t)
	g := testGuard(conn)
	g.claims = func(context.Context, *mcp.CallToolRequest) (json.RawMessage, error) { return nil, errors.New("away") }
	session, l := client(t, g, "")
	if _, err := session.CallTool(t.Context(), pay("1.00")); err == nil {
		t.Error("no error")
	}
	if len(pdp.asked) != 0 || len(l.payments) != 0 {
		t.Errorf("asked %d, paid %d, want neither", len(pdp.asked), len(l.payments))
	}
}

// callClient is a PDP in process, so that it can reach into the very call that
// is being decided.
type callClient struct {
	authzdv1.DecisionServiceClient
	during func()
}

func (c callClient) Check(context.Context, *authzdv1.CheckRequest, ...grpc.CallOption) (*authzdv1.CheckResponse, error) {
	c.during()
	return allow(), nil
}

func TestCallChangedWhileDeciding(t *testing.T) {
	t.Parallel()
	call := &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{
		Name: "payments.initiate", Arguments: json.RawMessage(`{"amount":"1.00"}`),
	}}
	for name, change := range map[string]func(){
		"arguments": func() { call.Params.Arguments = json.RawMessage(`{"amount":"1000.00"}`) },
		"name":      func() { call.Params.Name = "payments.cancel" },
	} {
		g := testGuard(callClient{during: change})
		ran := false
		_, err := g.middleware(func(context.Context, string, mcp.Request) (mcp.Result, error) {
			ran = true
			return &mcp.CallToolResult{}, nil
		})(t.Context(), methodToolsCall, call)
		if err == nil || ran {
			t.Errorf("%s: error %v, ran %v; want a refusal", name, err, ran)
		}
	}
}

func TestOtherRequestValuesAreRefused(t *testing.T) {
	t.Parallel()
	g := testGuard(callClient{during: func() {}})
	for name, req := range map[string]mcp.Request{
		"no params":     &mcp.CallToolRequest{},
		"not this type": &mcp.ListToolsRequest{},
	} {
		_, err := g.middleware(func(context.Context, string, mcp.Request) (mcp.Result, error) {
			t.Errorf("%s: the tool ran", name)
			return nil, nil //nolint:nilnil // not reached
		})(t.Context(), methodToolsCall, req)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The denial reaches the client as authzd wrote it, envelope and all.
func TestDenialArrivesIntact(t *testing.T) {
	t.Parallel()
	const envelopeKey = "io.modelcontextprotocol/authorization"
	pdp := &fakePDP{answer: answering(denyResult(`{"resultType":"complete","content":[{"type":"text","text":"ask first"}],"isError":true,` +
		`"_meta":{"` + envelopeKey + `":{"reason":"insufficient_authorization","remediation":"available",` +
		`"remediationHints":[{"type":"authorization_remediation","authorization_details":[{"type":"payment_initiation"}]}]}}}`))}
	conn, _ := pdp.dial(t)
	session, _ := client(t, testGuard(conn), "")
	result, err := session.CallTool(t.Context(), pay("1.00"))
	if err != nil {
		t.Fatal(err)
	}
	envelope, ok := result.Meta[envelopeKey].(map[string]any)
	if !result.IsError || !ok || envelope["remediation"] != "available" {
		t.Errorf("result = %+v", result)
	}
	if text, ok := result.Content[0].(*mcp.TextContent); !ok || text.Text != "ask first" {
		t.Errorf("content = %+v", result.Content)
	}
}

func TestDenialAsError(t *testing.T) {
	t.Parallel()
	pdp := &fakePDP{answer: answering(&authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY,
		Denial:   &authzdv1.Denial{McpError: []byte(`{"code":-32042,"message":"open the page","data":{"elicitations":[]}}`)},
	})}
	conn, _ := pdp.dial(t)
	session, _ := client(t, testGuard(conn), "2025-11-25")
	_, err := session.CallTool(t.Context(), pay("1.00"))
	var rpc *jsonrpc.Error
	if !errors.As(err, &rpc) || rpc.Code != -32042 || string(rpc.Data) != `{"elicitations":[]}` {
		t.Errorf("error = %v", err)
	}
}
