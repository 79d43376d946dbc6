package credentials

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says which issuers are trusted, and for what. The zero Config trusts
// nobody, so that every token is refused.
type Config struct {
	Issuers []Issuer
}

// Issuer is one trusted authorization server. Fields that are left out have
// the strict default.
type Issuer struct {
	// Issuer is compared with the claim iss byte by byte.
	Issuer string
	Keys   KeySource
	// Algorithms are the JWS algorithms that are admitted; default ES256, RS256,
	// PS256 and EdDSA.
	Algorithms []string
	// AcceptJWT also admits the header typ "JWT", which issuers without RFC 9068
	// send. ID tokens are then told apart by their claims.
	AcceptJWT bool
	// Audiences are the resources that this issuer may issue for; none given =
	// any. It pins a resource to its authorization servers.
	Audiences []string
	// AudienceNames gives, for a resource, the one value of aud by which this
	// issuer means it, where the issuer can not put the resource itself there.
	AudienceNames map[string]string
	// RequireSingleAudience refuses a token that other servers would take too.
	RequireSingleAudience bool
	// RequireBound refuses a token that is not bound to a key (RFC 9449, 8705).
	RequireBound bool
	// MaxLifetime bounds exp minus iat; zero means no bound.
	MaxLifetime time.Duration
	Mapping     Mapping
	// DetailsTypes are the types of authorization_details that this issuer may
	// grant; "*" stands for all. Objects of another type are withheld.
	DetailsTypes []string
	// Introspection asks the issuer about opaque tokens (RFC 7662).
	Introspection *Introspection
	// AcceptAsserted admits claims of this issuer that a trusted enforcement
	// point verified (Verifier.Asserted).
	AcceptAsserted bool
}

// KeySource says where the issuer's keys come from: exactly one of the fields.
type KeySource struct {
	// JWKSURL is the address of the JWK set.
	JWKSURL string
	// Discover reads jwks_uri from the issuer's metadata (RFC 8414, then OpenID
	// Connect Discovery).
	Discover bool
	// File is a JWK set on disk; it is read again like any other source.
	File string
	// RefreshEvery is how often keys are fetched anew; default 10 minutes.
	RefreshEvery time.Duration
	// MinInterval is the least time between two fetches, whatever tokens come;
	// default 10 seconds.
	MinInterval time.Duration
	// MaxAge is how long keys count after the last fetch that succeeded; default
	// 2 hours. After that nothing of this issuer verifies.
	MaxAge time.Duration
}

// Introspection is an endpoint for RFC 7662 with the credentials of authzd as
// its client (client_secret_basic).
type Introspection struct {
	Endpoint string
	ClientID string
	// ClientSecretFile holds the secret; it is read for every call that the
	// cache does not answer, so that a secret can be exchanged.
	ClientSecretFile string
	// Opaque asks about opaque tokens. TokenPrefix says which of them are this
	// issuer's; the empty prefix takes what no other issuer claims. A token goes
	// to one issuer at most.
	Opaque      bool
	TokenPrefix string
	// CheckJWTs also asks about JWTs that verified, whether they were revoked.
	CheckJWTs bool
	// CacheFor bounds how long an answer is used; default and most 30 seconds.
	CacheFor time.Duration
}

// Mapping says under which claims an issuer puts what policy sees. Names are
// exact, and nothing is guessed. Keycloak, EntraID, Okta and Ping return
// those of four products.
type Mapping struct {
	// SubjectClaim names the person; default sub. email counts only beside
	// email_verified true. A token on behalf of somebody may name them here.
	SubjectClaim string
	// ClientClaims are tried in order; default client_id.
	ClientClaims []string
	// TokenIDClaim identifies the token; default jti.
	TokenIDClaim string
	// ScopeClaim is the claim with scopes; default scope.
	ScopeClaim string
	// ScopeArray: the scopes are an array of strings, not one string.
	ScopeArray bool
	// TenantClaim is exposed as tenant; none by default.
	TenantClaim string
	// ClientTokens tells tokens that clients hold for themselves, beside those
	// whose sub equals the client id.
	ClientTokens *ClaimMatch
	// Expose are claims that policy may see: a name to the JSON Pointer in the
	// claims, such as "roles": "/realm_access/roles".
	Expose map[string]string
}

// ClaimMatch is true of claims that hold the string Equals, or a string that
// begins with Prefix.
type ClaimMatch struct{ Claim, Equals, Prefix string }

// Defaults of Issuer, KeySource and Introspection.
const (
	DefaultRefreshEvery = 10 * time.Minute
	DefaultMinInterval  = 10 * time.Second
	DefaultMaxAge       = 2 * time.Hour
	MaxCacheFor         = 30 * time.Second
	mostMaxAge          = 7 * 24 * time.Hour
)

// Validate joins all faults; nil means that New takes the Config.
func (c Config) Validate() error {
	var faults []error
	issuers, prefixes := map[string]bool{}, map[string]bool{}
	for i := range c.Issuers {
		is := &c.Issuers[i]
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("issuer %d (%s): "+format, append([]any{i, is.Issuer}, args...)...))
		}
		if issuers[is.Issuer] {
			fault("is named twice")
		}
		issuers[is.Issuer] = true
		is.validate(fault)
		if in := is.Introspection; in != nil && in.Opaque {
			if prefixes[in.TokenPrefix] {
				fault("another issuer claims opaque tokens with the prefix %q", in.TokenPrefix)
			}
			prefixes[in.TokenPrefix] = true
		}
	}
	return errors.Join(faults...)
}

