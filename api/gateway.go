package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// gateway serves over REST what has no handler of its own, as a client of the
// gRPC server over a connection in memory: so these calls go through the same
// chain, which an in-process registration would skip.
type gateway struct {
	listener *bufconn.Listener
	conn     *grpc.ClientConn
	mux      *runtime.ServeMux
}

const memoryBuffer = 256 << 10

func (s *Server) newGateway(ctx context.Context) (*gateway, error) {
	listener := bufconn.Listen(memoryBuffer)
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect the gateway: %w", err)
	}
	conn.Connect() // before it is asked anything
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &jsonMarshaler{limits: s.opts.Limits}),
		// An empty allow-list: nothing that a client sends as a header becomes
		// metadata, or it could pose as somebody else behind the gateway.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			c := callOfGateway(r)
			return metadata.Join(metadata.Pairs(requestIDKey, c.requestID), carry(c.caller))
		}),
		runtime.WithErrorHandler(s.gatewayError),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
			c := callOfGateway(r)
			if code == http.StatusMethodNotAllowed {
				s.refuse(w, r, c, errorf(CodeMethodNotAllowed, "", "this path does not have the method %s", r.Method))
				return
			}
			s.refuse(w, r, c, errorf(CodeNotFound, "", "nothing is served at this path"))
		}),
		runtime.WithDisablePathLengthFallback(),
	)
	err = errors.Join(
		authzdv1.RegisterDecisionServiceHandlerClient(ctx, mux, authzdv1.NewDecisionServiceClient(conn)),
		authzdv1.RegisterAuthorizationDetailsServiceHandlerClient(ctx, mux, authzdv1.NewAuthorizationDetailsServiceClient(conn)),
		authzdv1.RegisterBundleServiceHandlerClient(ctx, mux, authzdv1.NewBundleServiceClient(conn)),
		authzdv1.RegisterBlockServiceHandlerClient(ctx, mux, authzdv1.NewBlockServiceClient(conn)),
	)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("register the gateway: %w", err)
	}
	return &gateway{listener: listener, conn: conn, mux: mux}, nil
}

// callOfGateway is the call that serve put into the context, which carries it
// through the generated code.
func callOfGateway(r *http.Request) call {
	c, _ := r.Context().Value(callKey{}).(call)
	c.door = doorGateway
	return c
}

// gatewayBody carries a fault of decoding past the generated code, which keeps
// only its text.
type gatewayBody struct {
	io.ReadCloser
	fault error
}

// serve hands the request to the gateway with a body that is bounded and
// headers that are few.
func (g *gateway) serve(w http.ResponseWriter, r *http.Request, c call) {
	inner := r.Clone(context.WithValue(r.Context(), callKey{}, c))
	inner.Header = http.Header{"Content-Type": {"application/json"}}
	inner.Body = &gatewayBody{ReadCloser: r.Body}
	g.mux.ServeHTTP(w, inner)
}

// gatewayError writes an error as the hand-written door does.
func (s *Server) gatewayError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	c := callOfGateway(r)
	if body, ok := r.Body.(*gatewayBody); ok && body.fault != nil {
		s.refuse(w, r, c, body.fault)
		return
	}
	// The gRPC side has counted and logged these already.
	if f, _, ok := faultOfStatus(err); ok {
		writeFault(w, f, c.requestID)
		return
	}
	switch st := status.Convert(err); st.Code() { //nolint:exhaustive // grpc-go's own, before a call reached the chain
	case codes.Canceled:
		err = context.Canceled
	case codes.DeadlineExceeded:
		err = context.DeadlineExceeded
	case codes.ResourceExhausted:
		err = errorf(CodeTooLarge, "", "the request, or its answer, is larger than this server takes")
	}
	s.refuse(w, r, c, err)
}

// jsonMarshaler is the codec as grpc-gateway calls it.
type jsonMarshaler struct{ limits Limits }

// ContentType is what answers are declared as.
func (*jsonMarshaler) ContentType(any) string { return "application/json" }

// Marshal encodes a message.
func (*jsonMarshaler) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, errorf(CodeInternal, "", "%T is no protobuf message", v)
	}
	return MarshalJSON(m)
}

// Unmarshal decodes a message strictly.
func (j *jsonMarshaler) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return errorf(CodeInternal, "", "%T is no protobuf message", v)
	}
	return UnmarshalJSON(data, m, j.limits)
}

// NewDecoder reads one message and nothing after it.
func (j *jsonMarshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := readBody(r, j.limits.MaxBatchBytes)
		if err == nil {
			err = j.Unmarshal(data, v)
		}
		if body, ok := r.(*gatewayBody); ok && err != nil {
			body.fault = err
		}
		return err
	})
}

// NewEncoder writes messages.
func (j *jsonMarshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := j.Marshal(v)
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return nil
	})
}
