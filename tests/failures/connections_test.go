package failures_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

// dial opens a connection that ends with the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say writes text to a connection.
func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// A process without descriptors answers who is connected, and takes new connections
// once there are some.
func TestDescriptorsExhausted(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	const most = 64
	p := binary.Start(t, serve(t, fmt.Sprintf(`ulimit -n %d && exec "$@"`, most), "--bundle", policy(t, readOnly)))
	c := newClient(t, p)
	c.decides(t) // and keeps its connection
	before := p.Usage(t)
	if got := p.Metric(t, "process_max_fds"); got != most {
		t.Fatalf("process_max_fds %v", got)
	}
	var hoard []net.Conn
	for _, addr := range []string{p.HTTP, p.GRPC} {
		for range most {
			hoard = append(hoard, dial(t, addr)) // by the kernel, whoever accepts it
		}
	}
	binary.WaitFor(t, patience, func() error {
		if !strings.Contains(p.Log.String(), "too many open files") {
			return errors.New("the log does not say it")
		}
		return nil
	})
	for range 20 {
		c.decides(t)
	}
	for _, conn := range hoard {
		_ = conn.Close()
	}
	p.Calm(t, before, patience)
	newClient(t, p).decides(t)
	c.decides(t)
	if p.Metric(t, `authzd_accept_errors_total{door="rest"}`) == 0 {
		t.Error("not counted")
	}
}

// Connections on which nothing comes, or a request that never ends, are given up by
// the server, and hold up nobody.
func TestHalfOpenConnections(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly)))
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	var half []net.Conn
	for range 50 {
		half = append(half, dial(t, p.HTTP), dial(t, p.GRPC))
		header := dial(t, p.HTTP)
		say(t, header, "POST /v1/check HTTP/1.1\r\nHost: "+p.HTTP+"\r\nX-Slow: ")
		half = append(half, header)
	}
	c.decides(t)
	for _, conn := range half {
		ended(t, conn)
	}
	c.decides(t)
	p.Calm(t, before, patience)
}

// ended waits until the other side has given a connection up.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for buffer := make([]byte, 4096); ; {
		_, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the server keeps a connection on which nothing comes")
		}
		if err != nil {
			return
		}
	}
}

// Who sends its question byte by byte is decided for if it is in time, and else
// refused; never by a part of it.
func TestSlowWriter(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly), "--workers", "1"))
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	body := question("read")
	head := fmt.Sprintf("POST /v1/check HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", p.HTTP, len(body))
	var slow []net.Conn
	for range 50 {
		conn := dial(t, p.HTTP)
		say(t, conn, head+body[:len(body)-1])
		slow = append(slow, conn)
	}
	began := time.Now()
	for range 50 {
		c.decides(t)
	}
	last := slow[0]
	if time.Since(began) < 10*time.Second { // else it may be too late
		say(t, last, body[len(body)-1:])
		buffer := make([]byte, 4096)
		n, err := last.Read(buffer)
		if err != nil || !strings.Contains(string(buffer[:n]), `"ALLOW"`) {
			t.Errorf("a whole question: %q, %v", buffer[:n], err)
		}
		_ = last.Close()
	}
	for _, conn := range slow[1:] {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		buffer := make([]byte, 4096)
		n, err := conn.Read(buffer)
		if got := string(buffer[:n]); err != nil || strings.Contains(got, "decision") || !strings.Contains(got, "api.request_body") {
			t.Fatalf("part of a question: %q, %v", got, err)
		}
		ended(t, conn)
	}
	if p.Metric(t, `authzd_errors_total{code="api.request_body",door="rest"}`) < float64(len(slow)-1) {
		t.Error("not counted")
	}
	p.Calm(t, before, patience)
}

// Who asks and asks and does not read is given up, and holds up nobody.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly), "--workers", "1"))
	c := newClient(t, p)
	c.decides(t)
	before := p.Usage(t)
	request := strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: "+p.HTTP+"\r\n\r\n", 100)
	var slow []net.Conn
	var all sync.WaitGroup
	for range 20 {
		conn := dial(t, p.HTTP)
		if tcp, ok := conn.(*net.TCPConn); !ok || tcp.SetReadBuffer(4096) != nil {
			t.Fatal("no small buffer")
		}
		_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
		all.Go(func() {
			for err := error(nil); err == nil; { // until the server takes no more
				_, err = conn.Write([]byte(request))
			}
		})
		slow = append(slow, conn)
	}
	all.Wait()
	if now := p.Usage(t); now.Descriptors < before.Descriptors+float64(len(slow)) {
		t.Errorf("the slow ones are not connected any more: %v, before %v", now, before)
	}
	for range 50 {
		c.decides(t)
	}
	one := make([]byte, 1)
	for range 100 {
		for _, conn := range slow {
			if _, err := conn.Read(one); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.decides(t)
	p.Calm(t, before, 2*patience)
	if _, err := c.call(t.Context(), http.MethodPost, "/v1/check", question("read")); err != nil {
		t.Error(err)
	}
}
