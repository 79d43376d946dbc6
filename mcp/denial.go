package mcp

import (
	"time"

	"github.com/authzd/authzd/rar"
)

// Remediation says what a client may conclude from a denial (SEP-2643).
type Remediation string

// The three values of SEP-2643. The zero value, and any other, is read as
// [Undisclosed].
const (
	// Available: the remedies may be told to the client.
	Available Remediation = "available"
	// Unavailable: nothing the client can do would help.
	Unavailable Remediation = "unavailable"
	// Undisclosed: something might help, and it is not told.
	Undisclosed Remediation = "undisclosed"
)

// Denial is a deny with everything that decides how it is told: what policy
// said, who asked and how, and what the server can send. [Render] turns it into
// a response. The JSON-RPC id is not part of it; the PEP adds it.
type Denial struct {
	// Remediation and Remedies are policy's. With anything but Available the
	// remedies stay inside.
	Remediation Remediation
	// Message is shown to the person or the model. It must hold nothing that
	// needs authorization to read. Empty: [Words] composes it.
	Message string
	// ContextID is the authorizationContextId: random, and no more than that.
	// Empty: none. One that is not opaque is left out.
	ContextID string
	// Remedies, best first. Those of the credential kinds (scopes,
	// authorization_details, txn_challenge, authentication,
	// proof_of_possession, token) are needed together; the others are
	// alternatives, unless AllNeeded.
	Remedies []Remedy
	// AllNeeded makes every remedy necessary: credentials are asked for first,
	// because an approval binds to the principal and the call.
	AllNeeded bool

	// Preference says in which of two possible forms missing
	// authorization_details are told over HTTP.
	Preference Preference

	Request Request
	// Transport is TransportHTTP or TransportStdio. Anything else gets a plain
	// denial without remedies.
	Transport string
	// ProtocolVersion is the MCP revision of the request ("2026-07-28"). Empty
	// or malformed: no remedy that needs MCP, only HTTP challenges.
	ProtocolVersion string
	// ClientCapabilities are those of this request, or for revisions before
	// 2026-07-28 those of initialize. Absent: none.
	ClientCapabilities rar.Value
	Server             Server
}

// Preference chooses the form of a denial over HTTP where nothing but
// authorization_details is missing and both forms are possible: the challenge
// (SEP-2643 case 5), which the official MCP clients of today take for a token
// that is over, and the tool result with the same hint (case 3), which costs
// them nothing (docs/mcp-clients.md). The zero value is PreferChallenge.
type Preference string

// The preferences.
const (
	// PreferChallenge: a challenge wherever one can be sent.
	PreferChallenge Preference = "challenge"
	// PreferResult: a tool result wherever its hint is enough.
	PreferResult Preference = "result"
	// PreferByClient: a challenge for a client that declares the extension
	// io.modelcontextprotocol/structured-authorization-denials, by which it says
	// that it knows such challenges; else as PreferResult.
	PreferByClient Preference = "auto"
)

// Request is what a denial needs to know of the call that was denied.
type Request struct {
	// Method is the JSON-RPC method.
	Method string
	// ToolName is params.name of a tools/call, for the words only.
	ToolName string
	// GrantedScopes are those of the credential that was presented. Clients
	// before 2026-07-28 do not accumulate scopes, so a scope challenge repeats
	// these for them.
	GrantedScopes []string
	// Headers of the HTTP request. Only Accept-Txn-Challenge is read; leave out
	// everything else, Authorization above all.
	Headers []Header
}

// Server is what a denial needs to know of the MCP server.
type Server struct {
	// ResourceMetadata is the URL of the RFC 9728 document. Empty: challenges do
	// not name one.
	ResourceMetadata string
	// HeaderLimit is the greatest length of one challenge in octets. Zero or
	// less: DefaultHeaderLimit.
	HeaderLimit int
	// DenialCode is the code of JSON-RPC errors that tell a denial; zero, or one
	// that is not a [ValidDenialCode]: [DefaultDenialCode].
	DenialCode int
	// DPoPAlgs are the proof algorithms of a server that wants DPoP from this
	// caller (RFC 9449); every challenge is then one of scheme DPoP. Empty:
	// Bearer, unless proof of possession is itself what is missing.
	DPoPAlgs []string
	// ErrorBodies puts a JSON-RPC error under every challenge, with the words and
	// the envelope in data._meta. It keeps sessions of the Go SDK open and is
	// what clients without a handler of their own can read of a challenge.
	ErrorBodies bool
	// NameHeldScopes names, in every challenge with status 401 to a token that
	// counts, the scopes of that token. A client that is told no scope asks
	// its user for all that the server supports, and one that is told a few may
	// lose the others.
	NameHeldScopes bool
}

