package credentials_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

func value(tb testing.TB, text string) rar.Value {
	tb.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func at(second int64) time.Time { return time.Unix(second, 0).UTC() }

// TestCredential: what becomes of the claims of each kind of token.
func TestCredential(t *testing.T) {
	t.Parallel()
	jwt := engine.Credential{
		ID: "c", VerifiedBy: "pdp", Issuer: issuerA, Subject: "alice", ClientID: "https://agent.example/cimd.json", Audience: []string{server},
		Scopes: []string{"files:read", "payments"}, ExpiresAt: at(1795370700), IssuedAt: at(1795370000),
	}
	for _, c := range []struct {
		name, base string
		set        map[string]any
		want       func(*engine.Credential)
	}{
		{"a JWT", "jwt", nil, func(*engine.Credential) {}},
		{"scopes by several spaces, no commas", "jwt", map[string]any{"/claims/scope": " a  b,c "}, func(c *engine.Credential) { c.Scopes = []string{"a", "b,c"} }},
		{
			"authentication and transaction", "jwt",
			map[string]any{"/claims/acr": "mfa", "/claims/amr": []any{"otp"}, "/claims/auth_time": 1795360000, "/claims/txn": "x", "/claims/tenant": "not mapped"},
			func(c *engine.Credential) {
				c.ACR, c.AMR, c.AuthTime, c.Txn = "mfa", []string{"otp"}, at(1795360000), "x"
			},
		},
		{
			"actors", "jwt",
			map[string]any{"/claims/act": map[string]any{"sub": "b", "act": map[string]any{"sub": "d", "iss": "https://other.example"}}},
			func(c *engine.Credential) {
				c.Actors = []engine.Actor{{Issuer: issuerA, Subject: "b"}, {Issuer: "https://other.example", Subject: "d"}}
			},
		},
		{"a client for itself", "jwt", map[string]any{"/claims/client_id": "alice"}, func(c *engine.Credential) { c.ClientID, c.SubjectIsClient = "alice", true }},
		{"details of a type that is another issuer's", "jwt", map[string]any{"/claims/authorization_details": []any{
			map[string]any{"type": "payment", "n": 1}, map[string]any{"type": "file"}, map[string]any{"type": "Payment"},
		}}, func(c *engine.Credential) {
			c.Details = value(t, `[{"n":1,"type":"payment"}]`)
			c.Withheld = []rar.Skipped{{Index: 1, Type: "file", Value: value(t, `{"type":"file"}`)}, {Index: 2, Type: "Payment", Value: value(t, `{"type":"Payment"}`)}}
		}},
		{"bound by DPoP", "dpop", nil, func(c *engine.Credential) { c.Scopes, c.Bound, c.BoundBy = nil, true, "dpop" }},
		{"bound by a certificate", "mtls", nil, func(c *engine.Credential) { c.Scopes, c.Bound, c.BoundBy = nil, true, "mtls" }},
		{"asserted", "asserted", nil, func(c *engine.Credential) { c.VerifiedBy, c.ClientID, c.Scopes = "pep", "agent", nil }},
		{"opaque", "opaque", nil, func(c *engine.Credential) {
			c.VerifiedBy, c.Issuer, c.ClientID, c.Scopes, c.IssuedAt = "introspection", "https://opaque.example", "agent", []string{"files:read"}, time.Time{}
		}},
		{"Keycloak", "plain", map[string]any{"/claims/realm_access": map[string]any{"roles": []any{"admin"}}, "/claims/secret": "s"}, func(c *engine.Credential) {
			c.Issuer, c.ClientID, c.Scopes, c.Claims = "https://as.example/b", "agent", []string{"files:read"}, value(t, `{"roles":["admin"]}`)
		}},
		{"Keycloak's service account", "plain", map[string]any{"/claims/preferred_username": "service-account-agent"}, func(c *engine.Credential) {
			c.Issuer, c.ClientID, c.Scopes, c.SubjectIsClient = "https://as.example/b", "agent", []string{"files:read"}, true
		}},
		{"Entra ID", "entra", map[string]any{"/claims/groups": []any{"g"}}, func(c *engine.Credential) {
			c.Issuer, c.Subject, c.ClientID, c.Scopes, c.Tenant = "https://login.example/t1/v2.0", "o-alice", "agent", []string{"files.read"}, "t1"
			c.Audience, c.NotBefore, c.Claims = []string{"11111111-2222", server}, at(1795370000), value(t, `{"groups":["g"]}`)
		}},
		{"Entra ID's application", "entra", map[string]any{"/claims/idtyp": "app"}, func(c *engine.Credential) {
			c.Issuer, c.Subject, c.ClientID, c.Scopes, c.Tenant = "https://login.example/t1/v2.0", "o-alice", "agent", []string{"files.read"}, "t1"
			c.Audience, c.NotBefore, c.SubjectIsClient = []string{"11111111-2222", server}, at(1795370000), true
		}},
		{"the address as subject, scopes in an array", "strict", nil, func(c *engine.Credential) {
			c.Issuer, c.Subject, c.ClientID, c.Scopes, c.Bound, c.BoundBy = "https://strict.example", "alice@example.com", "agent", []string{"files:read"}, true, "mtls"
		}},
		{"a client for itself, with an address", "strict", map[string]any{"/claims/client_id": "alice"}, func(c *engine.Credential) {
			c.Issuer, c.Subject, c.ClientID, c.Scopes, c.Bound, c.BoundBy = "https://strict.example", "alice@example.com", "alice", []string{"files:read"}, true, "mtls"
			c.SubjectIsClient = true
		}},
		{"a client whose id is somebody's address", "strict", map[string]any{"/claims/client_id": "alice@example.com"}, func(c *engine.Credential) {
			c.Issuer, c.Subject, c.ClientID, c.Scopes, c.Bound, c.BoundBy = "https://strict.example", "alice@example.com", "alice@example.com", []string{"files:read"}, true, "mtls"
			c.SubjectIsClient = true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, rejected, _, _ := play(t, readScene(t, edit(t, readAttacks(t).Bases[c.base], c.set, nil)))
			if rejected != nil {
				t.Fatal(rejected.Code)
			}
			if len(got.TokenID) != 43 {
				t.Errorf("token id %q", got.TokenID)
			}
			for _, s := range got.Withheld {
				if s.Err == nil || s.Err.Path != fmt.Sprintf("/%d", s.Index) {
					t.Errorf("withheld without a reason: %+v", s)
				}
			}
			want := jwt
			c.want(&want)
			if diff := cmp.Diff(want, got, cmp.Comparer(rar.Equal), cmpopts.IgnoreFields(engine.Credential{}, "TokenID", "AllClaims"),
				cmpopts.IgnoreFields(rar.Skipped{}, "Err"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestIntrospectionRequest: what is sent, to whom, and how often.
func TestIntrospectionRequest(t *testing.T) {
	t.Parallel()
	const endpoint = "https://opaque.example/introspect"
	w, c := newWorld(), newClock()
	var form atomic.Value
	v := start(t, trust(t, w), credentials.Options{Now: c.now, Transport: w})
	body := `{"active": true, "sub": "alice", "aud": "` + server + `", "client_id": "agent", "exp": 1795370410}`
	w.set(endpoint, func(r *http.Request) (*http.Response, error) {
		user, password, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		form.Store(r.Method + " " + user + ":" + password + " " + r.PostForm.Encode())
		return response(r, 200, body), nil
	})
	p := credentials.Presented{ID: "c", Token: "op_secret", Audience: server}
	for range 3 {
		want(t, v, p, "")
	}
	if diff := cmp.Diff("POST authzd:s3cret token=op_secret&token_type_hint=access_token", form.Load()); diff != "" {
		t.Error(diff)
	}
	if n := w.count(endpoint); n != 1 {
		t.Errorf("asked %d times for one token", n)
	}
	// To exp, which comes before the thirty seconds, and not a second more.
	c.add(9 * time.Second)
	want(t, v, p, "")
	c.add(time.Second)
	want(t, v, p, engine.CodeTokenExpired)
	// Revocation is noticed after thirty seconds at most.
	body = strings.Replace(body, "1795370410", "1795379999", 1)
	want(t, v, p, "")
	body = `{"active": false}`
	c.add(29 * time.Second)
	want(t, v, p, "")
	c.add(time.Second)
	want(t, v, p, engine.CodeTokenRevoked)
	asked := w.count(endpoint)
	want(t, v, p, engine.CodeTokenRevoked)
	if w.count(endpoint) != asked+1 {
		t.Error("a refusal was cached")
	}
}

// TestIntrospectionSecret is read for each call: it may change, and be missing.
func TestIntrospectionSecret(t *testing.T) {
	t.Parallel()
	const endpoint = "https://opaque.example/introspect"
	w, secret := newWorld(), secretFile(t)
	v := start(t, credentials.Config{Issuers: []credentials.Issuer{{Issuer: "https://opaque.example", Introspection: &credentials.Introspection{
		Endpoint: endpoint, ClientID: "a:b", ClientSecretFile: secret, Opaque: true,
	}}}}, credentials.Options{Transport: w})
	var sent string
	w.set(endpoint, func(r *http.Request) (*http.Response, error) {
		user, password, _ := r.BasicAuth()
		sent = user + " " + password
		return response(r, 200, `{"active": true, "sub": "alice", "aud": "`+server+`", "client_id": "agent", "exp": 4102444800}`), nil
	})
	for i, c := range []struct {
		text, sent string
		code       engine.Code
	}{
		{"one\n", "a%3Ab one", ""},
		{"t wo%", "a%3Ab t+wo%25", ""},
		{"\n", "", engine.CodeIssuerUnavailable},
		{strings.Repeat("a", 300<<10), "", engine.CodeIssuerUnavailable},
	} {
		if err := os.WriteFile(secret, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		sent = ""
		want(t, v, credentials.Presented{ID: "c", Token: fmt.Sprintf("opaque%d", i), Audience: server}, c.code)
		if sent != c.sent {
			t.Errorf("secret %d: sent %q, want %q", i, sent, c.sent)
		}
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	want(t, v, credentials.Presented{ID: "c", Token: "opaque", Audience: server}, engine.CodeIssuerUnavailable)
}

// TestIntrospectionIsBounded: a slow issuer holds at most 32 tokens, and none
// of another issuer.
func TestIntrospectionIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.text(jwksA, 200, keysOf(t, "k"))
		w.set("https://opaque.example/introspect", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA), {
			Issuer: "https://opaque.example", Introspection: &credentials.Introspection{
				Endpoint: "https://opaque.example/introspect", ClientID: "authzd", ClientSecretFile: secretFile(t), Opaque: true,
			},
		}}}, w)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				p := credentials.Presented{ID: "c", Token: fmt.Sprintf("opaque-%d", i), Audience: server}
				want(t, v, p, engine.CodeIssuerUnavailable)
			})
		}
		want(t, v, fresh(t, issuerA, "a1", "k"), "")
		if took := time.Since(began); took != 0 {
			t.Errorf("the other issuer's token took %v", took)
		}
		all.Wait()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("took %v", took)
		}
		if n := w.count("https://opaque.example/introspect"); n != 32 {
			t.Errorf("%d calls at once", n)
		}
	})
}

