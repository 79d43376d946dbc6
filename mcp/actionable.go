package mcp

import "github.com/authzd/authzd/rar"

// Names of the kinds in [Kinds]: the requirement kinds of the policy contract,
// with approval split by where it is given.
const (
	KindScopes               = "scopes"
	KindAuthorizationDetails = "authorization_details"
	KindAuthentication       = "authentication"
	KindProofOfPossession    = "proof_of_possession"
	// KindURL is an approval that the subject gives on a page.
	KindURL = "url"
	// KindOutOfBand is an approval that somebody else gives.
	KindOutOfBand = "out_of_band"
)

// Kinds is a set of kinds that a client can act on. The zero value is empty.
type Kinds struct {
	bits kindBits
	// onlyAlone: a credential kind helps only if nothing else is missing.
	onlyAlone bool
}

type kindBits uint8

const (
	bitScopes kindBits = 1 << iota
	bitDetails
	bitAuthentication
	bitProof
	bitURL
	bitOutOfBand

	bitsCredential = bitScopes | bitDetails | bitAuthentication | bitProof
)

func bitOf(kind string) kindBits {
	switch kind {
	case KindScopes:
		return bitScopes
	case KindAuthorizationDetails:
		return bitDetails
	case KindAuthentication:
		return bitAuthentication
	case KindProofOfPossession:
		return bitProof
	case KindURL:
		return bitURL
	case KindOutOfBand:
		return bitOutOfBand
	default:
		return 0
	}
}

// Has reports whether the client can act on kind at all. An unknown kind: no.
func (k Kinds) Has(kind string) bool { return k.bits&bitOf(kind) != 0 }

// HasAll reports whether the client can act on all of kinds when all are
// missing at once. It is stricter than Has for each: over stdio a hint for
// authorization_details promises that a credential for them satisfies the call
// (SEP-2643), which is untrue when something else is missing too.
func (k Kinds) HasAll(kinds ...string) bool {
	var want kindBits
	for _, kind := range kinds {
		bit := bitOf(kind)
		if k.bits&bit == 0 {
			return false
		}
		want |= bit
	}
	return !k.onlyAlone || want&bitsCredential == 0 || want&(want-1) == 0
}

// Actionable tells which kinds of remedy a client can act on, given how it
// asked: transport, MCP revision, JSON-RPC method, and the capabilities of this
// very request (for revisions before 2026-07-28, of initialize). Fill the
// query's set of actionable kinds from it, so that the remedies offered are
// those that [Render] can send. What it does not know it counts as absent.
func Actionable(transport, protocolVersion, method string, caps rar.Value) Kinds {
	rev := revisionOf(protocolVersion)
	var k Kinds
	switch transport {
	case TransportHTTP:
		// A challenge is OAuth, not MCP: neither revision nor method matters.
		k.bits = bitsCredential
	case TransportStdio:
		// SEP-2643 has one hint for credentials, and only in a CallToolResult.
		if rev != revisionUnknown && method == methodToolsCall {
			k.bits, k.onlyAlone = bitDetails, true
		}
	default:
		return Kinds{}
	}
	if takesURL(rev, method, caps) {
		k.bits |= bitURL
	}
	if takesTask(rev, method, caps) {
		k.bits |= bitOutOfBand
	}
	return k
}

// takesURL: "elicitation": {} declares forms only, and the mode came with
// 2025-11-25. Only three methods may answer input_required.
func takesURL(rev revision, method string, caps rar.Value) bool {
	switch method {
	case methodToolsCall, methodResourcesRead, methodPromptsGet:
	default:
		return false
	}
	return rev >= revision2025 && isObjectAt(caps, "elicitation", "url")
}

// takesTask: the tasks capability of 2025-11-25 is another thing and does not
// count (SEP-2663).
func takesTask(rev revision, method string, caps rar.Value) bool {
	return rev >= revision2026 && method == methodToolsCall &&
		isObjectAt(caps, "extensions", tasksExtension)
}
