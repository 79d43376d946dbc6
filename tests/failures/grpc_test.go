package failures_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
)

// keepalive is how soon the servers of these tests ask for a sign of life;
// make keepalive-test takes the default of the server.
func keepalive(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("KEEPALIVE")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// deaf is a connection of which nothing is read any more once deafen is called: no
// answer, and no question for a sign of life.
type deaf struct {
	net.Conn
	ears sync.RWMutex
}

func (d *deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	d.ears.RLock() // what came meanwhile is not heard either
	defer d.ears.RUnlock()
	return n, err
}

func (d *deaf) deafen(t *testing.T) {
	t.Helper()
	d.ears.Lock()
	t.Cleanup(d.ears.Unlock)
}

// dialDeaf connects a client of gRPC and has it decided for once.
func dialDeaf(t *testing.T, p *binary.Process, options ...grpc.DialOption) (*grpc.ClientConn, *deaf) {
	t.Helper()
	var d *deaf
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		d = &deaf{Conn: conn}
		return d, nil
	}))
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	asks(t, conn)
	return conn, d
}

func reads() *authzdv1.CheckRequest {
	return &authzdv1.CheckRequest{
		Subject: &authzdv1.Subject{Type: "user", Id: "alice"}, Action: &authzdv1.Action{Name: "read"}, Resource: &authzdv1.Resource{Type: "file", Id: "a"},
	}
}

// asks fails unless a question over gRPC is allowed.
func asks(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	got, err := authzdv1.NewDecisionServiceClient(conn).Check(ctx, reads())
	if err != nil || got.GetDecision() != authzdv1.Decision_DECISION_ALLOW {
		t.Fatalf("%v, %v", got, err)
	}
}

// alive starts a server that asks soon for a sign of life.
func alive(t *testing.T) (*binary.Process, *client) {
	t.Helper()
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly), "--grpc-keepalive", keepalive(t).String()))
	c := newClient(t, p)
	c.decides(t)
	return p, c
}

// Clients of gRPC that were answered, and then hear nothing any more, as behind a cable
// that is pulled, are given up; who is silent and answers the server is not.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p, c := alive(t)
	silent, _ := dialDeaf(t, p)
	before := p.Usage(t)
	var gone []*deaf
	for range 20 {
		_, d := dialDeaf(t, p)
		gone = append(gone, d)
	}
	if now := p.Usage(t); now.Descriptors < before.Descriptors+float64(len(gone)) {
		t.Fatalf("they are not connected: %v, before %v", now, before)
	}
	for _, d := range gone {
		d.deafen(t)
	}
	c.decides(t)
	p.Calm(t, before, keepalive(t)*4/3+patience)
	for _, d := range gone {
		ended(t, d.Conn)
	}
	asks(t, silent)
	c.decides(t)
}

// A call that is refused is answered before anything of it is read: who is not known can
// not hold a stream, nor have a message kept.
func TestRefusedBeforeRead(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := t.TempDir()
	authzd(t, dir, "keys", "create", "admin", "--rights", "check", "--keys-file", "keys.json")
	p := binary.Start(t, serve(t, "", "--bundle", policy(t, readOnly), "--keys-file", dir+"/keys.json"))
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for _, method := range []string{
		authzdv1.DecisionService_Check_FullMethodName, authzdv1.BundleService_PushBundle_FullMethodName,
		authzdv1.BundleService_ListBundles_FullMethodName, authzdv1.BlockService_CreateBlock_FullMethodName,
		reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName, "/no.such/Method",
	} {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(&authzdv1.CheckResponse{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s, of which nothing is sent: %v", method, err)
		}
	}
}

// Calls that are refused leave nothing behind, however much time their client gives: the
// heap does not grow with them.
func TestRefusedCallsLeaveNothing(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := t.TempDir()
	admin := strings.TrimSpace(authzd(t, dir, "keys", "create", "admin", "--rights", "check,audit", "--keys-file", "keys.json"))
	cmd := serve(t, "", "--bundle", policy(t, readOnly), "--keys-file", dir+"/keys.json", "--log-level", "error")
	cmd.Env = append(os.Environ(), "GOGC=10") // what is in use is next to what lives
	p := binary.Start(t, cmd)
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	refused := func(calls int) {
		t.Helper()
		var callers sync.WaitGroup
		for range 32 {
			callers.Go(func() {
				ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
				defer stop()
				for range calls / 32 {
					if _, err := authzdv1.NewDecisionServiceClient(conn).Check(ctx, reads()); status.Code(err) != codes.Unauthenticated {
						t.Errorf("without a key: %v", err)
						return
					}
				}
			})
		}
		callers.Wait()
	}
	heap := func() float64 {
		u, err := binary.ReadUsage(metrics(t, p, admin))
		if err != nil {
			t.Fatal(err)
		}
		return u.HeapMB
	}
	refused(2000)
	before := heap()
	const calls = 40_000 // of some 700 bytes, if they are kept
	refused(calls)
	binary.WaitFor(t, patience, func() error {
		if now := heap(); now > before+8 {
			return fmt.Errorf("after %d refused calls the heap has %.1f MB, and had %.1f before", calls, now, before)
		}
		return nil
	})
}
