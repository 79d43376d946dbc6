package peers_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// caller speaks streamable HTTP by hand, for what no client does at will.
type caller struct {
	url, session string
}

// answer is one of the server's; its body ends with the test, or sooner.
type answer struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
}

func (c *caller) ask(t *testing.T, method, body string, header map[string]string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = got.Body.Close() })
	return answer{got.StatusCode, got.Header, got.Body}
}

// told is all of an answer, in short.
func told(t *testing.T, a answer) string {
	t.Helper()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s %s", a.Status, a.Header.Get("Content-Type"), body)
}

// event returns the id and data of the next event of which ok holds.
func event(t *testing.T, body io.Reader, ok func(id, data string) bool) (id, data string) {
	t.Helper()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if ok(id, data) {
				return id, data
			}
			id, data = "", ""
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return "", ""
}

// resumed asks for the list of tools, hangs up, and returns the response that
// the server replays on the stream that resumes; then what it says to other
// requests, and the status for those that name a session that is not there.
func resumed(t *testing.T, url string) (list string, other []string, gone []int) {
	t.Helper()
	c := &caller{url: url}
	first := c.ask(t, http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"by hand","version":"1"}}}`, nil)
	c.session = first.Header.Get("Mcp-Session-Id")
	_ = told(t, first)
	other = append(other, told(t, c.ask(t, http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil)))
	asked := c.ask(t, http.MethodPost, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, nil)
	id, _ := event(t, asked.Body, func(id, _ string) bool { return id != "" })
	_ = asked.Body.Close()
	again := c.ask(t, http.MethodGet, "", map[string]string{"Last-Event-ID": id})
	_, list = event(t, again.Body, func(_, data string) bool { return strings.Contains(data, `"id":2`) })
	_ = again.Body.Close()
	other = append(other,
		told(t, c.ask(t, http.MethodPost, `{"jsonrpc":"2.0","id":4,"method":"ping"}`, map[string]string{"Accept": "application/json"})),
		told(t, c.ask(t, http.MethodDelete, "", nil)))
	for _, s := range []*caller{c, {url: url, session: "none"}} {
		for method, body := range map[string]string{http.MethodGet: "", http.MethodDelete: "", http.MethodPost: `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`} {
			gone = append(gone, s.ask(t, method, body, nil).Status)
		}
	}
	return list, other, gone
}

// TestResume: a stream resumes, and sessions begin and end, as without us.
func TestResume(t *testing.T) {
	t.Parallel()
	node := needPeers(t)
	wantList, wantOther, _ := resumed(t, everythingHTTP(t, node).url)
	for _, w := range []way{relayed("relay", change{}), guarded("allow-all")} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			list, other, gone := resumed(t, w.http(t, everythingHTTP(t, node).url))
			if list != wantList {
				t.Errorf("replayed %s, want %s", short(list), short(wantList))
			}
			if diff := cmp.Diff(wantOther, other); diff != "" {
				t.Errorf("answers (-direct +%s):\n%s", w.name, diff)
			}
			// The server says 400 where MCP wants 404, at which clients begin anew.
			for _, status := range gone {
				if status != http.StatusNotFound && (w.guards || status != http.StatusBadRequest) {
					t.Errorf("without its session: %v", gone)
				}
			}
		})
	}
	// A list that is replayed comes on another stream than the one that asked,
	// and holds no more than that.
	t.Run("hidden", func(t *testing.T) {
		t.Parallel()
		list, _, _ := resumed(t, guarded("some").http(t, everythingHTTP(t, node).url))
		if !strings.Contains(list, `"name":"echo"`) || strings.Contains(list, `"name":"get-env"`) {
			t.Errorf("replayed %s", short(list))
		}
	})
}
