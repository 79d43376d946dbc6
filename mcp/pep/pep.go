// Package pep enforces decisions in front of MCP servers: as middleware of the
// official Go SDK ([Enforcer.Middleware]), as a reverse proxy for streamable
// HTTP ([NewProxy]) and as a wrapper of servers on stdio ([Wrap]). All three
// ask one [Decider], by one [Enforcer].
//
// A request of a client goes on only with an allow for exactly that request;
// everything else answers it: a deny in the form that the service wrote, and
// for an error, silence or an answer that makes no sense a plain refusal.
// Lists of tools, resources and prompts are shortened to what the caller could
// use. Notifications, ping and the client's answers to the server pass, as
// COAZ-MCP wants it. What a server sends is passed on as it is but for lists.
//
// cmd/authzd runs proxy and wrapper; authors of servers call the middleware.
// An Enforcer may be used by any number of goroutines.
package pep

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Decider is the decision service: a gRPC client ([NewClient]) or, in process, the
// same chain that the service's doors go through. Every error refuses.
type Decider interface {
	Check(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error)
	CheckBatch(context.Context, *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error)
	FilterTools(context.Context, *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error)
}

// Defaults of Options.
const (
	DefaultTimeout    = 5 * time.Second
	DefaultMaxMessage = 4 << 20
	DefaultMaxResult  = 64 << 20
	DefaultToolsTTL   = time.Minute
)

// Options configure an Enforcer. Decider and Server are required.
type Options struct {
	Decider Decider
	// Server is the MCP server's resource identifier (RFC 8707), the audience of
	// the tokens that count.
	Server string
	// Observe decides and logs, and enforces nothing. Default: enforce.
	Observe bool
	// PlainLists leaves listed tools without the note of what they need
	// ([NeedsKey]). Default: they have it.
	PlainLists bool
	// Timeout bounds one question to the Decider; default DefaultTimeout.
	Timeout time.Duration
	// MaxMessage bounds one message of a client in bytes; default
	// DefaultMaxMessage. The service has a limit of its own for one query
	// (serve --max-request-bytes), which a larger call meets as a refusal.
	MaxMessage int
	// MaxResult bounds one list, or one line, of a server in bytes; default
	// DefaultMaxResult.
	MaxResult int
	// ToolsTTL is how long a server's tools are remembered where it does not say
	// that they changed; default DefaultToolsTTL.
	ToolsTTL time.Duration
	// Fulfil carries out an obligation of an allow, a JSON object with an id,
	// before the call goes on. Default none: an allow with obligations refuses.
	Fulfil func(ctx context.Context, obligation []byte) error
	// Log receives one line for each decision; default nothing.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.MaxResult <= 0 {
		o.MaxResult = DefaultMaxResult
	}
	if o.ToolsTTL <= 0 {
		o.ToolsTTL = DefaultToolsTTL
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Enforcer asks about requests and keeps to the answers.
type Enforcer struct {
	opts Options
	// slots are the HTTP requests under way whose answer may be a denial (string
	// to *slot), found by what the SDK hands on of a request: its headers.
	slots sync.Map
}

// New makes an Enforcer.
func New(o Options) (*Enforcer, error) {
	if o.Decider == nil {
		return nil, errors.New("pep: Options.Decider is required")
	}
	if o.Server == "" {
		return nil, errors.New("pep: Options.Server is required: the resource identifier of the MCP server")
	}
	return &Enforcer{opts: o.withDefaults()}, nil
}

// Caller is who sent a message, and what is known of the client.
type Caller struct {
	// Transport is "http" or "stdio".
	Transport string
	// ProtocolVersion is the MCP revision that the client speaks; empty before it
	// is known.
	ProtocolVersion string
	// Capabilities are the client's, a JSON object; nil before they are known.
	Capabilities []byte
	// Credentials are what came with the message.
	Credentials []*authzdv1.Credential
	// Subject names the person where there is no credential.
	Subject *authzdv1.Subject
}
