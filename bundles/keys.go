package bundles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/authzd/authzd/rar"
)

// Bounds of what a key may be, and of how many there are.
const (
	maxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192
	maxKeyID   = 256
	maxKeyText = 1 << 20
)

// Keys are the public keys that bundle signatures are verified with. The zero
// value holds none, so that nothing verifies. It may be read by any number of
// goroutines once no more are added.
type Keys struct{ list []publicKey }

// publicKey is one of Keys.
type publicKey struct {
	id string
	// alg restricts the key to one algorithm, if its JWK does.
	alg    string
	public any
}

// Add takes the keys of one file over: PEM with public keys or certificates
// (of which only the key counts: neither their dates nor who issued them), or a
// JWK or JWK set (RFC 7517).
//
// id is the name that signatures give the key of a PEM file that holds one.
// Where it is empty, the name of a key in PEM, or of a JWK without "kid", is its
// thumbprint (RFC 7638), which is also the name that [SigningKey] signs under.
//
// A file that holds anything else is refused as a whole with CodeKeyInvalid,
// so that no key that was meant to count is left out: private and symmetric
// keys, keys for another use, and an id that is known already.
func (k *Keys) Add(id string, text []byte) error {
	found, err := parseKeys(id, text)
	if err != nil {
		return &Error{Code: CodeKeyInvalid, Err: err}
	}
	for i, f := range found {
		known := func(list []publicKey) bool {
			for _, other := range list {
				if other.id == f.id {
					return true
				}
			}
			return false
		}
		if known(k.list) || known(found[:i]) {
			return errorf(CodeKeyInvalid, "", "a key with the id %q is there already", f.id)
		}
	}
	if len(k.list)+len(found) > maxKeys {
		return errorf(CodeKeyInvalid, "", "more than %d keys", maxKeys)
	}
	k.list = append(k.list, found...)
	return nil
}

// Len is the number of keys.
func (k *Keys) Len() int { return len(k.list) }

// IDs are the names of the keys, in the order in which they were added.
func (k *Keys) IDs() []string {
	ids := make([]string, 0, len(k.list))
	for _, key := range k.list {
		ids = append(ids, key.id)
	}
	return ids
}

func (k *Keys) find(id string) (publicKey, bool) {
	for _, key := range k.list {
		if key.id == id {
			return key, true
		}
	}
	return publicKey{}, false
}

func parseKeys(id string, text []byte) ([]publicKey, error) {
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxKeyText)
	}
	if len(id) > maxKeyID {
		return nil, fmt.Errorf("an id is longer than %d bytes", maxKeyID)
	}
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
		if id != "" {
			return nil, errors.New("the keys of a JWK set have their own ids: give none")
		}
		return parseJWKs(text)
	}
	return parsePEM(id, text)
}

func parsePEM(id string, text []byte) ([]publicKey, error) {
	var found []publicKey
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("neither PEM nor a JWK set")
		}
		if lead := text[:bytes.Index(text, []byte("-----BEGIN"))]; len(bytes.TrimSpace(lead)) > 0 {
			return nil, errors.New("text outside the PEM blocks")
		}
		text = bytes.TrimSpace(rest)
		public, err := publicOf(block)
		if err != nil {
			return nil, err
		}
		key, err := newKey(id, "", public)
		if err != nil {
			return nil, err
		}
		found = append(found, key)
	}
	switch {
	case len(found) == 0:
		return nil, errors.New("holds no key")
	case len(found) > 1 && id != "":
		return nil, errors.New("holds several keys: one id is not enough for them")
	}
	return found, nil
}

func publicOf(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		return public, nil
	case "RSA PUBLIC KEY":
		public, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		return public, nil
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return cert.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("holds a private key: bundles are verified with the public one, and the private one belongs to who signs them")
	}
	return nil, fmt.Errorf("PEM type %q is neither a public key nor a certificate", block.Type)
}

