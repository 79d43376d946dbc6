package credentials_test

import (
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/credentials"
)

// TestValidate changes one thing of a sound configuration at a time.
func TestValidate(t *testing.T) {
	t.Parallel()
	sound := func() credentials.Issuer {
		return credentials.Issuer{
			Issuer: "https://as.example", Keys: credentials.KeySource{JWKSURL: "https://as.example/jwks"},
			Introspection: &credentials.Introspection{Endpoint: "https://as.example/i", ClientID: "c", ClientSecretFile: "f", Opaque: true},
			Mapping:       credentials.EntraID(),
		}
	}
	for _, c := range []struct {
		name   string
		change func(*credentials.Issuer)
		fault  string
	}{
		{"nothing", func(*credentials.Issuer) {}, ""},
		{"http to this machine", func(i *credentials.Issuer) { i.Keys.JWKSURL = "http://127.0.0.1:9/jwks" }, ""},
		{"http to this machine, IPv6", func(i *credentials.Issuer) { i.Keys.JWKSURL = "http://[::1]:9/jwks" }, ""},
		{"introspection alone", func(i *credentials.Issuer) { i.Keys = credentials.KeySource{} }, ""},
		{"no issuer", func(i *credentials.Issuer) { i.Issuer = "" }, "issuer:"},
		{"an issuer over http", func(i *credentials.Issuer) { i.Issuer = "http://as.example" }, "not https"},
		{"an issuer with a query", func(i *credentials.Issuer) { i.Issuer = "https://as.example?a" }, "query"},
		{"keys over http", func(i *credentials.Issuer) { i.Keys.JWKSURL = "http://as.example/jwks" }, "not https"},
		{"keys at a name that begins like loopback", func(i *credentials.Issuer) { i.Keys.JWKSURL = "http://127.0.0.1.evil.example/" }, "not https"},
		{"keys with a password", func(i *credentials.Issuer) { i.Keys.JWKSURL = "https://a:b@as.example/" }, "user"},
		{"keys from two places", func(i *credentials.Issuer) { i.Keys.Discover = true }, "one of"},
		{"no keys at all", func(i *credentials.Issuer) { i.Keys, i.Introspection = credentials.KeySource{}, nil }, "one of"},
		{"alg none", func(i *credentials.Issuer) { i.Algorithms = []string{"ES256", "none"} }, `"none"`},
		{"alg HS256", func(i *credentials.Issuer) { i.Algorithms = []string{"HS256"} }, `"HS256"`},
		{"a negative lifetime", func(i *credentials.Issuer) { i.MaxLifetime = -1 }, "lifetime"},
		{"old keys for ever", func(i *credentials.Issuer) { i.Keys.MaxAge = 1000 * time.Hour }, "max age"},
		{"keys that expire before they are fetched", func(i *credentials.Issuer) { i.Keys.MaxAge = time.Second }, "max age"},
		{"a negative interval", func(i *credentials.Issuer) { i.Keys.MinInterval = -1 }, "negative"},
		{"an empty audience", func(i *credentials.Issuer) { i.Audiences = []string{""} }, "audience"},
		{"an empty audience name", func(i *credentials.Issuer) { i.AudienceNames = map[string]string{server: ""} }, "audience"},
		{"an empty type", func(i *credentials.Issuer) { i.DetailsTypes = []string{""} }, "type"},
		{"an empty client claim", func(i *credentials.Issuer) { i.Mapping.ClientClaims = []string{""} }, "client claim"},
		{"a match of everything", func(i *credentials.Issuer) { i.Mapping.ClientTokens = &credentials.ClaimMatch{Claim: "a"} }, "client tokens"},
		{"no pointer", func(i *credentials.Issuer) { i.Mapping.Expose = map[string]string{"roles": "roles"} }, "JSON Pointer"},
		{"introspection over http", func(i *credentials.Issuer) { i.Introspection.Endpoint = "http://as.example/i" }, "not https"},
		{"introspection without secret", func(i *credentials.Issuer) { i.Introspection.ClientSecretFile = "" }, "secret"},
		{"answers for a minute", func(i *credentials.Issuer) { i.Introspection.CacheFor = time.Minute }, "cached"},
		{"introspection of nothing", func(i *credentials.Issuer) { i.Introspection.Opaque = false }, "nothing"},
		{"introspection of JWTs only", func(i *credentials.Issuer) { i.Introspection.Opaque, i.Introspection.CheckJWTs = false, true }, ""},
		{"a prefix for nothing", func(i *credentials.Issuer) {
			i.Introspection.Opaque, i.Introspection.CheckJWTs, i.Introspection.TokenPrefix = false, true, "t_"
		}, "prefix"},
		{"JWTs as opaque tokens", func(i *credentials.Issuer) { i.Introspection.TokenPrefix = "eyJ" }, "prefix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			is := sound()
			c.change(&is)
			config := credentials.Config{Issuers: []credentials.Issuer{is}}
			err := config.Validate()
			if c.fault == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("want a fault about %q, got %v", c.fault, err)
			}
			if v, err := credentials.New(config, credentials.Options{}); err == nil || v != nil {
				t.Error("New takes it")
			}
		})
	}
}

// TestValidateJoins tells all faults at once, those between issuers too.
func TestValidateJoins(t *testing.T) {
	t.Parallel()
	is := credentials.Issuer{
		Issuer: "ftp://as.example", Algorithms: []string{"none"},
		Introspection: &credentials.Introspection{Endpoint: "https://as.example/i", ClientID: "c", ClientSecretFile: "f", Opaque: true, TokenPrefix: "t_"},
	}
	err := credentials.Config{Issuers: []credentials.Issuer{is, is}}.Validate()
	for _, fault := range []string{"issuer 0", "issuer 1", "named twice", "not https", `"none"`, `prefix "t_"`} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q is not in %v", fault, err)
		}
	}
}
