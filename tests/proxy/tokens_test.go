package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"
)

// issuer makes access tokens.
type issuer struct {
	key *ecdsa.PrivateKey
	// file is what --issuers wants.
	file string
}

const issuerName = "https://as.example.com"

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "jwks.json"), string(jwks))
	i := &issuer{key: key, file: filepath.Join(dir, "issuers.yaml")}
	write(t, i.file, "issuers:\n  - issuer: "+issuerName+"\n    keys: {file: jwks.json}\n")
	return i
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token is one for a person at a resource, with a scope.
func (i *issuer) token(t *testing.T, who, resource, scope string) string {
	t.Helper()
	now := time.Now().Unix()
	head, err := json.Marshal(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "k1"})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": issuerName, "sub": who, "aud": resource, "iat": now, "exp": now + 3600, "client_id": "client", "scope": scope, "jti": who,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := encode(head) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature[:])
}
