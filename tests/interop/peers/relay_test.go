package peers_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// change is what a relay does to the server's answers: it writes To for From,
// and if Late, holds back what answers a call of a long operation until its end.
type change struct {
	From, To string
	Late     bool
}

// relayed is a way with nothing in between but pipes and the reverse proxy of
// the standard library. It stands for a good proxy, and with a change for a
// bad one: the tests must tell the two apart.
func relayed(name string, c change) way {
	return way{
		name: name,
		stdio: func(t *testing.T, command []string) []string {
			t.Helper()
			return append(self(t, "relay", c.From, c.To), command...)
		},
		http: func(t *testing.T, target string) string {
			t.Helper()
			u, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			web := httptest.NewServer(&httputil.ReverseProxy{
				// The path, and the host that was asked for: servers look at it.
				Rewrite: func(r *httputil.ProxyRequest) {
					r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
				},
				ModifyResponse: func(r *http.Response) error { return c.alter(r) },
			})
			t.Cleanup(func() {
				web.CloseClientConnections()
				web.Close()
			})
			return web.URL + u.Path
		},
	}
}

func (c change) alter(r *http.Response) error {
	if c.From != "" {
		r.Body = &rewriting{r.Body, c}
		r.Header.Del("Content-Length")
		r.ContentLength = -1
	}
	if c.Late && strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") && r.Request.Method == http.MethodPost {
		late := r.Body
		held := &bytes.Buffer{}
		end := time.AfterFunc(5*time.Second, func() { _ = late.Close() })
		defer end.Stop()
		_, _ = held.ReadFrom(late) // what came until the end
		r.Body = io.NopCloser(held)
	}
	return nil
}

// rewriting changes text that comes in one piece, as all does that a test changes.
type rewriting struct {
	io.ReadCloser
	change
}

// Read implements [io.Reader].
func (r *rewriting) Read(p []byte) (int, error) {
	half := make([]byte, max(len(p)/2, 1)) // room for a longer text
	n, err := r.ReadCloser.Read(half)
	return copy(p, bytes.ReplaceAll(half[:n], []byte(r.From), []byte(r.To))), err
}

// relay is a role of the test binary. Its arguments are FROM TO CMD ARGS….
func relay(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := change{From: args[0], To: args[1]}
	cmd := exec.CommandContext(ctx, args[2], args[3:]...)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if c.From != "" {
			line = bytes.ReplaceAll(line, []byte(c.From), []byte(c.To))
		}
		if _, err := os.Stdout.Write(line); err != nil {
			return err
		}
		if err != nil {
			return cmd.Wait()
		}
	}
}
