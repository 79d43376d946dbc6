package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	methodToolsCall = "tools/call"
	decisionTimeout = 2 * time.Second
)

// guard asks authzd about every tools/call before the tool runs. Whatever is
// not an allow of exactly this call refuses it: a deny, an error, silence.
type guard struct {
	pdp authzdv1.DecisionServiceClient
	// server is this server's resource identifier, the audience of its tokens.
	server string
	// transport is "http" or "stdio".
	transport string
	// claims returns the verified claims of the call's access token, a JSON
	// object, or nil if it came with no usable token.
	claims func(context.Context, *mcp.CallToolRequest) (json.RawMessage, error)
	log    *slog.Logger
}

// middleware is for [mcp.Server.AddReceivingMiddleware]. It decides on the
// request value that the SDK has parsed and hands that same value on, so there
// is no second reading of the message that could differ from what was decided.
func (g *guard) middleware(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if method != methodToolsCall {
			return next(ctx, method, req)
		}
		call, ok := req.(*mcp.CallToolRequest)
		if !ok || call.Params == nil {
			return nil, errUndecided()
		}
		answer, err := g.decide(ctx, call)
		if err != nil {
			// The cause is for the operator; it may tell of policy or tokens.
			g.log.ErrorContext(ctx, "call refused, no decision", "tool", call.Params.Name, "error", err)
			return nil, errUndecided()
		}
		g.log.InfoContext(ctx, "decided", "tool", call.Params.Name,
			"decision", answer.GetDecision().String(), "decision_id", answer.GetDecisionId(), "rule", answer.GetRule())
		if answer.GetDecision() != authzdv1.Decision_DECISION_ALLOW {
			return refuse(ctx, answer)
		}
		return next(ctx, method, req)
	}
}

// decide returns authzd's answer. An allow that this server cannot keep is an
// error.
func (g *guard) decide(ctx context.Context, call *mcp.CallToolRequest) (*authzdv1.CheckResponse, error) {
	query, err := g.query(ctx, call)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	answer, err := g.pdp.Check(asking, query)
	if err != nil {
		return nil, fmt.Errorf("ask authzd: %w", err)
	}
	if answer.GetDecision() != authzdv1.Decision_DECISION_ALLOW {
		return answer, nil
	}
	if n := len(answer.GetObligations()); n > 0 {
		return nil, fmt.Errorf("allowed with %d obligations, of which this server knows none", n)
	}
	if until := answer.GetExpiresAt(); !until.IsValid() || !time.Now().Before(until.AsTime()) {
		return nil, errors.New("the allow has expired")
	}
	// Nobody may have changed the call while authzd was thinking.
	if now, err := encode(call.Params); err != nil || !bytes.Equal(now, query.GetMcp().GetParams()) {
		return nil, errors.New("the call is not the one that was decided")
	}
	return answer, nil
}

// query describes the call as the client made it. The arguments keep their
// digits: they are the JSON text that came.
func (g *guard) query(ctx context.Context, call *mcp.CallToolRequest) (*authzdv1.CheckRequest, error) {
	params, err := encode(call.Params)
	if err != nil {
		return nil, fmt.Errorf("encode params: %w", err)
	}
	capabilities, err := capabilitiesOf(call)
	if err != nil {
		return nil, fmt.Errorf("encode client capabilities: %w", err)
	}
	claims, err := g.claims(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("read the access token: %w", err)
	}
	query := &authzdv1.CheckRequest{Mcp: &authzdv1.MCPMessage{
		Method:             methodToolsCall,
		Params:             params,
		Server:             g.server,
		Transport:          g.transport,
		ProtocolVersion:    call.ProtocolVersion(),
		ClientCapabilities: capabilities,
	}}
	if claims != nil {
		query.Credentials = []*authzdv1.Credential{{Id: "access-token", Claims: claims}}
	}
	return query, nil
}

// capabilitiesOf returns what the client declared: in this very request since
// MCP 2026-07-28, in initialize before. Nil if nothing is known.
func capabilitiesOf(call *mcp.CallToolRequest) ([]byte, error) {
	if declared, ok := call.Params.Meta[mcp.MetaKeyClientCapabilities]; ok {
		return encode(declared)
	}
	if declared := call.ClientCapabilities(); declared != nil {
		return encode(declared)
	}
	return nil, nil
}

// refuse says a denial as authzd wrote it. Over HTTP its status and headers are
// left for [withDenials] to send; if nobody takes them there, what is returned
// here still refuses.
func refuse(ctx context.Context, answer *authzdv1.CheckResponse) (mcp.Result, error) {
	denial := answer.GetDenial()
	wordless := len(denial.GetMcpResult()) == 0 && len(denial.GetMcpError()) == 0
	if h := denial.GetHttp(); h != nil {
		if slot, ok := ctx.Value(denialKey{}).(*denialSlot); ok {
			slot.put(h, wordless)
		}
	}
	switch {
	case len(denial.GetMcpResult()) > 0:
		// The SDK never answers a call whose result it fails to encode.
		if !json.Valid(denial.GetMcpResult()) {
			return nil, errUndecided()
		}
		return &verbatim{RawMessage: denial.GetMcpResult()}, nil
	case len(denial.GetMcpError()) > 0:
		var rpc jsonrpc.Error
		if err := json.Unmarshal(denial.GetMcpError(), &rpc); err != nil {
			return nil, errUndecided()
		}
		return nil, &rpc
	default:
		// The body of a challenge, which is not sent.
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "not authorized"}
	}
}

// verbatim is a result that is sent as authzd wrote it, with members that this
// version of the SDK has no field for.
type verbatim struct {
	mcp.ResultBase
	json.RawMessage // all of the result; its MarshalJSON is that of verbatim
}

// errUndecided is all that a client hears when there is no decision.
func errUndecided() error {
	return &jsonrpc.Error{
		Code:    jsonrpc.CodeInternalError,
		Message: "The call could not be authorized. Nothing was done. Try again later.",
	}
}

// encode writes JSON without turning <, > and & into escapes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// validStatus: only a refusal, or a response that carries one in its body.
func validStatus(status int, wordless bool) bool {
	if wordless {
		return status >= http.StatusBadRequest && status < 600
	}
	return status == http.StatusOK || status >= http.StatusBadRequest && status < 600
}
