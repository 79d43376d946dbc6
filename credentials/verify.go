package credentials

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const (
	byPDP           = "pdp"
	byIntrospection = "introspection"
	byPEP           = "pep"
)

func prepare(given Issuer, o Options) *issuer {
	is := &issuer{Issuer: given}
	is.Mapping = is.Mapping.withDefaults()
	is.expose = slices.Sorted(maps.Keys(is.Mapping.Expose))
	if len(is.Algorithms) == 0 {
		is.Algorithms = defaultAlgorithms()
	}
	if !is.Keys.none() {
		is.keys = newKeySource(given, o)
	}
	if given.Introspection != nil {
		is.introspector = newIntrospector(given, o)
	}
	return is
}

// Verify checks one token. Exactly one of the results counts: the second, if
// it is not nil, and then the token is absent for every purpose. A DPoP proof
// is used up by it: verify a token once for each request of its client.
func (v *Verifier) Verify(ctx context.Context, p Presented) (engine.Credential, *engine.RejectedCredential) {
	c, code := v.verify(ctx, &p)
	if code != "" {
		return rejected(p.ID, code)
	}
	return c, nil
}

// Admits tells whether a trusted enforcement point may assert who somebody of
// this issuer is, for the resource audience.
func (v *Verifier) Admits(iss, audience string) bool {
	is := v.issuers[iss]
	return is != nil && is.AcceptAsserted && is.issuesFor(audience)
}

// Asserted holds claims that a trusted enforcement point verified against the
// same rules as a token's, from the fourth check on: their issuer is
// configured and may be asserted, and possession was proved as boundBy says.
// Whether this caller may assert at all is for who calls to know.
func (v *Verifier) Asserted(id, boundBy, audience string, claims rar.Value) (engine.Credential, *engine.RejectedCredential) {
	iss, _ := text(claims, "iss")
	if !v.Admits(iss, audience) {
		return rejected(id, engine.CodeTokenIssuer)
	}
	is := v.issuers[iss]
	p := Presented{ID: id, Audience: audience}
	c, code := is.judge(&p, claims, v.now(), byPEP, func() (string, engine.Code) {
		cnf, bound := claims.Get("cnf")
		jkt, x5t, ok := confirmations(cnf)
		if bound && !ok || !bound && is.RequireBound || boundBy != proof(jkt, x5t) {
			return "", engine.CodeTokenProof
		}
		return boundBy, ""
	}, nil)
	if code != "" {
		return rejected(id, code)
	}
	return c, nil
}

func (v *Verifier) verify(ctx context.Context, p *Presented) (engine.Credential, engine.Code) {
	if !containsFold([]string{"", "Bearer", "DPoP"}, p.Scheme) {
		return engine.Credential{}, engine.CodeTokenMalformed
	}
	if is := v.opaqueIssuer(p.Token); is != nil {
		return v.verifyOpaque(ctx, p, is)
	}
	t, code := parseJWT(p.Token)
	if code != "" {
		return engine.Credential{}, code
	}
	iss, _ := text(t.claims, "iss")
	is := v.issuers[iss]
	algorithms, acceptJWT, clients := defaultAlgorithms(), true, []string{"client_id"}
	if is != nil {
		algorithms, acceptJWT, clients = is.Algorithms, is.AcceptJWT, is.Mapping.ClientClaims
	}
	if code := t.checkHeader(algorithms, ""); code != "" {
		return engine.Credential{}, code
	}
	if code := t.checkKind(acceptJWT, clients); code != "" {
		return engine.Credential{}, code
	}
	if is == nil || !is.issuesFor(p.Audience) {
		return engine.Credential{}, engine.CodeTokenIssuer
	}
	if is.keys == nil {
		return v.verifyOpaque(ctx, p, is)
	}
	key, code := is.keys.key(ctx, t.kid, t.alg)
	if code != "" {
		return engine.Credential{}, code
	}
	if !verifySignature(key, t.alg, t.signed, t.signature) {
		return engine.Credential{}, engine.CodeTokenSignature
	}
	now := v.now()
	return is.judge(p, t.claims, now, byPDP, v.binding(ctx, p, is, t.claims, now), func() engine.Code {
		if is.introspector == nil || !is.introspector.config.CheckJWTs {
			return ""
		}
		_, code := is.introspector.ask(ctx, p.Token, now)
		return code
	})
}

// issuesFor: a resource may be pinned to its issuers.
func (is *issuer) issuesFor(resource string) bool {
	return len(is.Audiences) == 0 || slices.Contains(is.Audiences, resource)
}

// opaqueIssuer is the one issuer that is asked about an opaque token, by the
// longest prefix: to ask several would hand the token to those it is not of.
func (v *Verifier) opaqueIssuer(token string) *issuer {
	if !isOpaque(token) {
		return nil
	}
	var best *issuer
	for _, is := range v.opaque {
		prefix := is.introspector.config.TokenPrefix
		if strings.HasPrefix(token, prefix) && (best == nil || len(prefix) > len(best.introspector.config.TokenPrefix)) {
			best = is
		}
	}
	return best
}

// verifyOpaque takes the claims from the issuer's answer; they pass the same
// checks as those of a JWT.
func (v *Verifier) verifyOpaque(ctx context.Context, p *Presented, is *issuer) (engine.Credential, engine.Code) {
	if !is.issuesFor(p.Audience) {
		return engine.Credential{}, engine.CodeTokenIssuer
	}
	claims, code := is.introspector.ask(ctx, p.Token, v.now())
	if code != "" {
		return engine.Credential{}, code
	}
	now := v.now()
	return is.judge(p, claims, now, byIntrospection, v.binding(ctx, p, is, claims, now), nil)
}

func (v *Verifier) binding(ctx context.Context, p *Presented, is *issuer, claims rar.Value, now time.Time) func() (string, engine.Code) {
	return func() (string, engine.Code) {
		by, ok := v.checkBinding(ctx, p, is, claims, now)
		if !ok {
			return "", engine.CodeTokenProof
		}
		return by, ""
	}
}

// judge makes the checks from the sixth on, in their order. The ninth and the
// tenth differ by where the claims are from; revoked may be nil.
func (is *issuer) judge(p *Presented, claims rar.Value, now time.Time, by string,
	proved func() (string, engine.Code), revoked func() engine.Code,
) (engine.Credential, engine.Code) {
	none := engine.Credential{}
	if code := is.checkTimes(claims, now); code != "" {
		return none, code
	}
	aud, code := is.checkAudience(claims, p.Audience)
	if code != "" {
		return none, code
	}
	id, code := is.checkClaims(claims, by == byIntrospection)
	if code != "" {
		return none, code
	}
	boundBy, code := proved()
	if code != "" {
		return none, code
	}
	if revoked != nil {
		if code := revoked(); code != "" {
			return none, code
		}
	}
	details, withheld, code := is.checkDetails(claims)
	if code != "" {
		return none, code
	}
	if id.tokenID == "" && p.Token != "" {
		// An opaque token without jti still is one token (single use).
		h := sha256.Sum256([]byte(p.Token))
		id.tokenID = base64.RawURLEncoding.EncodeToString(h[:])
	}
	c, code := is.credential(p, by, boundBy, claims, id, aud, details)
	if code != "" {
		return none, code
	}
	c.Withheld = withheld
	return c, ""
}
