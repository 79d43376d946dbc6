package failures_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
)

// wordy forbids at length.
var wordy = readOnly + `
forbid["wordy"] := {"message": "` + strings.Repeat("all work and no play ", 90) + `"} if input.action.name == "write"
`

// window is what the clients let come of an answer before they read it.
const window = 64 << 10

// most is how many bytes a caller may leave unread.
const most = 16 << 20

// batches calls over gRPC as a caller does, and begins calls whose answers it does not read.
type batches struct {
	conn  *grpc.ClientConn
	batch *authzdv1.CheckBatchRequest
	as    func(context.Context) context.Context
}

func dialAs(t *testing.T, p *binary.Process, key string) *batches {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := reads()
	write := &authzdv1.CheckBatchQuery{Subject: r.GetSubject(), Action: &authzdv1.Action{Name: "write"}, Resource: r.GetResource()}
	batch := &authzdv1.CheckBatchRequest{Queries: slices.Repeat([]*authzdv1.CheckBatchQuery{write}, 100)}
	return &batches{conn: conn, batch: batch, as: func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}}
}

// size is that of an answer, which is read.
func (b *batches) size(t *testing.T) int {
	t.Helper()
	ctx, stop := context.WithTimeout(b.as(t.Context()), patience)
	defer stop()
	got, err := authzdv1.NewDecisionServiceClient(b.conn).CheckBatch(ctx, b.batch)
	if err != nil {
		t.Fatal(err)
	}
	size := proto.Size(got)
	if size < 2*window {
		t.Fatalf("an answer has %d bytes, which may be taken without being read", size)
	}
	return size
}

// open begins a call, and sends no message of it.
func (b *batches) open(t *testing.T) grpc.ClientStream {
	t.Helper()
	s, err := b.conn.NewStream(b.as(t.Context()), &grpc.StreamDesc{ServerStreams: true}, authzdv1.DecisionService_CheckBatch_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// begin calls and reads nothing.
func (b *batches) begin(t *testing.T) grpc.ClientStream {
	t.Helper()
	s := b.open(t)
	b.ask(t, s)
	return s
}

// ask sends the message of a call that is open, and reads nothing.
func (b *batches) ask(t *testing.T, s grpc.ClientStream) {
	t.Helper()
	if err := s.SendMsg(b.batch); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil { // once it is answered
		t.Fatal(err)
	}
}

// check is what a single question gets.
func (b *batches) check(t *testing.T) error {
	t.Helper()
	ctx, stop := context.WithTimeout(b.as(t.Context()), patience)
	defer stop()
	_, err := authzdv1.NewDecisionServiceClient(b.conn).Check(ctx, reads())
	return err //nolint:wrapcheck // to be looked at
}

type threeKeys struct{ slow, quick, admin string }

// wordyServer answers at length, and has three callers.
func wordyServer(t *testing.T) (*binary.Process, threeKeys) {
	t.Helper()
	dir := t.TempDir()
	key := func(name, rights string) string {
		return strings.TrimSpace(authzd(t, dir, "keys", "create", name, "--rights", rights, "--keys-file", "keys.json"))
	}
	k := threeKeys{slow: key("slow", "check,assert"), quick: key("quick", "check,assert"), admin: key("admin", "audit")}
	return binary.Start(t, serve(t, "", "--bundle", policy(t, wordy), "--keys-file", dir+"/keys.json", "--queue-time", patience.String())), k
}

// A caller of gRPC who asks and does not read the answers is refused once they are too
// many, on each connection; others are not. Who reads them, or is gone, has none unread.
func TestSlowReaderRPC(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p, keys := wordyServer(t)
	first, second, other := dialAs(t, p, keys.slow), dialAs(t, p, keys.slow), dialAs(t, p, keys.quick)
	size := first.size(t)
	unread := func() float64 { return unreadBytes(t, p, keys.admin) }
	fill := func(b *batches) (begun []grpc.ClientStream) {
		for range most/size + 1 {
			begun = append(begun, b.begin(t))
		}
		binary.WaitFor(t, patience, func() error { return full(unread(), float64(most)) })
		return begun
	}
	begun := fill(first)
	for _, b := range []*batches{first, second} {
		if err := b.check(t); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "not been read") {
			t.Errorf("the caller who does not read is answered %v", err)
		}
	}
	if err := other.check(t); err != nil {
		t.Errorf("another caller: %v", err)
	}
	for range 100 { // what they would have is refused, and not kept
		first.begin(t)
	}
	if err := other.check(t); err != nil {
		t.Errorf("another caller: %v", err)
	}
	if n := unread(); n > most+2*float64(size) {
		t.Errorf("%v bytes are kept", n)
	}

	for _, s := range begun {
		var got authzdv1.CheckBatchResponse
		if err := s.RecvMsg(&got); err != nil || len(got.GetItems()) != len(first.batch.GetQueries()) {
			t.Fatalf("an answer that was not read at once: %d items, %v", len(got.GetItems()), err)
		}
	}
	if err := first.check(t); err != nil {
		t.Errorf("once all is read: %v", err)
	}
	if n := unread(); n != 0 {
		t.Errorf("once all is read %v bytes are kept", n)
	}

	fill(first)
	if err := first.conn.Close(); err != nil {
		t.Fatal(err)
	}
	binary.WaitFor(t, patience, func() error { return second.check(t) })
	if n := unread(); n != 0 {
		t.Errorf("once the connection is closed %v bytes are kept", n)
	}
}

// Calls that were begun while nothing was unread are answered within the same bound, once
// their messages come.
func TestSlowReaderOfCallsBegun(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	p, keys := wordyServer(t)
	b := dialAs(t, p, keys.slow)
	size := b.size(t)
	var begun []grpc.ClientStream
	for range 2 * most / size {
		begun = append(begun, b.open(t))
	}
	for _, s := range begun {
		b.ask(t, s)
	}
	n := unreadBytes(t, p, keys.admin)
	if err := full(n, most); err != nil || n > most+2*float64(size) {
		t.Errorf("%v bytes are kept of answers of %d bytes, %v", n, size, err)
	}
	refused := 0
	for _, s := range begun {
		switch err := s.RecvMsg(&authzdv1.CheckBatchResponse{}); {
		case err == nil:
		case status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "not been read"):
			refused++
		default:
			t.Errorf("answered %v", err)
		}
	}
	if refused < len(begun)/2-4 {
		t.Errorf("%d of %d are refused", refused, len(begun))
	}
	if n := unreadBytes(t, p, keys.admin); n != 0 {
		t.Errorf("once all is read %v bytes are kept", n)
	}
}

