package bundles

import "fmt"

// Code names a fault of a bundle. Codes are API: listed in docs/errors.md,
// never reused for another meaning.
type Code string

// Codes of Open, OpenArchive, OpenFS and RunTests.
const (
	// CodeUnreadable is a file, folder or archive that cannot be read: absent,
	// not permitted, or not a gzip-compressed tar file.
	CodeUnreadable Code = "bundle.unreadable"
	// CodeTooLarge is a bundle beyond one of the Limits.
	CodeTooLarge Code = "bundle.too_large"
	// CodeUnsafePath is a name that is absolute, climbs, is not UTF-8, or would
	// mean different files to different readers.
	CodeUnsafePath Code = "bundle.unsafe_path"
	// CodeUnsafeEntry is a link that leads out of the folder or to a folder, any
	// link in an archive, a device, a pipe or a socket.
	CodeUnsafeEntry Code = "bundle.unsafe_entry"
	// CodeDuplicateFile is an archive that holds one name twice.
	CodeDuplicateFile Code = "bundle.duplicate_file"
	// CodeUnknownFile is a file that has no place in a bundle.
	CodeUnknownFile Code = "bundle.unknown_file"
	// CodeUnsupported is something OPA knows and authzd does not take: compiled
	// policy, Rego v0, a delta bundle where a whole one is needed.
	CodeUnsupported Code = "bundle.unsupported"
	// CodeManifestInvalid is a .manifest that does not decode strictly.
	CodeManifestInvalid Code = "bundle.manifest_invalid"
	// CodeDataInvalid is a data file that does not decode strictly.
	CodeDataInvalid Code = "bundle.data_invalid"
	// CodeDataConflict is a key that two data files define.
	CodeDataConflict Code = "bundle.data_conflict"
	// CodeEmpty is a bundle with neither Rego nor data.
	CodeEmpty Code = "bundle.empty"
	// CodeTestInvalid is a Rego test file that does not parse or compile.
	CodeTestInvalid Code = "bundle.test_invalid"
	// CodeCaseInvalid is a file of decision cases that does not decode strictly,
	// or a case that cannot be made.
	CodeCaseInvalid Code = "bundle.case_invalid"
)

// Codes of pushing, activating and rolling back (package bundles/registry).
const (
	// CodePushUnavailable is a server that takes no pushed bundles.
	CodePushUnavailable Code = "bundle.push_unavailable"
	// CodeNameInvalid is a name that is none.
	CodeNameInvalid Code = "bundle.name_invalid"
	// CodeNameLocal is the name of a bundle that the operator gives by --bundle.
	CodeNameLocal Code = "bundle.name_local"
	// CodeNameOther is a bundle that is made for another name.
	CodeNameOther Code = "bundle.name_other"
	// CodePolicyRefused is policy that does not compile; the report says why.
	CodePolicyRefused Code = "bundle.policy_refused"
	// CodeTestFailed is a Rego test or decision case of the bundle that fails.
	CodeTestFailed Code = "bundle.test_failed"
	// CodeStaleRevision is a sequence lower than that of the active bundle.
	CodeStaleRevision Code = "bundle.stale_revision"
	// CodeNotFound is a bundle or a revision that is not there, or no longer.
	CodeNotFound Code = "bundle.not_found"
	// CodeNotStaged is a bundle that was rejected, or whose archive is no longer
	// kept.
	CodeNotStaged Code = "bundle.not_staged"
	// CodeNamesFull is a bundle under one name too many.
	CodeNamesFull Code = "bundle.names_full"
)

// Codes of changing data.
const (
	// CodeDeltaInvalid is a delta bundle, or a change, that does not decode strictly.
	CodeDeltaInvalid Code = "bundle.delta_invalid"
	// CodeDeltaStale is a delta bundle that changes another archive than the active one,
	// or that comes out of order.
	CodeDeltaStale Code = "bundle.delta_stale"
	// CodeNotWritable is data that changes with a signature only.
	CodeNotWritable Code = "bundle.not_writable"
	// CodeDataNotFound is a document that is not there.
	CodeDataNotFound Code = "bundle.data_not_found"
	// CodeDataChanged is a document that is not what the caller expects.
	CodeDataChanged Code = "bundle.data_changed"
	// CodeBusy is a change too many at a time.
	CodeBusy Code = "bundle.busy"
	// CodeChangesFull is a change too many since the bundle was released.
	CodeChangesFull Code = "bundle.changes_full"
	// CodeChangesLost is an activation that would leave changes of data behind.
	CodeChangesLost Code = "bundle.changes_lost"
	// CodeFollowed is a change of data that another server has the word about.
	CodeFollowed Code = "bundle.followed"
)

