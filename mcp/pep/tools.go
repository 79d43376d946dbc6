package pep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

const (
	// refetchAfter is how long an unknown tool stays unknown before the server is
	// asked again.
	refetchAfter = 5 * time.Second
	maxToolPages = 100
	maxTools     = 10_000
)

// toolBook remembers the tools that a server lists to one caller. A tool that
// is not in it is asked about without its entry, which the service refuses
// unless policy declares the tool itself (COAZ-MCP: no default for a tool whose
// declaration was not seen).
type toolBook struct {
	mu sync.Mutex
	// tools are the entries by name; nil: never fetched.
	tools   map[string]listedTool
	fetched time.Time
	// failed is when the server was asked last and gave no list.
	failed time.Time
	// stale: the server said that its tools are others now.
	stale atomic.Bool
}

// listedTool is an entry of tools/list; zero: the entry is not known.
type listedTool struct {
	// text is the entry as JSON.
	text []byte
	// repeated are the arguments that it has repeated in header fields. A schema
	// that can not be read repeats none; the service judges it.
	repeated []mcp.ParamHeader
}

func newListedTool(entry rar.Value) listedTool {
	schema, _ := entry.Get("inputSchema")
	repeated, err := mcp.ParamHeaders(schema)
	if err != nil {
		repeated = nil
	}
	return listedTool{text: entry.AppendJSON(nil), repeated: repeated}
}

// fetcher asks the server for all its tools.
type fetcher func(context.Context) (map[string]listedTool, error)

// entry gives the tool's entry, from the server if need be.
// Calls for one book wait for each other, so that a server is asked once.
func (b *toolBook) entry(ctx context.Context, e *Enforcer, name string, fetch fetcher) listedTool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale.Swap(false) {
		b.tools = nil
	}
	now := e.opts.Now()
	old := now.Sub(b.fetched)
	entry, known := b.tools[name]
	switch {
	case known && (old < e.opts.ToolsTTL || now.Sub(b.failed) < refetchAfter):
		return entry
	case !known && b.tools != nil && old < refetchAfter:
		return listedTool{}
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	tools, err := fetch(ctx)
	if err != nil {
		e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "the server's tools are not known", slog.String("error", err.Error()))
		// A server that is busy has not changed its tools: it would have said so.
		b.failed = now
		return entry
	}
	b.tools, b.fetched = tools, now
	return tools[name]
}

// changed makes the next call ask again. It never waits, because who calls it
// may be who has to deliver an answer that entry waits for.
func (b *toolBook) changed() { b.stale.Store(true) }

// fetchTools reads every page of tools/list through page, which sends one
// request with these params and gives its result.
func fetchTools(ctx context.Context, page func(ctx context.Context, params rar.Value) (rar.Value, error), meta rar.Value) (map[string]listedTool, error) {
	tools := map[string]listedTool{}
	cursor := rar.Value{}
	for range maxToolPages {
		var params []rar.Member
		if cursor.Kind() != rar.Absent {
			params = append(params, rar.Member{Name: "cursor", Value: cursor})
		}
		if meta.Kind() == rar.Object {
			params = append(params, rar.Member{Name: "_meta", Value: meta})
		}
		result, err := page(ctx, rar.ObjectValue(params...))
		if err != nil {
			return nil, fmt.Errorf("list the server's tools: %w", err)
		}
		list, _ := result.Get("tools")
		if list.Kind() != rar.Array {
			return nil, errors.New("list the server's tools: the result has none")
		}
		for i := range list.Len() {
			name := text(list.Index(i), "name")
			// Of two tools of one name the server calls one, and nobody knows which:
			// its entry is not known.
			if _, twice := tools[name]; twice {
				tools[name] = listedTool{}
				continue
			}
			tools[name] = newListedTool(list.Index(i))
		}
		if len(tools) > maxTools {
			return nil, fmt.Errorf("list the server's tools: more than %d", maxTools)
		}
		if cursor, _ = result.Get("nextCursor"); cursor.Kind() != rar.String || cursor.Text() == "" {
			return tools, nil
		}
	}
	return nil, fmt.Errorf("list the server's tools: more than %d pages", maxToolPages)
}