// What is sent on streams is counted with the other answers, and bounded with them, short
// messages too.
func TestSlowReaderOfStreams(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	for name, c := range map[string]struct {
		symbol        string
		streams, asks int
	}{"long messages": {"authzd.v1.DecisionService", 1000, 8}, "short messages": {"no.such.Symbol", 100, 2000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slowReaderOfStreams(t, c.symbol, c.streams, c.asks)
		})
	}
}

func slowReaderOfStreams(t *testing.T, symbol string, n, asks int) {
	t.Helper()
	p, keys := wordyServer(t)
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	b := &batches{conn: conn, as: dialAs(t, p, keys.slow).as}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}}
	unread := func() float64 { return unreadBytes(t, p, keys.admin) }
	// A stream holds some answers in its window and some in the server: of all of them,
	// four times as much as may be.
	streams := make([]reflectionpb.ServerReflection_ServerReflectionInfoClient, n)
	for i := range streams {
		s, err := reflectionpb.NewServerReflectionClient(b.conn).ServerReflectionInfo(b.as(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		for range asks {
			if err := s.Send(ask); err != nil {
				break // it has been refused
			}
		}
		streams[i] = s
		if i%20 == 19 {
			if n := unread(); n > most*5/4 {
				t.Errorf("%v bytes are kept of %d streams", n, i+1)
			}
		}
	}
	refused := 0
	for _, s := range streams {
		_ = s.CloseSend()
		var err error
		for err == nil {
			_, err = s.Recv()
		}
		switch {
		case errors.Is(err, io.EOF):
		case status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "not been read"):
			refused++
		default:
			t.Errorf("a stream ends with %v", err)
		}
	}
	if refused == 0 {
		t.Error("no stream is refused")
	}
	if n := unread(); n != 0 {
		t.Errorf("once all is read %v bytes are kept", n)
	}
}

// metrics are those of the process, as who holds a key sees them.
func metrics(t *testing.T, p *binary.Process, key string) string {
	t.Helper()
	_, text, err := p.Ask(t.Context(), http.MethodGet, "/metrics", key, "")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// unreadBytes is one of them.
func unreadBytes(t *testing.T, p *binary.Process, key string) float64 {
	t.Helper()
	text := metrics(t, p, key)
	n, err := binary.ReadMetric(text, "authzd_unread_bytes")
	if err != nil || !strings.Contains(text, "\nauthzd_unread_bytes ") {
		t.Fatalf("no authzd_unread_bytes: %v\n%.500s", err, text)
	}
	return n
}

// full fails below so many bytes.
func full(n, most float64) error {
	if n < most {
		return fmt.Errorf("%.0f bytes of answers are there, want %.0f", n, most)
	}
	return nil
}
