package api

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// client connects to nobody.
func (u *unreadAnswers) client() (net.Conn, *rpcPeer) {
	near, _ := net.Pipe()
	conn := u.connected(near)
	from, _ := conn.RemoteAddr().(*rpcPeer)
	return conn, from
}

func TestConnectionsOfOne(t *testing.T) {
	t.Parallel()
	var u unreadAnswers
	_, one := u.client()
	_, two := u.client()
	for range 2 {
		if !one.usedBy("flood") || !two.usedBy("quiet") {
			t.Error("shared with itself, or with who has another connection")
		}
	}
	for _, caller := range []string{"quiet", "flood", "quiet"} {
		if one.usedBy(caller) {
			t.Errorf("a connection of two callers is %s's alone", caller)
		}
	}
	if !two.usedBy("quiet") {
		t.Error("shared because another connection is")
	}
}

func TestUnread(t *testing.T) {
	t.Parallel()
	var u unreadAnswers
	first, one := u.client()
	_, two := u.client()
	_, other := u.client()
	u.add(one, "slow", maxUnread/2)
	if u.full(one, "slow") {
		t.Error("half is too much")
	}
	u.add(two, "slow", maxUnread/2)
	if !u.full(one, "slow") || !u.full(two, "slow") || !u.full(other, "slow") {
		t.Error("what is unread on two connections of a caller is not counted together")
	}
	if u.full(one, "quick") {
		t.Error("another caller has it to answer for")
	}
	u.add(two, "slow", -1)
	if u.full(two, "slow") {
		t.Error("what was read is counted")
	}
	u.add(two, "slow", 1)
	_ = first.Close()
	_ = first.Close()
	u.add(one, "slow", -maxUnread/2) // a buffer that grpc-go frees afterwards
	u.add(one, "slow", maxUnread)    // an answer that was made meanwhile
	if u.full(two, "slow") || u.bytes() != maxUnread/2 {
		t.Errorf("once a connection is closed, %v bytes are unread", u.bytes())
	}
	u.add(two, "slow", -maxUnread/2)
	if u.bytes() != 0 || len(u.of) != 0 || len(two.bytes) != 0 {
		t.Errorf("%v bytes are left, %v", u.bytes(), u.of)
	}

	u.add(one, "", maxUnread) // one is closed
	u.add(two, "", maxUnread)
	if !u.full(two, "") || u.full(other, "") {
		t.Error("callers without a name are not told apart by their connections")
	}
}

// long is an answer of more than a KiB.
func long() *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{DecisionId: strings.Repeat("x", 5000)}
}

// What is counted is what is held, and it is counted out once, by whatever way.
func TestUnreadAnswersAreCountedOut(t *testing.T) {
	t.Parallel()
	var u unreadAnswers
	_, from := u.client()
	encode := func() mem.BufferSlice {
		b, err := (&reply{Message: long(), from: from, caller: "slow"}).marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sent := encode()
	if n := int64(sent.Len()); int64(u.bytes()) < n || int64(u.bytes()) > n*9/8 {
		t.Errorf("%d bytes are counted as %v", n, u.bytes())
	}
	again := sent[0]
	again.Ref()
	sent.Free()
	if u.bytes() == 0 {
		t.Error("counted out while somebody has them")
	}
	again.Free()
	if u.bytes() != 0 {
		t.Errorf("%v bytes are unread of what is sent", u.bytes())
	}
	short, err := (&reply{Message: &authzdv1.CheckResponse{DecisionId: "x"}, from: from, caller: "slow", stream: true}).marshal(nil)
	if err != nil || short.Len() != 3 || u.bytes() < leastCounted {
		t.Errorf("a short message of a stream: %d bytes, %v; %v are counted", short.Len(), err, u.bytes())
	}
	short.Free()
	if u.bytes() != 0 {
		t.Errorf("%v bytes are unread of a short message that is sent", u.bytes())
	}
	for range 100 { // grpc-go drops them
		encode()
	}
	if u.bytes() == 0 {
		t.Fatal("nothing is counted")
	}
	for tries := 0; u.bytes() != 0; tries++ {
		if tries == 1000 {
			t.Fatalf("%v bytes are unread of what is dropped", u.bytes())
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // the collector calls from a goroutine of its own
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.of) != 0 {
		t.Errorf("callers are left: %v", u.of)
	}
}

// An answer of a call that changes nothing is not given if too much is unread once it is
// made; one of a call that may have changed something is.
func TestUnreadOnceMade(t *testing.T) {
	t.Parallel()
	for method, given := range map[string]bool{
		authzdv1.BundleService_GetData_FullMethodName:                 false,
		authzdv1.AuthorizationDetailsService_ListTypes_FullMethodName: false,
		authzdv1.DecisionService_Check_FullMethodName:                 true,
		authzdv1.BundleService_ActivateBundle_FullMethodName:          true,
	} {
		s, err := New(Options{Engine: engine.New(engine.Options{})})
		if err != nil {
			t.Fatal(err)
		}
		_, from := s.unread.client()
		ctx := context.WithValue(t.Context(), callKey{}, call{door: doorGRPC, caller: callers.Caller{Name: "slow"}})
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: from})
		called := false
		got, err := s.unary(ctx, &authzdv1.ListTypesRequest{}, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			called = true
			s.unread.add(from, "slow", maxUnread) // of others that came at the same time
			return long(), nil
		})
		if !called || (err == nil) != given || (got != nil) != given {
			t.Errorf("%s: called %t, %v, %v", method, called, got, err)
		}
		if !given && status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// The tap handle refuses none itself, whatever the refusal: its error would have grpc-go
// keep what it has of the call.
func TestTapKeepsNothing(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Engine: engine.New(engine.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	_, from := s.unread.client()
	s.unread.add(from, "", maxUnread)
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: from})
	for method, want := range map[string]codes.Code{
		authzdv1.DecisionService_Check_FullMethodName: codes.ResourceExhausted,
		"/no.such/Method": codes.Unimplemented,
	} {
		got, err := s.tap(ctx, &tap.Info{FullMethodName: method})
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if _, refused := entered(got); status.Code(refused) != want {
			t.Errorf("%s is let in: %v", method, refused)
		}
		called := false
		_, err = s.unary(got, &authzdv1.CheckRequest{}, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			called = true
			return &authzdv1.CheckResponse{}, nil
		})
		if called || status.Code(err) != want {
			t.Errorf("%s: called %t, %v", method, called, err)
		}
	}
	if _, err := entered(t.Context()); err == nil {
		t.Error("a call that tap has not seen is let in")
	}
	s.pool.empty(t)
}

// A call that is let in and ends before its message is counted out.
func TestTapOfCallsThatEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Engine: engine.New(engine.Options{})})
		if err != nil {
			t.Fatal(err)
		}
		_, from := s.unread.client()
		ctx, end := context.WithCancel(peer.NewContext(t.Context(), &peer.Peer{Addr: from}))
		got, err := s.tap(ctx, &tap.Info{FullMethodName: authzdv1.DecisionService_Check_FullMethodName})
		if _, refused := entered(got); err != nil || refused != nil {
			t.Fatalf("%v, %v", err, refused)
		}
		if s.pool.active != 1 {
			t.Errorf("%d callers are active", s.pool.active)
		}
		end()
		synctest.Wait()
		s.pool.empty(t)
	})
}
