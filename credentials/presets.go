package credentials

// Keycloak returns the mapping for Keycloak's access tokens: typ is JWT
// (Issuer.AcceptJWT) unless the client is set to at+jwt, the client is azp,
// roles are in realm_access, and service accounts have telling user names.
// aud needs an audience mapper, sub and jti the scope basic.
func Keycloak() Mapping {
	return Mapping{
		ClientClaims: []string{"client_id", "azp"},
		ClientTokens: &ClaimMatch{Claim: "preferred_username", Prefix: "service-account-"},
		Expose:       map[string]string{"roles": "/realm_access/roles", "groups": "/groups"},
	}
}

// EntraID returns the mapping for Microsoft Entra ID, tokens of version 2.0.
// typ is JWT (Issuer.AcceptJWT), aud is the application's id
// (Issuer.AudienceNames), and the person is oid: sub differs for each
// application. The optional claim idtyp has to be on, or a client's own token
// looks like a person's.
func EntraID() Mapping {
	return Mapping{
		SubjectClaim: "oid",
		ClientClaims: []string{"azp", "appid"},
		TokenIDClaim: "uti",
		ScopeClaim:   "scp",
		TenantClaim:  "tid",
		ClientTokens: &ClaimMatch{Claim: "idtyp", Equals: "app"},
		Expose:       map[string]string{"roles": "/roles", "groups": "/groups"},
	}
}

// Okta returns the mapping for Okta's custom authorization servers: the client
// is cid, scp is an array. sub is the login name; uid, which never changes, is
// absent from tokens that clients hold for themselves, so that those do not
// verify. Set SubjectClaim to sub to admit them. typ is JWT unless set.
func Okta() Mapping {
	return Mapping{
		SubjectClaim: "uid",
		ClientClaims: []string{"cid"},
		ScopeClaim:   "scp",
		ScopeArray:   true,
		Expose:       map[string]string{"groups": "/groups"},
	}
}

// Ping returns the mapping for PingOne and PingFederate: client_id, and scope
// as one string. iat and jti have to be on in the access token manager.
func Ping() Mapping {
	return Mapping{
		TenantClaim: "env",
		Expose:      map[string]string{"groups": "/groups"},
	}
}