// newKey checks that signatures can be verified with public.
func newKey(id, alg string, public any) (publicKey, error) {
	k := publicKey{id: id, alg: alg, public: public}
	usable := false
	for _, name := range algorithmNames() {
		usable = usable || k.accepts(name)
	}
	if !usable {
		return k, fmt.Errorf("no key for signatures: authzd takes P-256, P-384, P-521, Ed25519, and RSA of %d to %d bits", minRSABits, maxRSABits)
	}
	if id == "" {
		k.id = thumbprint(public)
	}
	return k, nil
}

func parseJWKs(text []byte) ([]publicKey, error) {
	doc, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: maxKeyText})
	if err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	list, ok := doc.Get("keys")
	if !ok {
		list = rar.ArrayValue(doc) // one JWK
	}
	if list.Kind() != rar.Array || list.Len() == 0 {
		return nil, errors.New("JWK set: holds no key")
	}
	var found []publicKey
	for i := range list.Len() {
		key, err := parseJWK(list.Index(i))
		if err != nil {
			return nil, fmt.Errorf("JWK %d: %w", i, err)
		}
		found = append(found, key)
	}
	return found, nil
}

func parseJWK(v rar.Value) (publicKey, error) {
	text := func(name string) string { m, _ := v.Get(name); return m.Text() }
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := v.Get(private); ok {
			return publicKey{}, errors.New("a private or symmetric key: bundles are verified with public ones")
		}
	}
	if _, ok := v.Get("use"); ok && text("use") != "sig" {
		return publicKey{}, errors.New("not for signatures (use)")
	}
	if ops, ok := v.Get("key_ops"); ok && (ops.Len() != 1 || ops.Index(0).Text() != "verify") {
		return publicKey{}, errors.New("not for verifying only (key_ops)")
	}
	if len(text("kid")) > maxKeyID {
		return publicKey{}, fmt.Errorf("an id is longer than %d bytes", maxKeyID)
	}
	public, err := jwkPublic(text)
	if err != nil {
		return publicKey{}, err
	}
	return newKey(text("kid"), text("alg"), public)
}

// jwkPublic makes a key of the members of a JWK (RFC 7518 section 6, RFC 8037).
func jwkPublic(text func(string) string) (any, error) {
	var fault error
	number := func(name string) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(text(name))
		if err != nil || len(b) == 0 {
			fault = fmt.Errorf("%q is no base64url", name)
		}
		return b
	}
	switch kty, crv := text("kty"), text("crv"); {
	case kty == "RSA":
		n, e := number("n"), new(big.Int).SetBytes(number("e"))
		if fault == nil && (e.BitLen() > 31 || e.Bit(0) == 0 || e.Int64() < 3) {
			fault = errors.New("the exponent is not an odd number from 3 to 2^31-1")
		}
		if fault != nil {
			return nil, fault
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}, nil
	case kty == "OKP" && crv == "Ed25519":
		x := number("x")
		if fault == nil && len(x) != ed25519.PublicKeySize {
			fault = errors.New("a key of another length")
		}
		return ed25519.PublicKey(x), fault
	case kty == "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
		if !ok {
			return nil, fmt.Errorf("the curve %q is not taken", crv)
		}
		x, y := number("x"), number("y")
		if fault != nil {
			return nil, fault
		}
		point := append(append([]byte{uncompressed}, x...), y...)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil || len(x) != len(y) {
			return nil, errors.New("no point of its curve")
		}
		return key, nil
	}
	return nil, fmt.Errorf("keys of type %q are not taken", text("kty"))
}

// uncompressed begins a point in SEC 1, section 2.3.3.
const uncompressed = 4

// thumbprint names a key by RFC 7638, with SHA-256.
func thumbprint(public any) string {
	b64 := base64.RawURLEncoding.EncodeToString
	var text string
	switch k := public.(type) {
	case *rsa.PublicKey:
		text = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, b64(big.NewInt(int64(k.E)).Bytes()), b64(k.N.Bytes()))
	case ed25519.PublicKey:
		text = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(k))
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return ""
		}
		half := (len(point) - 1) / 2
		text = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, k.Curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:]))
	}
	sum := sha256.Sum256([]byte(text))
	return b64(sum[:])
}
