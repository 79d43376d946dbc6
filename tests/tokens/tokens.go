// Package tokens makes an issuer of access tokens for tests and benchmarks of
// the built binary: a throw-away ES256 key, and the file that --issuers wants.
package tokens

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// Issuer signs access tokens.
type Issuer struct {
	name string
	key  *ecdsa.PrivateKey
}

// New makes an issuer of that name, an https URL.
func New(name string) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &Issuer{name: name, key: key}, nil
}

// Write writes the issuers file and its keys into dir, and names the former.
func (i *Issuer) Write(dir string) (string, error) {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	keys, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		return "", fmt.Errorf("write the key: %w", err)
	}
	file := filepath.Join(dir, "issuers.yaml")
	for name, text := range map[string]string{
		filepath.Join(dir, "jwks.json"): string(keys),
		file:                            "issuers:\n  - issuer: " + i.name + "\n    keys: {file: jwks.json}\n    details_types: [\"*\"]\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write the issuers file: %w", err)
		}
	}
	return file, nil
}

// Token is a JWT for one hour (RFC 9068) with these claims beside its own.
func (i *Issuer) Token(claims map[string]any) (string, error) {
	now := time.Now().Unix()
	all := map[string]any{"iss": i.name, "iat": now, "exp": now + 3600, "client_id": "client", "jti": rand.Text()}
	maps.Copy(all, claims)
	head, err := json.Marshal(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "k1"})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	text := encode(head) + "." + encode(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature[:]), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
