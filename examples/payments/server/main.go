// Command server is an MCP server that moves (pretended) money and asks authzd
// before every call. It shows what the author of an MCP server adds: guard.go,
// and http.go if the server speaks HTTP. Everything else is an ordinary server
// on the official Go SDK.
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

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
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
	conn, err := grpc.NewClient(o.pdp, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to authzd: %w", err)
	}
	defer func() { _ = conn.Close() }()

	tokens := &introspector{
		url:    o.introspect,
		secret: os.Getenv("INTROSPECTION_SECRET"),
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	g := &guard{
		pdp:    authzdv1.NewDecisionServiceClient(conn),
		server: o.resource,
		log:    slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	if o.stdio {
		g.transport, g.claims = "stdio", tokens.claimsOfFile(o.tokenFile)
		return newServer(&ledger{}, g).Run(ctx, &mcp.StdioTransport{})
	}
	g.transport, g.claims = "http", claimsOfRequest
	return serve(ctx, o, httpHandler(newServer(&ledger{}, g), tokens, o))
}

// httpHandler: first the token (401 without one), then the SDK, within which
// the guard asks authzd. Stateless, as MCP 2026-07-28 wants it.
func httpHandler(s *mcp.Server, tokens *introspector, o options) http.Handler {
	sdk := mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxBody},
	)
	const wellKnown = "/.well-known/oauth-protected-resource"
	verified := auth.RequireBearerToken(tokens.verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: strings.TrimSuffix(o.resource, "/") + wellKnown,
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp", verified(withDenials(sdk)))
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
