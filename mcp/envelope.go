package mcp

import (
	"fmt"
	"strings"

	"github.com/authzd/authzd/rar"
)

const (
	reasonInsufficient = "insufficient_authorization"

	hintURL        = "url"
	hintTask       = "task"
	hintCredential = "authorization_remediation"

	maxHandle = 256
)

// ValidateEnvelope checks a denial envelope against SEP-2643: use it on one that
// came from elsewhere before acting on it, or on one's own before sending it.
// Unknown reasons, unknown members and hints of unknown types pass, because
// readers must ignore them; a known hint with members that it does not define
// does not, because they could tell what needs authorization to read. The error
// is an *Error with CodeEnvelopeInvalid.
func ValidateEnvelope(envelope rar.Value) error {
	if envelope.Kind() != rar.Object {
		return fail(CodeEnvelopeInvalid, "", "envelope is not an object")
	}
	if reason, _ := text(envelope, "reason"); reason == "" {
		return fail(CodeEnvelopeInvalid, "/reason", "reason is required")
	}
	remediation, ok := text(envelope, "remediation")
	if !ok {
		return fail(CodeEnvelopeInvalid, "/remediation", "remediation is required")
	}
	switch Remediation(remediation) {
	case Available, Unavailable, Undisclosed:
	default:
		return fail(CodeEnvelopeInvalid, "/remediation", "remediation value")
	}
	if _, present := envelope.Get("authorizationContextId"); present {
		if handle, _ := text(envelope, "authorizationContextId"); !isHandle(handle) {
			return fail(CodeEnvelopeInvalid, "/authorizationContextId", "handle is not opaque")
		}
	}
	hints, present := envelope.Get("remediationHints")
	switch {
	case !present:
		return nil
	case Remediation(remediation) != Available:
		return fail(CodeEnvelopeInvalid, "/remediationHints", "hints forbidden")
	case hints.Kind() != rar.Array:
		return fail(CodeEnvelopeInvalid, "/remediationHints", "hints are not an array")
	}
	for i := range hints.Len() {
		if err := validateHint(hints.Index(i), fmt.Sprintf("/remediationHints/%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func validateHint(hint rar.Value, path string) error {
	kind, _ := text(hint, "type")
	switch kind {
	case "":
		return fail(CodeEnvelopeInvalid, path, "hint type is required")
	case hintURL, hintTask:
		if hint.Len() != 1 {
			return fail(CodeEnvelopeInvalid, path, "hint discloses")
		}
		return nil
	case hintCredential:
		return validateCredentialHint(hint, path)
	default:
		return nil
	}
}

func validateCredentialHint(hint rar.Value, path string) error {
	details, present := hint.Get("authorization_details")
	if !present {
		return fail(CodeEnvelopeInvalid, path, "authorization_details is required")
	}
	if err := checkDetails(details, path+"/authorization_details"); err != nil {
		return fail(CodeEnvelopeInvalid, path+"/authorization_details", "authorization_details is not a list of typed objects")
	}
	want := 2
	if _, present := hint.Get("authorization_reference"); present {
		if reference, _ := text(hint, "authorization_reference"); reference == "" {
			return fail(CodeEnvelopeInvalid, path+"/authorization_reference", "authorization_reference is not a string")
		}
		want++
	}
	if hint.Len() != want {
		return fail(CodeEnvelopeInvalid, path, "hint discloses")
	}
	return nil
}

// isHandle: what looks like a random value. Separators of paths, names and
// addresses are signs of a handle that tells something; that a word is not
// random cannot be seen.
func isHandle(s string) bool {
	return s != "" && len(s) <= maxHandle && strings.Trim(s, base64urlAlphabet+".~+=") == ""
}
