package credentials

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const (
	maxTokenBytes = 16 << 10
	maxTokenDepth = 16
)

// jwt is a JWS in compact form (RFC 7515 section 7.1), taken apart and not yet
// believed.
type jwt struct {
	header, claims rar.Value
	alg, typ, kid  string
	signed         []byte
	signature      []byte
}

// parseJWT reads form only. An error is the first check of oauth-context: the
// text is no JWS whose header and claims are each one strict JSON object.
func parseJWT(token string) (*jwt, engine.Code) {
	if len(token) > maxTokenBytes {
		return nil, engine.CodeTokenMalformed
	}
	head, rest, ok := strings.Cut(token, ".")
	body, sig, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return nil, engine.CodeTokenMalformed
	}
	header, ok := jsonSegment(head, true)
	if !ok {
		return nil, engine.CodeTokenMalformed
	}
	claims, ok := jsonSegment(body, false)
	if !ok {
		return nil, engine.CodeTokenMalformed
	}
	signature, ok := segment(sig)
	if !ok {
		return nil, engine.CodeTokenMalformed
	}
	t := &jwt{header: header, claims: claims, signature: signature, signed: []byte(token[:len(head)+1+len(body)])}
	for _, f := range [...]struct {
		name string
		to   *string
	}{{"alg", &t.alg}, {"typ", &t.typ}, {"kid", &t.kid}} {
		v, present := header.Get(f.name)
		if present && v.Kind() != rar.String {
			return nil, engine.CodeTokenMalformed
		}
		*f.to = v.Text()
	}
	return t, ""
}

// segment decodes base64url as RFC 7515 section 2 has it: no padding, no white
// space (which Go's decoder would skip), no stray bits at the end.
func segment(s string) ([]byte, bool) {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return nil, false
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

func jsonSegment(s string, header bool) (rar.Value, bool) {
	b, ok := segment(s)
	if !ok {
		return rar.Value{}, false
	}
	v, err := rar.DecodeStrict(b, rar.Limits{
		MaxBytes: maxTokenBytes, MaxDepth: maxTokenDepth, RejectCaseVariants: header,
	})
	return v, err == nil && v.Kind() == rar.Object
}

// checkHeader is the second check: what names a key or changes what is signed
// is refused unseen. own are the key headers that this kind of JWS may have.
func (t *jwt) checkHeader(algorithms []string, own string) engine.Code {
	admitted := false
	for _, a := range algorithms {
		admitted = admitted || a == t.alg
	}
	if !admitted {
		return engine.CodeTokenAlgorithm
	}
	// crit: we understand no extension, so each is unknown (RFC 7515 4.1.11);
	// b64 changes what is signed (RFC 7797).
	for _, name := range []string{"crit", "b64", "jku", "jwk", "x5u", "x5c"} {
		if _, ok := t.header.Get(name); ok && name != own {
			return engine.CodeTokenAlgorithm
		}
	}
	return ""
}

// mediaType is a typ header without its optional prefix, in lower case: media
// types are compared so (RFC 7515 section 4.1.9).
func (t *jwt) mediaType() string {
	return strings.TrimPrefix(strings.ToLower(t.typ), "application/")
}

// checkKind is the third check: is this an access token at all? ID tokens,
// refresh tokens, ID-JAGs, transaction tokens, proofs and logout tokens all
// come from the same issuers under the same keys.
//
// clients are the claims that may name the client: what an issuer sends as JWT
// has one of them and aud, or is no access token.
func (t *jwt) checkKind(acceptJWT bool, clients []string) engine.Code {
	if _, ok := t.header.Get("cty"); ok {
		return engine.CodeTokenWrongKind // a nested token
	}
	switch typ := t.mediaType(); {
	case typ == "at+jwt":
	case acceptJWT && typ == "jwt":
		if !accessTokenClaims(t.claims) || !slices.ContainsFunc(clients, func(name string) bool { _, ok := t.claims.Get(name); return ok }) {
			return engine.CodeTokenWrongKind
		}
	default:
		return engine.CodeTokenWrongKind
	}
	return ""
}

// accessTokenClaims tells an access token whose header says only JWT from its
// siblings.
func accessTokenClaims(claims rar.Value) bool {
	_, ok := claims.Get("aud")
	return ok && !siblingClaims(claims) && saysAccess(claims)
}

// siblingClaims finds what only other kinds of tokens have.
func siblingClaims(claims rar.Value) bool {
	for _, name := range []string{
		"nonce", "at_hash", "c_hash", "s_hash", // ID token
		"events",                 // logout token, security event
		"req_wl", "tctx", "rctx", // transaction token
		"ath", "htm", "htu", // DPoP proof
		"resource", // ID-JAG names its resource beside aud
	} {
		if _, ok := claims.Get(name); ok {
			return true
		}
	}
	return false
}

// saysAccess is false of claims that say that they are of another kind.
func saysAccess(claims rar.Value) bool {
	// Keycloak and Cognito say in a claim what the header does not.
	for name, want := range map[string][]string{"typ": {"Bearer", "DPoP"}, "token_use": {"access", "access_token"}} {
		v, ok := claims.Get(name)
		if !ok {
			continue
		}
		if v.Kind() != rar.String || !containsFold(want, v.Text()) {
			return false
		}
	}
	return true
}

func containsFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

// isOpaque tells text of the form of RFC 6750 section 2.1 that nobody takes for
// a JWT, so that no JWT avoids its own checks by way of introspection.
func isOpaque(s string) bool {
	if s == "" || len(s) > maxTokenBytes || looksLikeJWT(s) {
		return false
	}
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return body != ""
}

// looksLikeJWT: what stands before the first dot begins an object of JSON for
// even the laxest reader. Dots alone say nothing: opaque tokens have them too.
func looksLikeJWT(s string) bool {
	head, _, dotted := strings.Cut(s, ".")
	if !dotted {
		return false
	}
	// Lax readers take both alphabets, and pass over what is in neither.
	head = strings.Map(func(c rune) rune {
		switch {
		case c == '+':
			return '-'
		case c == '/':
			return '_'
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			return c
		}
		return -1
	}, head)
	start := make([]byte, base64.RawURLEncoding.DecodedLen(len(head)))
	n, _ := base64.RawURLEncoding.Decode(start, []byte(head)) // up to a fault
	return bytes.HasPrefix(bytes.TrimSpace(start[:n]), []byte("{"))
}
