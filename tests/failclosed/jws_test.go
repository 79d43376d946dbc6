package failclosed_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
)

// seal is how a JWS is made, as a change of a good one.
type seal struct {
	// Header and Claims are merged into the good ones (RFC 7396: null removes).
	Header map[string]any `json:"header,omitempty"`
	Claims map[string]any `json:"claims,omitempty"`
	// Key signs: "" is the one that is trusted, "other" is not, "public" is HMAC
	// with the trusted key's public half in PEM, "none" leaves the signature empty.
	Key string `json:"key,omitempty"`
	// Text changes the JSON of header or claims before it is signed.
	Text []replacement `json:"text,omitempty"`
	// Forged are claims that are merged in after it was signed.
	Forged map[string]any `json:"forged,omitempty"`
}

// replacement puts New in the place of Old, which is there once.
type replacement struct {
	In  string `json:"in"` // "header" or "claims"
	Old string `json:"old"`
	New string `json:"new"`
}

// keyring is the trusted key and another one, of ES256.
type keyring struct{ trusted, other *ecdsa.PrivateKey }

func newKeyring(t *testing.T) keyring {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key
	}
	return keyring{keys[0], keys[1]}
}

// publicPEM is the trusted key's public half.
func (k keyring) publicPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.trusted.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jws is the compact JWS of header and claims with the changes of s.
func (k keyring) jws(t *testing.T, s seal, header, claims map[string]any) string {
	t.Helper()
	claims = merged(claims, s.Claims)
	parts := map[string]string{"header": jsonText(t, merged(header, s.Header)), "claims": jsonText(t, claims)}
	for _, r := range s.Text {
		if strings.Count(parts[r.In], r.Old) != 1 {
			t.Fatalf("%q is not once in %s: %s", r.Old, r.In, parts[r.In])
		}
		parts[r.In] = strings.Replace(parts[r.In], r.Old, r.New, 1)
	}
	head := b64(parts["header"]) + "."
	signature := k.sign(t, s.Key, []byte(head+b64(parts["claims"])))
	if s.Forged != nil {
		parts["claims"] = jsonText(t, merged(claims, s.Forged))
	}
	return head + b64(parts["claims"]) + "." + b64(string(signature))
}

func (k keyring) sign(t *testing.T, key string, text []byte) []byte {
	t.Helper()
	private := k.trusted
	switch key {
	case "":
	case "other":
		private = k.other
	case "public":
		mac := hmac.New(sha256.New, k.publicPEM(t))
		mac.Write(text)
		return mac.Sum(nil)
	case "none":
		return nil
	default:
		t.Fatalf("no key %q", key)
	}
	sum := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// merged is base with the members of patch, without those that are null there.
func merged(base, patch map[string]any) map[string]any {
	out := maps.Clone(base)
	for name, v := range patch {
		if v == nil {
			delete(out, name)
		} else {
			out[name] = v
		}
	}
	return out
}

// jsonText is v as OPA hashes it: members sorted, no white space, no escapes for HTML.
func jsonText(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
