package failclosed_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/internal/binary"
)

// proxied is an MCP server of the official SDK with the tool payments.status, behind a
// running authzd proxy. It keeps no sessions.
type proxied struct {
	proxy *binary.Process
	// executed counts the calls that came through.
	executed atomic.Int64
}

// proxyPolicy also allows what a proxy asks about on behalf of a client that has no
// session.
const proxyPolicy = `package authz

import data.authzd.v1 as authzd

permit["holders"] := {"require": [authzd.scopes(["payments:read"])]}
`

// startProxy runs the proxy for https://mcp.example.com until the test ends.
func startProxy(t *testing.T, authzd, issuers string) *proxied {
	t.Helper()
	p, bundle := &proxied{}, t.TempDir()
	for name, text := range map[string]string{
		".manifest":   `{"revision": "r", "roots": ["authz"], "metadata": {"authzd": {"contract": 1, "untyped_tools": true}}}`,
		"policy.rego": proxyPolicy,
	} {
		if err := os.WriteFile(filepath.Join(bundle, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "payments.status"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		p.executed.Add(1)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "read"}}}, nil, nil
	})
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	t.Cleanup(up.Close)
	p.proxy = binary.Start(t, exec.CommandContext(context.WithoutCancel(t.Context()), authzd, "proxy", "--listen", "127.0.0.1:0", "--upstream", up.URL,
		"--bundle", "main="+bundle, "--issuers", issuers, "--resource", "https://mcp.example.com", "--log-level", "error", "--decision-timeout", "20s", "--ask-timeout", "30s"))
	return p
}

// call calls the tool with a token, and tells whether it was carried out, and what was
// answered: why the client did not send it, if no header can hold the token.
func (p *proxied) call(t *testing.T, token string) (carriedOut bool, answer string) {
	t.Helper()
	before := p.executed.Load()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.proxy.Listen+"/",
		bytes.NewReader([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"payments.status","arguments":{}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return p.executed.Load() != before, err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return p.executed.Load() != before, resp.Status + " " + string(text)
}
