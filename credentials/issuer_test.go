package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
)

// In these tests time is that of testing/synctest: it passes only where
// everybody waits.

const (
	issuerA = "https://as.example/a"
	jwksA   = "https://as.example/a/jwks"
	jwksB   = "https://as.example/b/jwks"
)

// fresh builds a token of an issuer by a key that is valid for an hour from
// now, which is synctest's.
func fresh(tb testing.TB, issuer, key, kid string) credentials.Presented {
	tb.Helper()
	alg := "ES256"
	if strings.HasPrefix(key, "b") {
		alg = "RS256"
	}
	now := time.Now().Unix()
	p := jwsParts{
		Key:    key,
		Header: map[string]any{"alg": alg, "kid": kid, "typ": "at+jwt"},
		Claims: map[string]any{
			"iss": issuer, "sub": "alice", "aud": server, "client_id": "agent", "jti": "t", "iat": now, "exp": now + 3600,
		},
	}
	return credentials.Presented{ID: "c", Token: p.build(tb, ""), Audience: server}
}

func want(tb testing.TB, v *credentials.Verifier, p credentials.Presented, code engine.Code) {
	tb.Helper()
	_, rejected := v.Verify(tb.Context(), p)
	switch {
	case rejected == nil && code != "":
		tb.Errorf("verified, want %s", code)
	case rejected != nil && rejected.Code != code:
		tb.Errorf("code %s, want %q", rejected.Code, code)
	}
}

// started is start for a bubble of synctest: Run ends with the test's body.
func started(t *testing.T, c credentials.Config, w *world) *credentials.Verifier {
	t.Helper()
	v, err := credentials.New(c, credentials.Options{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	run(t, v)
	synctest.Wait()
	return v
}

// keysOf serves a1 under a kid.
func keysOf(tb testing.TB, kid string) string {
	tb.Helper()
	return jwks(tb, jwkOf(tb, "a1", false, map[string]any{"kid": kid}))
}

func issuer(name, address string) credentials.Issuer {
	return credentials.Issuer{Issuer: name, Keys: credentials.KeySource{JWKSURL: address, MaxAge: time.Hour}}
}

// TestIssuerAwayForAnHour: old keys serve as long as configured, then nothing
// does, and the issuer's return is noticed without help.
func TestIssuerAwayForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.text(jwksA, 200, keysOf(t, "k"))
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}}, w)
		token := func() credentials.Presented { return fresh(t, issuerA, "a1", "k") }
		want(t, v, token(), "")

		w.text(jwksA, 503, "later")
		time.Sleep(59 * time.Minute)
		want(t, v, token(), "")
		// Whether this key is the issuer's, nobody can tell now.
		want(t, v, fresh(t, issuerA, "a1", "new"), engine.CodeIssuerUnavailable)
		if s := v.Status()[0]; !s.Usable || s.Err == nil || s.Keys != 1 {
			t.Errorf("status of old keys: %+v", s)
		}
		time.Sleep(2 * time.Minute)
		want(t, v, token(), engine.CodeIssuerUnavailable)
		if s := v.Status()[0]; s.Usable || s.Err == nil {
			t.Errorf("status of keys too old: %+v", s)
		}
		asked := w.count(jwksA)
		if asked > 61*60/30+10 {
			t.Errorf("asked %d times in an hour", asked)
		}

		w.text(jwksA, 200, keysOf(t, "k"))
		time.Sleep(31 * time.Second)
		if s := v.Status()[0]; !s.Usable || s.Err != nil {
			t.Errorf("status after the return: %+v", s)
		}
		want(t, v, token(), "")
		want(t, v, fresh(t, issuerA, "a1", "new"), engine.CodeTokenSignature)
	})
}

// TestRotation: a new key serves at once, a removed one no longer than to the
// next fetch.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.text(jwksA, 200, keysOf(t, "old"))
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}}, w)
		want(t, v, fresh(t, issuerA, "a1", "old"), "")
		time.Sleep(time.Minute)
		w.text(jwksA, 200, keysOf(t, "new"))
		want(t, v, fresh(t, issuerA, "a1", "old"), "")
		want(t, v, fresh(t, issuerA, "a1", "new"), "")
		want(t, v, fresh(t, issuerA, "a1", "old"), engine.CodeTokenSignature)
	})
}

