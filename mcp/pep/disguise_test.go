package pep_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// looseServer reads JSON as encoding/json does, names in any case, and as many
// servers written in Go do: what has a method that it knows is executed.
type looseServer struct {
	mu  sync.Mutex
	ran []string
	// heads are the headers of each POST.
	heads []http.Header
}

func (s *looseServer) execute(raw []byte) {
	var m struct {
		ID     any    `json:"id"`
		Method string `json:"method"`
		Params struct {
			Name      string         `json:"name"`
			Arguments map[string]any `json:"arguments"`
		} `json:"params"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Method != "tools/call" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran = append(s.ran, m.Params.Name)
}

func (s *looseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.heads = append(s.heads, r.Header.Clone())
	s.mu.Unlock()
	s.execute(raw)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"rm"},{"name":"echo"}]}}`)
}

// disguised are calls of the denied tool rm that are no requests to decode.
var disguised = map[string]string{
	"a call without id":                   `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"rm"}}`,
	"a call with ID in capitals":          `{"jsonrpc":"2.0","method":"tools/call","ID":1,"params":{"name":"rm"}}`,
	"a response with Method in a capital": `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"},"Method":"tools/call","params":{"name":"rm"}}`,
}

func TestDisguisedCallsThroughTheProxy(t *testing.T) {
	t.Parallel()
	for name, body := range disguised {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream, service := &looseServer{}, &pdp{deny: []string{"rm"}}
			front, _ := behind(t, upstream, service)
			postAs(t, front, "alice", body, nil)
			if len(upstream.ran) > 0 {
				t.Errorf("the server executed %v; the service was asked about %v", upstream.ran, service.questions())
			}
		})
	}
}

func TestDisguisedCallsThroughThePipe(t *testing.T) {
	t.Parallel()
	for name, body := range disguised {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &pdp{deny: []string{"rm"}}
			x := piped(t, enforcer(t, service))
			x.client(body)
			if got := x.read(x.toClient); !strings.Contains(got, `"error"`) {
				t.Errorf("the client reads %s", got)
			}
			x.client(`{"jsonrpc":"2.0","id":99,"method":"ping"}`)
			if got := x.read(x.toServer); got == body {
				t.Errorf("the server was sent %s; the service was asked about %v", got, service.questions())
			}
		})
	}
}

func postAs(t *testing.T, front *httptest.Server, token, body string, headers map[string]string) (answer, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil { // a stream that breaks off before its first event
		return answer{}, ""
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body) // a stream may be broken off
	return answer{resp.StatusCode, resp.Header}, string(raw)
}
