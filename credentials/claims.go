package credentials

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const (
	// clockSkew is tolerated for nbf and iat; an expired token is expired.
	clockSkew = 60 * time.Second
	// maxUnixTime is the end of the year 9999.
	maxUnixTime = 253402300799
)

// date reads a NumericDate (RFC 7519 section 2); fractions are cut off.
func date(claims rar.Value, name string) (time.Time, bool) {
	v, _ := claims.Get(name)
	if v.Kind() != rar.Number {
		return time.Time{}, false
	}
	text := v.Text()
	if strings.ContainsAny(text, "eE") {
		text = string(v.AppendCanonical(nil))
	}
	text, _, _ = strings.Cut(text, ".")
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sec <= 0 || sec > maxUnixTime {
		return time.Time{}, false
	}
	return time.Unix(sec, 0), true
}

// checkTimes is the sixth check.
func (is *issuer) checkTimes(claims rar.Value, now time.Time) engine.Code {
	exp, ok := date(claims, "exp")
	if !ok || !now.Before(exp) {
		return engine.CodeTokenExpired
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, given := claims.Get(name); !given {
			continue
		}
		at, ok := date(claims, name)
		if !ok || now.Add(clockSkew).Before(at) {
			return engine.CodeTokenNotYet
		}
	}
	return ""
}

// checkAudience is the seventh check. It returns aud, and the resource itself
// beside the name that this issuer has for it.
func (is *issuer) checkAudience(claims rar.Value, resource string) ([]string, engine.Code) {
	v, _ := claims.Get("aud")
	list, ok := texts(v, true)
	want := resource
	if name, named := is.AudienceNames[resource]; named {
		want = name
	}
	switch {
	case !ok || resource == "" || !slices.Contains(list, want):
		return nil, engine.CodeTokenAudience
	case is.RequireSingleAudience && len(list) != 1:
		return nil, engine.CodeTokenAudience
	}
	if !slices.Contains(list, resource) {
		list = append(list, resource)
	}
	return list, ""
}

// texts reads an array of strings; single also admits one string.
func texts(v rar.Value, single bool) ([]string, bool) {
	if single && v.Kind() == rar.String {
		return []string{v.Text()}, true
	}
	if v.Kind() != rar.Array {
		return nil, false
	}
	out := make([]string, v.Len())
	for i := range out {
		if v.Index(i).Kind() != rar.String {
			return nil, false
		}
		out[i] = v.Index(i).Text()
	}
	return out, true
}

// identity is what the eighth check reads: who, by which client, which token.
type identity struct {
	subject, client, tokenID, tenant string
	subjectIsClient                  bool
	scopes                           []string
}

// checkClaims is the eighth check. introspected answers need neither iat nor a
// token id (RFC 7662 section 2.2); everything else is RFC 9068 section 2.2.
func (is *issuer) checkClaims(claims rar.Value, introspected bool) (identity, engine.Code) {
	m := &is.Mapping
	var id identity
	sub, ok := text(claims, "sub")
	subject, ok2 := text(claims, m.SubjectClaim)
	if !ok || !ok2 {
		return identity{}, engine.CodeTokenClaims
	}
	if m.SubjectClaim == "email" {
		if v, _ := claims.Get("email_verified"); !v.Bool() {
			return identity{}, engine.CodeTokenClaims
		}
	}
	id.subject = subject
	for _, name := range m.ClientClaims {
		if _, given := claims.Get(name); !given {
			continue
		}
		if id.client, ok = text(claims, name); !ok {
			return identity{}, engine.CodeTokenClaims
		}
		break
	}
	id.tokenID, ok = text(claims, m.TokenIDClaim)
	_, issued := date(claims, "iat")
	if id.client == "" || !introspected && (!ok || !issued) {
		return identity{}, engine.CodeTokenClaims
	}
	if m.TenantClaim != "" {
		if _, given := claims.Get(m.TenantClaim); given {
			if id.tenant, ok = text(claims, m.TenantClaim); !ok {
				return identity{}, engine.CodeTokenClaims
			}
		}
	}
	if id.scopes, ok = m.scopes(claims); !ok || is.tooLong(claims) {
		return identity{}, engine.CodeTokenClaims
	}
	id.subjectIsClient = sub == id.client || subject == id.client || m.ClientTokens.matches(claims)
	return id, ""
}

// text reads a string that is there and not empty.
func text(claims rar.Value, name string) (string, bool) {
	v, _ := claims.Get(name)
	return v.Text(), v.Kind() == rar.String && v.Text() != ""
}

