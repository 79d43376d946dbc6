package mcp

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/authzd/authzd/rar"
)

// Errors of a WWW-Authenticate challenge that this package sends.
const (
	errInvalidToken   = "invalid_token"                      // RFC 6750
	errScope          = "insufficient_scope"                 // RFC 6750
	errAuthorization  = "insufficient_authorization"         // draft-zehavi-06
	errTxn            = "transaction_authorization_required" // draft-rosomakho
	errAuthentication = "insufficient_user_authentication"   // RFC 9470
	schemeBearer      = "Bearer"                             // RFC 6750
	schemeDPoP        = "DPoP"                               // RFC 9449
	maxDescription    = 200                                  // octets
)

type param struct{ name, value string }

// challenge is case 5 of SEP-2643: it says all there is to say in one
// WWW-Authenticate field. It carries no envelope and no handle.
type challenge struct {
	status  int
	scheme  string
	params  []param
	noStore bool
}

// challengeFor puts all credential kinds that are needed into one challenge,
// which can name one error only. What the error does not name rides along where
// a parameter exists for it; the rest is asked for in the next round.
func (r *renderer) challengeFor(n *need, txn bool) *challenge {
	c := &challenge{status: http.StatusUnauthorized, scheme: schemeBearer}
	algs := r.d.Server.DPoPAlgs
	if n.proof != nil || len(algs) > 0 {
		c.scheme = schemeDPoP
	}
	if n.proof != nil && len(n.proof.Algs) > 0 {
		algs = n.proof.Algs
	}
	scopes := n.scopes
	switch {
	case n.token != nil:
		// RFC 6750 section 3.1: no error information for a request without
		// credentials.
		if n.token.State == TokenInvalid {
			c.add("error", errInvalidToken)
		}
	case n.authentication != nil:
		c.add("error", errAuthentication)
		c.add("acr_values", strings.Join(n.authentication.ACRValues, " "))
		if n.authentication.MaxAge != nil {
			c.add("max_age", strconv.FormatInt(*n.authentication.MaxAge, 10))
		}
	case txn:
		c.add("error", errTxn)
		c.add("transaction_challenge", n.txn)
		c.noStore = true
	case len(n.details) > 0:
		c.add("error", errAuthorization)
		c.add("authorization_remediation", base64.RawURLEncoding.EncodeToString(n.remediation().AppendJSON(nil)))
		c.noStore = true
	case n.proof != nil:
		c.add("error", errInvalidToken)
	default:
		c.status = http.StatusForbidden
		c.add("error", errScope)
		scopes = r.scopesFor(n.scopes)
	}
	// A missing scope is asked for alone (scopesFor).
	if r.d.Server.NameHeldScopes && n.token == nil && c.status == http.StatusUnauthorized {
		scopes = union(r.heldScopes(), scopes)
	}
	c.add("scope", strings.Join(scopes, " "))
	if c.scheme == schemeDPoP {
		c.add("algs", strings.Join(algs, " "))
	}
	// The signed challenge names its resource itself.
	if !txn {
		c.add("resource_metadata", r.resourceMetadata)
	}
	return c
}

// scopesFor: a client of 2026-07-28 adds the scopes of a challenge to those it
// had; an older one would lose what is not named again.
func (r *renderer) scopesFor(needed []string) []string {
	if r.rev == revision2026 {
		return needed
	}
	return union(r.heldScopes(), needed)
}

// heldScopes are those of the token that was presented.
func (r *renderer) heldScopes() []string {
	var held []string
	for _, s := range r.d.Request.GrantedScopes {
		if isScope(s) && !slices.Contains(held, s) {
			held = append(held, s)
		}
	}
	return held
}

// remediation is the object that draft-zehavi-06 section 4 puts into the
// challenge, and SEP-2643, with a type, into the hint.
func (n *need) remediation() rar.Value {
	members := []rar.Member{member("authorization_details", rar.ArrayValue(n.details...))}
	if n.reference != "" {
		members = append(members, member("authorization_reference", str(n.reference)))
	}
	return object(members...)
}

// challenge renders n for HTTP if it fits the header limit. The description is
// the first thing to go.
func (r *renderer) challenge(n *need) (Response, bool) {
	if n.txn != "" && n.token == nil && n.authentication == nil && acceptsTxnChallenge(r.d.Request.Headers) {
		if resp, ok := r.send(r.challengeFor(n, true), n); ok {
			return resp, true
		}
	}
	return r.send(r.challengeFor(n, false), n)
}

func (r *renderer) send(c *challenge, n *need) (Response, bool) {
	value := c.encode()
	if described := c.describe(r.description(n)).encode(); len(described) <= r.headerLimit {
		value = described
	}
	if len(value) > r.headerLimit {
		return Response{}, false
	}
	resp := Response{
		Form:        FormChallenge,
		Remediation: Available,
		HTTPStatus:  c.status,
		Headers:     []Header{{Name: "WWW-Authenticate", Value: value}},
	}
	if c.noStore {
		resp.Headers = append(resp.Headers, noStore())
	}
	return resp, true
}

