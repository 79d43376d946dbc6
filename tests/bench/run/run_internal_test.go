package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	var h, other histogram
	for i := 1; i <= 10_000; i++ {
		part := &h
		if i%2 == 0 {
			part = &other
		}
		part.add(time.Duration(i) * time.Microsecond)
	}
	h.merge(&other)
	for p, want := range map[float64]float64{0.5: 5000, 0.99: 9900, 0.999: 9990, 1: 10_000} {
		if got := h.quantile(p); math.Abs(got-want) > want*0.017 {
			t.Errorf("quantile %v is %.1f, want about %.0f", p, got, want)
		}
	}
	if h.count != 10_000 || h.max != int64(10*time.Millisecond) {
		t.Errorf("count %d, max %d", h.count, h.max)
	}
}

// answering serves handler and returns its address.
func answering(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func callOnce(t *testing.T, addr string) (bool, error) {
	t.Helper()
	callers, closeAll, err := httpOpener(addr, "/v1/check", restAllows)(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	// Twice, because the first answer must be read to its very end.
	if _, err := callers[0](t.Context(), []byte("{}")); err != nil {
		return false, err
	}
	got, err := callers[0](t.Context(), []byte("{}"))
	return got.allow, err
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	write := func(parts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); string(body) != "{}" || r.URL.Path != "/v1/check" {
				t.Errorf("%s got %q", r.URL.Path, body)
			}
			for _, p := range parts {
				_, _ = io.WriteString(w, p)
				if f, ok := w.(http.Flusher); ok && len(parts) > 1 {
					f.Flush() // Makes the answer chunked.
				}
			}
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		allow   bool
		wantErr bool
	}{
		"allow":     {handler: write(`{"decision":"ALLOW","rule":"x"}`), allow: true},
		"deny":      {handler: write(`{"decision":"DENY","message":"\"decision\":\"ALLOW\""}`)},
		"in chunks": {handler: write(`{"decision":`, `"ALLOW"}`), allow: true},
		"nothing":   {handler: write()},
		"error with a body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"decision":"ALLOW"}`, http.StatusTooManyRequests)
		}, wantErr: true},
		"connection dropped": {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allow, err := callOnce(t, answering(t, c.handler))
			if allow != c.allow || (err != nil) != c.wantErr {
				t.Errorf("allow %v, error %v; want %v, error %v", allow, err, c.allow, c.wantErr)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"192.0.2.1:80", "example.com:80", ":80", "127.0.0.1"} {
		if _, err := dialLoopback(t.Context(), addr); err == nil || strings.Contains(err.Error(), "connect:") {
			t.Errorf("%s: %v, want it refused without an attempt", addr, err)
		}
	}
}

// TestMeasureChecksAnswers: a wrong answer under load fails the run, whichever
// way it is wrong.
func TestMeasureChecksAnswers(t *testing.T) {
	t.Parallel()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config{secs: 50 * time.Millisecond}
	deciding := func(decide func(i int) (bool, error)) *benchCase {
		index := map[string]int{}
		c := &benchCase{label: "x", usage: func() (time.Duration, float64) { return 0, 0 }}
		for i := range w.Requests {
			c.bodies = append(c.bodies, w.Requests[i].Query)
			index[string(w.Requests[i].Query)] = i
		}
		c.open = func(_ context.Context, n int) ([]caller, func(), error) {
			callers := make([]caller, n)
			for i := range callers {
				callers[i] = func(_ context.Context, body []byte) (answer, error) {
					allow, err := decide(index[string(body)])
					return answer{allow: allow}, err
				}
			}
			return callers, func() {}, nil
		}
		return c
	}
	right := deciding(func(i int) (bool, error) { return w.Requests[i].Allow, nil })
	if err := agree(t.Context(), right, w); err != nil {
		t.Error(err)
	}
	if m, err := measure(t.Context(), right, w, 4, cfg); err != nil || m.Requests == 0 || m.InFlight != 4 || m.RPS <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	for name, wrong := range map[string]*benchCase{
		"one denied": deciding(func(i int) (bool, error) { return w.Requests[i].Allow && i != 100, nil }),
		"all denied": deciding(func(int) (bool, error) { return false, nil }),
		"an allow":   deciding(func(int) (bool, error) { return true, nil }),
		"an error":   deciding(func(int) (bool, error) { return false, errors.New("refused") }),
	} {
		if err := agree(t.Context(), wrong, w); err == nil {
			t.Errorf("%s: agree found nothing", name)
		}
		if _, err := measure(t.Context(), wrong, w, 2, cfg); err == nil {
			t.Errorf("%s: measure found nothing", name)
		}
	}
}

// TestCheckRequest: gRPC is asked the same as REST.
func TestCheckRequest(t *testing.T) {
	t.Parallel()
	text, err := checkRequest([]byte(`{
		"mcp": {"method": "tools/call", "params": {"name": "t", "arguments": {"amount": 12000.50}}, "server": "https://s",
			"transport": "http", "protocol_version": "2026-07-28", "client_capabilities": {}},
		"subject": {"type": "identity", "id": "u", "properties": {"issuer": "i"}},
		"credentials": [{"id": "c", "claims": {"exp": 9007199254740993}}],
		"context": {"tenant": "x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got authzdv1.CheckRequest
	if err := proto.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := &authzdv1.CheckRequest{
		Mcp: &authzdv1.MCPMessage{
			Method: "tools/call", Params: []byte(`{"name": "t", "arguments": {"amount": 12000.50}}`), Server: "https://s",
			Transport: "http", ProtocolVersion: "2026-07-28", ClientCapabilities: []byte(`{}`),
		},
		Subject:     &authzdv1.Subject{Type: "identity", Id: "u", Properties: []byte(`{"issuer": "i"}`)},
		Credentials: []*authzdv1.Credential{{Id: "c", Claims: []byte(`{"exp": 9007199254740993}`)}},
		Context:     []byte(`{"tenant": "x"}`),
	}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	for decision, want := range map[authzdv1.Decision]bool{
		authzdv1.Decision_DECISION_ALLOW: true, authzdv1.Decision_DECISION_DENY: false, authzdv1.Decision_DECISION_UNSPECIFIED: false,
	} {
		answer, err := proto.Marshal(&authzdv1.CheckResponse{Decision: decision, Rule: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if allow, err := grpcAllows(answer); err != nil || allow != want {
			t.Errorf("%s: allow %v, %v", decision, allow, err)
		}
	}
	if _, err := grpcAllows([]byte{0xff}); err == nil {
		t.Error("an answer that is not protobuf was read")
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := report{}
	for round, rps := range []float64{100, 200, 400} {
		r.Samples = append(r.Samples,
			sample{Case: labelOPA, Round: round, InFlight: 64, RPS: rps, ServerCPU: 300},
			sample{Case: labelOPAGC, Round: round, InFlight: 64, RPS: rps * 1.25, ServerCPU: 250},
			sample{Case: labelGRPC, Round: round, InFlight: 64, RPS: rps * (1.5 + float64(round)/10), ServerCPU: 150, P99: 7})
	}
	var out strings.Builder
	if err := r.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	row := fmt.Sprintf("| %s | 64 | 150 / 320 / 680 | 1.50 / 1.60 / 1.70 | 1.20 / 1.28 / 1.36 | 150 / 150 / 150 | 2.00 / 2.00 / 2.00 | 0 | 7 | 0 | 0 | 0 |\n", labelGRPC)
	if !strings.Contains(out.String(), row) {
		t.Errorf("want the row\n%sin\n%s", row, out.String())
	}
	for want, ok := range map[float64]bool{0: true, 1.59: true, 1.61: false} {
		if err := r.judge(config{want: want, inFlight: []int{1, 64}}); (err == nil) != ok {
			t.Errorf("want %v: %v", want, err)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	cfg, err := parseFlags([]string{"-c", "1,8", "-secs", "0.5"})
	if err != nil || len(cfg.inFlight) != 2 || cfg.secs != 500*time.Millisecond || cfg.longest() < time.Minute {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, bad := range []string{"-c=0", "-c=", "-c=x", "-c=5000", "-rounds=0", "-secs=0", "-secs=-1", "-warm=-1", "-secs=NaN", "more"} {
		if _, err := parseFlags([]string{bad}); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}
