package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

// noAnswer is what a client is told where the server's answer is none.
const noAnswer = "The MCP server behind this proxy gave no answer that can be passed on."

const (
	callText = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{}}}`
	listText = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
	toolText = `{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}`
	event    = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"first\"}}\n\n"
)

// bad is a server that misbehaves once it has listed its tools to the proxy.
func bad(t *testing.T, misbehave http.HandlerFunc) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, rest, ok := strings.Cut(string(body), `"id":"authzd-`); ok {
			id, _, _ := strings.Cut(rest, `"`)
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, toolText, `"authzd-`+id+`"`)
			return
		}
		misbehave(w, r)
	}))
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	return web
}

func sends(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

// raw answers bytes that may be no HTTP, and hangs up.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// diesInStream sends one event and hangs up in the middle of the next.
func diesInStream(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, event+"data: {\"jsonrpc\":\"2.0\",\"id\":7,")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// post sends one message through the proxy. It gives what was read, however the
// answer ended.
func post(ctx context.Context, p *binary.Process, text string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Listen+"/mcp", strings.NewReader(text))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got), err
}

// Whatever the server does, the client is told, or sees that the answer is cut
// off, and the proxy keeps nothing of it.
func TestUpstreamMisbehaves(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	for _, c := range []struct {
		name, send string
		misbehave  http.HandlerFunc
		// status and body are what the client gets; cut: the answer breaks off.
		status int
		body   string
		cut    bool
	}{
		{"hangs up before it answers", callText, raw(""), http.StatusBadGateway, noAnswer, false},
		{"answers no HTTP", callText, raw("garbage\r\n\r\n"), http.StatusBadGateway, noAnswer, false},
		{"hangs up in a stream", callText, diesInStream, http.StatusOK, "first", true},
		{"hangs up in a list", listText, raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"jsonrpc\""), http.StatusBadGateway, noAnswer, false},
		{"hangs up in JSON", callText, raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"jsonrpc\""), http.StatusOK, "", true},
		{"lists no JSON", listText, sends("application/json", "garbage"), http.StatusBadGateway, noAnswer, false},
		{"lists in no type", listText, sends("text/html", "<h1>It works!</h1>"), http.StatusBadGateway, noAnswer, false},
		{"lists no JSON in a stream", listText, sends("text/event-stream", "data: garbage\n\n"), http.StatusOK, noAnswer, false},
		// As a server does that wants its client to come back for the answer (MCP
		// 2025-11-25, transports, resumability).
		{"ends a stream without an answer", listText, sends("text/event-stream", event), http.StatusOK, "first", false},
		{"an event without end", listText, sends("text/event-stream", event+"data: "+strings.Repeat("x", 1<<20)), http.StatusOK, "first", true},
		{"refuses the proxy", callText, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, http.StatusBadGateway, noAnswer, false},
		{"fails", callText, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", http.StatusInternalServerError) }, http.StatusInternalServerError, "oops", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var received atomic.Int64
			web := bad(t, func(w http.ResponseWriter, r *http.Request) {
				received.Add(1)
				c.misbehave(w, r)
			})
			p := start(t, "proxy", "--listen", "127.0.0.1:0", "--upstream", web.URL+"/mcp", "--bundle", bundle(t, allowAll), "--subject", "alice",
				"--max-result-bytes", "65536")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, _, _ = post(ctx, p, c.send) // everything of the proxy runs from here on
			before := p.Usage(t)
			received.Store(0)
			const calls = 20
			for range calls {
				status, body, err := post(ctx, p, c.send)
				if c.cut && status == 0 && c.body == "" {
					continue // cut off before its head
				}
				if status != c.status || !strings.Contains(body, c.body) || (err != nil) != c.cut {
					t.Fatalf("answered %d %q, %v; want %d %q, cut off %t\n%s", status, body, err, c.status, c.body, c.cut, p.Log)
				}
				if c.body == noAnswer && !strings.Contains(body, `"id":7`) {
					t.Fatalf("the error is about no request: %s", body)
				}
			}
			// Nobody may carry out a call twice.
			if got := received.Load(); got != calls {
				t.Errorf("the server received %d calls, want %d", got, calls)
			}
			web.CloseClientConnections()
			p.Calm(t, before, 20*time.Second)
			if c.status == http.StatusBadGateway && !strings.Contains(p.Log.String(), "no answer of the server") {
				t.Errorf("the log tells nothing: %s", p.Log)
			}
		})
	}
}

// A server that never answers holds up nobody but who waits for it.
func TestUpstreamNeverAnswers(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	var waiting atomic.Int64
	web := bad(t, func(_ http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		defer waiting.Add(-1)
		<-r.Context().Done()
	})
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--upstream", web.URL+"/mcp", "--bundle", bundle(t, allowAll), "--subject", "alice")
	first, leave := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer leave()
	_, _, _ = post(first, p, callText) // everything of the proxy runs from here on
	before := p.Usage(t)
	const clients = 50
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range clients {
		text := callText
		if i%2 == 0 {
			text = listText
		}
		wg.Go(func() {
			if status, body, err := post(ctx, p, text); !errors.Is(err, context.Canceled) {
				t.Errorf("answered %d %q, %v", status, body, err)
			}
		})
	}
	want := func(n int64) {
		t.Helper()
		binary.WaitFor(t, 20*time.Second, func() error {
			if got := waiting.Load(); got != n {
				return fmt.Errorf("the server has %d calls, want %d", got, n)
			}
			return nil
		})
	}
	want(clients)
	cancel()
	wg.Wait()
	want(0)
	p.Calm(t, before, 20*time.Second)
	if log := p.Log.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("a client that leaves is no fault: %s", log)
	}
}

// Without a server there is an answer too, and the proxy needs no restart when
// it is back.
func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	web := httptest.NewUnstartedServer(sends("application/json", `{"jsonrpc":"2.0","id":7,"result":{}}`))
	t.Cleanup(web.Close)
	addr := web.Listener.Addr().String()
	_ = web.Listener.Close()
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--upstream", "http://"+addr+"/mcp", "--bundle", bundle(t, allowAll), "--subject", "alice")
	status, body, err := post(t.Context(), p, `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`)
	if status != http.StatusBadGateway || !strings.Contains(body, noAnswer) || err != nil {
		t.Errorf("answered %d %q, %v", status, body, err)
	}
}
