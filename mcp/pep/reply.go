package pep

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// JSON-RPC error codes of refusals that no decision stands behind.
const (
	rpcParseError     = -32700
	rpcInvalidRequest = -32600
	rpcMethodNotFound = -32601
	rpcInternal       = -32603
)

// What a client is told where there is no decision. The cause is for the log:
// it may tell of policy or tokens.
const (
	textUndecided = "The request could not be authorized, because the authorization service gave no decision. Nothing was done. Try again later."
	textFilter    = "The list could not be authorized, because the authorization service gave no answer. Try again later."
	textSameID    = "Another request with this id is under way, or too many are."
	textNoAnswer  = "The MCP server behind this proxy gave no answer that can be passed on."
	textBatch     = "Not done, because another message of the same batch was refused."
)

// reply answers a client in the place of the server: over stdio its body alone.
type reply struct {
	// status and headers are of the HTTP response.
	status  int
	headers map[string]string
	// body is one JSON-RPC response; nil: the HTTP response has none.
	body []byte
}

// refusal makes of a ruling that refuses what the client is sent. Whatever the
// service says, it refuses: a status that would not needs a body that does.
func refusal(id rar.Value, r Ruling) reply {
	var unknown *mcp.Error
	switch {
	case r.version >= stateless && errors.As(r.fault, &unknown) && unknown.Code == mcp.CodeMethodUnknown:
		// COAZ-MCP's -32001 is of a range that MCP gave up in this revision, and
		// what it wants for a method that it does not have is this.
		return failure(id, http.StatusNotFound, rpcMethodNotFound, "Method not found")
	case r.fault != nil:
		return mismatch(id, r.fault)
	}
	h, raw, member := r.Denial.GetHttp(), r.Denial.GetMcpResult(), "result"
	out := reply{status: http.StatusOK, headers: h.GetHeaders()}
	if h != nil {
		out.status = int(h.GetStatus())
	}
	if len(raw) == 0 {
		raw, member = r.Denial.GetMcpError(), "error"
	}
	challenge := out.status >= http.StatusBadRequest && out.status < 600
	if len(raw) > 0 {
		out.body = response(id, member, raw)
	}
	switch {
	case out.body == nil && (len(raw) > 0 || !challenge):
		return failure(id, http.StatusOK, rpcInternal, textUndecided)
	case !challenge && out.status != http.StatusOK:
		out.status = http.StatusForbidden
	}
	return out
}

// overStdio is the body of a reply, and where a challenge has none, its gist.
func (r reply) overStdio(id rar.Value) []byte {
	if r.body != nil {
		return r.body
	}
	return failure(id, 0, rpcInternal, textUndecided).body
}

// response makes a JSON-RPC response of a result or error that is JSON already;
// nil if it is not.
func response(id rar.Value, member string, raw []byte) []byte {
	v, err := rar.DecodeStrict(raw, rar.Limits{MaxBytes: DefaultMaxMessage, MaxDepth: maxDepth})
	if err != nil || v.Kind() != rar.Object {
		return nil
	}
	return rar.ObjectValue(
		rar.Member{Name: "jsonrpc", Value: rar.StringValue("2.0")},
		rar.Member{Name: "id", Value: orNull(id)},
		rar.Member{Name: member, Value: v},
	).AppendJSON(nil)
}

func orNull(id rar.Value) rar.Value {
	if id.Kind() == rar.Absent {
		return rar.NullValue()
	}
	return id
}

// failure is a JSON-RPC error of our own.
func failure(id rar.Value, status int, code int64, words string) reply {
	return reply{status: status, body: rar.ObjectValue(
		rar.Member{Name: "jsonrpc", Value: rar.StringValue("2.0")},
		rar.Member{Name: "id", Value: orNull(id)},
		rar.Member{Name: "error", Value: rar.ObjectValue(
			rar.Member{Name: "code", Value: rar.IntValue(code)},
			rar.Member{Name: "message", Value: rar.StringValue(words)},
		)},
	).AppendJSON(nil)}
}

// malformed answers what is no message.
func malformed(err error) reply {
	if err == errNotJSON { //nolint:errorlint // made by decode, never wrapped
		return failure(rar.Value{}, http.StatusBadRequest, rpcParseError, err.Error())
	}
	return failure(rar.Value{}, http.StatusBadRequest, rpcInvalidRequest, errNotMessage.Error())
}

// mismatch answers a message that package mcp or the service can not take for a
// question.
func mismatch(id rar.Value, err error) reply {
	r := mcp.Refusal(err)
	return reply{status: r.HTTPStatus, body: rar.ObjectValue(
		rar.Member{Name: "jsonrpc", Value: rar.StringValue("2.0")},
		rar.Member{Name: "id", Value: orNull(id)},
		rar.Member{Name: "error", Value: r.Error},
	).AppendJSON(nil)}
}

// faultOf finds in an error of the service what the client itself did wrong;
// nil: nothing that it could mend.
func faultOf(err error) error {
	for _, d := range status.Convert(err).Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != "authzd" {
			continue
		}
		if code := mcp.Code(info.GetReason()); slices.Contains(mcp.Codes(), code) {
			return &mcp.Error{Code: code, Path: info.GetMetadata()["path"], Err: errors.New(status.Convert(err).Message())}
		}
		if strings.HasPrefix(info.GetReason(), "request.") {
			return &mcp.Error{Code: mcp.CodeMapping, Err: errors.New("the request is not one that can be authorized: " + info.GetReason())}
		}
	}
	return nil
}

// remediable tells whether a is a deny that the client may turn into an allow.
func remediable(a *authzdv1.CheckResponse) bool {
	return a.GetDecision() == authzdv1.Decision_DECISION_DENY && a.GetRemediation().GetStatus() == string(mcp.Available)
}
