package pep_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/mcp/pep"
)

// Nobody's request makes the proxy ask the server anything, in nobody's words.
func TestNobodyReachesTheServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, r.Header.Get("X-Key")+" "+string(raw))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	front, _ := behind(t, upstream, &pdp{}, func(o *pep.ProxyOptions) {
		o.UpstreamAuth, o.UpstreamHeader = pep.AuthHeader, [2]string{"X-Key", "the-proxys-own-key"}
	})
	resp, _ := postAs(t, front, "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/clientInfo":{"name":"of nobody's choice"}}}}`, nil)
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", resp.StatusCode)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, g := range got {
		if strings.Contains(g, "of nobody's choice") {
			t.Errorf("before anything was decided the server was sent: %s", g)
		}
	}
}

// A server that does not answer our tools/list holds up a client for one
// timeout, not for one per call.
func TestTimeoutsAddUp(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	x := piped(t, enforcer(t, &pdp{}, func(o *pep.Options) { o.Timeout = timeout }))
	x.initialize()
	go func() { _, _ = io.Copy(io.Discard, x.toClient) }()
	ended := make(chan struct{})
	go func() { // a server that reads and does not answer
		defer close(ended)
		for {
			if _, err := x.toServer.ReadString('\n'); err != nil {
				return
			}
		}
	}()
	began := time.Now()
	const calls = 10
	for i := range calls {
		x.client(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x"}}`, i+1))
	}
	_ = x.asClient.Close() // the server's end is closed after the last of it
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
	}
	if took := time.Since(began); took > 4*timeout {
		t.Errorf("%d calls took %s with a timeout of %s", calls, took.Round(timeout/10), timeout)
	}
}

// A redirection of the server takes the client past the proxy, for one to another
// place of the path, as many frameworks answer a missing slash, too.
func TestRedirection(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var direct []string
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			http.Redirect(w, r, "/mcp/", http.StatusTemporaryRedirect)
			return
		}
		mu.Lock()
		direct = append(direct, r.Header.Get("Authorization"))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`)
	})
	front, _ := behind(t, upstream, &pdp{deny: []string{"rm"}})
	_, body := postAs(t, front, "alice", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil)
	if strings.Contains(body, `"rm"`) {
		t.Errorf("the hidden tool is listed, by way of the server itself, which was sent %q: %s", direct, body)
	}
}
