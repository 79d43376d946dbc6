package engine

import (
	"time"

	"github.com/authzd/authzd/rar"
)

// Decision is the answer to one query. The zero Decision is a deny.
type Decision struct {
	// Allow is true only if a permit has every requirement met and no forbid
	// holds.
	Allow bool
	// ID identifies the decision in answers and logs.
	ID string
	// Rule is the permit that allowed, the first forbid by name, or the permit
	// whose remedies are offered; empty if no rule decided.
	Rule string
	// Require is what Rule requires, met or not: an array of requirements as policy
	// has them. Absent if it requires nothing. Never for the MCP client.
	Require rar.Value
	// Reasons tell the PEP and the log why. Never for the MCP client.
	Reasons []Reason
	// Error is set when a fault of the call or the policy made the deny.
	Error *Fault
	// Remediation says what would turn a deny into an allow; nil on an allow.
	Remediation *Remediation
	// Message is text for the client, empty if policy gave none; MessageAdmin
	// is for the log.
	Message, MessageAdmin string
	// Met names for each requirement of the allowing permit the credential that
	// met it.
	Met []Met
	// Obligations are the allowing permit's, each an object with an id.
	Obligations []rar.Value
	// CallDigest binds the answer to what was asked ("sha-256:…"); empty without
	// an MCP message.
	CallDigest string
	// ExpiresAt is when an allow ceases; zero on a deny.
	ExpiresAt time.Time
	// Policy is the snapshot decided on.
	Policy PolicyRef
	// Rejected are the credentials that were not usable, with the reason.
	Rejected []RejectedCredential
	// GrantedScopes are the scopes of the usable credentials, for clients of
	// MCP revisions that do not accumulate scopes.
	GrantedScopes []string
	// Subject is the pair decided for; zero if none could be told.
	Subject SubjectRef
}

// SubjectRef is an identity: a subject is unique only within its issuer.
type SubjectRef struct{ Issuer, ID string }

// PolicyRef names what policy decided.
type PolicyRef struct{ Bundle, Revision string }

// Fault is a coded cause of a deny.
type Fault struct {
	Code    Code
	Message string
	// Path is a JSON Pointer into the query where the cause is the call.
	Path string
}

// Reason is one finding on the way to a decision.
type Reason struct {
	Code Code
	// Kind is the requirement kind meant, if any.
	Kind Kind
	// Rule is the permit or forbid meant, if any.
	Rule    string
	Message string
	// Detail lists why, e.g. "/instructedAmount/amount: rar.above_max". It may
	// tell of the token's content: for PEP and log only.
	Detail []string
}

// Met says which credential met a requirement of the allowing permit.
type Met struct {
	Kind         Kind
	CredentialID string
}

// Status is SEP-2643's remediation.
type Status string

// The three values of remediation (SEP-2643, "The envelope").
const (
	Available   Status = "available"
	Unavailable Status = "unavailable"
	Undisclosed Status = "undisclosed"
)

// Remediation is what a client may do about a deny.
type Remediation struct {
	Status Status
	// ContextID is the opaque correlation handle of this denial.
	ContextID string
	// Remedies are needed together; with Status Available they are offered as
	// hints, with Undisclosed they only feed the words of the denial.
	Remedies []Remedy
	// InWords: the remedies may be told, though not as hints, because this client
	// can act on none of them (contract, step 8).
	InWords bool
}

// Remedy is one thing to obtain.
type Remedy struct {
	Kind Kind
	// Scopes to hold (KindScopes; with KindToken the scopes to ask for).
	Scopes []string
	// Details are the authorization_details to hold, in request form.
	Details []rar.Value
	// SingleUse: a credential for Details serves one call.
	SingleUse bool
	// ACRValues and MaxAge (seconds, -1 = not asked) are RFC 9470's.
	ACRValues []string
	MaxAge    int64
	// TokenPresented tells an invalid token (true) from an absent one.
	TokenPresented bool
	// Reference is the authorization_reference of Details, empty if there is none
	// (rar.Types.References); PreviousReferences are what earlier keys made of
	// the same, for a PEP that keeps credentials by reference.
	Reference          string
	PreviousReferences []string
	// Held: the presented credential already meets this; it is named because the
	// next token must hold everything the call needs.
	Held bool
	// Approval members, see requirement kind approval.
	Approval *ApprovalRemedy
}

// ApprovalRemedy describes an approval that would be needed.
type ApprovalRemedy struct {
	Workflow string
	// BySubject: the subject decides at a URL; otherwise it is out of band.
	BySubject bool
	Title     string
}
