package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/internal/binary"
)

// stdioEnv makes of this test's binary an MCP server on stdio. It names the file
// that gets a byte for each call that is carried out.
const stdioEnv = "PROXY_TEST_EXECUTED"

func serveStdio(file string) int {
	s := mcp.NewServer(&mcp.Implementation{Name: "stdio", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "count"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, err
		}
		_, err = f.WriteString(".")
		return done("counted"), nil, errors.Join(err, f.Close())
	})
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func done(words string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: words}}}
}

// upstream is a server of the official SDK, with sessions.
type upstream struct {
	url      string
	server   *mcp.Server
	executed atomic.Int64
	// secrets are what each session has told.
	secrets sync.Map
	// lost are log messages that could not be sent.
	lost atomic.Int64
}

type secret struct {
	Secret string `json:"secret"`
}

// newUpstream serves the tools
//
//	count     counts that it was carried out
//	remember  keeps a secret for the session
//	recall    answers with it, after progress and a log message that hold it
func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{server: mcp.NewServer(&mcp.Implementation{Name: "up", Version: "1"}, &mcp.ServerOptions{Capabilities: &mcp.ServerCapabilities{
		Logging: &mcp.LoggingCapabilities{}, //nolint:staticcheck // deprecated with 2026-07-28, and in use
		Tools:   &mcp.ToolCapabilities{},
	}})}
	mcp.AddTool(u.server, &mcp.Tool{Name: "count"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		u.executed.Add(1)
		return done("counted"), nil, nil
	})
	mcp.AddTool(u.server, &mcp.Tool{Name: "remember"}, func(_ context.Context, r *mcp.CallToolRequest, in secret) (*mcp.CallToolResult, any, error) {
		u.secrets.Store(r.Session.ID(), in.Secret)
		return done("remembered"), nil, nil
	})
	mcp.AddTool(u.server, &mcp.Tool{Name: "recall"}, u.recall)
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return u.server }, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token came through")
		}
		h.ServeHTTP(w, r)
	})
	web := httptest.NewUnstartedServer(mux)
	web.Config.IdleTimeout = 5 * time.Second // as servers on Node.js do
	web.Start()
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections) // streams would hold Close up
	u.url = web.URL + "/mcp"
	return u
}

func (u *upstream) recall(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	u.executed.Add(1)
	v, _ := u.secrets.Load(r.Session.ID())
	own, _ := v.(string)
	if token := r.Params.GetProgressToken(); token != nil {
		for i := range 3 {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Total: 3, Message: own})
			if err != nil {
				return nil, nil, err
			}
		}
	}
	// Of no request, so that it goes the way of the session's own stream.
	if err := r.Session.Log(context.Background(), &mcp.LoggingMessageParams{Level: "info", Data: own}); err != nil { //nolint:staticcheck,contextcheck // deprecated with 2026-07-28, and in use
		u.lost.Add(1)
	}
	return done(own), nil, nil
}

// open is how many sessions the server has.
func (u *upstream) open() int {
	n := 0
	for range u.server.Sessions() {
		n++
	}
	return n
}

// person sends a token with every request.
type person struct {
	token string
	base  http.RoundTripper
}

func (p person) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	return p.base.RoundTrip(r)
}

// connect begins a session.
func connect(ctx context.Context, p *binary.Process, token string, base http.RoundTripper, o *mcp.ClientOptions) (*mcp.ClientSession, error) {
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, o)
	return c.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: "http://" + p.Listen + "/mcp", HTTPClient: &http.Client{Transport: person{token, base}}, MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
}
