package credentials_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// clockStart is the time of all test data.
const clockStart = 1795370400

const server = "https://mcp.example/mcp"

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(clockStart, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// keyring are private keys by name, made once for all tests.
var keyring = sync.OnceValue(func() map[string]crypto.Signer {
	out := map[string]crypto.Signer{}
	ec := func(c elliptic.Curve, names ...string) {
		for _, n := range names {
			k, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				panic(err)
			}
			out[n] = k
		}
	}
	ec(elliptic.P256(), "a1", "a-enc", "a-leaked", "shared-a", "shared-b", "client", "mallory", "s1")
	ec(elliptic.P384(), "a-384")
	for n, bits := range map[string]int{"a-rsa": 2048, "b1": 2048, "e1": 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		out[n] = k
	}
	out["b-small"] = smallRSA()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	out["r1"] = ed
	return out
})

// smallRSA makes a key of 1024 bits by hand.
func smallRSA() *rsa.PrivateKey {
	for {
		p, err1 := rand.Prime(rand.Reader, 512)
		q, err2 := rand.Prime(rand.Reader, 512)
		if err := errors.Join(err1, err2); err != nil {
			panic(err)
		}
		one, e := big.NewInt(1), big.NewInt(65537)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		n := new(big.Int).Mul(p, q)
		if d != nil && n.BitLen() == 1024 {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}

func signer(tb testing.TB, name string) crypto.Signer {
	tb.Helper()
	k, ok := keyring()[name]
	if !ok {
		tb.Fatalf("no key %q", name)
	}
	return k
}

// jwkOf gives a key as JWK, with more members.
func jwkOf(tb testing.TB, name string, private bool, more map[string]any) map[string]any {
	tb.Helper()
	var raw any = signer(tb, name).Public()
	if private {
		raw = signer(tb, name)
	}
	k, err := jwk.Import(raw)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		tb.Fatal(err)
	}
	for n, v := range more {
		out[n] = v
	}
	return out
}

func thumbprint(tb testing.TB, name string) string {
	tb.Helper()
	k, err := jwk.Import(signer(tb, name).Public())
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	return b64(sum)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a signature without the library under test.
func sign(tb testing.TB, key crypto.Signer, alg, signed string) []byte {
	tb.Helper()
	sum := sha256.Sum256([]byte(signed))
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			tb.Fatal(err)
		}
		n := (k.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = crypto.SHA256
		digest := sum[:]
		if strings.HasPrefix(alg, "PS") {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
		if k.N.BitLen() < 2048 { // the standard library refuses: PKCS #1 by hand
			return smallSignature(k, digest)
		}
		out, err := k.Sign(rand.Reader, digest, opts)
		if err != nil {
			tb.Fatal(err)
		}
		return out
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(signed))
	}
	tb.Fatalf("no way to sign with %T", key)
	return nil
}

func smallSignature(k *rsa.PrivateKey, digest []byte) []byte {
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	n := k.N.BitLen() / 8
	t := append(prefix, digest...)
	em := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, n-len(t)-3)...)
	em = append(append(em, 0), t...)
	return new(big.Int).Exp(new(big.Int).SetBytes(em), k.D, k.N).FillBytes(make([]byte, n))
}

// jwsParts is a description of a JWS in test data.
type jwsParts struct {
	Key    string `json:"key"`
	Sign   string `json:"sign"`
	Header any    `json:"header"`
	Claims any    `json:"claims"`
	// Forged are claims set after signing.
	Forged map[string]any `json:"forged"`
	Raw    *string        `json:"raw"`
}

func (p *jwsParts) build(tb testing.TB, ath string) string {
	tb.Helper()
	if p.Header == nil {
		return *p.Raw
	}
	header, claims := resolve(tb, p.Header, ath), resolve(tb, p.Claims, ath)
	head, body := b64(header), b64(claims)
	sig := p.signature(tb, header, head+"."+body)
	if p.Forged != nil {
		var c map[string]any
		if err := json.Unmarshal(claims, &c); err != nil {
			tb.Fatal(err)
		}
		for n, v := range p.Forged {
			c[n] = v
		}
		text, err := json.Marshal(c)
		if err != nil {
			tb.Fatal(err)
		}
		body = b64(text)
	}
	whole := head + "." + body + "." + b64(sig)
	if p.Raw == nil {
		return whole
	}
	return strings.NewReplacer("{jwt}", whole, "{head}", head, "{body}", body, "{sig}", b64(sig), "{loose}", loose(b64(sig))).Replace(*p.Raw)
}

// loose spells base64url of 64 bytes in another way: the last of its 86
// characters has four bits that say nothing.
func loose(s string) string {
	if len(s) != 86 {
		return s
	}
	return s[:85] + string(s[85]+1)
}

func (p *jwsParts) signature(tb testing.TB, header []byte, signed string) []byte {
	tb.Helper()
	var h struct {
		Alg any `json:"alg"`
	}
	_ = json.Unmarshal(header, &h)
	alg, _ := h.Alg.(string)
	mode, arg, _ := strings.Cut(p.Sign, ":")
	key := signer(tb, p.Key)
	switch mode {
	case "":
		return sign(tb, key, alg, signed)
	case "as":
		return sign(tb, key, arg, signed)
	case "none":
		return nil
	case "zeros":
		return make([]byte, 64)
	case "flip":
		s := sign(tb, key, alg, signed)
		s[len(s)-1] ^= 1
		return s
	case "asn1":
		sum := sha256.Sum256([]byte(signed))
		s, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			tb.Fatal(err)
		}
		return s
	case "hmac":
		secret, err := json.Marshal(jwkOf(tb, p.Key, false, nil))
		if err != nil {
			tb.Fatal(err)
		}
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(signed))
		return m.Sum(nil)
	}
	tb.Fatalf("sign %q", p.Sign)
	return nil
}

// resolve writes JSON with the $ places filled in; "$json:" is text as it is.
func resolve(tb testing.TB, v any, ath string) []byte {
	tb.Helper()
	if s, ok := v.(string); ok {
		if raw, ok := strings.CutPrefix(s, "$json:"); ok {
			return []byte(raw)
		}
	}
	text, err := json.Marshal(fill(tb, v, ath))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func fill(tb testing.TB, v any, ath string) any {
	tb.Helper()
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for n, x := range v {
			out[n] = fill(tb, x, ath)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = fill(tb, x, ath)
		}
		return out
	case string:
		return place(tb, v, ath)
	}
	return v
}

func place(tb testing.TB, s, ath string) any {
	tb.Helper()
	name, arg, _ := strings.Cut(s, ":")
	n := 0
	switch name {
	case "$ath":
		return ath
	case "$jkt":
		return thumbprint(tb, arg)
	case "$jwk":
		return jwkOf(tb, arg, false, nil)
	case "$private":
		return jwkOf(tb, arg, true, nil)
	case "$pad":
		_, _ = fmt.Sscan(arg, &n)
		return strings.Repeat("x", n)
	case "$details":
		_, _ = fmt.Sscan(arg, &n)
		return slices.Repeat([]any{map[string]any{"type": "payment"}}, n)
	case "$actors":
		_, _ = fmt.Sscan(arg, &n)
		var act any
		for i := range n {
			level := map[string]any{"sub": fmt.Sprintf("agent-%d", i)}
			if act != nil {
				level["act"] = act
			}
			act = level
		}
		return act
	}
	return s
}
