package engine

import (
	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/engine/internal/lint"
)

// Codes lists every code this package can report, those of the contract's
// static rules included, for the error table of package
// api and for docs/errors.md.
func Codes() []Code {
	codes := []Code{
		CodeNotReady,
		CodeCancelled,
		CodeDeadline,
		CodeEmptyQuery,
		CodeMissingMember,
		CodeInvalidValue,
		CodeWrongType,
		CodeMCPMissing,
		CodeMCPMismatch,
		CodeAgentMismatch,
		CodeSubjectAmbiguous,
		CodeSubjectUnverified,
		CodeToolUnknown,
		CodeArgumentsInvalid,
		CodeEvalError,
		CodeBuiltinError,
		CodeConflict,
		CodeAmbiguousPermit,
		CodeAmbiguousForbid,
		CodeMalformedOutput,
		CodeEmptyRequirement,
		CodeUnknownRequirement,
		CodeBudget,
		CodePermitted,
		CodeForbidden,
		CodeNoPermit,
		CodeBlocked,
		CodeBlocksFull,
		CodeBlockNotFound,
		CodeBlocksUnavailable,
		CodeUnmet,
		CodeCommitRequired,
		CodeUseNotRecorded,
		CodeApprovalUnavailable,
		CodeHintDropped,
		CodeNoUsableCredential,
		CodeNoCredential,
		CodeTokenClaims,
		CodeTokenIssuer,
		CodeTokenExpired,
		CodeTokenNotYet,
		CodeTokenAudience,
		CodeTokenSubject,
		CodeTokenProof,
		CodeTokenActors,
		CodeTokenDetails,
		CodeTokenAsserter,
		CodeTokenMalformed,
		CodeTokenAlgorithm,
		CodeTokenWrongKind,
		CodeTokenSignature,
		CodeTokenRevoked,
		CodeIssuerUnavailable,
		CodeBundleContractMissing,
		CodeBundleContractUnsupported,
		CodeBundleMetadata,
		CodeBundleEntrypointMissing,
		CodeBundleEntrypointConflict,
		CodeBundleRootsConflict,
		CodeBundleOutsideRoots,
		CodeBundleRequirementKind,
		CodeBundleToolInvalid,
		CodeBundleTypeInvalid,
		CodeBundleLaxContract,
		CodeBundleIndexInvalid,
		CodeBundleIndexSuggested,
		CodeBundleInterpreted,
		CodePolicySyntax,
		CodePolicyCompile, CodePolicyTooDeep,
	}
	for _, c := range contract.Codes() {
		// Names that cannot be resolved are OPA's to report; both use one code.
		if Code(c.Name) != CodePolicyCompile {
			codes = append(codes, Code(c.Name))
		}
	}
	for _, c := range lint.Codes() {
		codes = append(codes, Code(c.Name))
	}
	return codes
}
