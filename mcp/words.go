package mcp

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDetailsWords bounds the authorization_details that a text repeats.
const maxDetailsWords = 1000

// Words composes the text of a denial from its remedies, in plain English, for
// a person or a model to act on: use it where policy gives no message. It tells
// no more than the remedies do, and nothing of them unless policy lets them be
// told. The URL of a page is not repeated: a client opens it only after it has
// shown it to its user.
func Words(d Denial) string {
	subject := "This call"
	if d.Request.ToolName != "" {
		subject = "The call of " + quoted(d.Request.ToolName)
	}
	switch {
	case d.Remediation == Unavailable:
		return subject + " is not allowed. Nothing was done. Calling again will not help."
	case d.Remediation != Available || len(d.Remedies) == 0:
		return subject + " is not allowed. Nothing was done."
	}
	kinds := Actionable(d.Transport, d.ProtocolVersion, d.Request.Method, d.ClientCapabilities)
	var credentials, approvals []string
	var missing []string // kinds of credential that are needed together
	for _, r := range d.Remedies {
		switch phrase := needWords(r); {
		case phrase == "":
		case isCredential(r):
			credentials = append(credentials, phrase)
			missing = append(missing, kindOf(r))
		default:
			approvals = append(approvals, phrase+approvalAdvice(r, kinds))
		}
	}
	var b strings.Builder
	b.WriteString(subject + " is not allowed yet. Nothing was done.")
	if len(credentials) > 0 {
		b.WriteString(" It needs an access token " + list(credentials, "and") + ".")
		if !kinds.HasAll(missing...) {
			b.WriteString(" This connection has no way to ask for such a token: get one by the means this client was set up with.")
		}
	}
	joint := "or"
	if d.AllNeeded {
		joint = "and"
	}
	if len(approvals) > 0 {
		also := " It needs "
		switch {
		case len(credentials) > 0 && d.AllNeeded:
			also = " It also needs "
		case len(credentials) > 0:
			also = " Or it needs "
		}
		b.WriteString(also + list(approvals, joint) + ".")
	}
	if len(credentials)+len(approvals) > 0 {
		b.WriteString(" Then call again.")
	}
	return b.String()
}

// needWords completes "an access token …" for a credential kind, "It needs …"
// for an approval.
func needWords(r Remedy) string {
	switch r := r.(type) {
	case ScopesRemedy:
		return scopeWords(r.Scopes)
	case AuthorizationDetailsRemedy:
		return detailsWords(r.AuthorizationDetails.AppendJSON(nil), r.SingleUse)
	case TxnChallengeRemedy:
		return detailsWords(r.AuthorizationDetails.AppendJSON(nil), true)
	case AuthenticationRemedy:
		return authenticationWords(r)
	case ProofOfPossessionRemedy:
		return "that is bound to a key of the client, sent with proof of that key (DPoP)"
	case TokenRemedy:
		return tokenWords(r)
	case URLRemedy:
		return "the user's approval on a page in the browser"
	case OutOfBandRemedy:
		return "an approval that is given elsewhere"
	default:
		return ""
	}
}

func scopeWords(scopes []string) string {
	switch len(scopes) {
	case 0:
		return "with further scopes"
	case 1:
		return "with the scope " + quoted(scopes[0])
	default:
		names := make([]string, len(scopes))
		for i, s := range scopes {
			names[i] = quoted(s)
		}
		return "with the scopes " + list(names, "and")
	}
}

func detailsWords(details []byte, singleUse bool) string {
	phrase := "with authorization_details for this operation"
	if singleUse {
		phrase += " alone"
	}
	if len(details) == 0 || len(details) > maxDetailsWords {
		return phrase
	}
	return phrase + ": " + string(details)
}

func authenticationWords(r AuthenticationRemedy) string {
	var parts []string
	if len(r.ACRValues) > 0 {
		values := make([]string, len(r.ACRValues))
		for i, v := range r.ACRValues {
			values[i] = quoted(v)
		}
		parts = append(parts, "at the authentication level "+list(values, "or"))
	}
	switch {
	case r.MaxAge == nil:
	case *r.MaxAge == 0:
		parts = append(parts, "made just now")
	default:
		parts = append(parts, "no older than "+duration(*r.MaxAge))
	}
	if len(parts) == 0 {
		return "from a new sign-in of the user"
	}
	return "from a sign-in of the user " + strings.Join(parts, ", ")
}

func tokenWords(r TokenRemedy) string {
	phrase := "for this server, and none was sent"
	if r.State == TokenInvalid {
		phrase = "that is valid for this server, and the one that was sent is not"
	}
	if len(r.Scopes) > 0 {
		phrase = scopeWords(r.Scopes) + " " + phrase
	}
	return phrase
}

func approvalAdvice(r Remedy, kinds Kinds) string {
	if kinds.Has(kindOf(r)) {
		return ""
	}
	switch r.(type) {
	case URLRemedy:
		return " (this client has not declared that it can open pages)"
	case OutOfBandRemedy:
		return " (this client has not declared that it can wait for tasks)"
	default:
		return ""
	}
}

// kindOf gives the kind that must be actionable for r; "" for a remedy that
// needs nothing but HTTP, which no set has.
func kindOf(r Remedy) string {
	switch r.(type) {
	case ScopesRemedy:
		return KindScopes
	case AuthorizationDetailsRemedy, TxnChallengeRemedy:
		return KindAuthorizationDetails
	case AuthenticationRemedy:
		return KindAuthentication
	case ProofOfPossessionRemedy:
		return KindProofOfPossession
	case TokenRemedy: // Like scopes, it can be asked for by a challenge only.
		return KindScopes
	case URLRemedy:
		return KindURL
	case OutOfBandRemedy:
		return KindOutOfBand
	default:
		return ""
	}
}

func duration(seconds int64) string {
	switch {
	case seconds%3600 == 0:
		return plural(seconds/3600, "hour")
	case seconds%60 == 0:
		return plural(seconds/60, "minute")
	default:
		return plural(seconds, "second")
	}
}

func plural(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.FormatInt(n, 10) + " " + unit + "s"
}

// list joins items as a sentence does: "a", "a and b", "a, b, and c".
func list(items []string, word string) string {
	switch len(items) {
	case 0:
		return ""
	case 1:
		return items[0]
	case 2:
		return items[0] + " " + word + " " + items[1]
	default:
		return strings.Join(items[:len(items)-1], ", ") + ", " + word + " " + items[len(items)-1]
	}
}

// quoted shows a name that the caller chose, so that it cannot pass for a
// sentence of ours.
func quoted(s string) string {
	const longest = 100
	if runes := []rune(s); len(runes) > longest {
		s = string(runes[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