// DefaultHeaderLimit bounds one challenge when [Server.HeaderLimit] does not.
// The response headers of one answer must fit the smallest buffer that common
// reverse proxies keep for them, 4 KiB, with room for the other headers.
const DefaultHeaderLimit = 3072

// Remedy is one thing that would turn the denial into an allow. The set is
// closed: only the …Remedy structs of this package, used by value, count.
//
//sumtype:decl
type Remedy interface{ remedy() }

// ScopesRemedy asks for a token with scopes (RFC 6750).
type ScopesRemedy struct {
	// Scopes are all that the operation needs, whether held already or not.
	Scopes []string
	// Held: the token that was presented has them all. They are named because the
	// next token comes alone.
	Held bool
	// Description becomes error_description; empty: the denial's Message.
	Description string
}

// AuthorizationDetailsRemedy asks for a token with RFC 9396 details.
type AuthorizationDetailsRemedy struct {
	// AuthorizationDetails is an array in request form; a token granted for
	// exactly these must satisfy the call.
	AuthorizationDetails rar.Value
	// SingleUse: the token will serve once, so no reference is sent.
	SingleUse bool
	// AuthorizationReference is opaque and stable; empty: none.
	AuthorizationReference string
}

// TxnChallengeRemedy asks for a token issued against a signed transaction
// challenge (draft-rosomakho-oauth-txn-challenge).
type TxnChallengeRemedy struct {
	// Challenge is a JWS in compact form, made for this operation.
	Challenge string
	// AuthorizationDetails is the same demand in RFC 9396 form, for a client
	// that did not announce that it takes challenges.
	AuthorizationDetails rar.Value
}

// AuthenticationRemedy asks for another or a fresher sign-in (RFC 9470). At
// least one member must be set.
type AuthenticationRemedy struct {
	// ACRValues are alternatives, the preferred one first.
	ACRValues []string
	// MaxAge is the greatest age of the sign-in in seconds; 0 means now, nil
	// means any.
	MaxAge *int64
}

// ProofOfPossessionRemedy asks for a token bound to a key, and the proof of
// that key (RFC 9449).
type ProofOfPossessionRemedy struct {
	// Algs are the JWS algorithms that a proof may use. Empty: not told.
	Algs []string
}

// TokenState says what was wrong before policy was even asked.
type TokenState string

// The states of a [TokenRemedy]; any other is read as TokenAbsent, which tells
// the client the least.
const (
	TokenAbsent  TokenState = "absent"
	TokenInvalid TokenState = "invalid"
)

// TokenRemedy asks for a usable token; no policy has decided yet.
type TokenRemedy struct {
	State TokenState
	// Scopes to ask for at once; may be empty.
	Scopes []string
}

// URLRemedy asks the user to finish something on a page. The server must check
// that the user who opens it is the one who called.
type URLRemedy struct {
	// Key names the entry of inputRequests.
	Key string
	// URL is https (http for a loopback host), without personal data and
	// without credentials.
	URL string
	// Message is shown to the user before the page is opened.
	Message string
	// RequestState comes back with the retry; the server protects its
	// integrity. Empty: none.
	RequestState string
	// ElicitationID is what 2025-11-25 needs besides; empty: clients of that
	// revision are not offered the page.
	ElicitationID string
}

// OutOfBandRemedy hands the call to a task that waits for a decision made
// elsewhere. The task must be durable before it is told.
type OutOfBandRemedy struct{ Task Task }

// Task holds the members of a task of the tasks extension (SEP-2663).
type Task struct {
	// ID must not be guessable.
	ID string
	// StatusMessage is shown to the model: no text of agents or approvers, and
	// no approver's name. Empty: none.
	StatusMessage string
	CreatedAt     time.Time
	LastUpdatedAt time.Time
	// TTLMillis is how long the task is kept, in milliseconds; nil means
	// without limit.
	TTLMillis *int64
	// PollIntervalMillis is how often to ask, in milliseconds; zero: not told.
	PollIntervalMillis int64
}

func (ScopesRemedy) remedy()               {}
func (AuthorizationDetailsRemedy) remedy() {}
func (TxnChallengeRemedy) remedy()         {}
func (AuthenticationRemedy) remedy()       {}
func (ProofOfPossessionRemedy) remedy()    {}
func (TokenRemedy) remedy()                {}
func (URLRemedy) remedy()                  {}
func (OutOfBandRemedy) remedy()            {}
