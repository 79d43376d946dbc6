package peers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// server is one to talk to; one of its members is set.
type server struct {
	command []string
	url     string
}

// everything is the reference server with all features of revision 2025-11-25.
func everything(t *testing.T, node string) server {
	t.Helper()
	return server{command: []string{node, script(t, "server-everything", "dist", "index.js"), "stdio"}}
}

// everythingHTTP has sessions, answers with event streams, and resumes them.
func everythingHTTP(t *testing.T, node string) server {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, "--import", "./listen.mjs", script(t, "server-everything", "dist", "index.js"), "streamableHttp")
	said := &strings.Builder{}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var ready struct {
		Event string
		Port  int
	}
	for ready.Event != "listening" && lines.Scan() {
		_ = json.Unmarshal(lines.Bytes(), &ready) // other lines are words
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			fmt.Fprintln(said, lines.Text())
		}
	}()
	t.Cleanup(func() {
		<-done
		_ = cmd.Wait() // t.Context ended it
		if t.Failed() {
			t.Logf("server-everything said:\n%s", said)
		}
	})
	if ready.Event != "listening" {
		t.Fatalf("server-everything did not listen\n%s", said)
	}
	return server{url: "http://127.0.0.1:" + strconv.Itoa(ready.Port) + "/mcp"}
}

// files is the reference server for a folder.
func files(t *testing.T, node, dir string) server {
	t.Helper()
	return server{command: []string{node, script(t, "server-filesystem", "dist", "index.js"), dir}}
}

// newLists makes a server of the official Go SDK, which speaks 2026-07-28 as
// well, with more of everything than fits on a page of two. Its tool wait waits
// until it is cancelled; its tool cancelled says how often that was.
func newLists() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "lists", Version: "1.0.0"}, &mcp.ServerOptions{PageSize: 2})
	type text struct {
		Text string `json:"text"`
	}
	for i := range 5 {
		n := strconv.Itoa(i)
		mcp.AddTool(s, &mcp.Tool{Name: "tool-" + n, Description: "Repeats."},
			func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, any, error) {
				return say(in.Text), nil, nil
			})
		s.AddResource(&mcp.Resource{Name: "resource-" + n, URI: "test://" + n}, readName)
		s.AddResourceTemplate(&mcp.ResourceTemplate{Name: "template-" + n, URITemplate: "test://" + n + "/{name}"}, readName)
		s.AddPrompt(&mcp.Prompt{Name: "prompt-" + n}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{}, nil
		})
	}
	addWaits(s)
	return s
}

func addWaits(s *mcp.Server) {
	var cancelled atomic.Int64
	mcp.AddTool(s, &mcp.Tool{Name: "wait", Description: "Waits."},
		func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
			if err != nil {
				return nil, nil, err
			}
			select {
			case <-ctx.Done():
				cancelled.Add(1)
				return nil, nil, ctx.Err()
			case <-time.After(20 * time.Second): // the test fails, and ends
				return say("never cancelled"), nil, nil
			}
		})
	mcp.AddTool(s, &mcp.Tool{Name: "cancelled", Description: "Counts."},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return say(fmt.Sprintf("cancelled: %d", cancelled.Load())), nil, nil
		})
}

func say(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

func readName(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Text: "I am " + r.Params.URI}}}, nil
}

// listsOverStdio is a role of the test binary.
func listsOverStdio(ctx context.Context, _ []string) error {
	return newLists().Run(ctx, &mcp.StdioTransport{})
}

func lists(t *testing.T) server {
	t.Helper()
	return server{command: self(t, "lists-stdio")}
}

// listsHTTP has sessions, or is stateless as 2026-07-28 wants it.
func listsHTTP(t *testing.T, options *mcp.StreamableHTTPOptions) server {
	t.Helper()
	s := newLists()
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, options))
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return server{url: web.URL + "/mcp"}
}

// fullFolder is what server-filesystem serves.
func fullFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/secret.txt", []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