// TestOneProofAtOnce: of many that come with the same proof at the same time,
// one passes.
func TestOneProofAtOnce(t *testing.T) {
	t.Parallel()
	w, c := newWorld(), newClock()
	v := start(t, trust(t, w), credentials.Options{Now: c.now, Transport: w})
	s := readScene(t, readAttacks(t).Bases["dpop"])
	p := present(t, s)
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if _, rejected := v.Verify(t.Context(), p); rejected == nil {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	if passed.Load() != 1 {
		t.Errorf("%d passed", passed.Load())
	}
}

func TestMemoryReplay(t *testing.T) {
	t.Parallel()
	m, now := credentials.NewMemoryReplay(2), time.Unix(clockStart, 0)
	once := func(key byte, after time.Duration, want bool) {
		t.Helper()
		got, err := m.Once(t.Context(), [32]byte{key}, now.Add(after), now.Add(after+time.Minute))
		if err != nil || got != want {
			t.Errorf("key %d after %v: %v, %v", key, after, got, err)
		}
	}
	once(1, 0, true)
	once(1, 59*time.Second, false)
	once(2, 1*time.Second, true)
	once(3, 30*time.Second, false) // full: refused, and nobody is forgotten
	once(1, 30*time.Second, false)
	once(3, 61*time.Second, true) // 1 and 2 are over
	once(1, 61*time.Second, true)
	once(4, 61*time.Second, false)
}

// TestAlgorithmsOfAnIssuer: what an issuer is configured for, and no more.
func TestAlgorithmsOfAnIssuer(t *testing.T) {
	t.Parallel()
	w, c := newWorld(), newClock()
	config := trust(t, w)
	config.Issuers[0].Algorithms = []string{"PS256"}
	v := start(t, config, credentials.Options{Now: c.now, Transport: w})
	p := present(t, readScene(t, readAttacks(t).Bases["jwt"]))
	want(t, v, p, engine.CodeTokenAlgorithm)
}

// TestOpaqueTokensGoToOneIssuer: the one of the longest prefix, and nobody else
// sees the token.
func TestOpaqueTokensGoToOneIssuer(t *testing.T) {
	t.Parallel()
	w, secret := newWorld(), secretFile(t)
	var config credentials.Config
	for _, prefix := range []string{"", "a_", "a_b_"} {
		host := "https://as" + strings.ReplaceAll(prefix, "_", "-") + "x.example"
		config.Issuers = append(config.Issuers, credentials.Issuer{Issuer: host, Introspection: &credentials.Introspection{
			Endpoint: host + "/i", ClientID: "c", ClientSecretFile: secret, Opaque: true, TokenPrefix: prefix,
		}})
		w.text(host+"/i", 200, `{"active": true, "sub": "alice", "aud": "`+server+`", "client_id": "agent", "exp": 4102444800}`)
	}
	v := start(t, config, credentials.Options{Transport: w})
	for token, host := range map[string]string{"x": "https://asx.example", "a_x": "https://asa-x.example", "a_b_x": "https://asa-b-x.example"} {
		c, rejected := v.Verify(t.Context(), credentials.Presented{ID: "c", Token: token, Audience: server})
		if rejected != nil || c.Issuer != host {
			t.Errorf("%s: %s, %+v", token, c.Issuer, rejected)
		}
		if n := w.count(host + "/i"); n != 1 {
			t.Errorf("%s was asked %d times", host, n)
		}
	}
	// Dots do not make a JWT, nor does its beginning without them.
	for _, token := range []string{"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", "v4.public.abc", "eyJhbGciOiJub25lIn0", "a==", ".."} {
		want(t, v, credentials.Presented{ID: "c", Token: token, Audience: server}, "")
	}
	// What any reader could take for a JWT is one, and a bad one here.
	for _, token := range []string{
		"eyJhbGciOiJub25lIn0.e30.", "e30.e30.e30", "ewo.x", "IHt9.a.b", "eyJ+.e30.e30", "e~yJ9.e30.e30", "eyJhbGciOiJFUzI1NiJ9=.e30.AAAA",
		"a b", "a_\n", strings.Repeat("a", 17<<10), "é", "=", "",
	} {
		_, rejected := v.Verify(t.Context(), credentials.Presented{ID: "c", Token: token, Audience: server})
		if rejected == nil || rejected.Code != engine.CodeTokenMalformed && rejected.Code != engine.CodeTokenAlgorithm {
			t.Errorf("%.40q: %+v", token, rejected)
		}
	}
}

// TestJWTByIntrospection: where an issuer's keys are not configured, the issuer
// itself is asked about its JWTs, whose form is checked all the same.
func TestJWTByIntrospection(t *testing.T) {
	t.Parallel()
	w := newWorld()
	v := start(t, credentials.Config{Issuers: []credentials.Issuer{{Issuer: issuerA, Introspection: &credentials.Introspection{
		Endpoint: "https://as.example/a/i", ClientID: "c", ClientSecretFile: secretFile(t),
	}}}}, credentials.Options{Transport: w})
	p := fresh(t, issuerA, "mallory", "k")
	want(t, v, p, engine.CodeIssuerUnavailable)
	w.text("https://as.example/a/i", 200, `{"active": false}`)
	want(t, v, p, engine.CodeTokenRevoked)
	w.text("https://as.example/a/i", 200, `{"active": true, "sub": "bob", "aud": "`+server+`", "client_id": "agent", "exp": 4102444800}`)
	c, rejected := v.Verify(t.Context(), p)
	if rejected != nil || c.Subject != "bob" || c.VerifiedBy != "introspection" {
		t.Errorf("%+v, %+v", c, rejected)
	}
	for change, code := range map[string]engine.Code{"alg": engine.CodeTokenAlgorithm, "typ": engine.CodeTokenWrongKind} {
		parts := jwsParts{
			Key: "mallory", Sign: "none", Header: map[string]any{"alg": "ES256", "typ": "at+jwt", change: "none"},
			Claims: map[string]any{"iss": issuerA},
		}
		asked := w.count("https://as.example/a/i")
		want(t, v, credentials.Presented{ID: "c", Token: parts.build(t, ""), Audience: server}, code)
		if w.count("https://as.example/a/i") != asked {
			t.Errorf("asked about a token with another %s", change)
		}
	}
	// Opaque tokens were not asked for.
	want(t, v, credentials.Presented{ID: "c", Token: "opaque", Audience: server}, engine.CodeTokenMalformed)
}
