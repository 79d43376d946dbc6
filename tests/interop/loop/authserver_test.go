package loop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// scopes are those of every MCP server of these tests.
const scopes = "payments payments:read files"

// callback is where the client would listen. No request is ever sent there.
const callback = "http://127.0.0.1:1/callback"

// authServer is a running authorization server (RFC 8414 metadata).
type authServer struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	PAR           string `json:"pushed_authorization_request_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	JWKS          string `json:"jwks_uri"`
	Types         []string
	TypesKnown    []string `json:"authorization_details_types_supported"`
	PARRequired   bool     `json:"require_pushed_authorization_requests"`

	log *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startAuthServer runs the authorization server until the test ends.
func startAuthServer(t *testing.T, args ...string) *authServer {
	t.Helper()
	as := &authServer{log: &logBuffer{}}
	args = append([]string{
		"../authserver/server.mjs", "--scopes", scopes, "--callback", callback,
		"--resource", mcpServer, "--resource", otherServer, "--resource", opaqueServer,
		"--client", agent, "--client", otherAgent,
	}, args...)
	cmd := exec.CommandContext(t.Context(), nodeProgram, args...)
	// Kept open: the server ends when its standard input does.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = as.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, as.log)
	}
	var ready struct {
		Event, Issuer string
		Types         []string
	}
	if err := json.Unmarshal(line, &ready); err != nil || ready.Event != "ready" {
		t.Fatalf("ready line %q: %v", line, err)
	}
	as.getJSON(t, ready.Issuer+"/.well-known/oauth-authorization-server", as)
	if as.Issuer != ready.Issuer {
		t.Fatalf("issuer %q in the metadata of %q", as.Issuer, ready.Issuer)
	}
	as.Types = ready.Types
	return as
}

func (as *authServer) getJSON(t *testing.T, address string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(send(t, http.DefaultClient, req, http.StatusOK).Body, into); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

// rotate makes the server begin anew with another signing key; the one it had
// is not published any more, and sessions and grants are gone.
func (as *authServer) rotate(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, as.Issuer+"/rotate", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	send(t, http.DefaultClient, req, http.StatusNoContent)
}

// reply is an HTTP answer, read to its end.
type reply struct {
	Status int
	Body   []byte
	// Location is where a redirect leads, absolute.
	Location string
}

// send returns the answer to a request; it must have one of the given statuses.
func send(t *testing.T, client *http.Client, req *http.Request, statuses ...int) reply {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(statuses, resp.StatusCode) {
		t.Fatalf("%s %s: %s\n%s", req.Method, req.URL.Path, resp.Status, strings.TrimSpace(string(body)))
	}
	out := reply{Status: resp.StatusCode, Body: body}
	if to, err := resp.Location(); err == nil {
		out.Location = to.String()
	}
	return out
}
