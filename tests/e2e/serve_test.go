package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

func TestServeDecides(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	s := start(t, nil, "--bundle", "payments="+filepath.Join(repository(t), "policies/examples/payments"))
	if s.Revision != "payments-1" {
		t.Errorf("revision %q in the ready line", s.Revision)
	}
	deny := s.check(t, read(t, "examples/payments/deny.json"))
	if deny.Status != http.StatusOK || deny.Decision != "DENY" || deny.Rule != "initiate-payment" || deny.Policy.Revision != "payments-1" {
		t.Errorf("answer %+v", deny)
	}
	if allow := s.check(t, read(t, "examples/payments/allow.json")); allow.Status != http.StatusOK || allow.Decision != "ALLOW" {
		t.Errorf("answer %+v", allow)
	}
	for body, want := range map[string]string{
		``: "request.empty", `{`: "request.syntax", `{} {}`: "request.trailing_data", `{"mcp":{},"mcp":{}}`: "request.duplicate_key",
		`{"Mcp":{}}`: "request.unknown_member", `{"mcp":{"method":7}}`: "request.wrong_type", "{\"context\":{\"a\":\"\xff\"}}": "request.syntax",
	} {
		if a := s.check(t, body); a.Status != http.StatusBadRequest || a.Code != want || a.Decision != "" {
			t.Errorf("%q: answer %+v, want %s", body, a, want)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
		if code, body := s.Get(t, path); code != http.StatusOK || body == "" {
			t.Errorf("%s: status %d", path, code)
		}
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, s.Log)
	}
	for line := range strings.Lines(s.Log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q is no JSON", line)
		}
	}
}

func TestServeDecidesOverGRPC(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	s := start(t, []string{"AUTHZD_BUNDLE=payments=" + filepath.Join(repository(t), "policies/examples/payments")})
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := authzdv1.NewDecisionServiceClient(conn).Check(t.Context(), &authzdv1.CheckRequest{
		Mcp: &authzdv1.MCPMessage{
			Method: "tools/call", Server: "https://mcp.example.com", Transport: "http",
			Params: []byte(`{"name":"payments.status","arguments":{"paymentId":"p-1"}}`),
		},
		Credentials: []*authzdv1.Credential{{
			Id:     "primary",
			Claims: []byte(`{"iss":"https://as.example.com","sub":"alice","aud":"https://mcp.example.com","exp":4102444800,"client_id":"c","scope":"payments:read"}`),
		}},
	})
	if err != nil || got.GetDecision() != authzdv1.Decision_DECISION_ALLOW || got.GetRule() != "payment-status" {
		t.Errorf("answer %v, %v", got, err)
	}
	if code := s.stop(t, os.Interrupt); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Without a bundle the server is up, and denies everything.
func TestServeWithoutBundle(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	s := start(t, []string{"AUTHZD_BUNDLE="})
	if a := s.check(t, read(t, "examples/payments/allow.json")); a.Decision != "DENY" || a.Policy.Bundle != "default" {
		t.Errorf("answer %+v", a)
	}
	if !strings.Contains(s.Log.String(), "denies every call") {
		t.Errorf("log %s", s.Log)
	}
}

const (
	slowPolicy = `package authz

permit["slow"] := {} if {
	input.action.name == "slow"
	count([1 | some a in data.many; some b in data.many; a == b]) > 0
}

permit["quick"] := {} if input.action.name == "quick"
`
	plainManifest = `{"revision": "REV", "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`
)

func query(action string) string {
	return `{"subject": {"type": "user", "id": "alice"}, "action": {"name": "` + action + `"}, "resource": {"type": "file", "id": "a"}}`
}

func bundleDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A call that is under way when SIGTERM comes is answered.
func TestDrain(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := bundleDir(t, map[string]string{
		".manifest":   strings.Replace(plainManifest, "REV", "r1", 1),
		"policy.rego": slowPolicy,
		"data.json":   `{"many": [` + strings.TrimSuffix(strings.Repeat("1,", 800), ",") + `]}`,
	})
	s := start(t, nil, "--bundle", "b="+dir, "--decision-timeout", "30s", "--shutdown-grace", "60s")
	answers := make(chan answer, 1)
	go func() { answers <- s.check(t, query("slow")) }()
	waitFor(t, "the call is under way", func() bool {
		_, body := s.Get(t, "/metrics")
		return strings.Contains(body, "in_flight") && inFlight(body)
	})
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, s.Log)
	}
	if a := <-answers; a.Decision != "ALLOW" {
		t.Errorf("answer %+v", a)
	}
}

// inFlight finds a gauge of calls under way that is not zero.
func inFlight(metrics string) bool {
	for line := range strings.Lines(metrics) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") &&
			strings.Contains(name, "in_flight") && value != "0" {
			return true
		}
	}
	return false
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := bundleDir(t, map[string]string{
		".manifest": strings.Replace(plainManifest, "REV", "r1", 1), "policy.rego": slowPolicy, "data.json": `{"many": [1]}`,
	})
	s := start(t, nil, "--bundle", "b="+dir)
	if a := s.check(t, query("quick")); a.Decision != "ALLOW" || a.Policy.Revision != "r1" {
		t.Fatalf("answer %+v", a)
	}
	put(t, dir, "policy.rego", "package authz\n\npermit if {")
	hangup(t, s)
	waitFor(t, "the refusal is logged", func() bool { return strings.Contains(s.Log.String(), "the old policy stays") })
	if a := s.check(t, query("quick")); a.Decision != "ALLOW" || a.Policy.Revision != "r1" {
		t.Errorf("answer %+v", a)
	}
	put(t, dir, "policy.rego", strings.ReplaceAll(slowPolicy, "quick", "other"))
	put(t, dir, ".manifest", strings.Replace(plainManifest, "REV", "r2", 1))
	hangup(t, s)
	waitFor(t, "the new revision is live", func() bool { return s.check(t, query("quick")).Policy.Revision == "r2" })
	if a := s.check(t, query("quick")); a.Decision != "DENY" {
		t.Errorf("answer %+v", a)
	}
}

func hangup(t *testing.T, s *server) {
	t.Helper()
	if err := s.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}
