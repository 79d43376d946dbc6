// Package api is the doors of the decision service: gRPC, and REST with the
// same contract (proto/authzd/v1). It decodes queries, lets the engine decide,
// and encodes decisions with the denial that a client of MCP understands.
//
// It refuses whatever is malformed, with a code and a JSON Pointer and without
// a decision; callers that are not known or lack the right; listening off
// loopback without TLS and callers; requests of web pages; and more work than it
// was given room for. No rule about who may do what lives
// here: every door calls the same Engine.
//
// cmd/authzd runs a [Server]; it and the runner of decision cases use
// [DecodeQuery] and [Respond] on their own. Everything but [Server.Listen] and
// [Server.Run], which belong to one owner, may be called by any number of
// goroutines.
package api

// Code names one way in which this package refuses. Codes are part of the
// contract, listed in docs/errors.md and never reused.
type Code string

// Codes of requests that can not be understood. They come with a JSON Pointer.
const (
	// CodeSyntax is a request that is no JSON text (RFC 8259) in UTF-8.
	CodeSyntax Code = "request.syntax"
	// CodeTrailingData is anything but white space after the JSON text.
	CodeTrailingData Code = "request.trailing_data"
	// CodeDuplicateKey is a member name that its object already has.
	CodeDuplicateKey Code = "request.duplicate_key"
	// CodeCaseVariantKey is a member name that differs from another of its
	// object in case only.
	CodeCaseVariantKey Code = "request.case_variant_key"
	// CodeTooDeep is nesting beyond Limits.MaxDepth.
	CodeTooDeep Code = "request.too_deep"
	// CodeTooLarge is a request, or a part of one, beyond the size limit.
	CodeTooLarge Code = "request.too_large"
	// CodeNumberOutOfRange is a number with an exponent that no double has.
	CodeNumberOutOfRange Code = "request.number_out_of_range"
	// CodeUnknownMember is a member, or a protobuf field, that the contract does
	// not have.
	CodeUnknownMember Code = "request.unknown_member"
	// CodeMalformed is a gRPC message that is not protobuf of its type.
	CodeMalformed Code = "request.malformed"
	// CodeWrongType is a member of another JSON type than the contract's.
	CodeWrongType Code = "request.wrong_type"
	// CodeInvalidValue is a member of the right type with a value that the
	// contract does not admit.
	CodeInvalidValue Code = "request.invalid_value"
	// CodeMissingMember is the absence of a member that the contract requires.
	CodeMissingMember Code = "request.missing_member"
	// CodeEmpty is a request that asks nothing.
	CodeEmpty Code = "request.empty"
	// CodeAccessTokenUnsupported is a credential given as a raw access token,
	// which is in the contract and not accepted yet.
	CodeAccessTokenUnsupported Code = "request.access_token_unsupported"
)

// Codes of the doors themselves.
const (
	// CodeNotLoopback is an address to listen on that is not loopback, without TLS
	// or without callers.
	CodeNotLoopback Code = "api.not_loopback"
	// CodeUnauthenticated is a caller that is not known: no key or certificate,
	// or one that does not count.
	CodeUnauthenticated Code = "api.unauthenticated"
	// CodeRightMissing is a caller that is known and lacks a right.
	CodeRightMissing Code = "api.right_missing"
	// CodeOverloaded says that too many calls are waiting already.
	CodeOverloaded Code = "api.overloaded"
	// CodeRevisionNotActive says that require_revision was not active on this
	// node by the deadline.
	CodeRevisionNotActive Code = "api.revision_not_active"
	// CodeHostRefused is an HTTP request whose Host is not this server.
	CodeHostRefused Code = "api.host_refused"
	// CodeOriginRefused is an HTTP request that a web page of another origin made.
	CodeOriginRefused Code = "api.origin_refused"
	// CodeContentType is an HTTP request whose body is not declared as JSON.
	CodeContentType Code = "api.content_type"
	// CodeNotAcceptable is a client of the bundle protocol that does not take what there
	// is: delta bundles.
	CodeNotAcceptable Code = "api.not_acceptable"
	// CodeNotFound is a path, or a gRPC method, that is not served.
	CodeNotFound Code = "api.not_found"
	// CodeMethodNotAllowed is an HTTP method that the path does not have.
	CodeMethodNotAllowed Code = "api.method_not_allowed"
	// CodeRequestBody is an HTTP body that could not be read to its end.
	CodeRequestBody Code = "api.request_body"
	// CodeStoreUnavailable is a data directory that can not be read or written now.
	CodeStoreUnavailable Code = "api.store_unavailable"
	// CodeInternal is every fault that has no code of its own.
	CodeInternal Code = "api.internal"
)

// Codes lists every code of this package, for tables that must be complete.
func Codes() []Code {
	return []Code{
		CodeSyntax, CodeTrailingData, CodeDuplicateKey, CodeCaseVariantKey,
		CodeTooDeep, CodeTooLarge, CodeNumberOutOfRange, CodeUnknownMember,
		CodeMalformed, CodeWrongType, CodeInvalidValue, CodeMissingMember, CodeEmpty,
		CodeAccessTokenUnsupported,
		CodeNotLoopback, CodeUnauthenticated, CodeRightMissing, CodeOverloaded, CodeRevisionNotActive, CodeHostRefused,
		CodeOriginRefused, CodeContentType, CodeNotAcceptable, CodeNotFound, CodeMethodNotAllowed,
		CodeRequestBody, CodeStoreUnavailable, CodeInternal,
	}
}

// Error says that no decision was made. Path is a JSON Pointer into the
// request, empty when the request as a whole is meant.
type Error struct {
	Code Code
	Path string
	Err  error
}

// Error formats code, place and cause.
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
