package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	maxStreams = 1024
	// requestIDKey carries the gateway's request id. It counts on the in-memory
	// connection only.
	requestIDKey = "authzd-request-id"
)

// newGRPC makes the one gRPC server: its listeners are the public one and the
// gateway's in-memory one.
func (s *Server) newGRPC(stopping context.Context) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(lenientCodec{encoding.GetCodecV2(grpcproto.Name)}),
		grpc.MaxRecvMsgSize(s.opts.Limits.MaxBatchBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(32),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream(stopping)),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return faultOf(errorf(CodeNotFound, "", "no such method")).status("")
		}),
		grpc.InTapHandle(s.tap),
		grpc.MaxHeaderListSize(maxHeaderBytes),
	}
	if s.opts.Access.CertFile != "" {
		options = append(options, grpc.Creds(doorCredentials{credentials.NewTLS(s.access.rpcTLS())}))
	}
	server := grpc.NewServer(options...)
	authzdv1.RegisterDecisionServiceServer(server, &decisionService{server: s})
	authzdv1.RegisterAuthorizationDetailsServiceServer(server, &detailsService{server: s})
	authzdv1.RegisterBundleServiceServer(server, &bundleService{server: s})
	authzdv1.RegisterBlockServiceServer(server, &blockService{server: s})
	healthpb.RegisterHealthServer(server, s.health)
	reflection.Register(server)
	return server
}

// tap looks at every call, streams and unknown methods too, before a message is
// read: who calls, and may they?
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := s.callOf(ctx)
	if err := s.enter(ctx, &c, info.FullMethodName, func() (callers.Caller, *refused) { return s.rpcCaller(ctx) }); err != nil {
		return nil, grpcError(s.account(ctx, c, err), c.requestID)
	}
	if a := c.arrival; a != nil {
		a.unwatch = context.AfterFunc(ctx, a.out) // a stream may end before its message
	}
	return context.WithValue(ctx, callKey{}, c), nil
}

// unary puts every unary call through the chain.
func (s *Server) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	c, entered := ctx.Value(callKey{}).(call)
	if !entered { // tap has not seen it, which nothing can bring about
		return nil, faultOf(errors.New("a call came past the check of its caller")).status("")
	}
	defer c.arrival.leave()
	var plain error // a status of grpc-go's own services, such as health's NotFound
	err = s.guard(ctx, c, func(ctx context.Context) error {
		if m, ok := req.(proto.Message); ok && isMalformed(m.ProtoReflect().GetUnknown()) {
			return errorf(CodeMalformed, "", "the message is not protobuf of its type")
		}
		var err error
		resp, err = handler(ctx, req)
		if _, isStatus := err.(interface{ GRPCStatus() *status.Status }); isStatus {
			plain = err
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return nil, grpcError(err, c.requestID)
	case plain != nil:
		return nil, plain
	}
	return resp, nil
}

// stream recovers, and ends streams that would otherwise hold up a shutdown.
func (s *Server) stream(stopping context.Context) grpc.StreamServerInterceptor {
	//nolint:contextcheck // a stream's own context is the one to inherit; stopping only ends it
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		c, entered := ss.Context().Value(callKey{}).(call)
		if !entered {
			return faultOf(errors.New("a call came past the check of its caller")).status("")
		}
		ctx, cancel := context.WithCancel(ss.Context())
		defer cancel()
		defer context.AfterFunc(stopping, cancel)()
		defer func() {
			if v := recover(); v != nil {
				err = grpcError(s.account(ctx, c, panicError(v)), c.requestID)
			}
		}()
		return handler(srv, &boundStream{ServerStream: ss, context: func() context.Context { return ctx }})
	}
}

// boundStream is a stream whose context ends with the server.
type boundStream struct {
	grpc.ServerStream
	context func() context.Context
}

func (b *boundStream) Context() context.Context { return b.context() }

// grpcError makes the status of an error that the chain has classed.
func grpcError(err error, requestID string) error {
	if f, ok := err.(*faultError); ok { //nolint:errorlint // made by guard, never wrapped
		return f.fault.status(requestID)
	}
	return err
}

type callKey struct{}

// callOf tells where a call came from. The gateway's request id is believed on
// the in-memory connection, which no client can reach.
func (s *Server) callOf(ctx context.Context) call {
	if fromGateway(ctx) {
		if ids := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(ids) == 1 {
			return call{door: doorGateway, requestID: ids[0]}
		}
		return call{door: doorGateway, requestID: s.opts.NewRequestID()}
	}
	return call{door: doorGRPC, requestID: s.opts.NewRequestID()}
}

// decisionService implements the generated interface on the chain's functions.
type decisionService struct {
	authzdv1.UnimplementedDecisionServiceServer
	server *Server
}

// Check decides one query on a worker of the pool.
func (d *decisionService) Check(ctx context.Context, m *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	s := d.server
	c := callFrom(ctx)
	decode := func() (Request, error) { w := s.wire(c); return w.request(m) }
	var r Request
	var err error
	at := s.pool.seat(c.caller.Name, 1)
	defer at.leave()
	waits := m.GetRequireRevision() != nil || s.verifying()
	if waits {
		if r, err = s.prepare(ctx, c, at, decode, settling(false)); err != nil {
			return nil, err
		}
	}
	var out *authzdv1.CheckResponse
	if full := at.here(ctx, func(ctx context.Context) {
		if !waits {
			if r, err = decode(); err != nil {
				return
			}
		}
		var resp *Response
		if resp, err = s.decideLive(ctx, c, r); err == nil {
			out = resp.Proto()
		}
	}); full != nil {
		return nil, full
	}
	return out, err
}

func callFrom(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	if c.door == "" {
		c.door = doorGRPC
	}
	return c
}

// lenientCodec lets a message that is not protobuf reach the chain, marked, so
// that it gets a coded error like every other bad request; grpc-go would answer
// INTERNAL without one.
type lenientCodec struct{ encoding.CodecV2 }

// Unmarshal marks what it can not read.
func (c lenientCodec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return err //nolint:wrapcheck // grpc-go's own
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(malformedMark())
	return nil
}

// malformedMark is an unknown field of the highest number. A client that sends
// it is told the same: its message has a field that no contract has.
func malformedMark() []byte {
	mark := protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.BytesType)
	return protowire.AppendBytes(mark, []byte("authzd: malformed"))
}

func isMalformed(unknown []byte) bool {
	return len(unknown) > 0 && bytes.Equal(unknown, malformedMark())
}

// memoryAddr is the remote address of the gateway's connection. Its type, and
// no text, is what a call is recognised by.
type memoryAddr struct{}

// Network and String make it a net.Addr.
func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "gateway" }

// memoryListener gives accepted connections the address of the gateway.
type memoryListener struct{ net.Listener }

// Accept waits for the gateway to dial.
func (l memoryListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("in-memory listener: %w", err)
	}
	return memoryConn{conn}, nil
}

type memoryConn struct{ net.Conn }

func (memoryConn) RemoteAddr() net.Addr { return memoryAddr{} }
