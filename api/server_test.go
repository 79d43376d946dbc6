package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{
		":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "169.254.169.254:80", "127.0.0.1", "example.invalid:0", "",
	} {
		opts := api.Options{Engine: engine.New(engine.Options{}), HTTPAddr: addr, GRPCAddr: "127.0.0.1:0"}
		if addr == "" {
			opts.HTTPAddr, opts.GRPCAddr = "127.0.0.1:0", "0.0.0.0:0"
		}
		s, err := api.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Listen(t.Context())
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Code != api.CodeNotLoopback {
			t.Errorf("%q: %v, want %s", addr, err, api.CodeNotLoopback)
		}
		if s.HTTPAddr() != nil || s.GRPCAddr() != nil {
			t.Errorf("%q: something is open: %v %v", addr, s.HTTPAddr(), s.GRPCAddr())
		}
	}
	for _, addr := range []string{"127.0.0.1:0", "127.0.0.2:0", "localhost:0"} {
		s, err := api.New(api.Options{Engine: engine.New(engine.Options{}), HTTPAddr: addr, GRPCAddr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Listen(ctx); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Errorf("%q: Run: %v", addr, err)
		}
	}
	if _, err := api.New(api.Options{}); err == nil {
		t.Error("New without an engine")
	}
}

// What runs in another program may be run again.
func TestRunLocalAgain(t *testing.T) {
	t.Parallel()
	s, err := api.New(api.Options{Engine: engine.New(engine.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.RunLocal(ctx) }()
		_, err := s.Local().Check(t.Context(), request(t, query("read", `{}`, claims(``))))
		wantFault(t, "a check", err, "engine.not_ready", "")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("RunLocal: %v", err)
		}
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.engine.Swap(nil)
	q := query("read", `{}`, claims(``))
	if got := d.post(t, "/v1/check", q); got.status != 503 || got.json(t)["code"] != "engine.not_ready" {
		t.Errorf("REST: %d %s", got.status, got.body)
	}
	_, err := d.rpc.Check(t.Context(), request(t, q))
	wantFault(t, "gRPC", err, "engine.not_ready", "")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v", err)
	}
	if got := d.post(t, "/v1/check:batch", batchOf(t, q)); got.status != 503 || got.json(t)["code"] != "engine.not_ready" {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
	if got := d.do(t, http.MethodGet, "/readyz", "", nil); got.status != 503 || got.json(t)["code"] != "engine.not_ready" {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	if got := d.do(t, http.MethodGet, "/healthz", "", nil); got.status != 200 {
		t.Errorf("healthz: %d %s", got.status, got.body)
	}
	health := healthpb.NewHealthClient(d.conn)
	if h, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || h.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v %v", h, err)
	}
	d.engine.Swap(snapshot(t, "r7"))
	if got := d.do(t, http.MethodGet, "/readyz", "", nil); got.status != 200 || !strings.Contains(string(got.body), `"revision":"r7"`) {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	for _, name := range []string{"", "authzd.v1.DecisionService"} {
		if h, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name}); err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v %v", name, h, err)
		}
	}
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of another service: %v", err)
	}
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.AllowedHosts = []string{"authzd.internal"} })
	q := query("read", `{}`, claims(`, "scope": "read"`))
	asJSON := map[string]string{"Content-Type": "application/json"}
	with := func(k, v string) map[string]string {
		return map[string]string{"Content-Type": "application/json", k: v}
	}
	for name, c := range map[string]struct {
		method, path string
		header       map[string]string
		status       int
		code         string
	}{
		"unknown path":       {"POST", "/v1/chec", asJSON, 404, "api.not_found"},
		"trailing slash":     {"POST", "/v1/check/", asJSON, 404, "api.not_found"},
		"dot segment":        {"POST", "/v1/./check", asJSON, 404, "api.not_found"},
		"root":               {"GET", "/", nil, 404, "api.not_found"},
		"GET check":          {"GET", "/v1/check", nil, 405, "api.method_not_allowed"},
		"PUT batch":          {"PUT", "/v1/check:batch", asJSON, 405, "api.method_not_allowed"},
		"POST health":        {"POST", "/healthz", asJSON, 405, "api.method_not_allowed"},
		"OPTIONS":            {"OPTIONS", "/v1/check", with("Origin", "https://evil.example"), 405, "api.method_not_allowed"},
		"text":               {"POST", "/v1/check", map[string]string{"Content-Type": "text/plain"}, 415, "api.content_type"},
		"form upload":        {"POST", "/v1/check:batch", map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, 415, "api.content_type"},
		"other charset":      {"POST", "/v1/check", map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415, "api.content_type"},
		"malformed type":     {"POST", "/v1/check", map[string]string{"Content-Type": "application/json; ="}, 415, "api.content_type"},
		"rebound host":       {"POST", "/v1/check", with("Host", "evil.example:8181"), 403, "api.host_refused"},
		"host like loopback": {"POST", "/v1/check", with("Host", "127.0.0.1.evil.example"), 403, "api.host_refused"},
		"cross-site fetch":   {"POST", "/v1/check", with("Sec-Fetch-Site", "cross-site"), 403, "api.origin_refused"},
		"other origin":       {"POST", "/v1/check", with("Origin", "https://evil.example"), 403, "api.origin_refused"},
		"form from a page":   {"POST", "/v1/check", map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://localhost:3000"}, 403, "api.origin_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.do(t, c.method, c.path, q, c.header)
			m := got.json(t)
			if got.status != c.status || m["code"] != c.code || m["request_id"] != got.header.Get("X-Request-Id") {
				t.Errorf("%d %s, want %d %s", got.status, got.body, c.status, c.code)
			}
			if got.header.Get("Content-Type") != "application/json" || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers: %v", got.header)
			}
			if c.status == 405 && got.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	for name, header := range map[string]map[string]string{
		"curl -d":      {"Content-Type": "application/x-www-form-urlencoded"},
		"charset":      {"Content-Type": "application/json; charset=UTF-8"},
		"localhost":    with("Host", "localhost:8181"),
		"IPv6 host":    with("Host", "[::1]:8181"),
		"allowed host": with("Host", "authzd.internal"),
		"own page":     with("Sec-Fetch-Site", "same-origin"),
	} {
		if got := d.do(t, http.MethodPost, "/v1/check", q, header); got.status != 200 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

// What a client sends as headers must not become gRPC metadata: behind the
// gateway it would be taken for the gateway's own word.
func TestGatewayForwardsNothing(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	got := d.do(t, http.MethodPost, "/v1/check:batch", `{"queries": [{"mcp": {"method": "tools/burn"}}]}`, map[string]string{
		"Content-Type": "application/json", "Grpc-Metadata-Authzd-Request-Id": "forged", "Authzd-Request-Id": "forged",
		"Authorization": "Bearer secret-token", "Grpc-Timeout": "1n", "X-Forwarded-For": "192.0.2.1",
	})
	if got.status != 200 || strings.Contains(string(got.body), "forged") || !strings.Contains(string(got.body), got.header.Get("X-Request-Id")) {
		t.Errorf("%d %s (request id %s)", got.status, got.body, got.header.Get("X-Request-Id"))
	}
	// Nor does the public gRPC listener believe the gateway's key.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authzd-request-id", "forged")
	_, err := d.rpc.Check(ctx, &authzdv1.CheckRequest{})
	wantFault(t, "gRPC", err, "request.empty", "")
	if strings.Contains(d.logs.String(), "forged") || strings.Contains(d.logs.String(), "secret-token") {
		t.Errorf("the log holds what a client sent:\n%s", d.logs)
	}
}

func TestLogHoldsNoArguments(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(t, "/v1/check", query("blocked", `{"who": "a-secret-argument"}`, claims(`, "jti": "a-secret-claim"`)))
	log := d.logs.String()
	if !strings.Contains(log, `"decision":"DENY"`) || !strings.Contains(log, `"rule":"blocked"`) {
		t.Errorf("no line for the decision:\n%s", log)
	}
	if strings.Contains(log, "a-secret") {
		t.Errorf("the log holds an argument or a claim:\n%s", log)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.post(t, "/v1/check", query("read", `{}`, claims(`, "scope": "read"`)))
	d.post(t, "/v1/check", query("read", `{}`, claims(``)))
	d.post(t, "/v1/check", `{`)
	if _, err := d.rpc.Check(t.Context(), request(t, query("read", `{}`, claims(``)))); err != nil {
		t.Fatal(err)
	}
	text := string(d.do(t, http.MethodGet, "/metrics", "", nil).body)
	for _, want := range []string{
		`authzd_decisions_total{decision="allow",door="rest"} 1`,
		`authzd_decisions_total{decision="deny",door="rest"} 1`,
		`authzd_decisions_total{decision="deny",door="grpc"} 1`,
		`authzd_errors_total{code="request.syntax",door="rest"} 1`,
		`authzd_decision_duration_seconds_count{door="rest"} 2`,
		`authzd_snapshot_info{bundle="main",revision="r1"} 1`,
		`authzd_requests_in_flight{door="rest"} 0`,
		`authzd_decision_queue 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	got := d.do(t, http.MethodGet, "/openapi.json", "", nil)
	doc, err := rar.DecodeStrict(got.body, rar.Limits{MaxBytes: 1 << 20})
	if err != nil || got.status != 200 {
		t.Fatalf("%d: %v", got.status, err)
	}
	for _, p := range []string{"/paths/~1v1~1check/post", "/paths/~1v1~1check:batch/post", "/definitions/v1CheckResponse/properties/call_digest"} {
		if _, ok := doc.Lookup(p); !ok {
			t.Errorf("nothing at %s", p)
		}
	}
	if strings.Contains(string(got.body), `"byte"`) || strings.Contains(string(got.body), "DECISION_") {
		t.Error("JSON fields are described as base64, or enum values by their protobuf names")
	}
	v, _ := doc.Lookup("/definitions/v1Decision/enum")
	if text := string(v.AppendJSON(nil)); text != `["UNSPECIFIED","ALLOW","DENY"]` {
		t.Errorf("enum: %s", text)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	stream, err := reflectionpb.NewServerReflectionClient(d.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if text := resp.String(); !strings.Contains(text, "authzd.v1.DecisionService") || !strings.Contains(text, "grpc.health.v1.Health") {
		t.Errorf("services: %s", text)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end of stream: %v", err)
	}
	err = d.conn.Invoke(t.Context(), "/authzd.v1.DecisionService/Explode", &authzdv1.CheckRequest{}, &authzdv1.CheckResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
}

// Denials are ready to send: the WWW-Authenticate of a web client, the result
// of a stdio one.
func TestDenialForms(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	lookup := func(q, pointer string) rar.Value {
		t.Helper()
		got := d.post(t, "/v1/check", q)
		v, err := rar.DecodeStrict(got.body, rar.Limits{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatalf("%v: %s", err, got.body)
		}
		at, _ := v.Lookup(pointer)
		return at
	}
	header := "/denial/http/headers/WWW-Authenticate"
	pay := query("pay", `{"amount": "12.50"}`, claims(`, "scope": "payments"`))
	for name, c := range map[string]struct{ query, pointer, want string }{
		"details":        {pay, header, `error="insufficient_authorization"`},
		"metadata":       {pay, header, `resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource"`},
		"scope":          {query("read", `{}`, claims(``)), header, `scope="read"`},
		"held scope":     {pay, header, `scope="payments"`},
		"step-up":        {query("fresh", `{}`, claims(``)), header, `error="insufficient_user_authentication"`},
		"proof":          {query("bound", `{}`, claims(``)), header, `DPoP `},
		"invalid token":  {query("read", `{}`, `{"iss": 5}`), header, `error="invalid_token"`},
		"stdio details":  {strings.Replace(pay, `"http", "proto`, `"stdio", "proto`, 1), "/denial/mcp_result/_meta/io.modelcontextprotocol~1authorization/remediationHints/0/type", "authorization_remediation"},
		"forbidden":      {query("blocked", `{"who": "mallory"}`, claims(``)), "/denial/mcp_result/content/0/text", "Not for mallory."},
		"hint":           {pay, "/remediation/hints/0/type", "authorization_details"},
		"hint's content": {pay, "/remediation/hints/0/authorization_details/0/amount", "12.50"},
	} {
		if got := lookup(c.query, c.pointer); !strings.Contains(got.Text(), c.want) {
			t.Errorf("%s: %q at %s, want %s", name, got.Text(), c.pointer, c.want)
		}
	}
	// Beside a challenge there is no result, and an error with the same hint.
	if got := lookup(pay, "/denial/mcp_result"); got.Kind() != rar.Null {
		t.Errorf("mcp_result beside a challenge: %v", got.Kind())
	}
	const hint = "/data/_meta/io.modelcontextprotocol~1authorization/remediationHints/0/authorization_details/0/amount"
	if got := lookup(pay, "/denial/mcp_error"+hint); got.Text() != "12.50" {
		t.Errorf("mcp_error beside a challenge: %v", got.Kind())
	}
	// The form that the caller asks for.
	for form, c := range map[string]struct{ capabilities, want string }{
		"challenge": {`{}`, "401"}, "result": {`{}`, "200"}, "auto": {`{}`, "200"},
		"auto ":   {`{"extensions": {"io.modelcontextprotocol/structured-authorization-denials": {}}}`, "401"},
		"result ": {`{"extensions": {"io.modelcontextprotocol/structured-authorization-denials": {}}}`, "200"},
	} {
		asked := strings.Replace(pay, `"client_capabilities": {}`, fmt.Sprintf(`"denial_form": %q, "client_capabilities": %s`, strings.TrimSpace(form), c.capabilities), 1)
		if got := lookup(asked, "/denial/http/status"); got.Text() != c.want {
			t.Errorf("%s %s: status %s, want %s", form, c.capabilities, got.AppendJSON(nil), c.want)
		}
	}
	if got := d.post(t, "/v1/check", strings.Replace(pay, `"transport": "http"`, `"denial_form": "loud", "transport": "http"`, 1)); got.json(t)["code"] != "request.invalid_value" {
		t.Errorf("an unknown form: %s", got.body)
	}
	// Nothing is offered to who can not act on it.
	quiet := strings.Replace(pay, `"transport": "http",`, ``, 1)
	if got := lookup(quiet, "/remediation"); got.Len() == 0 || strings.Contains(string(got.AppendJSON(nil)), "hints") {
		t.Errorf("remediation without a transport: %s", got.AppendJSON(nil))
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.Workers, o.Queue = 1, 1 })
	q := query("read", `{}`, claims(``))
	m := request(t, q)
	var mu sync.Mutex
	seen := map[string]int{}
	var calls sync.WaitGroup
	for range 64 {
		calls.Go(func() {
			for range 5 {
				_, err := d.rpc.Check(t.Context(), m)
				mu.Lock()
				seen[status.Code(err).String()]++
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	if seen["OK"] == 0 || seen["ResourceExhausted"] == 0 || len(seen) != 2 {
		t.Errorf("answers: %v, want some OK and some ResourceExhausted", seen)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.MaxDuration = time.Nanosecond })
	q := query("read", `{}`, claims(``))
	if got := d.post(t, "/v1/check", q); got.status != 504 || got.json(t)["code"] != "engine.deadline" {
		t.Errorf("REST: %d %s", got.status, got.body)
	}
	_, err := d.rpc.Check(t.Context(), request(t, q))
	wantFault(t, "gRPC", err, "engine.deadline", "")
	if got := d.post(t, "/v1/check:batch", batchOf(t, q)); got.status != 504 || got.json(t)["code"] != "engine.deadline" {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
}

// A panic below the doors denies, is logged with its stack, and tells nothing.
func TestPanicDenies(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	// A clock that panics is the nearest thing to a fault within the engine.
	broken := engine.New(engine.Options{Now: func() time.Time { panic("broken clock 4711") }})
	broken.Swap(snapshot(t, "r1"))
	p := start(t, func(o *api.Options) { o.Engine = broken })
	q := query("read", `{}`, claims(``))
	for _, path := range []string{"/v1/check", "/v1/check:batch"} {
		body := q
		if path != "/v1/check" {
			body = batchOf(t, q)
		}
		got := p.post(t, path, body)
		if got.status != 500 || got.json(t)["code"] != "api.internal" || strings.Contains(string(got.body), "4711") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	_, err := p.rpc.Check(t.Context(), request(t, q))
	wantFault(t, "gRPC", err, "api.internal", "")
	if log := p.logs.String(); !strings.Contains(log, "4711") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log lacks the panic or its stack:\n%s", log)
	}
	if got := d.post(t, "/v1/check", q); got.status != 200 {
		t.Errorf("another server: %d", got.status)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	e := engine.New(engine.Options{})
	e.Swap(snapshot(t, "r1"))
	s, err := api.New(api.Options{Engine: e, HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Grace: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	conn, err := grpc.NewClient(s.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// A watcher would hold up a graceful stop for ever.
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("an idle server took %v to end", took)
	}
	if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.HTTPAddr().String()); err == nil {
		_ = c.Close()
		t.Error("HTTP is still open")
	}
}

// A body that ends before its declared length is no query.
func TestBodyCutShort(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.server.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, path := range []string{"/v1/check", "/v1/check:batch"} {
		_, err = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"mc\r\nnonsense\r\n")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 400 || !strings.Contains(string(body), `"api.request_body"`) {
			t.Errorf("%s: %d %s %v", path, resp.StatusCode, body, err)
		}
		_ = conn.Close()
		if conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", d.server.HTTPAddr().String()); err != nil {
			t.Fatal(err)
		}
	}
}
