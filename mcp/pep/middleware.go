package pep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

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
// for denials that are HTTP challenges. Call it after every
// AddReceivingMiddleware: middleware that was added before it runs behind the
// decision.
//
// Arguments are completed with the defaults of the tool's inputSchema before
// they are decided, as the SDK does it afterwards, so that what executes is what
// was decided. To know the schema, each tools/call has the server list its tools.
func (e *Enforcer) Attach(s *mcp.Server, o MiddlewareOptions) {
	if o.Identify == nil {
		o.Identify = BearerToken
	}
	m := &middleware{e: e, o: o}
	s.AddReceivingMiddleware(m.receive)
}

type middleware struct {
	e *Enforcer
	o MiddlewareOptions
}

// described is what the SDK's requests tell of their client.
type described interface {
	ProtocolVersion() string
	ClientCapabilities() *mcp.ClientCapabilities
	GetExtra() *mcp.RequestExtra
}

func (m *middleware) receive(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if passesUnasked(method) {
			return next(ctx, method, req)
		}
		if m.e.opts.Observe {
			return m.observe(ctx, next, method, req)
		}
		c, q, err := m.question(ctx, next, method, req)
		if err != nil {
			return nil, m.undecided(ctx, method, err)
		}
		if r := m.e.Decide(ctx, c, q); !r.Go {
			return m.refuse(req, r)
		}
		// Nobody may have changed the request meanwhile.
		if now, err := paramsOf(req); err != nil || !bytes.Equal(now, q.Params) {
			return nil, m.undecided(ctx, method, errors.New("the request is not the one that was decided"))
		}
		if call, ok := req.(*mcp.CallToolRequest); ok && q.Tool == nil {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("unknown tool %q", call.Params.Name)}
		}
		result, err := next(ctx, method, req)
		if err != nil || listMember(method) == "" {
			return result, err //nolint:wrapcheck // the server's own
		}
		return m.shorten(ctx, c, method, result)
	}
}

// passesUnasked tells ping and the notifications of a client. They are listed,
// because a server may have requests of its own under any other name.
func passesUnasked(method string) bool {
	switch method {
	case methodPing, "notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed":
		return true
	}
	return false
}

// question is what is to be decided about a request. It completes the arguments
// of a call.
func (m *middleware) question(ctx context.Context, next mcp.MethodHandler, method string, req mcp.Request) (c Caller, q Request, err error) {
	q.Method = method
	if c, err = m.caller(ctx, method, req); err != nil {
		return c, q, err
	}
	if method == methodToolsCall {
		call, ok := req.(*mcp.CallToolRequest)
		if !ok || call.Params == nil {
			return c, q, errors.New("a tools/call without params")
		}
		if q.Tool, err = m.tool(ctx, next, call); err != nil {
			return c, q, err
		}
		if err = m.complete(call, q.Tool); err != nil {
			return c, q, err
		}
	}
	q.Params, err = paramsOf(req)
	return c, q, err
}

// observe decides, logs, and leaves request and result as they came.
func (m *middleware) observe(ctx context.Context, next mcp.MethodHandler, method string, req mcp.Request) (mcp.Result, error) {
	call, isCall := req.(*mcp.CallToolRequest)
	var came json.RawMessage
	if isCall = isCall && call.Params != nil; isCall {
		came = call.Params.Arguments
	}
	c, q, err := m.question(ctx, next, method, req)
	if err == nil {
		m.e.Decide(ctx, c, q)
	} else {
		_ = m.undecided(ctx, method, err) // logged
	}
	if isCall {
		call.Params.Arguments = came
	}
	result, err := next(ctx, method, req)
	if err == nil && listMember(method) != "" {
		_, _ = m.shorten(ctx, c, method, result) // logged
	}
	return result, err //nolint:wrapcheck // the server's own
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
	if c := d.ClientCapabilities(); c != nil {
		capabilities = asDeclared(c)
	}
	c.ProtocolVersion = d.ProtocolVersion()
	if first, ok := req.GetParams().(*mcp.InitializeParams); ok && first != nil && method == methodInitialize {
		c.ProtocolVersion = first.ProtocolVersion
		if capabilities = nil; first.Capabilities != nil {
			capabilities = asDeclared(first.Capabilities)
		}
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

// declared are capabilities as the client sent them.
type declared struct {
	*mcp.ClientCapabilities
	// Roots stands for the SDK's field of that name, which is written also where
	// the client has none.
	Roots *mcp.RootCapabilities `json:"roots,omitempty"` //nolint:staticcheck // older clients have it
}

func asDeclared(c *mcp.ClientCapabilities) declared {
	return declared{ClientCapabilities: c, Roots: c.RootsV2} //nolint:staticcheck // older clients have it
}

// paramsOf is the text of a request's params; nil if there are none. Arguments
// keep their digits: they are the text that came.
func paramsOf(req mcp.Request) ([]byte, error) {
	p := req.GetParams()
	if p == nil || isNil(p) {
		return nil, nil
	}
	if first, ok := p.(*mcp.InitializeParams); ok && first.Capabilities != nil {
		return encode(struct {
			*mcp.InitializeParams
			Capabilities declared `json:"capabilities"`
		}{first, asDeclared(first.Capabilities)})
	}
	return encode(p)
}

// isNil tells a nil pointer in an interface, which the SDK has for params that
// may be left out.
func isNil(p mcp.Params) bool {
	v := reflect.ValueOf(p)
	return v.Kind() == reflect.Pointer && v.IsNil()
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

// refuse says a denial as the service wrote it. Over HTTP its status, headers
// and body are left for [Enforcer.HTTPHandler] to send; if nobody takes them,
// what is returned here still refuses.
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
		return nil, errUndecided()
	}
	if result, ok := v.Get("result"); ok {
		return &verbatim{RawMessage: result.AppendJSON(nil)}, nil
	}
	fault, _ := v.Get("error")
	var rpc jsonrpc.Error
	if err := json.Unmarshal(fault.AppendJSON(nil), &rpc); err != nil { //nolint:forbidigo // our own text, into the SDK's type
		return nil, errUndecided()
	}
	return nil, &rpc
}

// verbatim is a result that is sent as the service wrote it, with members that
// this version of the SDK has no field for.
type verbatim struct {
	mcp.ResultBase
	json.RawMessage // all of the result; its MarshalJSON is that of verbatim
}

// undecided logs why there is no decision, and is what the client hears. An
// error about the client's own arguments is told.
func (m *middleware) undecided(ctx context.Context, method string, err error) error {
	m.e.opts.Log.LogAttrs(ctx, slog.LevelError, "no decision", slog.String("method", method), slog.String("error", err.Error()))
	var own *argumentsError
	if errors.As(err, &own) {
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: own.Error()}
	}
	return errUndecided()
}

func errUndecided() error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: textUndecided}
}
