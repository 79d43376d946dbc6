package pep_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/authzd/authzd/mcp/pep"
)

// A page of an allowed origin asks first whether it may (CORS), because of
// Authorization and of application/json.
func TestAllowedOriginAsks(t *testing.T) {
	t.Parallel()
	front, _ := behind(t, &plainServer{}, &pdp{}, func(o *pep.ProxyOptions) { o.AllowedOrigins = []string{"https://app.example.com"} })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, front.URL+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 || resp.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("no page of an allowed origin can call: %d", resp.StatusCode)
	}
}

// A body that can not be read is not answered 200.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	front, _ := behind(t, &plainServer{}, &pdp{})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprint(conn, "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer alice\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode < 300 {
		t.Errorf("%d %q", resp.StatusCode, raw)
	}
}

// A batch of nothing but notifications that is refused does not look accepted.
func TestRefusedNotifications(t *testing.T) {
	t.Parallel()
	front, _ := behind(t, &plainServer{}, &pdp{})
	resp, body := postAs(t, front, "", `[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, map[string]string{"Mcp-Protocol-Version": "2025-03-26"})
	if resp.StatusCode < 300 {
		t.Errorf("%d %q, and nothing went on", resp.StatusCode, body)
	}
}
