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
	// retryAfter is how long a server that gave no list is left alone.
	retryAfter   = time.Second
	maxToolPages = 100
	maxTools     = 10_000
)

// toolBook remembers the tools that a server lists to one caller. A tool that
// the server does not list is asked about without an entry, which the service
// refuses unless policy declares the tool itself. Where the list can not be had,
// nothing is asked: an entry may declare how its tool is to be asked about
// (COAZ-MCP: no default for a tool whose declaration was not seen).
type toolBook struct {
	once sync.Once
	// turn is held by who looks, so that a server is asked once.
	turn chan struct{}
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

// entry gives the tool's entry, from the server if need be. It waits for the
// server, and for others who wait, for the Enforcer's timeout in all.
func (b *toolBook) entry(ctx context.Context, e *Enforcer, name string, fetch fetcher) (listedTool, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	b.once.Do(func() { b.turn = make(chan struct{}, 1) })
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return listedTool{}, errNoTools
	}
	defer func() { <-b.turn }()
	if b.stale.Swap(false) {
		b.tools = nil
	}
	now := e.opts.Now()
	old := now.Sub(b.fetched)
	entry, known := b.tools[name]
	switch {
	// A server that is busy has not changed its tools: it would have said so.
	case known && (old < e.opts.ToolsTTL || now.Sub(b.failed) < refetchAfter):
		return entry, nil
	case !known && b.tools != nil && old < refetchAfter:
		return listedTool{}, nil
	case !known && now.Sub(b.failed) < retryAfter:
		return listedTool{}, errNoTools
	}
	tools, err := fetch(ctx)
	switch {
	case err == nil:
		b.tools, b.fetched = tools, now
		return tools[name], nil
	case errors.Is(err, errNotAdmitted):
		return listedTool{}, err
	}
	e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "the server's tools are not known", slog.String("error", err.Error()))
	if b.failed = now; known {
		return entry, nil
	}
	return listedTool{}, errNoTools
}

var (
	errNoTools = errors.New("the server's tools are not known")
	// errNotAdmitted: who calls may not have the server asked.
	errNotAdmitted = errors.New("not admitted")
)

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
