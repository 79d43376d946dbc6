package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// remoteError is an error that the server reported.
type remoteError struct {
	fault
	err error
}

// Error formats code, place and message.
func (e *remoteError) Error() string {
	s := e.code
	if e.path != "" {
		s += " at " + e.path
	}
	return s + ": " + e.message
}

// Unwrap returns the gRPC status.
func (e *remoteError) Unwrap() error { return e.err }

// remoteOptions are the flags of commands that may ask a server.
type remoteOptions struct {
	timeout           time.Duration
	ca, cert, certKey string
	keyEnv            string
}

func (r *remoteOptions) define(f *pflag.FlagSet) {
	f.DurationVar(&r.timeout, "timeout", 5*time.Second, "give up after this time; with --addr only")
	r.defineFor(f, "addr")
}

// defineFor declares how the server that flag names is connected to.
func (r *remoteOptions) defineFor(f *pflag.FlagSet, flag string) {
	only := "; with --" + flag + " only"
	f.StringVar(&r.ca, "tls-ca", "", "PEM file with the authorities of the server's certificate; default the system's"+only)
	f.StringVar(&r.cert, "cert", "", "PEM file with a client certificate"+only)
	f.StringVar(&r.certKey, "key", "", "PEM file with the key of --cert")
	f.StringVar(&r.keyEnv, "key-env", "", "environment variable with the caller's key (authzd keys create)"+only)
}

// local refuses flags that would be without effect.
func (r *remoteOptions) local() error { return r.localFor("addr") }

func (r *remoteOptions) localFor(flag string) error {
	if r.ca != "" || r.cert != "" || r.certKey != "" || r.keyEnv != "" {
		return errors.New("--tls-ca, --cert, --key and --key-env need --" + flag)
	}
	return nil
}

// transport is plain on loopback, unless a flag asks for TLS, and TLS elsewhere:
// a key never leaves the host in the clear.
func (r *remoteOptions) transport(addr string) (credentials.TransportCredentials, error) {
	if (r.cert == "") != (r.certKey == "") {
		return nil, errors.New("--cert and --key belong together: give both")
	}
	if r.ca == "" && r.cert == "" && isLoopback(addr) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.ca != "" {
		text, err := os.ReadFile(r.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--tls-ca: %s holds no certificate", r.ca)
		}
	}
	if r.cert != "" {
		pair, err := tls.LoadX509KeyPair(r.cert, r.certKey)
		if err != nil {
			return nil, fmt.Errorf("--cert %s with --key %s: %w", r.cert, r.certKey, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// callerKey sends a caller's key with every call.
type callerKey string

// GetRequestMetadata is asked by grpc-go.
func (k callerKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

// RequireTransportSecurity is no: the connection is plain on loopback only.
func (callerKey) RequireTransportSecurity() bool { return false }

// dial connects to a server.
func (r *remoteOptions) dial(std stdio, addr string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	transport, err := r.transport(addr)
	if err != nil {
		return nil, err
	}
	options := append([]grpc.DialOption{grpc.WithTransportCredentials(transport)}, more...)
	if r.keyEnv != "" {
		key := strings.TrimSpace(std.getenv(r.keyEnv))
		if key == "" {
			return nil, fmt.Errorf("--key-env: the variable %s is empty", r.keyEnv)
		}
		options = append(options, grpc.WithPerRPCCredentials(callerKey(key)))
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

// askServer asks the server at o.addr over gRPC to decide, or to explain.
func askServer(ctx context.Context, std stdio, o *checkOptions, query []byte) (rar.Value, error) {
	var request authzdv1.CheckRequest
	if err := api.UnmarshalJSON(query, &request, api.Limits{}); err != nil {
		return rar.Value{}, err
	}
	conn, err := o.dial(std, o.addr)
	if err != nil {
		return rar.Value{}, err
	}
	defer conn.Close() //nolint:errcheck // the answer is in hand
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	service := authzdv1.NewDecisionServiceClient(conn)
	var response proto.Message
	if o.explain.on {
		response, err = service.Explain(ctx, &authzdv1.ExplainRequest{Query: &request, Trace: o.explain.trace})
	} else {
		response, err = service.Check(ctx, &request)
	}
	if err != nil {
		return rar.Value{}, serverError(o.addr, err)
	}
	text, err := api.MarshalJSON(response)
	if err != nil {
		return rar.Value{}, fmt.Errorf("read the response: %w", err)
	}
	return readBack(text)
}

// serverError finds our code in a gRPC status.
func serverError(addr string, err error) error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "authzd" {
			return &remoteError{
				fault: fault{code: info.GetReason(), message: st.Message(), path: info.GetMetadata()["path"]}, err: err,
			}
		}
	}
	return fmt.Errorf("ask %s: %w", addr, err)
}
