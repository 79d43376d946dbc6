package engine

import "fmt"

// Code names a fault or a reason. Codes are API: listed in docs/errors.md,
// never reused for another meaning.
type Code string

// Error says that no decision was made. Path is a JSON Pointer into the
// query, empty when the query as a whole is meant.
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

func errorf(code Code, path, format string, args ...any) *Error {
	return &Error{Code: code, Path: path, Err: fmt.Errorf(format, args...)}
}

// Codes of queries that get no decision.
const (
	CodeNotReady         Code = "engine.not_ready"
	CodeCancelled        Code = "engine.cancelled"
	CodeDeadline         Code = "engine.deadline"
	CodeEmptyQuery       Code = "request.empty"
	CodeMissingMember    Code = "request.missing_member"
	CodeInvalidValue     Code = "request.invalid_value"
	CodeWrongType        Code = "request.wrong_type"
	CodeMCPMissing       Code = "request.mcp_missing"
	CodeMCPMismatch      Code = "request.mcp_mismatch"
	CodeAgentMismatch    Code = "request.agent_mismatch"
	CodeSubjectAmbiguous Code = "request.subject_ambiguous"
)

// Codes of denies whose cause is the call or the policy, in Decision.Error.
const (
	CodeToolUnknown        Code = "request.tool_unknown"
	CodeArgumentsInvalid   Code = "request.arguments_invalid"
	CodeEvalError          Code = "engine.eval_error"
	CodeBuiltinError       Code = "engine.builtin_error"
	CodeConflict           Code = "engine.conflict"
	CodeAmbiguousPermit    Code = "engine.ambiguous_permit"
	CodeAmbiguousForbid    Code = "engine.ambiguous_forbid"
	CodeMalformedOutput    Code = "engine.malformed_policy_output"
	CodeEmptyRequirement   Code = "engine.empty_requirement"
	CodeUnknownRequirement Code = "requirement.unknown_kind"
	CodeBudget             Code = "engine.budget"
)

// Codes of reasons in Decision.Reasons.
const (
	CodePermitted           Code = "engine.permitted"
	CodeForbidden           Code = "engine.forbidden"
	CodeNoPermit            Code = "engine.no_permit"
	CodeBlocked             Code = "engine.blocked"
	CodeSubjectUnverified   Code = "engine.subject_unverified"
	CodeUnmet               Code = "requirement.unmet"
	CodeCommitRequired      Code = "engine.commit_required"
	CodeUseNotRecorded      Code = "engine.use_not_recorded"
	CodeApprovalUnavailable Code = "approval.not_available"
	CodeHintDropped         Code = "engine.hint_dropped"
	CodeNoUsableCredential  Code = "token.none_usable" //nolint:gosec // a code, not a credential
	CodeNoCredential        Code = "token.absent"
)

// Codes of credentials that are not usable. They go to the PEP and the log,
// never to the MCP client (oauth-context: 401 without saying which check).
const (
	CodeTokenClaims   Code = "token.claims"
	CodeTokenIssuer   Code = "token.issuer"
	CodeTokenExpired  Code = "token.expired"
	CodeTokenNotYet   Code = "token.not_yet"
	CodeTokenAudience Code = "token.audience"
	CodeTokenSubject  Code = "token.subject"
	CodeTokenProof    Code = "token.proof"
	CodeTokenActors   Code = "token.actors"
	CodeTokenDetails  Code = "token.details"
	// CodeTokenAsserter is of claims from a caller that may not assert any.
	CodeTokenAsserter Code = "token.asserter"

	CodeTokenMalformed Code = "token.malformed"
	CodeTokenAlgorithm Code = "token.algorithm" //nolint:gosec // a code, not a credential
	CodeTokenWrongKind Code = "token.wrong_kind"
	CodeTokenSignature Code = "token.signature"
	CodeTokenRevoked   Code = "token.revoked"
	// CodeIssuerUnavailable says nothing of the token: who could tell is away.
	CodeIssuerUnavailable Code = "engine.issuer_unavailable"
)
