package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// reflected is a gRPC server whose messages are known by what it says of itself
// (server reflection), so that no peer's generated code is needed here.
type reflected struct {
	conn  *grpc.ClientConn
	files *protoregistry.Files
	types *dynamicpb.Types
}

// reflectService asks for the service of a method, "/package.Service/Method".
func reflectService(ctx context.Context, addr, method string) (*reflected, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	r := &reflected{conn: conn}
	if err := r.learn(ctx, method); err != nil {
		r.close()
		return nil, fmt.Errorf("server reflection: %w", err)
	}
	return r, nil
}

func (r *reflected) close() { r.conn.Close() } //nolint:errcheck,gosec // all is said

func (r *reflected) learn(ctx context.Context, method string) error {
	service, _, err := splitMethod(method)
	if err != nil {
		return err
	}
	stream, err := grpc_reflection_v1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	set, known := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	ask := func(q *grpc_reflection_v1.ServerReflectionRequest) error {
		if err := stream.Send(q); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if e := answer.GetErrorResponse(); e != nil {
			return errors.New(e.GetErrorMessage())
		}
		for _, text := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
			var f descriptorpb.FileDescriptorProto
			if err := proto.Unmarshal(text, &f); err != nil {
				return err
			}
			if !known[f.GetName()] {
				known[f.GetName()] = true
				set.File = append(set.File, &f)
			}
		}
		return nil
	}
	first := &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}
	if err := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: first}); err != nil {
		return err
	}
	for i := 0; i < len(set.GetFile()); i++ { // it grows
		for _, name := range set.GetFile()[i].GetDependency() {
			if known[name] {
				continue
			}
			next := &grpc_reflection_v1.ServerReflectionRequest_FileByFilename{FileByFilename: name}
			if err := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: next}); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if r.files, err = (protodesc.FileOptions{AllowUnresolvable: true}).NewFiles(set); err != nil {
		return err
	}
	r.types = dynamicpb.NewTypes(r.files)
	return nil
}

func splitMethod(method string) (service, name string, err error) {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !ok {
		return "", "", fmt.Errorf("%q is no method", method)
	}
	return service, name, nil
}

func (r *reflected) method(method string) (protoreflect.MethodDescriptor, error) {
	service, name, err := splitMethod(method)
	if err != nil {
		return nil, err
	}
	d, err := r.files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", service, err)
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", service)
	}
	m := s.Methods().ByName(protoreflect.Name(name))
	if m == nil {
		return nil, fmt.Errorf("%s has no method %s", service, name)
	}
	return m, nil
}

// encode makes a method's request of its JSON form. A member that the message
// does not have is an error.
func (r *reflected) encode(method string, text []byte) ([]byte, error) {
	m, err := r.method(method)
	if err != nil {
		return nil, err
	}
	in := dynamicpb.NewMessage(m.Input())
	if err := (protojson.UnmarshalOptions{Resolver: r.types}).Unmarshal(text, in); err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	b, err := proto.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode a request: %w", err)
	}
	return b, nil
}

// call sends a request in JSON form, and reads the answer's JSON form into out
// unless that is nil.
func (r *reflected) call(ctx context.Context, method string, request, out any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	body, err := r.encode(method, text)
	if err != nil {
		return err
	}
	m, err := r.method(method)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var in message
	if err := r.conn.Invoke(ctx, method, &message{body}, &in, grpc.ForceCodecV2(textCodec{})); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if out == nil {
		return nil
	}
	answer := dynamicpb.NewMessage(m.Output())
	if err := proto.Unmarshal(in.bytes, answer); err != nil {
		return fmt.Errorf("%s: decode the answer: %w", method, err)
	}
	if text, err = (protojson.MarshalOptions{Resolver: r.types}).Marshal(answer); err != nil {
		return fmt.Errorf("%s: decode the answer: %w", method, err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: decode the answer: %w", method, err)
	}
	return nil
}
