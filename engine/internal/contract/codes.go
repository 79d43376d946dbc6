package contract

// The codes of findings. They are API: listed in docs/errors.md, never reused.
const (
	CodeUnboundedIteration  = "engine.unbounded_iteration"
	CodeOneOfMany           = "engine.one_of_many"
	CodeMixedComparison     = "engine.mixed_comparison"
	CodeStringOrder         = "engine.string_order"
	CodeForbidUndefined     = "engine.forbid_may_be_undefined"
	CodeNegationUndefined   = "engine.negation_may_be_undefined"
	CodeUndeclaredPath      = "engine.undeclared_path"
	CodeWithNotAllowed      = "engine.with_not_allowed"
	CodeDefaultPermit       = "engine.default_permit"
	CodeDocumentInPieces    = "engine.document_in_pieces"
	CodeEntrypointShadowed  = "engine.entrypoint_shadowed"
	CodeReservedPackage     = "engine.reserved_root"
	CodeBuiltinNotAllowed   = "engine.builtin_not_allowed"
	CodeStaticMalformed     = "engine.static_malformed_output"
	CodePolicyCompile       = "engine.policy_compile"
	CodeReservedData        = "bundle.reserved_root"
	CodeDataConflict        = "bundle.data_conflict"
	CodeMissingData         = "bundle.missing_data"
	CodeDataNotArray        = "bundle.data_not_array"
	CodeDataInvalid         = "bundle.data_invalid"
	CodeOptionalDataInvalid = "bundle.optional_data_invalid"
)

// Code is a code of this package and its meaning in one line.
type Code struct{ Name, Meaning string }

// Codes lists every code that Check can return.
func Codes() []Code {
	return []Code{
		{CodeUnboundedIteration, "a permit iterates over something a caller chooses, so one harmless member of many could grant it; or a forbid that such a member could take away"},
		{CodeOneOfMany, "a permit looks at one member of a list that may have more"},
		{CodeMixedComparison, "a comparison by <, <=, > or >= of values that may be of different kinds, which Rego orders all the same; or to_number of what may be null"},
		{CodeStringOrder, "a comparison of strings, whose order is that of their code points"},
		{CodeForbidUndefined, "a forbid reads input that may be missing, so it could vanish"},
		{CodeNegationUndefined, "a permit reads input that may be missing where undefined counts as a yes: under not, in a comprehension, in a default or an else"},
		{CodeUndeclaredPath, "a path below the arguments that no declared tool has"},
		{CodeWithNotAllowed, "a rule that decides replaces input, data or a function by with"},
		{CodeDefaultPermit, "a default that grants when nothing else is defined"},
		{CodeDocumentInPieces, "one permit or forbid is put together from several rules, of which one may be undefined"},
		{CodeEntrypointShadowed, "permit, forbid, allow or deny of the entry point is defined outside its package"},
		{CodeReservedPackage, "a module's package lies under a reserved root"},
		{CodeBuiltinNotAllowed, "a builtin function that policy may not use"},
		{CodeStaticMalformed, "policy output that can be seen to be malformed, which denies"},
		{CodePolicyCompile, "names in the policy cannot be resolved"},
		{CodeReservedData, "base data lies under a reserved root"},
		{CodeDataConflict, "base data lies where policy defines a rule or where the entry point is"},
		{CodeMissingData, "data that the policy reads is missing or null"},
		{CodeDataNotArray, "data on the right of in is not an array"},
		{CodeDataInvalid, "base data is not an object"},
		{CodeOptionalDataInvalid, "an entry of optional_data is not the path of a document"},
	}
}
