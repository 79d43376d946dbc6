package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policy has one rule for each thing that the wire must carry.
const policy = `package authz

import data.authzd.v1 as authzd

tool := input.resource.id

args := input.mcp.params.arguments

permit["pay"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details([{"type": "payment", "amount": authzd.decimal(args.amount)}]),
]} if tool == "pay"

permit["read"] := {"require": [authzd.scopes(["read"])]} if tool == "read"

permit["fresh"] := {"require": [authzd.authentication({"acr_values": ["mfa"], "max_age": 300})]} if tool == "fresh"

permit["bound"] := {"require": [authzd.proof_of_possession]} if tool == "bound"

permit["logged"] := {"require": [authzd.scopes(["read"])], "obligations": [{"id": "log", "level": 9007199254740993}]} if tool == "logged"

permit["echo"] := {"obligations": [{"id": "input", "value": input}]} if tool == "echo"

permit["exact"] := {} if {
	tool == "exact"
	args.n == 9007199254740993
}

permit["rounded"] := {} if {
	tool == "exact"
	args.n == 9007199254740992
}

permit["spelled"] := {"require": [authzd.scopes([authzd.decimal(args.n)])]} if tool == "spell"

permit["served"] := {} if {
	input.action.name == "read"
	input.resource.type == "page"
}

forbid["blocked"] := {"message": "Not for {/mcp/params/arguments/who}.", "message_admin": "list", "remediation": "unavailable"} if {
	input.resource.id == "blocked"
}
`

const policyData = `{
  "authzd_tools": {
    "pay": {"arguments": {"type": "object", "properties": {"amount": {"type": ["string", "number"]}}, "required": ["amount"]}},
    "read": {"arguments": {"type": "object"}},
    "fresh": {"arguments": {"type": "object"}},
    "bound": {"arguments": {"type": "object"}},
    "logged": {"arguments": {"type": "object"}},
    "echo": {"arguments": {"type": "object"}},
    "exact": {"arguments": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}},
    "spell": {"arguments": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}},
    "blocked": {"arguments": {"type": "object", "properties": {"who": {"type": "string"}}}}
  },
  "authzd_types": {"payment": {
    "type": "payment",
    "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
      "properties": {"type": {"const": "payment"}, "amount": {"type": "string", "pattern": "^(0|[1-9][0-9]*)(\\.[0-9]+)?$"}},
      "required": ["type", "amount"], "additionalProperties": false},
    "compare": {"/amount": "max"}}}
}`

func value(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
	if err != nil {
		t.Fatalf("test JSON: %v\n%s", err, text)
	}
	return v
}

func snapshot(t testing.TB, revision string) *engine.Snapshot {
	t.Helper()
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{{
		Name: "main", Revision: revision, Roots: []string{""},
		Metadata: value(t, `{"contract": 1}`),
		Modules:  []engine.Module{{Path: "policy.rego", Text: policy}},
		Data:     value(t, policyData),
	}})
	if err != nil {
		t.Fatalf("compile the test policy: %v", err)
	}
	return s
}

// doors is a running server with a client for each door.
type doors struct {
	// stop begins the server's end, which the end of the test waits for.
	stop   func()
	engine *engine.Engine
	server *api.Server
	rpc    authzdv1.DecisionServiceClient
	conn   *grpc.ClientConn
	http   *http.Client
	url    string
	logs   *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p) //nolint:wrapcheck // a buffer
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func now() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

// start runs a server with the test policy until the test ends; change may
// adjust its options.
func start(t *testing.T, change func(*api.Options)) *doors {
	t.Helper()
	d := &doors{logs: &logBuffer{}, engine: engine.New(engine.Options{Now: now})}
	d.engine.Swap(snapshot(t, "r1"))
	opts := api.Options{
		Engine: d.engine, HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Grace: 2 * time.Second,
		Log: slog.New(slog.NewJSONHandler(d.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if d.server, err = api.New(opts); err != nil {
		t.Fatal(err)
	}
	if err := d.server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	d.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- d.server.Run(ctx) }()
	d.url = "http://" + d.server.HTTPAddr().String()
	transport := &http.Transport{}
	d.http = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	d.conn, err = grpc.NewClient(d.server.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.rpc = authzdv1.NewDecisionServiceClient(d.conn)
	t.Cleanup(func() {
		_ = d.conn.Close()
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return d
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (d *doors) post(t *testing.T, path, body string) answer {
	t.Helper()
	return d.do(t, http.MethodPost, path, body, map[string]string{"Content-Type": "application/json"})
}

func (d *doors) do(t *testing.T, method, path, body string, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("answer is no JSON object: %v\n%s", err, a.body)
	}
	return m
}

// query is a tools/call with one credential; arguments and claims are JSON.
func query(tool, arguments, claims string) string {
	return `{"mcp": {"method": "tools/call", "params": {"name": "` + tool + `", "arguments": ` + arguments + `},
		"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28", "client_capabilities": {}},
	"credentials": [{"id": "primary", "claims": ` + claims + `}]}`
}

// claims is a good token's, with further members.
func claims(more string) string {
	return `{"iss": "https://as.example.com", "sub": "alice", "aud": "https://mcp.example.com",
		"exp": 4102444800, "client_id": "https://agent.example/cimd.json"` + more + `}`
}

// request is the gRPC message of a query in JSON.
func request(t *testing.T, query string) *authzdv1.CheckRequest {
	t.Helper()
	m := &authzdv1.CheckRequest{}
	if err := api.UnmarshalJSON([]byte(query), m, api.Limits{}); err != nil {
		t.Fatalf("test query: %v\n%s", err, query)
	}
	return m
}
