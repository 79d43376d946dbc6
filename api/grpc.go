package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
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
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: s.opts.Keepalive, Timeout: s.opts.Keepalive / 3}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream(stopping)),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return faultOf(errorf(CodeNotFound, "", "no such method")).status("")
		}),
		grpc.InTapHandle(s.tap),
		grpc.MaxHeaderListSize(maxHeaderBytes),
	}
	secured := insecure.NewCredentials()
	if s.opts.Access.CertFile != "" {
		secured = credentials.NewTLS(s.access.rpcTLS())
	}
	options = append(options, grpc.Creds(doorCredentials{secured, s.unread}))
	server := grpc.NewServer(options...)
	register := refusing{server}
	authzdv1.RegisterDecisionServiceServer(register, &decisionService{server: s})
	authzdv1.RegisterAuthorizationDetailsServiceServer(register, &detailsService{server: s})
	authzdv1.RegisterBundleServiceServer(register, &bundleService{server: s})
	authzdv1.RegisterBlockServiceServer(register, &blockService{server: s})
	healthpb.RegisterHealthServer(register, s.health)
	reflection.Register(server)
	return server
}

// refusing registers services whose unary methods read no message of a call that tap has
// refused. Streams have an interceptor for that, which unary methods have after it is read.
type refusing struct{ *grpc.Server }

// RegisterService makes it a grpc.ServiceRegistrar.
func (r refusing) RegisterService(d *grpc.ServiceDesc, impl any) {
	own := *d
	own.Methods = slices.Clone(d.Methods)
	for i := range own.Methods {
		handle := own.Methods[i].Handler
		own.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
			if _, err := entered(ctx); err != nil {
				return nil, err
			}
			return handle(srv, ctx, decode, chain)
		}
	}
	r.Server.RegisterService(&own, impl)
}

// entered is the call that tap let in; otherwise a status.
func entered(ctx context.Context) (call, error) {
	c, ok := ctx.Value(callKey{}).(call)
	if !ok { // tap has not seen it, which nothing can bring about
		return c, faultOf(errors.New("a call came past the check of its caller")).status("")
	}
	return c, c.refused
}

// tap looks at every call, streams and unknown methods too, before a message is
// read: who calls, and may they? It refuses none itself: grpc-go then keeps what it
// has of the call until the time is over that the client gave it, be it years, and
// though the connection has ended.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := s.callOf(ctx)
	err := s.enter(ctx, &c, info.FullMethodName, func() (callers.Caller, *refused) { return s.rpcCaller(ctx) })
	if from := peerOf(ctx); from != nil {
		s.hold(from, c, err)
	}
	if err != nil {
		if c.refused = grpcError(s.account(ctx, c, err), c.requestID); c.refused == nil {
			return nil, err // an error that is no status, which nothing can bring about
		}
	} else if a := c.arrival; a != nil {
		a.unwatch = context.AfterFunc(ctx, a.out) // a stream may end before its message
	}
	return context.WithValue(ctx, callKey{}, c), nil
}

// peerOf is the client of a call that came by the public listener.
func peerOf(ctx context.Context) *rpcPeer {
	if p, ok := peer.FromContext(ctx); ok {
		from, _ := p.Addr.(*rpcPeer)
		return from
	}
	return nil
}

// hold lets the connection of a caller that is refused wait, if others ask meanwhile.
// Nothing more is read from it until tap returns.
func (s *Server) hold(from *rpcPeer, c call, err error) {
	if c.caller.Name == "" {
		return
	}
	alone := from.usedBy(c.caller.Name)
	if err == errOverloaded && alone && s.pool.others(c.caller.Name) { //nolint:errorlint // as the pool returns it
		time.Sleep(holdTime)
	}
}

// unary puts every unary call through the chain.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	c, err := entered(ctx)
	if err != nil {
		return nil, err
	}
	defer c.arrival.leave()
	from, changes := peerOf(ctx), needOf(info.FullMethod).changes
	var plain error // a status of grpc-go's own services, such as health's NotFound
	err = s.guard(ctx, c, func(ctx context.Context) error {
		if s.isFull(from, c) { // the message may come long after tap
			return errUnread
		}
		if m, ok := req.(proto.Message); ok && isMalformed(m.ProtoReflect().GetUnknown()) {
			return errorf(CodeMalformed, "", "the message is not protobuf of its type")
		}
		var err error
		resp, err = handler(ctx, req)
		if _, isStatus := err.(interface{ GRPCStatus() *status.Status }); isStatus {
			plain = err
			return nil
		}
		// As many as there are streams may have come this far at once, but for those that
		// the pool decides. What is done is told, for nobody may do it twice.
		if err == nil && !changes && s.isFull(from, c) {
			return errUnread
		}
		return err
	})
	switch {
	case err != nil:
		return nil, grpcError(err, c.requestID)
	case plain != nil:
		return nil, plain
	}
	return c.reply(from, resp, false), nil
}

// isFull tells whether a caller has too much unread. A call from within the process, whose
// from is nil, has its answer read.
func (s *Server) isFull(from *rpcPeer, c call) bool {
	return from != nil && s.unread.full(from, c.caller.Name)
}

// reply is what the codec is given of an answer.
func (c call) reply(from *rpcPeer, answer any, stream bool) any {
	if m, ok := answer.(proto.Message); ok && from != nil {
		return &reply{Message: m, from: from, caller: c.caller.Name, stream: stream}
	}
	return answer
}

// stream recovers, and ends streams that would otherwise hold up a shutdown.
func (s *Server) stream(stopping context.Context) grpc.StreamServerInterceptor {
	//nolint:contextcheck // a stream's own context is the one to inherit; stopping only ends it
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		c, err := entered(ss.Context())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ss.Context())
		defer cancel()
		defer context.AfterFunc(stopping, cancel)()
		defer func() {
			if v := recover(); v != nil {
				err = grpcError(s.account(ctx, c, panicError(v)), c.requestID)
			}
		}()
		bound := &boundStream{ServerStream: ss, context: func() context.Context { return ctx }, server: s, call: c, from: peerOf(ctx)}
		bound.changes = needOf(info.FullMethod).changes
		if err = handler(srv, bound); err == errUnread { //nolint:errorlint // as SendMsg gives it to grpc-go's own services
			err = grpcError(s.account(ctx, c, err), c.requestID)
		}
		return err
	}
}

// boundStream is a stream whose context ends with the server, and whose messages are counted
// until they are sent.
type boundStream struct {
	grpc.ServerStream
	context func() context.Context
	server  *Server
	call    call
	from    *rpcPeer
	// changes: what it did is told, whatever is unread.
	changes bool
}

func (b *boundStream) Context() context.Context { return b.context() }

// SendMsg sends one message, unless too much is unread.
func (b *boundStream) SendMsg(m any) error {
	if !b.changes && b.server.isFull(b.from, b.call) {
		return errUnread
	}
	return b.ServerStream.SendMsg(b.call.reply(b.from, m, true)) //nolint:wrapcheck // a status
}

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

// Marshal encodes an answer, and has those of some length counted until they are sent.
func (c lenientCodec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*reply)
	if !ok {
		return c.CodecV2.Marshal(v) //nolint:wrapcheck // grpc-go's own
	}
	return r.marshal(c.CodecV2.Marshal)
}

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
