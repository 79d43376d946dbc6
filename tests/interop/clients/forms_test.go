package clients_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The words that a caller can recognize wherever they surface.
const (
	wordsOfDenial = "This payment needs your consent."
	detailsAsked  = `{"authorization_details":[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"12000.50"}}]}`
	envelopeKey   = "io.modelcontextprotocol/authorization"
	// rpcDenied is the code of authzd's JSON-RPC denials.
	rpcDenied = -31403
)

// Names of forms; withError is a JSON-RPC error in the body.
const (
	formResult      = "details 200 tool result"
	formError       = "details 200 error"
	form401         = "details 401"
	form401Held     = "details 401, scopes held"
	form401DPoP     = "details 401, DPoP"
	form403         = "details 403"
	formScope       = "scope 403"
	formScopeAll    = "scope 403, all scopes"
	formScopeFutile = "scope 403, again"
	formScopeVaries = "scope 403, header varies"
	formStepUp      = "step-up 401"
	formProof       = "proof 401, DPoP"
	withError       = " +error"
)

// body says what stands under a challenge.
type body string

const (
	bodyNone   body = "none"
	bodyError  body = "error"  // a JSON-RPC error with the envelope in data
	bodyResult body = "result" // the CallToolResult of SEP-2643 case 3
	bodyText   body = "text"
)

// form is one way to say a denial.
type form struct {
	name   string
	status int
	scheme string // empty: no challenge
	params []string
	// metadata adds resource_metadata to the challenge.
	metadata bool
	body     body
	// lacks is what would satisfy the call: "details", "scope", "never", or
	// "patience", with which the challenge differs each time and the call is let
	// through in the end, so that a client that would go on for ever comes back.
	lacks string
}

// patience is how often a call is denied that lacks it.
const patience = 12

func (f form) satisfied(held grant, calls int) bool {
	switch f.lacks {
	case "details":
		return held.Details != ""
	case "scope":
		return slices.Contains(strings.Fields(held.Scope), neededScopes)
	case "patience":
		return calls > patience
	default:
		return false
	}
}

// write sends the denial.
func (f form) write(rw http.ResponseWriter, base string, id json.RawMessage, calls int) {
	rw.Header().Set("Cache-Control", "no-store")
	if f.scheme != "" {
		params := slices.Clone(f.params)
		if f.lacks == "patience" {
			params = append(params, fmt.Sprintf(`decision="%d"`, calls))
		}
		if f.metadata {
			params = append(params, fmt.Sprintf("resource_metadata=%q", base+"/.well-known/oauth-protected-resource/mcp"))
		}
		rw.Header().Set("WWW-Authenticate", f.scheme+" "+strings.Join(params, ", "))
	}
	switch f.body {
	case bodyError:
		writeJSON(rw, f.status, map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{
			"code": rpcDenied, "message": wordsOfDenial, "data": map[string]any{"_meta": envelope()},
		}})
	case bodyResult:
		writeJSON(rw, f.status, map[string]any{"jsonrpc": "2.0", "id": id, "result": map[string]any{
			"resultType": "complete",
			"isError":    true,
			"content":    []any{map[string]any{"type": "text", "text": wordsOfDenial}},
			"_meta":      envelope(),
		}})
	case bodyText:
		rw.Header().Set("Content-Type", "text/plain")
		rw.WriteHeader(f.status)
		_, _ = fmt.Fprint(rw, wordsOfDenial)
	default:
		rw.WriteHeader(f.status)
	}
}

// envelope is that of SEP-2643 section 1, with the hint of case 3.
func envelope() map[string]any {
	var hint map[string]any
	_ = json.Unmarshal([]byte(detailsAsked), &hint)
	hint["type"] = "authorization_remediation"
	return map[string]any{envelopeKey: map[string]any{
		"reason": "insufficient_authorization", "remediation": "available", "remediationHints": []any{hint},
	}}
}

func detailsParams(more ...string) []string {
	return append([]string{
		`error="insufficient_authorization"`,
		fmt.Sprintf(`error_description=%q`, wordsOfDenial),
		fmt.Sprintf(`authorization_remediation=%q`, base64.RawURLEncoding.EncodeToString([]byte(detailsAsked))),
	}, more...)
}

// forms lists every form that is tried.
func forms() []form {
	const (
		b  = "Bearer"
		no = http.StatusUnauthorized
	)
	details := detailsParams()
	needed := scopeParams(neededScopes)
	stepUp := []string{`error="insufficient_user_authentication"`, `acr_values="phr"`, `max_age="300"`}
	dpop := []string{`error="invalid_token"`, `algs="ES256"`}
	return []form{
		{formResult, http.StatusOK, "", nil, false, bodyResult, "details"},
		{formError, http.StatusOK, "", nil, false, bodyError, "details"},
		{form401, no, b, details, true, bodyNone, "details"},
		{form401 + " unlocated", no, b, details, false, bodyNone, "details"},
		{form401 + " +text", no, b, details, true, bodyText, "details"},
		{form401 + " +result", no, b, details, true, bodyResult, "details"},
		{form401 + withError, no, b, details, true, bodyError, "details"},
		{form401Held + withError, no, b, detailsParams("scope=" + strconv.Quote(heldScopes)), true, bodyError, "details"},
		{form401DPoP + withError, no, "DPoP", detailsParams(`algs="ES256"`), true, bodyError, "details"},
		{form403, http.StatusForbidden, b, details, true, bodyNone, "details"},
		{form403 + withError, http.StatusForbidden, b, details, true, bodyError, "details"},
		{formScope, http.StatusForbidden, b, needed, true, bodyNone, "scope"},
		{formScope + " unlocated", http.StatusForbidden, b, needed, false, bodyNone, "scope"},
		{formScope + withError, http.StatusForbidden, b, needed, true, bodyError, "scope"},
		{formScopeAll + withError, http.StatusForbidden, b, scopeParams(heldScopes + " " + neededScopes), true, bodyError, "scope"},
		{formScopeFutile + withError, http.StatusForbidden, b, needed, true, bodyError, "never"},
		{formScopeVaries + withError, http.StatusForbidden, b, needed, true, bodyError, "patience"},
		{formStepUp, no, b, stepUp, true, bodyNone, "never"},
		{formStepUp + withError, no, b, stepUp, true, bodyError, "never"},
		{formProof + withError, no, "DPoP", dpop, true, bodyError, "never"},
	}
}

func scopeParams(scope string) []string {
	return []string{`error="insufficient_scope"`, "error_description=" + strconv.Quote(wordsOfDenial), "scope=" + strconv.Quote(scope)}
}
