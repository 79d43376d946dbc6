package pep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// MiddlewareOptions say how a server on the official Go SDK is enforced. The
// zero value takes the access token of the HTTP request.
type MiddlewareOptions struct {
	// Identify tells on whose authority a request comes; default [BearerToken].
	// Over stdio there is no header: give a function of your own.
	Identify func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error)
	// AnyNumber lets arguments pass whose numbers a float64 can not hold. The
	// SDK's typed tools (mcp.AddTool) would execute other numbers than were
	// decided; those that read the raw arguments (Server.AddTool) do not.
	AnyNumber bool
}

// Attach enforces on every request that s receives from now on. It is the one
// call that a server needs; one over HTTP also wants [Enforcer.HTTPHandler],
// for denials that are HTTP challenges.
//
// Arguments are completed with the defaults of the tool's inputSchema before
// they are decided, as the SDK does it afterwards, so that what executes is what
// was decided.
func (e *Enforcer) Attach(s *mcp.Server, o MiddlewareOptions) {
	if o.Identify == nil {
		o.Identify = BearerToken
	}
	m := &middleware{e: e, o: o}
	s.AddReceivingMiddleware(m.receive)
	s.AddSendingMiddleware(m.send)
}

type middleware struct {
	e     *Enforcer
	o     MiddlewareOptions
	tools toolBook
}

// described is what the SDK's requests tell of their client.
type described interface {
	ProtocolVersion() string
	ClientCapabilities() *mcp.ClientCapabilities
	GetExtra() *mcp.RequestExtra
}

func (m *middleware) receive(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method == methodPing || strings.HasPrefix(method, "notifications/") {
			return next(ctx, method, req)
		}
		c, err := m.caller(ctx, method, req)
		if err == nil {
			err = m.complete(ctx, next, method, req)
		}
		var params []byte
		if err == nil {
			params, err = paramsOf(req)
		}
		if err != nil {
			m.e.opts.Log.LogAttrs(ctx, slog.LevelError, "request refused, no decision", slog.String("method", method), slog.String("error", err.Error()))
			if m.e.opts.Observe {
				return next(ctx, method, req)
			}
			return nil, undecided(err)
		}
		r := m.e.Decide(ctx, c, Request{Method: method, Params: params, Tool: m.tool(ctx, next, method, req)})
		if !r.Go {
			return m.refuse(req, r)
		}
		// Nobody may have changed the request meanwhile.
		if now, err := paramsOf(req); !m.e.opts.Observe && (err != nil || !bytes.Equal(now, params)) {
			return nil, undecided(errors.New("the request is not the one that was decided"))
		}
		result, err := next(ctx, method, req)
		if err != nil || listMember(method) == "" {
			return result, err //nolint:wrapcheck // the server's own
		}
		return m.shorten(ctx, c, method, result)
	}
}

// send notices that the server's tools are others now.
func (m *middleware) send(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method == notificationToolsChanged {
			m.tools.changed()
		}
		return next(ctx, method, req)
	}
}

// caller reads what the SDK knows of who sent a request.
func (m *middleware) caller(ctx context.Context, method string, req mcp.Request) (Caller, error) {
	c := Caller{Transport: "stdio"}
	d, ok := req.(described)
	if !ok {
		return c, errors.New("a request of an unknown kind")
	}
	if x := d.GetExtra(); x != nil && x.Header != nil {
		c.Transport = "http"
	}
	var err error
	if c.Credentials, c.Subject, err = m.o.Identify(ctx, req); err != nil {
		return c, err
	}
	var capabilities any
	if declared := d.ClientCapabilities(); declared != nil {
		capabilities = declared
	}
	c.ProtocolVersion = d.ProtocolVersion()
	if first, ok := req.GetParams().(*mcp.InitializeParams); ok && method == methodInitialize {
		c.ProtocolVersion, capabilities = first.ProtocolVersion, first.Capabilities
	}
	// The SDK's own type has no field for what it does not know.
	if p := req.GetParams(); p != nil && !isNil(p) {
		if declared, ok := p.GetMeta()[mcp.MetaKeyClientCapabilities]; ok {
			capabilities = declared
		}
	}
	if capabilities != nil {
		if c.Capabilities, err = encode(capabilities); err != nil {
			return c, err
		}
	}
	return c, nil
}

// paramsOf is the text of a request's params; nil if there are none. Arguments
// keep their digits: they are the text that came.
func paramsOf(req mcp.Request) ([]byte, error) {
	p := req.GetParams()
	if p == nil || isNil(p) {
		return nil, nil
	}
	return encode(p)
}

// isNil tells a nil pointer in an interface, which the SDK has for params that
// may be left out.
func isNil(p mcp.Params) bool {
	text, err := encode(p)
	return err == nil && string(text) == "null"
}

// encode writes JSON without turning <, > and & into escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	w := json.NewEncoder(&b)
	w.SetEscapeHTML(false)
	if err := w.Encode(v); err != nil {
		return nil, err //nolint:wrapcheck // goes to the log
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// refuse says a denial as the service wrote it. Over HTTP its status and headers
// are left for [Enforcer.HTTPHandler] to send; if nobody takes them, what is
// returned here still refuses.
func (m *middleware) refuse(req mcp.Request, r Ruling) (mcp.Result, error) {
	out := refusal(rar.StringValue("0"), r)
	if d, ok := req.(described); ok && out.status != 0 {
		m.e.holdReply(d.GetExtra(), out)
	}
	if out.body == nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "not authorized"}
	}
	v, err := rar.DecodeStrict(out.body, rar.Limits{MaxBytes: DefaultMaxMessage, MaxDepth: maxDepth})
	if err != nil {
		return nil, undecided(err)
	}
	if result, ok := v.Get("result"); ok {
		return &verbatim{RawMessage: result.AppendJSON(nil)}, nil
	}
	fault, _ := v.Get("error")
	var rpc jsonrpc.Error
	if err := json.Unmarshal(fault.AppendJSON(nil), &rpc); err != nil { //nolint:forbidigo // our own text, into the SDK's type
		return nil, undecided(err)
	}
	return nil, &rpc
}

// verbatim is a result that is sent as the service wrote it, with members that
// this version of the SDK has no field for.
type verbatim struct {
	mcp.ResultBase
	json.RawMessage // all of the result; its MarshalJSON is that of verbatim
}

// undecided is what a client hears when there is no decision. An error about the
// client's own arguments is told.
func undecided(err error) error {
	var own *argumentsError
	if errors.As(err, &own) {
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: own.Error()}
	}
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: textUndecided}
}
