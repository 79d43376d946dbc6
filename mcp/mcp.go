// Package mcp is the pure part of authzd's knowledge of the Model Context
// Protocol: it turns an MCP message into what is to be decided ([Map],
// [CompileMapping], [CheckHeaders]), the answer of a decision point into yes or
// no ([EnforceEvaluation], [EnforceEvaluations]), and a denial into what goes on the wire ([Render], with
// [Actionable] and [Words] beside it).
//
// It follows MCP 2026-07-28 and the revisions before it, SEP-2643 (structured
// authorization denials), RFC 6750, RFC 9449, RFC 9470, RFC 9728,
// draft-zehavi-oauth-rar-metadata-06, draft-rosomakho-oauth-txn-challenge-00
// and the COAZ-MCP binding (draft 1).
//
// It refuses what it does not know: an unmapped method, an identifier that is
// not a string, a header that differs from the body. A denial that cannot be
// told in the form that was asked for becomes a plainer denial, never a
// permission and never a hint that the client could not act on.
//
// The decision service and the enforcement points call it. It does no I/O,
// keeps no state and reads no clock; every function may be called from any
// number of goroutines.
package mcp

// Names that MCP and its extensions put on the wire.
const (
	// EnvelopeKey is the member of a result's _meta that holds the envelope of
	// an authorization denial (SEP-2643).
	EnvelopeKey = "io.modelcontextprotocol/authorization"
	// DenialsExtension is the capability to advertise in server/discover when
	// denials carry the envelope. Clients need not declare it.
	DenialsExtension = "io.modelcontextprotocol/structured-authorization-denials"

	tasksExtension      = "io.modelcontextprotocol/tasks"
	metaProtocolVersion = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities    = "io.modelcontextprotocol/clientCapabilities"
)

// Transports that a denial can be rendered for.
const (
	TransportHTTP  = "http"
	TransportStdio = "stdio"
)

const (
	methodToolsCall     = "tools/call"
	methodResourcesRead = "resources/read"
	methodPromptsGet    = "prompts/get"
)

// Header is one HTTP header field. Names are compared without regard to case.
type Header struct {
	Name  string
	Value string
}
