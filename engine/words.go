package engine

import "github.com/authzd/authzd/rar"

// word is a name or fixed text of the input document, which evaluators make
// ready once.
type word uint8

// The words. wordTexts has their texts in this order.
const (
	wordSubject word = iota
	wordAction
	wordResource
	wordContext
	wordMCP
	wordCredentials
	wordRejectedCredentials
	wordTenant
	wordNow
	wordType
	wordID
	wordProperties
	wordName
	wordAgent
	wordMethod
	wordParams
	wordArguments
	wordTool
	wordServer
	wordTransport
	wordProtocolVersion
	wordCode
	wordVerifiedBy
	wordIssuer
	wordClientID
	wordSubjectIsClient
	wordAudience
	wordScopes
	wordAuthorizationDetails
	wordActors
	wordMayAct
	wordAuth
	wordTime
	wordACR
	wordAMR
	wordTxn
	wordTokenID
	wordExpiresAt
	wordIssuedAt
	wordBoundBy
	wordClaims
	wordCoaz
	wordMapped
	wordSubjectVerified
	wordToolsCall
	wordCount
)

func wordTexts() [wordCount]string {
	return [wordCount]string{
		"subject", "action", "resource", "context", "mcp", "credentials", "rejected_credentials", "tenant", "now",
		"type", "id", "properties", "name", "agent", "method", "params", "arguments", "tool", "server", "transport", "protocol_version",
		"code", "verified_by", "issuer", "client_id", "subject_is_client", "audience", "scopes", "authorization_details", "actors", "may_act",
		"auth", "time", "acr", "amr", "txn", "token_id", "expires_at", "issued_at", "bound_by", "claims",
		coazMember, "mapped", "subject_verified", methodToolsCall,
	}
}

// builder makes values of an evaluator. V is a value, O an object in the making;
// each change of an object gives the object to go on with.
type builder[V, O any] interface {
	word(w word) V
	text(s string) V
	texts(list []string) V
	boolean(b bool) V
	array(elements []V) V
	// json takes Absent for null; callers leave absent members out.
	json(v rar.Value) V
	object(size int) O
	// set is for members that o does not have yet.
	set(o O, name word, v V) O
	setText(o O, name string, v V) O
	close(o O) V
}
