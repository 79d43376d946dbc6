package failclosed_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/internal/binary"
)

// proxied is an MCP server of the official SDK with one tool, read, behind a running
// authzd proxy. It keeps no sessions.
type proxied struct {
	proxy *binary.Process
	// executed counts the calls that came through.
	executed atomic.Int64
}

// startProxy runs the proxy for a resource until the test ends.
func startProxy(t *testing.T, authzd, resource, settings, bundle string) *proxied {
	t.Helper()
	p := &proxied{}
	s := mcp.NewServer(&mcp.Implementation{Name: "files", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "read"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		p.executed.Add(1)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "read"}}}, nil, nil
	})
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	t.Cleanup(up.Close)
	p.proxy = binary.Start(t, exec.CommandContext(context.WithoutCancel(t.Context()), authzd, "proxy", "--listen", "127.0.0.1:0", "--upstream", up.URL,
		"--bundle", "main="+bundle, "--issuers", settings, "--resource", resource, "--log-level", "error", "--decision-timeout", "20s", "--ask-timeout", "30s"))
	return p
}

// call calls the tool with a token, and tells whether it was carried out. A token that
// no header can hold is not sent.
func (p *proxied) call(t *testing.T, token string) (carriedOut bool, answer string) {
	t.Helper()
	before := p.executed.Load()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.proxy.Listen+"/",
		bytes.NewReader([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{}}}`)))
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
