package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// Credential is one verified token, or its claims as a trusted PEP asserts
// them. Which of a query's credentials are usable is Decide's to judge.
type Credential struct {
	// ID is the caller's name for it, unique in the query.
	ID string
	// VerifiedBy is "pdp", "introspection" or "pep" (who checked the token).
	VerifiedBy string
	Issuer     string
	// Subject is the token's sub, or the issuer's subject-identity claim.
	Subject  string
	ClientID string
	Audience []string
	Scopes   []string
	// Details is the claim authorization_details as received; absent if the
	// token has none.
	Details rar.Value
	// Withheld are objects of the token's authorization_details that its issuer
	// may not grant. They are not in Details, grant nothing and are reported.
	Withheld []rar.Skipped
	// Claims are the further claims that the issuer's configuration lets policy
	// see; absent if there are none.
	Claims rar.Value
	// AllClaims are every claim of the token. Policy does not see them; declared
	// mappings read them.
	AllClaims rar.Value
	// Actors is the chain of act claims, outermost (current) first.
	Actors []Actor
	MayAct rar.Value
	// AuthTime is zero if the token does not say.
	AuthTime time.Time
	ACR      string
	AMR      []string
	Txn      string
	// TokenID is a hash of jti, empty if the token has none.
	TokenID   string
	ExpiresAt time.Time
	IssuedAt  time.Time
	NotBefore time.Time
	// BoundBy tells how possession was proved: "", "dpop", "mtls", "mtls+dpop".
	BoundBy string
	Tenant  string
	// Bound: the token carries cnf, so it is usable only if BoundBy is set.
	Bound bool
	// SubjectIsClient: sub equals client_id (client credentials).
	SubjectIsClient bool
}

// Actor is one level of delegation (RFC 8693 section 4.1).
type Actor struct{ Issuer, Subject string }

// RejectedCredential is a presented credential that is not usable.
type RejectedCredential struct {
	ID   string
	Code Code
	// would is the credential's claims, kept to tell whether it would have met
	// a need; never shown to policy.
	would *Credential
}

const (
	maxActors = 8
	// clockSkew is tolerated for nbf and iat only: an expired token is expired.
	clockSkew = 60 * time.Second
	// maxUnixTime keeps NumericDate within what time.Time and RFC 3339 can hold.
	maxUnixTime = 253402300799
)

// CredentialFromClaims reads the claims of an access token (RFC 9068, RFC 7519)
// as verified by verifiedBy. boundBy says how possession of a bound token was
// proved. Claims that are malformed make the credential unusable: the second
// result then holds the code, and the first must not be used.
func CredentialFromClaims(id, verifiedBy, boundBy string, claims rar.Value) (Credential, *RejectedCredential) {
	r := claimReader{claims: claims}
	c := Credential{
		ID: id, VerifiedBy: verifiedBy, BoundBy: boundBy,
		Issuer:   r.text("iss"),
		Subject:  r.text("sub"),
		ClientID: r.text("client_id"),
		Audience: r.texts("aud", true),
		ACR:      r.text("acr"),
		AMR:      r.texts("amr", false),
		Txn:      r.text("txn"),
		Tenant:   r.text("tenant"),
		AuthTime: r.time("auth_time"),
		IssuedAt: r.time("iat"),
	}
	c.ExpiresAt, c.NotBefore = r.time("exp"), r.time("nbf")
	c.Scopes = r.scopes()
	if jti := r.text("jti"); jti != "" {
		h := sha256.Sum256([]byte(c.Issuer + "\x00" + jti))
		c.TokenID = base64.RawURLEncoding.EncodeToString(h[:])
	}
	c.Details, _ = claims.Get("authorization_details")
	if v, ok := claims.Get("may_act"); ok {
		c.MayAct = v
	}
	_, c.Bound = claims.Get("cnf")
	c.SubjectIsClient = c.Subject == c.ClientID
	c.AllClaims = claims
	var code Code
	switch {
	case claims.Kind() != rar.Object || r.bad:
		code = CodeTokenClaims
	case c.Issuer == "":
		code = CodeTokenIssuer
	case c.Subject == "" || c.ExpiresAt.IsZero():
		code = CodeTokenClaims
	case !validBinding(boundBy):
		code = CodeTokenProof
	default:
		if c.Actors, code = actors(claims, c.Issuer); code == "" {
			return c, nil
		}
	}
	return Credential{}, &RejectedCredential{ID: id, Code: code}
}

func validBinding(b string) bool {
	switch b {
	case "", "dpop", "mtls", "mtls+dpop":
		return true
	}
	return false
}

// actors walks the act chain; who acts now is the outermost (RFC 8693 4.1).
func actors(claims rar.Value, issuer string) ([]Actor, Code) {
	act, ok := claims.Get("act")
	if !ok {
		return nil, ""
	}
	var chain []Actor
	for ok {
		r := claimReader{claims: act}
		a := Actor{Issuer: r.text("iss"), Subject: r.text("sub")}
		if act.Kind() != rar.Object || r.bad || a.Subject == "" || len(chain) == maxActors {
			return nil, CodeTokenActors
		}
		if a.Issuer == "" {
			a.Issuer = issuer
		}
		chain = append(chain, a)
		act, ok = act.Get("act")
	}
	return chain, ""
}

// claimReader reads members of a claim set; one of the wrong type sets bad.
type claimReader struct {
	claims rar.Value
	bad    bool
}

func (r *claimReader) text(name string) string {
	v, ok := r.claims.Get(name)
	if !ok {
		return ""
	}
	if v.Kind() != rar.String {
		r.bad = true
		return ""
	}
	return v.Text()
}

// texts reads an array of strings; single also admits one string (RFC 7519
// section 4.1.3 for aud).
func (r *claimReader) texts(name string, single bool) []string {
	v, ok := r.claims.Get(name)
	if !ok {
		return nil
	}
	if single && v.Kind() == rar.String {
		return []string{v.Text()}
	}
	if v.Kind() != rar.Array {
		r.bad = true
		return nil
	}
	out := make([]string, 0, v.Len())
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() != rar.String {
			r.bad = true
			return nil
		}
		out = append(out, e.Text())
	}
	return out
}

// scopes splits on single spaces only (RFC 6749 section 3.3); an array is a
// per-issuer mapping and not guessed here.
func (r *claimReader) scopes() []string {
	s := r.text("scope")
	if s == "" {
		return nil
	}
	parts := strings.Split(s, " ")
	out := parts[:0]
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// time reads a NumericDate (RFC 7519 section 2); fractions are cut off.
func (r *claimReader) time(name string) time.Time {
	v, ok := r.claims.Get(name)
	if !ok {
		return time.Time{}
	}
	sec, ok := unixSeconds(v)
	if !ok {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

func unixSeconds(v rar.Value) (int64, bool) {
	if v.Kind() != rar.Number {
		return 0, false
	}
	text := v.Text()
	if strings.ContainsAny(text, "eE") {
		text = string(v.AppendCanonical(nil))
	}
	text, _, _ = strings.Cut(text, ".")
	if text == "" || text[0] == '-' || len(text) > 12 {
		return 0, false
	}
	var sec int64
	for _, d := range []byte(text) {
		sec = sec*10 + int64(d-'0')
	}
	return sec, sec > 0 && sec <= maxUnixTime
}