// Codes of following another server (package bundles/follow).
const (
	// CodeNotReceived is a followed bundle that has not come yet.
	CodeNotReceived Code = "bundle.not_received"
	// CodeOutdated is a source that has not been heard of for too long.
	CodeOutdated Code = "bundle.outdated"
)

// Codes of OpenSigned, and of keys and signing.
const (
	// CodeKeyInvalid is a file of keys that can not be used.
	CodeKeyInvalid Code = "bundle.key_invalid"
	// CodeSignatureMissing is a bundle without a signature where one is needed.
	CodeSignatureMissing Code = "bundle.signature_missing"
	// CodeSignatureMisplaced is .signatures.json anywhere but at the root, or
	// spelt in another case.
	CodeSignatureMisplaced Code = "bundle.signature_misplaced"
	// CodeSignatureRepeated is more than one signature.
	CodeSignatureRepeated Code = "bundle.signature_repeated"
	// CodeSignatureInvalid is a signature that is malformed, was made with
	// another key, or over something else.
	CodeSignatureInvalid Code = "bundle.signature_invalid"
	// CodeSignatureAlgorithm is a signature by an algorithm that is not one of
	// the key's: none and HMAC among them.
	CodeSignatureAlgorithm Code = "bundle.signature_algorithm"
	// CodeKeyUnknown is a signature that names a key that is not among ours.
	CodeKeyUnknown Code = "bundle.key_unknown"
	// CodeSignatureScope is a signature for another scope.
	CodeSignatureScope Code = "bundle.signature_scope"
	// CodeSignatureFilesInvalid is a signature whose list of files is malformed.
	CodeSignatureFilesInvalid Code = "bundle.signature_files_invalid"
	// CodeHashAlgorithm is a file that was signed by a hash that is too weak.
	CodeHashAlgorithm Code = "bundle.hash_algorithm"
	// CodeFileRepeated is a file that the signature lists twice.
	CodeFileRepeated Code = "bundle.file_repeated"
	// CodeFileUnlisted is a file that the signature does not list.
	CodeFileUnlisted Code = "bundle.file_unlisted"
	// CodeFileMissing is a file that is only listed.
	CodeFileMissing Code = "bundle.file_missing"
	// CodeFileChanged is a file that is not the one that was signed.
	CodeFileChanged Code = "bundle.file_changed"
)

// Codes returns every code that this package declares. It exists for the tests
// that hold documentation and error tables against the code.
func Codes() []Code {
	return []Code{
		CodeUnreadable, CodeTooLarge, CodeUnsafePath, CodeUnsafeEntry, CodeDuplicateFile, CodeUnknownFile,
		CodeUnsupported, CodeManifestInvalid, CodeDataInvalid, CodeDataConflict, CodeEmpty, CodeTestInvalid, CodeCaseInvalid,
		CodePushUnavailable, CodeNameInvalid, CodeNameLocal, CodeNameOther, CodePolicyRefused, CodeTestFailed, CodeStaleRevision, CodeNotFound, CodeNotStaged, CodeNamesFull,
		CodeDeltaInvalid, CodeDeltaStale, CodeNotWritable, CodeDataNotFound, CodeDataChanged, CodeBusy, CodeChangesFull, CodeChangesLost, CodeFollowed,
		CodeNotReceived, CodeOutdated,
		CodeKeyInvalid, CodeSignatureMissing, CodeSignatureMisplaced, CodeSignatureRepeated, CodeSignatureInvalid,
		CodeSignatureAlgorithm, CodeKeyUnknown, CodeSignatureScope, CodeSignatureFilesInvalid, CodeHashAlgorithm,
		CodeFileRepeated, CodeFileUnlisted, CodeFileMissing, CodeFileChanged,
	}
}

// Error is the only error type of this package. Match its Code, never its text.
type Error struct {
	Code Code
	// Path is the file within the bundle; for faults inside a JSON or YAML file
	// followed by "#" and a JSON Pointer.
	Path string
	Err  error
}

// Error formats place, code and cause.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }

func errorf(code Code, path, format string, args ...any) *Error {
	return &Error{Code: code, Path: path, Err: fmt.Errorf(format, args...)}
}
