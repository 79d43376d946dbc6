package bundles

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // SHA-256
	_ "crypto/sha512" // SHA-384 and SHA-512
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
)

// Names of JWS algorithms (RFC 7518, RFC 8037, RFC 9864).
const (
	algES256   = "ES256"
	algES384   = "ES384"
	algES512   = "ES512"
	algRS256   = "RS256"
	algEdDSA   = "EdDSA"
	algEd25519 = "Ed25519"
)

// algorithmNames are all that a signature may be made with. There is no none
// and no HMAC among them, so no configuration can admit these.
func algorithmNames() []string {
	return append([]string{algES256, algES384, algES512, algEdDSA, algEd25519}, rsaNames()...)
}

func rsaNames() []string { return []string{algRS256, "RS384", "RS512", "PS256", "PS384", "PS512"} }

// accepts: key and algorithm agree, and the JWK does not say otherwise.
func (k publicKey) accepts(alg string) bool {
	return (k.alg == "" || k.alg == alg) && fits(k.public, alg)
}

// fits tells whether a public key may be used with an algorithm: its family,
// and for elliptic curves the one curve (RFC 7518 section 3.4).
func fits(public any, alg string) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return alg == algES256 && k.Curve == elliptic.P256() ||
			alg == algES384 && k.Curve == elliptic.P384() ||
			alg == algES512 && k.Curve == elliptic.P521()
	case *rsa.PublicKey:
		n := k.N.BitLen()
		return n >= minRSABits && n <= maxRSABits && slices.Contains(rsaNames(), alg)
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && (alg == algEdDSA || alg == algEd25519)
	}
	return false
}

// hashOf is the hash that an algorithm's name ends with.
func hashOf(alg string) crypto.Hash {
	switch alg[len(alg)-3:] {
	case "256":
		return crypto.SHA256
	case "384":
		return crypto.SHA384
	}
	return crypto.SHA512
}

// verify checks one signature with one key and one algorithm, both chosen by
// us.
func (k publicKey) verify(alg string, signed, signature []byte) bool {
	if !k.accepts(alg) {
		return false
	}
	if public, ok := k.public.(ed25519.PublicKey); ok {
		return ed25519.Verify(public, signed, signature)
	}
	hash := hashOf(alg)
	digest := hash.New()
	digest.Write(signed)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		size := coordinateSize(public)
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, digest.Sum(nil), r, s)
	case *rsa.PublicKey:
		if strings.HasPrefix(alg, "PS") {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(public, hash, digest.Sum(nil), signature, options) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest.Sum(nil), signature) == nil
	}
	return false
}

// coordinateSize is the length of a coordinate in bytes.
func coordinateSize(k *ecdsa.PublicKey) int { return (k.Curve.Params().BitSize + 7) / 8 }

// sign makes the signature that verify checks.
func sign(key crypto.Signer, alg string, random io.Reader, text []byte) ([]byte, error) {
	if private, ok := key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(private, text), nil
	}
	hash := hashOf(alg)
	digest := hash.New()
	digest.Write(text)
	switch private := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(random, private, digest.Sum(nil))
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		size := coordinateSize(&private.PublicKey)
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out, nil
	case *rsa.PrivateKey:
		var options crypto.SignerOpts = hash
		if strings.HasPrefix(alg, "PS") {
			options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		out, err := private.Sign(random, digest.Sum(nil), options)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("no key for signatures: %T", key)
}
