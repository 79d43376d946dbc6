package credentials_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/rar"
)

// TestPresets: what policy sees of claims in the shapes that four products
// document, and that the neighbour without the telling claim is refused.
func TestPresets(t *testing.T) {
	t.Parallel()
	type seen struct {
		Subject, Client, Tenant string
		Scopes                  []string
		IsClient                bool
		Claims                  string
	}
	const common = `"iss": "https://as.example/a", "aud": "` + server + `", "iat": 1795370000, "exp": 1795370700, `
	for _, c := range []struct {
		name    string
		mapping credentials.Mapping
		claims  string
		want    seen
		without string
	}{
		{
			"Keycloak", credentials.Keycloak(),
			`{` + common + `"jti": "1", "sub": "f3", "azp": "agent", "scope": "openid files", "preferred_username": "alice", "realm_access": {"roles": ["admin"]}}`,
			seen{"f3", "agent", "", []string{"openid", "files"}, false, `{"roles":["admin"]}`},
			"azp",
		},
		{
			"Entra ID", credentials.EntraID(),
			`{` + common + `"uti": "1", "sub": "s", "oid": "o", "tid": "t", "azp": "agent", "scp": "files", "groups": ["g"], "roles": ["r"], "idtyp": "user"}`,
			seen{"o", "agent", "t", []string{"files"}, false, `{"groups":["g"],"roles":["r"]}`},
			"oid",
		},
		{
			"Entra ID, application", credentials.EntraID(),
			`{` + common + `"uti": "1", "sub": "o", "oid": "o", "tid": "t", "azp": "agent", "roles": ["r"], "idtyp": "app"}`,
			seen{"o", "agent", "t", nil, true, `{"roles":["r"]}`},
			"uti",
		},
		{
			"Okta", credentials.Okta(),
			`{` + common + `"jti": "1", "sub": "alice@example.com", "uid": "00u1", "cid": "agent", "scp": ["openid", "files"], "groups": ["g"]}`,
			seen{"00u1", "agent", "", []string{"openid", "files"}, false, `{"groups":["g"]}`},
			"uid",
		},
		{
			"Ping", credentials.Ping(),
			`{` + common + `"jti": "1", "sub": "u1", "client_id": "agent", "scope": "files", "env": "e1"}`,
			seen{"u1", "agent", "e1", []string{"files"}, false, ""},
			"client_id",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, err := credentials.New(credentials.Config{Issuers: []credentials.Issuer{{
				Issuer: issuerA, Keys: credentials.KeySource{JWKSURL: jwksA}, AcceptAsserted: true, Mapping: c.mapping,
			}}}, credentials.Options{Now: func() time.Time { return time.Unix(clockStart, 0) }})
			if err != nil {
				t.Fatal(err)
			}
			claims := value(t, c.claims)
			got, rejected := v.Asserted("c", "", server, claims)
			if rejected != nil {
				t.Fatal(rejected.Code)
			}
			if diff := cmp.Diff(c.want, seen{
				got.Subject, got.ClientID, got.Tenant, got.Scopes, got.SubjectIsClient, string(got.Claims.AppendCanonical(nil)),
			}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			var rest []rar.Member
			for i := range claims.Len() {
				if m := claims.Member(i); m.Name != c.without {
					rest = append(rest, m)
				}
			}
			if _, rejected := v.Asserted("c", "", server, rar.ObjectValue(rest...)); rejected == nil {
				t.Errorf("without %s it is a credential still", c.without)
			}
		})
	}
}
