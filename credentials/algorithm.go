package credentials

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

const (
	algEdDSA   = "EdDSA"
	algEd25519 = "Ed25519"
	minRSABits = 2048
	maxRSABits = 8192 // a check with a larger one costs milliseconds
)

// algorithmNames are all that can be configured. There is no none and no HMAC
// among them, so no configuration can admit these.
func algorithmNames() []string {
	return []string{
		"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		algEdDSA, algEd25519,
	}
}

func defaultAlgorithms() []string { return []string{"ES256", "RS256", "PS256", algEdDSA, algEd25519} }

// fits tells whether a key may be used with an algorithm: its family, and for
// elliptic curves the one curve (RFC 7518 section 3.4).
func fits(key any, alg string) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.Curve == elliptic.P256() ||
			alg == "ES384" && k.Curve == elliptic.P384() ||
			alg == "ES512" && k.Curve == elliptic.P521()
	case *rsa.PublicKey:
		n := k.N.BitLen()
		return n >= minRSABits && n <= maxRSABits && slices.Contains(
			[]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, alg)
	case ed25519.PublicKey:
		return alg == algEdDSA || alg == algEd25519
	}
	return false
}

// verifySignature checks one signature with one key and one algorithm, all
// three chosen by us.
func verifySignature(key any, alg string, signed, signature []byte) bool {
	if !fits(key, alg) {
		return false
	}
	name, ok := jwa.LookupSignatureAlgorithm(alg)
	if !ok {
		return false
	}
	v, err := jws.VerifierFor(name)
	if err != nil {
		return false
	}
	return v.Verify(key, signed, signature) == nil
}
