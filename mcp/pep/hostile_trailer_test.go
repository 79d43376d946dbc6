package pep_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// What comes behind the body was not looked at, so it does not go on; nor do
// spellings of a session's header that some servers read as the header.
func TestTrailersAndSpellings(t *testing.T) {
	t.Parallel()
	var trailer, head http.Header
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		trailer, head = r.Trailer.Clone(), r.Header.Clone()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	front, _ := behind(t, upstream, &pdp{})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	body := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	_, _ = fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer alice\r\nContent-Type: application/json\r\n"+
		"Mcp_Session_Id: of-another\r\nX-HTTP-Method-Override: DELETE\r\nTransfer-Encoding: chunked\r\nTrailer: Mcp-Session-Id, X-Authorization\r\n\r\n"+
		"%x\r\n%s\r\n0\r\nMcp-Session-Id: of-another\r\nX-Authorization: Bearer alice\r\n\r\n", len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	if len(trailer) > 0 {
		t.Errorf("trailers went on: %v", trailer)
	}
	if n := len(head.Values("Content-Type")); n != 1 {
		t.Errorf("%d types of the body went on, one was looked at", n)
	}
	for _, name := range []string{"Mcp_Session_Id", "X-HTTP-Method-Override"} {
		if v := head.Get(name); v != "" {
			t.Errorf("%s: %s went on", name, v)
		}
	}
}
