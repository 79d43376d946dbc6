package credentials_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/credentials"
)

// world is the network that a Verifier under test sees.
type world struct {
	mu    sync.Mutex
	pages map[string]func(*http.Request) (*http.Response, error)
	asked map[string]int
}

func newWorld() *world {
	return &world{pages: map[string]func(*http.Request) (*http.Response, error){}, asked: map[string]int{}}
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	address := r.URL.String()
	w.mu.Lock()
	w.asked[address]++
	page := w.pages[address]
	w.mu.Unlock()
	if page == nil {
		return response(r, http.StatusNotFound, "no such page"), nil
	}
	return page(r)
}

func (w *world) set(address string, page func(*http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[address] = page
}

func (w *world) text(address string, status int, body string) {
	w.set(address, func(r *http.Request) (*http.Response, error) { return response(r, status, body), nil })
}

func (w *world) count(address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[address]
}

func response(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Request: r, Header: http.Header{"Location": {"http://127.0.0.1/"}},
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

func jwks(tb testing.TB, keys ...map[string]any) string {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func secretFile(tb testing.TB) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("s3cret\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// trust is the configuration that the attacks are made on.
func trust(tb testing.TB, w *world) credentials.Config {
	tb.Helper()
	more := func(kid string) map[string]any { return map[string]any{"kid": kid} }
	with := func(kid, name string, value any) map[string]any { return map[string]any{"kid": kid, name: value} }
	w.text("https://as.example/a/jwks", 200, jwks(tb,
		jwkOf(tb, "a1", false, map[string]any{"kid": "a1", "use": "sig", "alg": "ES256"}),
		jwkOf(tb, "a-rsa", false, with("a-rsa", "alg", "RS256")),
		jwkOf(tb, "a-enc", false, with("a-enc", "use", "enc")),
		jwkOf(tb, "a-leaked", true, more("a-leaked")),
		jwkOf(tb, "a-384", false, more("a-384")),
		jwkOf(tb, "shared-a", false, with("shared", "key_ops", []string{"verify"})),
		jwkOf(tb, "shared-a", false, with("a-ops", "key_ops", []string{"sign"})),
		jwkOf(tb, "a1", false, more("twice")),
		jwkOf(tb, "s1", false, more("twice")),
		map[string]any{"kty": "oct", "kid": "o", "k": "c2VjcmV0"},
		map[string]any{"kty": "future", "kid": "f"},
	))
	w.text("https://as.example/b/jwks", 200, jwks(tb,
		jwkOf(tb, "b1", false, with("b1", "use", "sig")),
		jwkOf(tb, "b-small", false, more("b-small")),
		jwkOf(tb, "shared-b", false, more("shared")),
	))
	w.text("https://strict.example/jwks", 200, jwks(tb, jwkOf(tb, "s1", false, more("s1"))))
	w.text("https://revocable.example/jwks", 200, jwks(tb, jwkOf(tb, "r1", false, more("r1"))))
	w.text("https://login.example/t1/keys", 200, jwks(tb, jwkOf(tb, "e1", false, more("e1"))))
	w.text("https://away.example/jwks", 503, "later")
	secret := secretFile(tb)
	from := func(address string) credentials.KeySource { return credentials.KeySource{JWKSURL: address} }
	return credentials.Config{Issuers: []credentials.Issuer{
		{
			Issuer: "https://as.example/a", Keys: from("https://as.example/a/jwks"), DetailsTypes: []string{"payment"}, AcceptAsserted: true,
		},
		{Issuer: "https://as.example/b", Keys: from("https://as.example/b/jwks"), AcceptJWT: true, Mapping: credentials.Keycloak()},
		{Issuer: "https://pinned.example", Keys: from("https://as.example/a/jwks"), Audiences: []string{"https://other.example"}},
		{
			Issuer: "https://strict.example", Keys: from("https://strict.example/jwks"), RequireSingleAudience: true, RequireBound: true,
			MaxLifetime: time.Hour, Mapping: credentials.Mapping{SubjectClaim: "email", ScopeClaim: "scp", ScopeArray: true},
		},
		{
			Issuer: "https://login.example/t1/v2.0", Keys: from("https://login.example/t1/keys"), AcceptJWT: true,
			Mapping: credentials.EntraID(), AudienceNames: map[string]string{server: "11111111-2222"},
		},
		{Issuer: "https://opaque.example", Introspection: &credentials.Introspection{
			Endpoint: "https://opaque.example/introspect", ClientID: "authzd", ClientSecretFile: secret, Opaque: true, TokenPrefix: "op_",
		}},
		{
			Issuer: "https://revocable.example", Keys: from("https://revocable.example/jwks"), Introspection: &credentials.Introspection{
				Endpoint: "https://revocable.example/introspect", ClientID: "authzd", ClientSecretFile: secret, CheckJWTs: true,
			},
		},
		{Issuer: "https://away.example", Keys: from("https://away.example/jwks")},
	}}
}

// start makes a Verifier and keeps its Run going until the test ends.
func start(tb testing.TB, c credentials.Config, o credentials.Options) *credentials.Verifier {
	tb.Helper()
	v, err := credentials.New(c, o)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, v)
	for settled := false; !settled; { // every issuer was asked once
		runtime.Gosched()
		settled = true
		for _, s := range v.Status() {
			settled = settled && (s.Usable || s.Err != nil)
		}
	}
	return v
}
