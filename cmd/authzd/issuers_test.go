package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/credentials"
)

const oneIssuer = `issuers:
  - issuer: https://as.example.com
    keys: {discover: true}
`

func TestIssuersFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "issuers.yaml")
	text := `issuers:
  - issuer: https://sso.example.com/realms/main
    keys: {file: jwks.json, refresh_every: 5m, min_interval: 1s, max_age: 1h}
    algorithms: [ES256]
    accept_jwt: true
    audiences: [https://mcp.example.com]
    audience_names: {https://mcp.example.com: mcp}
    require_single_audience: true
    require_bound: true
    max_lifetime: 15m
    preset: keycloak
    mapping:
      scope_array: true
      expose: {roles: /roles}
    details_types: [payment_initiation]
    introspection: {endpoint: https://sso.example.com/introspect, client_id: authzd, client_secret_file: /run/secret, check_jwts: true, cache_for: 10s}
    accept_asserted: true
  - issuer: https://as.example.com
    keys: {jwks_url: https://as.example.com/jwks}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := readIssuers(file)
	if err != nil {
		t.Fatal(err)
	}
	mapping := credentials.Keycloak()
	mapping.ScopeArray = true
	mapping.Expose = map[string]string{"roles": "/roles"}
	want := credentials.Config{Issuers: []credentials.Issuer{
		{
			Issuer:     "https://sso.example.com/realms/main",
			Keys:       credentials.KeySource{File: filepath.Join(filepath.Dir(file), "jwks.json"), RefreshEvery: 5 * time.Minute, MinInterval: time.Second, MaxAge: time.Hour},
			Algorithms: []string{"ES256"}, AcceptJWT: true, Audiences: []string{"https://mcp.example.com"},
			AudienceNames:         map[string]string{"https://mcp.example.com": "mcp"},
			RequireSingleAudience: true, RequireBound: true, MaxLifetime: 15 * time.Minute, Mapping: mapping,
			DetailsTypes: []string{"payment_initiation"},
			Introspection: &credentials.Introspection{
				Endpoint: "https://sso.example.com/introspect", ClientID: "authzd", ClientSecretFile: "/run/secret", CheckJWTs: true, CacheFor: 10 * time.Second,
			},
			AcceptAsserted: true,
		},
		{Issuer: "https://as.example.com", Keys: credentials.KeySource{JWKSURL: "https://as.example.com/jwks"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIssuersFileRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", ""},
		"no issuers":      {"issuers: []", "/issuers: is empty"},
		"a list":          {"- issuer: https://as.example.com", ""},
		"unknown":         {oneIssuer + "    accept_assert: true\n", "accept_assert"},
		"unknown on top":  {oneIssuer + "issuer: x\n", "issuer"},
		"other case":      {oneIssuer + "    Accept_Asserted: true\n", "Accept_Asserted"},
		"Go's name":       {oneIssuer + "    AcceptAsserted: true\n", "AcceptAsserted"},
		"twice":           {oneIssuer + "    accept_jwt: false\n    accept_jwt: true\n", "accept_jwt"},
		"text for a bool": {oneIssuer + "    accept_asserted: \"false\"\n", ""},
		"no unit":         {oneIssuer + "    max_lifetime: 15\n", ""},
		"text for a list": {oneIssuer + "    audiences: https://mcp.example.com\n", ""},
		"anchors":         {"a: &x 1\n" + oneIssuer, ""},
		"two documents":   {oneIssuer + "---\n" + oneIssuer, ""},
		"no list":         {oneIssuer + "    audiences: []\n", "/issuers/0/audiences: is empty"},
		"no value":        {oneIssuer + "    max_lifetime:\n", "/issuers/0/max_lifetime: has no value"},
		"bare map":        {oneIssuer + "    introspection:\n", "/issuers/0/introspection: has no value"},
		"empty text":      {oneIssuer + "    mapping: {tenant_claim: \"\"}\n", "tenant_claim: is empty"},
		"a number":        {oneIssuer + "    details_types: [1.10]\n", "/details_types/0: is a number"},
		"a bool":          {oneIssuer + "    mapping: {client_tokens: {claim: a, equals: true}}\n", "equals: is true or false"},
		"one name twice":  {oneIssuer + "    audience_names: {https://a.example: api, https://b.example: api}\n", "stands for two"},
		"name of another": {oneIssuer + "    audiences: [https://a.example]\n    audience_names: {https://b.example: api}\n", "not among the audiences"},
		"preset":          {oneIssuer + "    preset: Keycloak\n", `"Keycloak" is not one of entra-id, keycloak, okta, ping`},
		"http":            {"issuers:\n  - issuer: http://as.example.com\n    keys: {discover: true}\n", "is not https"},
		"no keys":         {"issuers:\n  - issuer: https://as.example.com\n", "keys come from one of"},
		"same twice":      {oneIssuer + "  - issuer: https://as.example.com\n    keys: {discover: true}\n", "named twice"},
		"algorithm":       {oneIssuer + "    algorithms: [none]\n", `"none"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseIssuers([]byte(c.text), ".")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A file that everybody may write to decides nothing.
func TestIssuersFileWritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "issuers.yaml")
	if err := os.WriteFile(file, []byte(oneIssuer), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readIssuers(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readIssuers(file); err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Errorf("%v", err)
	}
}

// The recipes of docs/security.md are files that serve takes.
func TestIssuersOfSecurityPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	recipes := regexp.MustCompile("(?s)```yaml\n(issuers:.*?)```").FindAllSubmatch(page, -1)
	if len(recipes) != 5 {
		t.Fatalf("%d recipes", len(recipes))
	}
	for _, r := range recipes {
		if _, err := parseIssuers(r[1], "."); err != nil {
			t.Errorf("%v\n%s", err, r[1])
		}
	}
}

// With issuers, claims that they do not admit count for nothing, and a token
// that does not verify is a deny that does not say why.
func TestServeWithIssuers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "issuers.yaml")
	keys := filepath.Join(filepath.Dir(file), "jwks.json")
	for name, text := range map[string]string{
		file: "issuers:\n  - issuer: https://as.example.com\n    keys: {file: jwks.json}\n",
		keys: `{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var log logBuffer
	done := make(chan int, 1)
	go func() {
		args := []string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "payments=" + paymentsBundle, "--issuers", file}
		done <- run(ctx, args, stdio{in: strings.NewReader(""), out: in, err: &log}, func(string) string { return "" })
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("no ready line: %s", log.String())
	}
	var ready struct{ HTTP, GRPC string }
	if err := json.Unmarshal(lines.Bytes(), &ready); err != nil {
		t.Fatal(err)
	}
	claims := queryFile(t, allowQuery)
	if got := postCheck(t, ready.HTTP, claims); got != "DENY" {
		t.Errorf("claims that no issuer admits: %s", got)
	}
	before, _, _ := strings.Cut(claims, `"claims"`)
	token := before + `"access_token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2FzLmV4YW1wbGUuY29tIn0.AAAA"}]}`
	code, answer, stderr := command(t, token, "check", "-f", "-", "--addr", ready.GRPC)
	if code != 2 || !strings.Contains(answer, `"token.signature"`) || strings.Contains(answer, "eyJ") {
		t.Errorf("a forged token: code %d, %s, %s", code, answer, stderr)
	}
	if code, _, stderr := command(t, token, "check", "-f", "-"); code != 1 || !strings.Contains(stderr, "--issuers") {
		t.Errorf("a token without a server: code %d, %s", code, stderr)
	}
	stop()
	if code := <-done; code != 0 || strings.Contains(log.String(), "eyJ") {
		t.Errorf("exit code %d: %s", code, log.String())
	}
}
