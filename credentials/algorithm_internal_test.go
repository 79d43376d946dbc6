package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hash functions that are used below
	_ "crypto/sha512"
	"strings"
	"testing"
)

// signBy signs by the standard library, whose answers the package is held to.
func signBy(t *testing.T, key crypto.Signer, alg string, signed []byte) []byte {
	t.Helper()
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[len(alg)-3:]]
	digest := signed
	if hash != 0 {
		h := hash.New()
		h.Write(signed)
		digest = h.Sum(nil)
	}
	var out []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, k, digest)
		if signErr != nil {
			t.Fatal(signErr)
		}
		n := (k.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			out, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		}
	case ed25519.PrivateKey:
		out = ed25519.Sign(k, digest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// family names the key of an algorithm.
func family(alg string) string {
	switch alg[:2] {
	case "RS", "PS":
		return "RSA"
	case "Ed":
		return "Ed"
	}
	return alg
}

// TestAlgorithms: each algorithm takes its own signatures by its own keys, and
// none of another algorithm, key or text.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521(), "ES224": elliptic.P224()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[name] = r
	}
	keys[algEdDSA], keys[algEd25519] = ed, ed
	signed := []byte("header.claims")
	for _, alg := range algorithmNames() {
		signature := signBy(t, keys[alg], alg, signed)
		for name, key := range keys {
			for _, other := range append(algorithmNames(), "none", "HS256", "HS384", "HS512", "ES256K", "Ed448", "") {
				same := alg == other || family(alg) == "Ed" && (other == algEdDSA || other == algEd25519)
				got := verifySignature(key.Public(), other, signed, signature)
				if want := same && family(alg) == family(name); got != want {
					t.Errorf("signed by %s, checked by the key of %s as %s: %v", alg, name, other, got)
				}
			}
		}
		if verifySignature(keys[alg].Public(), alg, []byte("header.claimz"), signature) ||
			verifySignature(keys[alg].Public(), alg, signed, signature[1:]) ||
			verifySignature(keys[alg].Public(), alg, signed, append(signature, 0)) ||
			verifySignature(keys[alg].Public(), alg, signed, nil) ||
			verifySignature([]byte("secret"), alg, signed, signature) ||
			verifySignature(nil, alg, signed, signature) {
			t.Errorf("%s takes another text or signature", alg)
		}
	}
}
