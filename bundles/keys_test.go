package bundles_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/authzd/authzd/bundles"
)

func TestKeysRefuse(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	_, private, _, err := bundles.NewSigningKey(bundles.KeyES256)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	if err != nil {
		t.Fatal(err)
	}
	odd, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := jwk(t, tr.private.Public(), `"kid": "a"`)
	for _, tt := range []struct{ name, id, text string }{
		{"nothing", "", ""},
		{"words", "", "secret"},
		{"words before the key", "", "secret\n" + string(tr.pem)},
		{"words after the key", "", string(tr.pem) + "secret\n"},
		{"a private key", "", string(private)},
		{"RSA of 1024 bits", "", string(publicPEM(t, weak.Public()))},
		{"a curve of 224 bits", "", string(publicPEM(t, odd.Public()))},
		{"a broken key", "", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}))},
		{"a broken certificate", "", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))},
		{"another PEM", "", string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")}))},
		{"one id for two keys", "a", string(tr.pem) + string(newTrust(t).pem)},
		{"the same key twice", "", string(tr.pem) + string(tr.pem)},
		{"an id that is there", "known", string(newTrust(t).pem)},
		{"an id for a set", "a", `{"keys": [` + one + `]}`},
		{"an empty set", "", `{"keys": []}`},
		{"two of a kid", "", `{"keys": [` + one + `, ` + one + `]}`},
		{"a member twice", "", `{"kty": "oct", "kty": "EC"}`},
		{"a symmetric key", "", `{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}`},
		{"a private JWK", "", jwk(t, tr.private.Public(), `"d": "AA"`)},
		{"a key for encryption", "", jwk(t, tr.private.Public(), `"use": "enc"`)},
		{"a key to sign with", "", jwk(t, tr.private.Public(), `"key_ops": ["sign", "verify"]`)},
		{"for HMAC", "", jwk(t, tr.private.Public(), `"alg": "HS256"`)},
		{"for none", "", jwk(t, tr.private.Public(), `"alg": "none"`)},
		{"for another curve", "", jwk(t, tr.private.Public(), `"alg": "ES384"`)},
		{"no point", "", `{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}`},
		{"padding", "", `{"kty": "OKP", "crv": "Ed25519", "x": "AA=="}`},
		{"too short", "", `{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}`},
		{"an even exponent", "", `{"kty": "RSA", "n": "AAAA", "e": "Ag"}`},
		{"a key for agreement", "", `{"kty": "OKP", "crv": "X25519", "x": "AAAA"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys := keysOf(t, "known", tr.pem)
			wantCode(t, keys.Add(tt.id, []byte(tt.text)), bundles.CodeKeyInvalid, "")
			if got := keys.IDs(); !slices.Equal(got, []string{"known"}) {
				t.Errorf("the keys are now %q", got)
			}
		})
	}
}

func TestSigningKeyRefuses(t *testing.T) {
	t.Parallel()
	_, _, public, err := bundles.NewSigningKey(bundles.KeyEd25519)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing": nil, "words": []byte("secret"), "a public key": public, "RSA of 1024 bits": privatePEM(t, weak),
		"with a passphrase": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}),
	} {
		_, err := bundles.ParseSigningKey(text)
		t.Run(name, func(t *testing.T) { t.Parallel(); wantCode(t, err, bundles.CodeKeyInvalid, "") })
	}
	err = bundles.SignArchive(&bytes.Buffer{}, bytes.NewReader(newSigned(newTrust(t)).archive(t)), bundles.SigningKey{}, bundles.SignOptions{}, bundles.Limits{})
	wantCode(t, err, bundles.CodeKeyInvalid, "")
}

// TestSignatureWithoutKeyID: opa sign names no key, and while keys are rotated
// there are two.
func TestSignatureWithoutKeyID(t *testing.T) {
	t.Parallel()
	old, next := newTrust(t), newTrust(t)
	keys := keysOf(t, "old", old.pem)
	if err := keys.Add("next", next.pem); err != nil {
		t.Fatal(err)
	}
	b := newSigned(next)
	b.header, b.claims = map[string]any{"alg": "ES256", "kid": ""}, map[string]any{}
	_, s, err := bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), keys, bundles.VerifyOptions{}, bundles.Limits{})
	if err != nil || s.KeyID != "next" {
		t.Fatalf("got %+v, %v; want the key next", s, err)
	}
}

// TestYAMLNumbers: OPA's hash of YAML is the same for numbers that a policy sees
// as different, so these have none.
func TestYAMLNumbers(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"1": true, "-7": true, "18446744073709551615": true, "0.5": true, "1.0": false, "0.30000000000000004": true,
		"0.300000000000000040001": false, "18446744073709551616": false, "1e3": false, "-0": false, "0.0000001": false,
	} {
		tr := newTrust(t)
		var out bytes.Buffer
		b := newSigned(tr)
		b.name = ""
		b.file("data.json").text, b.file("data.json").name = "x: "+text+"\n", "data.yaml"
		key, err := bundles.ParseSigningKey(privatePEM(t, tr.private))
		if err != nil {
			t.Fatal(err)
		}
		err = bundles.SignArchive(&out, bytes.NewReader(b.archive(t)), key, bundles.SignOptions{}, bundles.Limits{})
		if ok && err != nil || !ok && err == nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