func (r *renderer) description(n *need) string {
	switch {
	case n.token != nil && n.token.State != TokenInvalid:
		return ""
	case n.description != "":
		return describable(n.description)
	default:
		return describable(r.d.Message)
	}
}

func (c *challenge) add(name, value string) {
	if value != "" {
		c.params = append(c.params, param{name, value})
	}
}

// describe gives the challenge with a description as its last parameter. There
// are clients that search the whole field for "scope=" and "resource_metadata=",
// within quotes too, and take what they find first; the description repeats
// names that come from the call (docs/mcp-clients.md).
func (c *challenge) describe(text string) *challenge {
	if text == "" || len(c.params) == 0 || c.params[0].name != "error" {
		return c
	}
	described := *c
	described.params = append(slices.Clone(c.params), param{"error_description", text})
	return &described
}

// encode writes scheme and auth-params (RFC 9110 section 11.6.1), every value
// as a quoted-string. Values are visible ASCII and spaces by then: each add
// above takes text that was checked, encoded or made by this file.
func (c *challenge) encode() string {
	var b strings.Builder
	b.WriteString(c.scheme)
	for i, p := range c.params {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(p.name)
		b.WriteString(`="`)
		for j := range len(p.value) {
			if ch := p.value[j]; ch == '"' || ch == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(p.value[j])
		}
		b.WriteByte('"')
	}
	return b.String()
}

// describable makes text fit error_description, whose characters RFC 6750
// section 3 limits to ASCII without quotation mark and backslash. Typographic
// marks have an ASCII likeness; text in any other script would arrive mangled
// and is left out instead. An equals sign becomes a colon, so that no text reads
// as a parameter (see describe).
func describable(s string) string {
	var b strings.Builder
	for _, ch := range s {
		switch {
		case ch == '"' || ch == '“' || ch == '”' || ch == '‘' || ch == '’':
			b.WriteByte('\'')
		case ch == '–' || ch == '—':
			b.WriteByte('-')
		case ch == '\\':
			b.WriteByte('/')
		case ch == '=':
			b.WriteByte(':')
		case ch < ' ' || ch == '\x7f' || ch == '\u00a0':
			b.WriteByte(' ')
		case ch > '~':
			return ""
		default:
			b.WriteRune(ch)
		}
	}
	text := strings.TrimSpace(b.String())
	if len(text) <= maxDescription {
		return text
	}
	cut := strings.LastIndexByte(text[:maxDescription-len("...")+1], ' ')
	if cut < maxDescription/2 {
		cut = maxDescription - len("...")
	}
	return strings.TrimRight(text[:cut], " .,:;") + "..."
}

// acceptsTxnChallenge reads Accept-Txn-Challenge as an RFC 9651 item: a boolean
// true, its parameters ignored. A list, another type and malformed parameters
// count as absent.
func acceptsTxnChallenge(headers []Header) bool {
	value, found := "", false
	for _, h := range headers {
		if !strings.EqualFold(h.Name, "Accept-Txn-Challenge") {
			continue
		}
		if found { // Two field lines make a list.
			return false
		}
		value, found = h.Value, true
	}
	rest, ok := strings.CutPrefix(strings.Trim(value, " "), "?1")
	return ok && areParameters(rest)
}

// areParameters: *( ";" *SP key [ "=" bare-item ] ) of RFC 9651 section 3.1.2.
func areParameters(s string) bool {
	for s != "" {
		rest, ok := strings.CutPrefix(s, ";")
		if !ok {
			return false
		}
		rest = strings.TrimLeft(rest, " ")
		key := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz0123456789_-.*"))
		if key == 0 || !strings.ContainsAny(rest[:1], "abcdefghijklmnopqrstuvwxyz*") {
			return false
		}
		s = rest[key:]
		if value, found := strings.CutPrefix(s, "="); found {
			n := bareItem(value)
			if n <= 0 {
				return false
			}
			s = value[n:]
		}
	}
	return true
}

// bareItem gives the length of the bare item that s starts with, 0 for none.
// Only its extent matters: the value of an unknown parameter is ignored.
func bareItem(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case '"':
		return stringLength(s)
	case ':':
		if content, _, ok := strings.Cut(s[1:], ":"); ok && strings.Trim(content, base64Alphabet) == "" {
			return len(content) + 2
		}
		return 0
	}
	n := 0
	for n < len(s) && s[n] > ' ' && s[n] <= '~' && !strings.ContainsRune(`;,="\()<>[]{}`, rune(s[n])) {
		n++
	}
	return n
}

// base64Alphabet is what a byte sequence may hold (RFC 9651 section 4.2.7).
const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// stringLength gives the length of the string that s starts with, in which a backslash stands
// before a quote or a backslash only (RFC 9651 section 4.2.5); 0 if it is malformed.
func stringLength(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] < ' ' || s[i] > '~':
			return 0
		case s[i] == '"':
			return i + 1
		case s[i] == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return 0
			}
		}
	}
	return 0
}

func noStore() Header { return Header{Name: "Cache-Control", Value: "no-store"} }
