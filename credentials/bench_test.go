package credentials_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/authzd/authzd/credentials"
)

// verifier is one whose issuers' keys are there.
func verifier(b *testing.B, w *world) *credentials.Verifier {
	b.Helper()
	return start(b, trust(b, w), credentials.Options{Now: newClock().now, Transport: w})
}

func presentBase(b *testing.B, base string) (credentials.Presented, scene) {
	b.Helper()
	s := readScene(b, readAttacks(b).Bases[base])
	return credentials.Presented{ID: "c", Token: s.build(b, ""), Audience: s.Audience}, s
}

// BenchmarkSignatureES256 is the bare check that BenchmarkVerifyES256 is held
// against: hash and curve, by the standard library.
func BenchmarkSignatureES256(b *testing.B) {
	p, _ := presentBase(b, "jwt")
	i := strings.LastIndexByte(p.Token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(p.Token[i+1:])
	if err != nil {
		b.Fatal(err)
	}
	key, ok := signer(b, "a1").Public().(*ecdsa.PublicKey)
	if !ok {
		b.Fatal("no ECDSA key")
	}
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256([]byte(p.Token[:i]))
		if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkVerifyES256(b *testing.B) {
	w := newWorld()
	v := verifier(b, w)
	p, _ := presentBase(b, "jwt")
	benchmark(b, v, p)
}

func BenchmarkVerifyRS256(b *testing.B) {
	w := newWorld()
	v := verifier(b, w)
	p, _ := presentBase(b, "plain")
	benchmark(b, v, p)
}

// BenchmarkIntrospectionCached: a hit asks nobody.
func BenchmarkIntrospectionCached(b *testing.B) {
	w := newWorld()
	v := verifier(b, w)
	p, s := presentBase(b, "opaque")
	answerAt(b, w, "https://opaque.example/introspect", s.Answer)
	benchmark(b, v, p)
	if n := w.count("https://opaque.example/introspect"); n != 1 {
		b.Errorf("asked %d times", n)
	}
}

func benchmark(b *testing.B, v *credentials.Verifier, p credentials.Presented) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, rejected := v.Verify(b.Context(), p); rejected != nil {
			b.Fatal(rejected.Code)
		}
	}
}
