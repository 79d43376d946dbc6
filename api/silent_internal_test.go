package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// silentUpload is a client that has sent one message, and sends no other.
type silentUpload struct {
	authzdv1.BundleService_PushBundleServer
	ctx  context.Context //nolint:containedctx // a stream has one
	sent bool
}

func (s *silentUpload) Context() context.Context { return s.ctx }

func (s *silentUpload) Recv() (*authzdv1.PushBundleRequest, error) {
	if !s.sent {
		s.sent = true
		return &authzdv1.PushBundleRequest{}, nil
	}
	<-s.ctx.Done()
	return nil, s.ctx.Err()
}

// An upload over gRPC that falls silent ends, and so does one whose time is over.
func TestSilentUpload(t *testing.T) {
	t.Parallel()
	stream, end := context.WithCancel(t.Context())
	defer end()
	next := pieces(t.Context(), &silentUpload{ctx: stream}, 50*time.Millisecond)
	if m, err := next(); m == nil || err != nil {
		t.Fatal(m, err)
	}
	var coded *Error
	if _, err := next(); !errors.As(err, &coded) || coded.Code != CodeRequestBody {
		t.Error(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	next = pieces(over, &silentUpload{ctx: stream, sent: true}, time.Hour)
	if _, err := next(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A body that falls silent is not read to its end, and what comes slowly but
// steadily is.
func TestSilentBody(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &impatient{from: r.Body, control: http.NewResponseController(w), idle: 500 * time.Millisecond, until: time.Now().Add(time.Minute)}
		_, err := io.ReadAll(body)
		read <- err
	}))
	defer web.Close()
	send := func(rest string) error {
		t.Helper()
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for _, b := range []byte(rest) {
			time.Sleep(200 * time.Millisecond)
			if _, err := conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		return <-read
	}
	if err := send("abc"); err != nil {
		t.Error("slow, and steady:", err)
	}
	if err := send("ab"); err == nil {
		t.Error("a silent body was read to its end")
	}
}