// tooLong: a token for decades is a mistake of the issuer, or worse.
func (is *issuer) tooLong(claims rar.Value) bool {
	if is.MaxLifetime == 0 {
		return false
	}
	exp, ok := date(claims, "exp")
	iat, ok2 := date(claims, "iat")
	return !ok || !ok2 || exp.Sub(iat) > is.MaxLifetime
}

// scopes reads the one form that is configured. Commas are no separators.
func (m *Mapping) scopes(claims rar.Value) ([]string, bool) {
	v, given := claims.Get(m.ScopeClaim)
	if !given {
		return nil, true
	}
	if m.ScopeArray {
		list, ok := texts(v, false)
		return list, ok && !slices.ContainsFunc(list, func(s string) bool { return s == "" || strings.Contains(s, " ") })
	}
	if v.Kind() != rar.String {
		return nil, false
	}
	return slices.DeleteFunc(strings.Split(v.Text(), " "), func(s string) bool { return s == "" }), true
}

func (c *ClaimMatch) matches(claims rar.Value) bool {
	if c == nil {
		return false
	}
	s, ok := text(claims, c.Claim)
	return ok && (c.Equals != "" && s == c.Equals || c.Prefix != "" && strings.HasPrefix(s, c.Prefix))
}

// checkDetails is the eleventh check: a claim that is no array of typed
// objects refuses the token; an object of a type that this issuer may not
// grant is withheld, and the rest counts.
func (is *issuer) checkDetails(claims rar.Value) (granted rar.Value, withheld []rar.Skipped, code engine.Code) {
	v, given := claims.Get("authorization_details")
	if !given {
		return rar.Value{}, nil, ""
	}
	if v.Kind() != rar.Array || v.Len() > rar.DefaultMaxObjects {
		return rar.Value{}, nil, engine.CodeTokenDetails
	}
	var kept []rar.Value
	for i := range v.Len() {
		typ, ok := text(v.Index(i), "type")
		if !ok {
			return rar.Value{}, nil, engine.CodeTokenDetails
		}
		if slices.Contains(is.DetailsTypes, typ) || slices.Contains(is.DetailsTypes, "*") {
			kept = append(kept, v.Index(i))
			continue
		}
		withheld = append(withheld, rar.Skipped{Index: i, Type: typ, Value: v.Index(i), Err: &rar.Error{
			Code: rar.CodeUnknownType, Path: "/" + strconv.Itoa(i), Err: errors.New("this issuer may not grant this type"),
		}})
	}
	return rar.ArrayValue(kept...), withheld, ""
}

// distinct: no actor acts twice in one chain. A loop is a mistake, or a way to
// bury who acted.
func distinct(chain []engine.Actor) bool {
	for i, a := range chain {
		if slices.Contains(chain[:i], a) {
			return false
		}
	}
	return true
}

// credential builds the engine's form of claims that passed checks six to
// eleven, and makes the twelfth on the way: the chain of actors.
func (is *issuer) credential(p *Presented, by, boundBy string, claims rar.Value, id identity, aud []string, details rar.Value) (engine.Credential, engine.Code) {
	members := make([]rar.Member, 0, 18)
	for _, name := range []string{"exp", "nbf", "iat", "acr", "amr", "auth_time", "txn", "act", "may_act", "cnf"} {
		if v, ok := claims.Get(name); ok {
			members = append(members, rar.Member{Name: name, Value: v})
		}
	}
	for _, m := range [...]struct{ name, text string }{
		{"iss", is.Issuer.Issuer}, {"sub", id.subject}, {"client_id", id.client}, {"jti", id.tokenID}, {"tenant", id.tenant},
	} {
		if m.text != "" {
			members = append(members, rar.Member{Name: m.name, Value: rar.StringValue(m.text)})
		}
	}
	c, rejected := engine.CredentialFromClaims(p.ID, by, boundBy, rar.ObjectValue(members...))
	if rejected != nil {
		return engine.Credential{}, rejected.Code
	}
	if !distinct(c.Actors) {
		return engine.Credential{}, engine.CodeTokenActors
	}
	c.Audience, c.Scopes, c.Details = aud, id.scopes, details
	c.SubjectIsClient = id.subjectIsClient
	c.Claims, c.AllClaims = is.exposed(claims), claims
	return c, ""
}

// exposed are the claims that policy may see, under their configured names.
func (is *issuer) exposed(claims rar.Value) rar.Value {
	var members []rar.Member
	for _, name := range is.expose {
		if v, ok := claims.Lookup(is.Mapping.Expose[name]); ok {
			members = append(members, rar.Member{Name: name, Value: v})
		}
	}
	if len(members) == 0 {
		return rar.Value{}
	}
	return rar.ObjectValue(members...)
}
