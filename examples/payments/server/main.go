// Command server is an MCP server that moves (pretended) money and asks authzd
// about every request. It shows what the author of an MCP server adds: the lines
// with enforcer in this file. Everything else is an ordinary server on the
// official Go SDK.
//
//	server -http 127.0.0.1:8080 -pdp 127.0.0.1:8182 -introspect URL
//	server -stdio               -pdp 127.0.0.1:8182 -introspect URL -token-file FILE
//
// Over HTTP the access token is the request's bearer token. Over stdio, where
// MCP has no place for one, it is the content of a file or PAYMENTS_TOKEN.
// INTROSPECTION_SECRET authenticates this server to the authorization server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/authzd/authzd/mcp/pep"
)

type options struct {
	http, pdp, introspect, issuer, resource, tokenFile string
	stdio                                              bool
}

func main() {
	var o options
	flag.StringVar(&o.http, "http", "", "serve streamable HTTP at `ADDR`; port 0 takes a free one")
	flag.BoolVar(&o.stdio, "stdio", false, "serve stdin and stdout")
	flag.StringVar(&o.pdp, "pdp", "127.0.0.1:8182", "gRPC `ADDR` of authzd")
	flag.StringVar(&o.introspect, "introspect", "", "token introspection `URL` of the authorization server")
	flag.StringVar(&o.issuer, "issuer", "https://as.example.com", "`URL` of the authorization server, for clients to find it")
	flag.StringVar(&o.resource, "resource", "https://mcp.example.com", "this server's resource identifier `URL`, the audience of its tokens")
	flag.StringVar(&o.tokenFile, "token-file", "", "with -stdio: `FILE` that holds the access token, read for each call")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "payments server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if (o.http == "") == !o.stdio || o.introspect == "" {
		return errors.New("give -introspect, and either -http or -stdio")
	}
	// In the clear: authzd listens to loopback only.
	conn, err := grpc.NewClient(o.pdp, append(pep.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return fmt.Errorf("connect to authzd: %w", err)
	}
	defer func() { _ = conn.Close() }()

	tokens := &introspector{
		url:    o.introspect,
		secret: os.Getenv("INTROSPECTION_SECRET"),
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	enforcer, err := pep.New(pep.Options{
		Decider: pep.NewClient(conn), Server: o.resource, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	s := newServer(&ledger{})
	if o.stdio {
		enforcer.Attach(s, pep.MiddlewareOptions{Identify: tokens.ofFile(o.tokenFile)})
		return s.Run(ctx, &mcp.StdioTransport{})
	}
	return serve(ctx, o, httpHandler(s, enforcer, tokens, o))
}

// maxBody bounds a request; a tool call of this server is far smaller.
const maxBody = 1 << 20

// httpHandler: first the token (401 without one), then the SDK, within which
// authzd is asked. Stateless, as MCP 2026-07-28 wants it.
func httpHandler(s *mcp.Server, enforcer *pep.Enforcer, tokens *introspector, o options) http.Handler {
	enforcer.Attach(s, pep.MiddlewareOptions{Identify: pep.VerifiedToken(o.issuer, o.resource)})
	sdk := mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxBody},
	)
	const wellKnown = "/.well-known/oauth-protected-resource"
	verified := auth.RequireBearerToken(tokens.verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: strings.TrimSuffix(o.resource, "/") + wellKnown,
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp", verified(enforcer.HTTPHandler(sdk)))
	mux.Handle(wellKnown, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource:             o.resource,
		AuthorizationServers: []string{o.issuer},
		ScopesSupported:      []string{"payments", "payments:read"},
	}))
	return mux
}

// serve says on stdout where it listens, and drains when ctx ends.
func serve(ctx context.Context, o options, h http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.http)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ready, err := json.Marshal(map[string]string{"event": "ready", "http": listener.Addr().String()})
	if err != nil {
		return err
	}
	fmt.Println(string(ready))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		return srv.Shutdown(draining)
	}
}