// TestStormOfUnknownKeys: whatever tokens name, the issuer is asked once in the
// interval.
func TestStormOfUnknownKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.text(jwksA, 200, keysOf(t, "k"))
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}}, w)
		time.Sleep(time.Minute)
		before := w.count(jwksA)
		for second := range 60 {
			for i := range 20 {
				want(t, v, fresh(t, issuerA, "mallory", fmt.Sprintf("kid-%d-%d", second, i)), engine.CodeTokenSignature)
			}
			time.Sleep(time.Second)
		}
		if n := w.count(jwksA) - before; n < 2 || n > 8 {
			t.Errorf("1200 unknown kids in a minute made %d requests", n)
		}
		want(t, v, fresh(t, issuerA, "a1", "k"), "")
	})
}

// TestBadKeySets: what an issuer serves instead of keys makes its own tokens
// unusable; those of the other one verify without waiting.
func TestBadKeySets(t *testing.T) {
	t.Parallel()
	var rotation atomic.Int64
	for name, page := range map[string]func(*http.Request) (*http.Response, error){
		"html":    func(r *http.Request) (*http.Response, error) { return response(r, 200, "<html>Sign in</html>"), nil },
		"empty":   func(r *http.Request) (*http.Response, error) { return response(r, 200, ""), nil },
		"no keys": func(r *http.Request) (*http.Response, error) { return response(r, 200, `{"keys": []}`), nil },
		"no set":  func(r *http.Request) (*http.Response, error) { return response(r, 200, `[]`), nil },
		"twice": func(r *http.Request) (*http.Response, error) {
			return response(r, 200, `{"keys": [], "keys": []}`), nil
		},
		"redirect": func(r *http.Request) (*http.Response, error) { return response(r, 302, ""), nil },
		"error":    func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") },
		"huge":     func(r *http.Request) (*http.Response, error) { return endless(r, 0), nil },
		"slow":     func(r *http.Request) (*http.Response, error) { return endless(r, time.Second), nil },
		"silent": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"many keys": func(r *http.Request) (*http.Response, error) {
			keys := make([]map[string]any, 65)
			for i := range keys {
				keys[i] = jwkOf(t, "a1", false, map[string]any{"kid": "k" + strings.Repeat("k", i)})
			}
			return response(r, 200, jwks(t, keys...)), nil
		},
		"rotating": func(r *http.Request) (*http.Response, error) {
			return response(r, 200, keysOf(t, strconv.FormatInt(rotation.Add(1), 10))), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.text(jwksA, 200, keysOf(t, "k"))
				w.set(jwksB, page)
				w.text("http://127.0.0.1/", 200, keysOf(t, "k")) // where the redirect leads
				v := started(t, credentials.Config{Issuers: []credentials.Issuer{
					issuer(issuerA, jwksA), issuer("https://as.example/b", jwksB),
				}}, w)
				code := engine.CodeIssuerUnavailable
				if name == "rotating" {
					code = engine.CodeTokenSignature
				}
				bad, good := fresh(t, "https://as.example/b", "a1", "k"), fresh(t, issuerA, "a1", "k")
				for range 200 {
					go v.Verify(t.Context(), bad)
				}
				began := time.Now()
				for range 10 {
					want(t, v, good, "")
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("the other issuer's tokens took %v", took)
				}
				want(t, v, bad, code)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("the bad issuer's token took %v", took)
				}
				time.Sleep(10 * time.Minute)
				if n := w.count(jwksB); n > 70 {
					t.Errorf("asked %d times in ten minutes", n)
				}
			})
		})
	}
}

// TestWaitingIsBounded: for an issuer that does not answer, 64 tokens wait two
// seconds, and the rest are refused at once.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set(jwksA, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}}, w)
		p := fresh(t, issuerA, "a1", "k")
		began := time.Now()
		var waited, refused atomic.Int64
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				want(t, v, p, engine.CodeIssuerUnavailable)
				switch took := time.Since(began); {
				case took == 0:
					refused.Add(1)
				case took <= 2*time.Second:
					waited.Add(1)
				}
			})
		}
		all.Wait()
		if waited.Load() != 64 || refused.Load() != 136 {
			t.Errorf("%d waited, %d were refused at once", waited.Load(), refused.Load())
		}
	})
}