type faultf func(format string, args ...any)

func (is *Issuer) validate(fault faultf) {
	if err := checkURL(is.Issuer); err != nil {
		fault("issuer: %w", err)
	}
	if strings.ContainsAny(is.Issuer, "?#") { // RFC 8414 section 2
		fault("issuer: has a query or fragment")
	}
	is.Keys.validate(is.Introspection != nil, fault)
	for _, a := range is.Algorithms {
		if !slices.Contains(algorithmNames(), a) {
			fault("algorithm %q is not one of %s", a, strings.Join(algorithmNames(), ", "))
		}
	}
	if is.MaxLifetime < 0 {
		fault("max lifetime is negative")
	}
	meant := map[string]bool{}
	for resource, name := range is.AudienceNames {
		switch {
		case resource == "" || name == "":
			fault("an audience name is empty")
		case meant[name]:
			fault("the audience name %q stands for two resources, which could not be told apart", name)
		case len(is.Audiences) > 0 && !slices.Contains(is.Audiences, resource):
			fault("an audience name is given to %q, which is not among the audiences", resource)
		}
		meant[name] = true
	}
	if slices.Contains(is.Audiences, "") {
		fault("an audience is empty")
	}
	for _, t := range is.DetailsTypes {
		if t == "" {
			fault("a details type is empty")
		}
	}
	is.Mapping.validate(fault)
	if is.Introspection != nil {
		is.Introspection.validate(fault)
		if !is.Introspection.Opaque && !is.Introspection.CheckJWTs && !is.Keys.none() {
			fault("introspection is asked about nothing: opaque tokens, JWTs")
		}
	}
}

func (k *KeySource) validate(introspected bool, fault faultf) {
	n := 0
	for _, given := range []bool{k.JWKSURL != "", k.Discover, k.File != ""} {
		if given {
			n++
		}
	}
	if n > 1 || n == 0 && !introspected {
		fault("keys come from one of: a JWKS URL, discovery, a file")
	}
	if k.JWKSURL != "" {
		if err := checkURL(k.JWKSURL); err != nil {
			fault("JWKS URL: %w", err)
		}
	}
	if k.RefreshEvery < 0 || k.MinInterval < 0 || k.MaxAge < 0 {
		fault("an interval of the key source is negative")
	}
	d := k.withDefaults()
	if d.MinInterval > d.RefreshEvery || d.RefreshEvery > d.MaxAge || d.MaxAge > mostMaxAge {
		fault("key source: want min interval <= refresh <= max age <= %v", mostMaxAge)
	}
}

func (k *KeySource) none() bool { return k.JWKSURL == "" && !k.Discover && k.File == "" }

func (k *KeySource) withDefaults() KeySource {
	d := *k
	d.RefreshEvery = orDefault(d.RefreshEvery, DefaultRefreshEvery)
	d.MinInterval = orDefault(d.MinInterval, min(DefaultMinInterval, d.RefreshEvery))
	d.MaxAge = orDefault(d.MaxAge, max(DefaultMaxAge, d.RefreshEvery))
	return d
}

func orDefault(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}

func (in *Introspection) validate(fault faultf) {
	if err := checkURL(in.Endpoint); err != nil {
		fault("introspection endpoint: %w", err)
	}
	if in.ClientID == "" || in.ClientSecretFile == "" {
		fault("introspection needs a client id and a secret file")
	}
	if in.CacheFor < 0 || in.CacheFor > MaxCacheFor {
		fault("introspection answers are cached for at most %v", MaxCacheFor)
	}
	if in.TokenPrefix != "" && !in.Opaque {
		fault("token prefix %q without opaque tokens", in.TokenPrefix)
	}
	// ey begins every JWT, and JWTs have checks of their own.
	if strings.HasPrefix(in.TokenPrefix, "ey") || !isOpaque(in.TokenPrefix) && in.TokenPrefix != "" {
		fault("token prefix %q", in.TokenPrefix)
	}
}

func (m *Mapping) validate(fault faultf) {
	if slices.Contains(m.ClientClaims, "") {
		fault("a client claim is empty")
	}
	if c := m.ClientTokens; c != nil && (c.Claim == "" || (c.Equals == "") == (c.Prefix == "")) {
		fault("client tokens are told by a claim and one of equals, prefix")
	}
	for name, pointer := range m.Expose {
		if name == "" || !strings.HasPrefix(pointer, "/") {
			fault("exposed claim %q: %q is no JSON Pointer", name, pointer)
		}
	}
}

func (m *Mapping) withDefaults() Mapping {
	d := *m
	set := func(s *string, byDefault string) {
		if *s == "" {
			*s = byDefault
		}
	}
	set(&d.SubjectClaim, "sub")
	set(&d.TokenIDClaim, "jti")
	set(&d.ScopeClaim, "scope")
	if len(d.ClientClaims) == 0 {
		d.ClientClaims = []string{"client_id"}
	}
	return d
}

// checkURL holds an address against the outbound rules: https, or http to this
// very machine; nothing that a proxy or a log would read differently.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is no URL")
	case u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return errors.New("wants a host, and neither user nor fragment")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("is not https")
}
