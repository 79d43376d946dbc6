// Package doors serves an engine in the process of a test, or connects to a server
// elsewhere, and asks it over REST and gRPC.
package doors

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
)

// Doors are the interfaces of one server.
type Doors struct {
	// Server is nil if it runs elsewhere.
	Server *api.Server
	// Conn is the connection over gRPC.
	Conn *grpc.ClientConn

	url string
	web *http.Client
}

// Open serves on free ports until the test ends.
func Open(t *testing.T, o api.Options) *Doors {
	t.Helper()
	o.HTTPAddr, o.GRPCAddr = "127.0.0.1:0", "127.0.0.1:0"
	s, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	if err := s.Listen(ctx); err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	d := Dial(t, s.HTTPAddr().String(), s.GRPCAddr().String())
	d.Server = s
	return d
}

// Dial connects to a server until the test ends.
func Dial(t *testing.T, web, rpc string) *Doors {
	t.Helper()
	conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d := &Doors{Conn: conn, url: "http://" + web, web: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		d.web.CloseIdleConnections()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Send gives a body to REST; ok is the status 200.
func (d *Doors) Send(ctx context.Context, method, path string, body []byte) (ok bool, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(body))
	if err != nil {
		return false, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.web.Do(req)
	if err != nil {
		return false, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return false, nil, fmt.Errorf("read the answer: %w", err)
	}
	return resp.StatusCode == http.StatusOK, answer, nil
}

// Info is what an error of gRPC tells a program; one that has no code is a fault.
func Info(err error) (*errdetails.ErrorInfo, error) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() != "" {
			return info, nil
		}
	}
	return nil, fmt.Errorf("an error without a code: %w", err)
}