// endless is a body without end, a piece at a time.
func endless(r *http.Request, pause time.Duration) *http.Response {
	res := response(r, 200, "")
	res.Body = io.NopCloser(&spring{ctx: r.Context(), pause: pause})
	return res
}

type spring struct {
	ctx   context.Context //nolint:containedctx // a reader has no other way to learn of the end of its request
	pause time.Duration
}

func (s *spring) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.pause > 0 {
		time.Sleep(s.pause)
		p = p[:1]
	}
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestDiscovery reads the address of the keys from metadata, which has to be
// this issuer's.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	const oauth = "https://as.example/.well-known/oauth-authorization-server/a"
	const oidc = "https://as.example/a/.well-known/openid-configuration"
	for _, c := range []struct {
		name, at, body string
		code           engine.Code
	}{
		{"RFC 8414", oauth, `{"issuer": "https://as.example/a", "jwks_uri": "` + jwksA + `"}`, ""},
		{"OpenID Connect", oidc, `{"issuer": "https://as.example/a", "jwks_uri": "` + jwksA + `"}`, ""},
		{"another issuer's", oauth, `{"issuer": "https://as.example/a/", "jwks_uri": "` + jwksA + `"}`, engine.CodeIssuerUnavailable},
		{"no issuer", oauth, `{"jwks_uri": "` + jwksA + `"}`, engine.CodeIssuerUnavailable},
		{"plain http", oauth, `{"issuer": "https://as.example/a", "jwks_uri": "http://as.example/a/jwks"}`, engine.CodeIssuerUnavailable},
		{"this machine", oauth, `{"issuer": "https://as.example/a", "jwks_uri": "http://127.0.0.1/jwks"}`, engine.CodeIssuerUnavailable},
		{"no address", oauth, `{"issuer": "https://as.example/a"}`, engine.CodeIssuerUnavailable},
		{"a page", oauth, `<html>`, engine.CodeIssuerUnavailable},
		{"issuer twice", oauth, `{"issuer": "https://evil.example", "issuer": "https://as.example/a", "jwks_uri": "` + jwksA + `"}`, engine.CodeIssuerUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.text(jwksA, 200, keysOf(t, "k"))
				w.text("http://127.0.0.1/jwks", 200, keysOf(t, "k"))
				w.text("http://as.example/a/jwks", 200, keysOf(t, "k"))
				w.text(c.at, 200, c.body)
				v := started(t, credentials.Config{Issuers: []credentials.Issuer{
					{Issuer: issuerA, Keys: credentials.KeySource{Discover: true}},
				}}, w)
				want(t, v, fresh(t, issuerA, "a1", "k"), c.code)
			})
		})
	}
}

// TestKeysFromAFile follows the file.
func TestKeysFromAFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(keysOf(t, "old"))
	synctest.Test(t, func(t *testing.T) {
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{
			{Issuer: issuerA, Keys: credentials.KeySource{File: name}},
		}}, newWorld())
		want(t, v, fresh(t, issuerA, "a1", "old"), "")
		write(keysOf(t, "new"))
		time.Sleep(11 * time.Minute)
		want(t, v, fresh(t, issuerA, "a1", "new"), "")
		want(t, v, fresh(t, issuerA, "a1", "old"), engine.CodeTokenSignature)
	})
}

// TestKeysAnybodyWrites: whoever can write keys can make tokens.
func TestKeysAnybodyWrites(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(name, []byte(keysOf(t, "k")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o666); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{
			{Issuer: issuerA, Keys: credentials.KeySource{File: name}},
		}}, newWorld())
		want(t, v, fresh(t, issuerA, "a1", "k"), engine.CodeIssuerUnavailable)
	})
}

// TestWithoutRun: nobody fetches, so nothing verifies, and nothing hangs.
func TestWithoutRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, err := credentials.New(credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}},
			credentials.Options{Transport: newWorld()})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		want(t, v, fresh(t, issuerA, "a1", "k"), engine.CodeIssuerUnavailable)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		want(t, &credentials.Verifier{}, fresh(t, issuerA, "a1", "k"), engine.CodeTokenIssuer)
	})
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.text(jwksA, 200, keysOf(t, "k"))
		v := started(t, credentials.Config{Issuers: []credentials.Issuer{issuer(issuerA, jwksA)}}, w)
		if err := v.Run(t.Context()); !errors.Is(err, credentials.ErrRunning) {
			t.Errorf("a second Run: %v", err)
		}
	})
}
