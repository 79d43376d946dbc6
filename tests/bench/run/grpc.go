package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

// maxConns is how many connections carry the calls of a gRPC case: a caller of
// authzd has few connections with many calls in flight.
const maxConns = 4

func grpcOpener(addr string) opener {
	return grpcMethodOpener(addr, authzdv1.DecisionService_Check_FullMethodName, grpcAllows)
}

// grpcMethodOpener calls any method with messages that are encoded already.
func grpcMethodOpener(addr, method string, allows func([]byte) (bool, error)) opener {
	return func(_ context.Context, n int) ([]caller, func(), error) {
		var conns []*grpc.ClientConn
		closeAll := func() {
			for _, c := range conns {
				c.Close() //nolint:errcheck,gosec // the measurement is over
			}
		}
		for range min(n, maxConns) {
			conn, err := grpc.NewClient(addr,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.ForceCodecV2(textCodec{})))
			if err != nil {
				closeAll()
				return nil, nil, fmt.Errorf("connect: %w", err)
			}
			conns = append(conns, conn)
		}
		callers := make([]caller, n)
		for i := range callers {
			conn, in := conns[i%len(conns)], &message{}
			callers[i] = func(ctx context.Context, body []byte) (answer, error) {
				err := conn.Invoke(ctx, method, &message{body}, in)
				if err != nil {
					return answer{}, err
				}
				allow, err := allows(in.bytes)
				return answer{allow: allow, text: in.bytes}, err
			}
		}
		return callers, closeAll, nil
	}
}

// grpcAllows reads the first field of a CheckResponse, decision. Go's encoder
// writes fields in order; an answer in another order is decoded as a whole.
func grpcAllows(text []byte) (bool, error) {
	num, typ, n := protowire.ConsumeTag(text)
	if num == 1 && typ == protowire.VarintType {
		v, _ := protowire.ConsumeVarint(text[n:])
		return v == uint64(authzdv1.Decision_DECISION_ALLOW), nil
	}
	var r authzdv1.CheckResponse
	if err := proto.Unmarshal(text, &r); err != nil {
		return false, fmt.Errorf("decode the answer: %w", err)
	}
	return r.GetDecision() == authzdv1.Decision_DECISION_ALLOW, nil
}

// message is encoded protobuf. Requests are encoded once, before measuring.
type message struct{ bytes []byte }

// textCodec passes encoded messages through.
type textCodec struct{}

func (textCodec) Name() string { return "proto" }

func (textCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, errors.New("not an encoded message")
	}
	return mem.BufferSlice{mem.SliceBuffer(m.bytes)}, nil
}

func (textCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return errors.New("not an encoded message")
	}
	if n := data.Len(); cap(m.bytes) < n {
		m.bytes = make([]byte, n)
	} else {
		m.bytes = m.bytes[:n]
	}
	data.CopyTo(m.bytes)
	return nil
}

// checkRequest encodes the REST form of a query as a CheckRequest.
func checkRequest(query []byte) ([]byte, error) {
	r, err := workload.CheckRequest(query)
	if err != nil {
		return nil, err
	}
	b, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	return b, nil
}
