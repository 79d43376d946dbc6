package rar

import "strings"

// Code names one kind of fault or one reason of a "not covered". Codes are
// API: they are documented, matched by callers and never reused.
type Code string

// Codes of DecodeStrict and of the parsing functions.
const (
	// CodeSyntax is text that RFC 8259 does not admit, a byte order mark, bytes
	// that are not UTF-8, or half of a surrogate pair.
	CodeSyntax Code = "rar.syntax"
	// CodeTrailingData is anything but white space after the value.
	CodeTrailingData Code = "rar.trailing_data"
	// CodeDuplicateKey is a member name that its object already has.
	CodeDuplicateKey Code = "rar.duplicate_key"
	// CodeCaseVariantKey is a member name that differs from another of its
	// object in case only; see Limits.RejectCaseVariants.
	CodeCaseVariantKey Code = "rar.case_variant_key"
	// CodeTooDeep is nesting beyond Limits.MaxDepth.
	CodeTooDeep Code = "rar.too_deep"
	// CodeTooLarge is text beyond Limits.MaxBytes or an array of more objects
	// than Limits.MaxObjects.
	CodeTooLarge Code = "rar.too_large"
	// CodeNumberOutOfRange is a number with an exponent beyond
	// Limits.MaxExponent.
	CodeNumberOutOfRange Code = "rar.number_out_of_range"
	// CodeNotArray is an authorization_details value that is not an array.
	CodeNotArray Code = "rar.not_array"
	// CodeNotObject is an element of authorization_details that is not an object.
	CodeNotObject Code = "rar.not_object"
	// CodeMissingType is an object without a type, or with one that is no string.
	CodeMissingType Code = "rar.missing_type"
	// CodeUnknownType is an object whose type is not declared.
	CodeUnknownType Code = "rar.unknown_type"
	// CodeUnknownField is a member that the type's schema does not admit.
	CodeUnknownField Code = "rar.unknown_field"
	// CodeWrongType is a value of a JSON type that the schema does not admit.
	CodeWrongType Code = "rar.wrong_type"
	// CodeInvalidValue is a value of the right JSON type that the schema refuses.
	CodeInvalidValue Code = "rar.invalid_value"
	// CodeMissingField is the absence of a member that the schema requires.
	CodeMissingField Code = "rar.missing_field"
)

// Codes of CompileTypes and of the faults of Covers.
const (
	// CodeInvalidType is a fault in a type declaration.
	CodeInvalidType Code = "rar.invalid_type"
	// CodeInvalidRequired is a required object that its type's schema refuses.
	CodeInvalidRequired Code = "rar.invalid_required"
	// CodeTooComplex is a comparison that would take more work than is allowed.
	CodeTooComplex Code = "rar.too_complex"
)

// Codes of Apply.
const (
	// CodeNotFound is the path of an edit at which there is nothing.
	CodeNotFound Code = "rar.not_found"
	// CodeInvalidEdit is an edit that means nothing: without operation or value, of a
	// path that is not UTF-8, or the removal of everything.
	CodeInvalidEdit Code = "rar.invalid_edit"
)

// Codes of Reason, in the order of the tables in the contract.
const (
	// CodeOpenInRequired is a field that the grant limits and the need does not.
	CodeOpenInRequired Code = "rar.open_in_required"
	// CodeMissingInGranted is a field of the need on which the grant is silent.
	CodeMissingInGranted Code = "rar.missing_in_granted"
	// CodeNotEqual is a value that differs under the rule equal.
	CodeNotEqual Code = "rar.not_equal"
	// CodeTypeMismatch is a pair of values whose JSON kinds the rule can not compare.
	CodeTypeMismatch Code = "rar.type_mismatch"
	// CodeNotSubset is an element of the need that the grant does not have.
	CodeNotSubset Code = "rar.not_subset"
	// CodeRequiredEmpty is an empty need: no objects, or an empty set of values.
	CodeRequiredEmpty Code = "rar.required_empty"
	// CodeAboveMax is a number above the granted one under the rule max.
	CodeAboveMax Code = "rar.above_max"
	// CodeBelowMin is a number below the granted one under the rule min.
	CodeBelowMin Code = "rar.below_min"
	// CodeNotANumber is a value under max or min that is no plain decimal.
	CodeNotANumber Code = "rar.not_a_number"
	// CodeNotPrefix is a path outside the granted ones.
	CodeNotPrefix Code = "rar.not_prefix"
	// CodeUnsafePath is a path whose meaning a server may change by normalising it.
	CodeUnsafePath Code = "rar.unsafe_path"
	// CodeNoGlobMatch is a value that no granted pattern matches.
	CodeNoGlobMatch Code = "rar.no_glob_match"
	// CodePatternInRequired is a need that holds a pattern of its own.
	CodePatternInRequired Code = "rar.pattern_in_required"
	// CodeGrantedInvalid says that every granted object of the type fails its schema.
	CodeGrantedInvalid Code = "rar.granted_invalid"
	// CodeNoGrantedType says that no granted object has the type.
	CodeNoGrantedType Code = "rar.no_granted_type"
	// CodeGrantedUsedUp says that each granted object that would cover this
	// single-use need serves another one already.
	CodeGrantedUsedUp Code = "rar.granted_used_up"
)

// Codes returns every code that this package declares. It exists for the test
// that holds the documentation against the code.
func Codes() []Code {
	return append(inputCodes(),
		CodeInvalidType, CodeInvalidRequired, CodeTooComplex, CodeNotFound, CodeInvalidEdit,
		CodeOpenInRequired, CodeMissingInGranted, CodeNotEqual, CodeTypeMismatch,
		CodeNotSubset, CodeRequiredEmpty, CodeAboveMax, CodeBelowMin, CodeNotANumber,
		CodeNotPrefix, CodeUnsafePath, CodeNoGlobMatch, CodePatternInRequired,
		CodeGrantedInvalid, CodeNoGrantedType, CodeGrantedUsedUp)
}

// inputCodes are the codes of unacceptable authorization_details.
func inputCodes() []Code {
	return []Code{
		CodeSyntax, CodeTrailingData, CodeDuplicateKey, CodeCaseVariantKey,
		CodeTooDeep, CodeTooLarge, CodeNumberOutOfRange, CodeNotArray, CodeNotObject,
		CodeMissingType, CodeUnknownType, CodeUnknownField, CodeWrongType,
		CodeInvalidValue, CodeMissingField,
	}
}

// OAuthError returns the OAuth error that stands for the code where OAuth is
// spoken: invalid_authorization_details (RFC 9396 §5) for unacceptable
// authorization_details, "" for every other code.
func (c Code) OAuthError() string {
	for _, in := range inputCodes() {
		if c == in {
			return "invalid_authorization_details"
		}
	}
	return ""
}

// Error is the only error type of this package. Match its Code, never its text.
type Error struct {
	// Code says what is wrong.
	Code Code
	// Path is a JSON Pointer (RFC 6901) into the offending document.
	Path string
	// Err says more; it may quote the input, so it is for logs, not for clients
	// that did not send that input.
	Err error
}

// Error returns code, place and cause on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Path != "" {
		b.WriteString(" at ")
		b.WriteString(e.Path)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }
