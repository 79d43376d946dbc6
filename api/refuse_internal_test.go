package api

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// What is encoded by hand is what protobuf reads.
func TestDetailsByHand(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ code, path, id, wantPath string }{
		{"api.overloaded", "", "", ""},
		{"rar.unknown_type", "/authorization_details/0", "01J", "/authorization_details/0"},
		{"request.wrong_type", long, long, long},
		{"request.wrong_type", "/a\xffb", "é", "/a\uFFFDb"},
	} {
		want := &errdetails.ErrorInfo{Reason: c.code, Domain: errorDomain, Metadata: map[string]string{"path": c.wantPath, "request_id": c.id}}
		got := &errdetails.ErrorInfo{}
		if err := proto.Unmarshal(fault{code: c.code, path: c.path}.errorInfo(c.id), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", c, got, err, want)
		}
	}
	for _, d := range []time.Duration{0, 1, time.Second, 1999999999} {
		want := &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
		got := &errdetails.RetryInfo{}
		if err := proto.Unmarshal(retryInfo(d), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%v: got %v, %v", d, got, err)
		}
	}
}

// BenchmarkRefused is what it costs beside gRPC's own work to refuse a call for
// want of room.
func BenchmarkRefused(b *testing.B) {
	s, err := New(Options{Engine: engine.New(engine.Options{})})
	if err != nil {
		b.Fatal(err)
	}
	p := s.pool // as if many of many callers were inside, and a place free once in an hour
	p.between, p.measured = time.Hour, time.Now().Add(time.Hour)
	p.coming, p.active = 1000, 1000
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs("authorization", "Bearer none"))
	info := &tap.Info{FullMethodName: authzdv1.DecisionService_Check_FullMethodName}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.tap(ctx, info); err == nil {
			b.Fatal("it was let in")
		}
	}
}
