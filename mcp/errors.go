package mcp

import (
	"errors"
	"math"
	"net/http"

	"github.com/authzd/authzd/rar"
)

// Code names one way in which this package refuses. Codes are part of the
// contract and are never reused.
type Code string

// The codes of this package.
const (
	// CodeMapping says that a method is mapped but its params or the token do
	// not yield the query: a missing member, an identifier that is no string.
	CodeMapping Code = "mcp.mapping"
	// CodeMappingUnsupported says that the tool declares a mapping of its own,
	// which must not be replaced by the default one, where it is not admitted.
	CodeMappingUnsupported Code = "mcp.mapping_unsupported"
	// CodeMappingInvalid says that a mapping that a tool declares is malformed or
	// beyond its bounds, whatever the call.
	CodeMappingInvalid Code = "mcp.mapping_invalid"
	// CodeMappingSubject says that a declared mapping names another subject than
	// the token does, where that is not admitted.
	CodeMappingSubject Code = "mcp.mapping_subject"
	// CodeDenied says that a decision point denied ([EnforceEvaluations]).
	CodeDenied Code = "mcp.denied"
	// CodePDPFault says that a decision point could not be asked, or gave no
	// answer to what was asked.
	CodePDPFault Code = "mcp.pdp_fault"
	// CodeMethodUnknown says that no mapping covers the method.
	CodeMethodUnknown Code = "mcp.method_unknown"
	// CodeHeaderMismatch says that a header is missing, repeated, or differs
	// from the body.
	CodeHeaderMismatch Code = "mcp.header_mismatch"
	// CodeMessageInvalid says that the body is not a message of its revision,
	// such as one without the _meta members that 2026-07-28 requires.
	CodeMessageInvalid Code = "mcp.message_invalid"
	// CodeRequestState says that a requestState is not one of this server, or not
	// for this request, or has expired ([OpenRequestState]).
	CodeRequestState Code = "mcp.request_state"
	// CodeEnvelopeInvalid says that a denial envelope breaks SEP-2643.
	CodeEnvelopeInvalid Code = "mcp.envelope_invalid"
	// CodeDenialInvalid says that a part of a [Denial] could not be sent and
	// was left out; Render returns it together with a usable response.
	CodeDenialInvalid Code = "mcp.denial_invalid"
)

// Codes lists every code of this package, for tables that must be complete.
func Codes() []Code {
	return []Code{
		CodeMapping,
		CodeMappingUnsupported,
		CodeMappingInvalid,
		CodeMappingSubject,
		CodeDenied,
		CodePDPFault,
		CodeMethodUnknown,
		CodeHeaderMismatch,
		CodeMessageInvalid,
		CodeRequestState,
		CodeEnvelopeInvalid,
		CodeDenialInvalid,
	}
}

// Error is the error type of this package. Path is a JSON Pointer into what was
// given (params, body, envelope or denial), empty when the whole is meant or
// when a header is at fault. Err never repeats a value of a token.
type Error struct {
	Code Code
	Path string
	Err  error
}

// Error tells code, place and cause. It is meant for logs; [Refusal] makes the
// text for a client.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Path != "" {
		s += " at " + e.Path
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func fail(code Code, path, text string) error {
	return &Error{Code: code, Path: path, Err: errors.New(text)}
}

// JSON-RPC error codes that this package sends.
const (
	rpcInvalidParams       = -32602
	rpcInternal            = -32603
	rpcHeaderMismatch      = -32020 // MCP 2026-07-28
	rpcURLElicitation      = -32042 // MCP 2025-11-25 only
	rpcResourceNotFoundOld = -32002 // before MCP 2026-07-28 only
	rpcUnmapped            = -32001 // COAZ-MCP: denial, unknown method

)

// DefaultDenialCode is the code of a denial that has no result to live in. MCP
// 2026-07-28 asks for codes outside JSON-RPC's reserved range (docs/adr/0014).
const DefaultDenialCode = -31403

// ValidDenialCode tells the values of [Server.DenialCode]. JSON-RPC reserves
// -32768 to -32000: most of it is unassigned and not to be used, MCP keeps
// -32020 to -32099 and calls the rest legacy. Of all that only COAZ-MCP's -32001
// says that a call was denied. Outside, any number that 32 bits hold.
func ValidDenialCode(code int) bool {
	if code < math.MinInt32 || code > math.MaxInt32 {
		return false
	}
	return code == rpcUnmapped || code < -32768 || code > -32000
}

// Refusal makes of an error of [Map], [Mapping.Evaluate], [CheckHeaders] or
// [EnforceEvaluations] what a PEP on HTTP or stdio sends instead of letting the
// message pass: a JSON-RPC error, to which the PEP adds the request's id.
// HTTPStatus applies on HTTP only. Any other error, nil included, becomes an
// internal error without details. Denials and unknown methods have COAZ-MCP's
// code -32001.
func Refusal(err error) Response { return Server{}.Refusal(err) }

// Refusal is the function of that name, with s.DenialCode for denials and
// unknown methods if it is set.
func (s Server) Refusal(err error) Response {
	denied := int64(rpcUnmapped)
	if s.DenialCode != 0 && ValidDenialCode(s.DenialCode) {
		denied = int64(s.DenialCode)
	}
	var e *Error
	if !errors.As(err, &e) {
		return refusal(http.StatusOK, rpcInternal, "authorization could not be decided", "")
	}
	switch e.Code {
	case CodeMapping, CodeMappingUnsupported, CodeMappingInvalid, CodeMappingSubject, CodeRequestState:
		return refusal(http.StatusOK, rpcInvalidParams, e.clientText(), e.Code)
	case CodeMethodUnknown:
		return refusal(http.StatusOK, denied, "method is not authorized", e.Code)
	case CodeDenied:
		return refusal(http.StatusOK, denied, "not authorized", e.Code)
	case CodePDPFault:
		return refusal(http.StatusOK, rpcInternal, "authorization could not be decided", e.Code)
	case CodeHeaderMismatch:
		return refusal(http.StatusBadRequest, rpcHeaderMismatch, e.clientText(), e.Code)
	case CodeMessageInvalid:
		return refusal(http.StatusBadRequest, rpcInvalidParams, e.clientText(), e.Code)
	case CodeEnvelopeInvalid, CodeDenialInvalid:
	}
	return refusal(http.StatusOK, rpcInternal, "authorization could not be decided", "")
}

// denialCode is the code of a denial that has no result to live in; one that
// may not be sent is not.
func (s Server) denialCode() int64 {
	if s.DenialCode != 0 && ValidDenialCode(s.DenialCode) {
		return int64(s.DenialCode)
	}
	return DefaultDenialCode
}

// clientText is safe to send: the causes of this package name members and
// rules, never values.
func (e *Error) clientText() string {
	if e.Err == nil {
		return string(e.Code)
	}
	if e.Path == "" {
		return e.Err.Error()
	}
	return e.Path + ": " + e.Err.Error()
}

func refusal(status int, code int64, message string, reason Code) Response {
	r := Response{Form: FormError, HTTPStatus: status, Error: rpcError(code, message)}
	if reason != "" {
		r.Error = rpcError(code, message, member("data", object(member("code", str(string(reason))))))
	}
	return r
}

func rpcError(code int64, message string, more ...rar.Member) rar.Value {
	return object(append([]rar.Member{
		member("code", rar.IntValue(code)),
		member("message", str(message)),
	}, more...)...)
}
