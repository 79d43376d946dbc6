package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/starter"
	"github.com/authzd/authzd/rar"
)

// Limits of what init takes from a server. Beyond one of them it gives up: half
// of the tools would make a bundle that looks like all of them.
const (
	maxInitBytes = 32 << 20
	maxInitPages = 200
	maxInitTools = 1000
	// A bundle's data may nest a little deeper, and a schema lies three deep.
	maxInitDepth = bundles.DefaultMaxDataDepth - 4
)

// mcpSource is a way to reach an MCP server. The function ends what was started,
// and gives the error that explains why the server went away, if it did.
type mcpSource interface {
	open(ctx context.Context, std stdio) (mcp.Transport, func() error, error)
}

// describeServer asks the server at src what it offers.
func describeServer(ctx context.Context, src mcpSource, timeout time.Duration, std stdio) (starter.Server, error) {
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport, stop, err := src.open(asking, std)
	if err != nil {
		return starter.Server{}, err
	}
	s, err := askTools(asking, transport, std)
	ended := stop()
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return s, fmt.Errorf("ask the MCP server: %w", ctx.Err())
	case asking.Err() != nil:
		return s, fmt.Errorf("the MCP server has not told its tools within %v (--timeout)", timeout)
	case ended != nil:
		return s, fmt.Errorf("ask the MCP server: %w (%w)", ended, err)
	}
	return s, fmt.Errorf("ask the MCP server: %w", err)
}

func askTools(ctx context.Context, transport mcp.Transport, std stdio) (starter.Server, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "authzd-init", Version: currentVersion().Version}, &mcp.ClientOptions{
		// Some servers list tools only to clients that could answer what such a
		// tool asks. Nothing is called here, so nobody will ask. Not roots: those
		// change what a server works on.
		Capabilities: &mcp.ClientCapabilities{Sampling: &mcp.SamplingCapabilities{}, Elicitation: &mcp.ElicitationCapabilities{}}, //nolint:staticcheck // deprecated, and servers of today ask for it
		// It tells of tools that the SDK leaves out; they are unknown, so denied.
		Logger: slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	session, err := client.Connect(ctx, transport, nil)
	if err != nil {
		return starter.Server{}, err
	}
	defer func() { _ = session.Close() }() // the transport is ended by its owner
	var s starter.Server
	hello := session.InitializeResult()
	if hello.ServerInfo != nil {
		s.Name, s.Version = hello.ServerInfo.Name, hello.ServerInfo.Version
	}
	if s.Name == "" {
		s.Name = "unnamed"
	}
	offers := hello.Capabilities
	if offers == nil {
		offers = &mcp.ServerCapabilities{}
	}
	s.Resources, s.Prompts = offers.Resources != nil, offers.Prompts != nil
	if offers.Tools == nil {
		return s, nil
	}
	listed, err := listTools(ctx, session)
	if err != nil {
		return s, err
	}
	for _, t := range listed {
		tool, err := toolOf(t)
		if err != nil {
			return s, err
		}
		s.Tools = append(s.Tools, tool)
	}
	return s, nil
}

// listTools reads every page.
func listTools(ctx context.Context, session *mcp.ClientSession) ([]*mcp.Tool, error) {
	var all []*mcp.Tool
	seen := map[string]bool{}
	cursor := ""
	for range maxInitPages {
		page, err := session.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Tools...); len(all) > maxInitTools {
			return nil, fmt.Errorf("tools/list holds more than %d tools", maxInitTools)
		}
		if cursor = page.NextCursor; cursor == "" {
			return all, nil
		}
		if seen[cursor] {
			return nil, errors.New("tools/list gives the same cursor twice")
		}
		seen[cursor] = true
	}
	return nil, fmt.Errorf("tools/list has more than %d pages", maxInitPages)
}

func toolOf(t *mcp.Tool) (starter.Tool, error) {
	out := starter.Tool{Name: t.Name}
	if a := t.Annotations; a != nil {
		out.Annotated = a.ReadOnlyHint || a.DestructiveHint != nil
		out.ReadOnly, out.Destructive = a.ReadOnlyHint, a.DestructiveHint
		out.OpenWorld = a.OpenWorldHint != nil && *a.OpenWorldHint
	}
	if t.InputSchema == nil {
		return out, nil
	}
	text, err := json.Marshal(t.InputSchema)
	if err != nil {
		return out, fmt.Errorf("the schema of tool %q: %w", t.Name, err)
	}
	// One that is too large or too deep stays absent, and the tool is not
	// permitted.
	if out.Schema, err = rar.DecodeStrict(text, rar.Limits{MaxBytes: 2 * starter.MaxSchemaBytes, MaxDepth: maxInitDepth}); err != nil {
		out.Schema = rar.Value{}
	}
	return out, nil
}

var errTooMuch = fmt.Errorf("the server sends more than %d bytes", maxInitBytes)

// byteBudget is how much a server may still send, over all its answers.
type byteBudget struct{ n atomic.Int64 }

// budgeted reads until the budget is used up.
type budgeted struct {
	io.ReadCloser
	left *byteBudget
}

// Read is io.Reader's.
func (b *budgeted) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left.n.Add(-int64(n)) < 0 {
		return 0, errTooMuch
	}
	return n, err
}
