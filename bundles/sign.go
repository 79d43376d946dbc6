package bundles

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// SigningKey is the private half of a key. The zero value signs nothing.
type SigningKey struct {
	private crypto.Signer
	public  publicKey
}

// ParseSigningKey reads the private key of a PEM file (PKCS #8, PKCS #1 or SEC
// 1), of a kind that [Keys] takes. Faults are CodeKeyInvalid.
func ParseSigningKey(text []byte) (SigningKey, error) {
	k, err := parseSigningKey(text)
	if err != nil {
		return SigningKey{}, &Error{Code: CodeKeyInvalid, Err: err}
	}
	return k, nil
}

func parseSigningKey(text []byte) (SigningKey, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // as openssl ecparam writes it
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return SigningKey{}, errors.New("not one private key in PEM")
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return SigningKey{}, fmt.Errorf("PEM type %q is no private key without a passphrase", block.Type)
	}
	if err != nil {
		return SigningKey{}, fmt.Errorf("private key: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return SigningKey{}, errors.New("no key for signatures")
	}
	return newSigningKey(signer)
}

func newSigningKey(private crypto.Signer) (SigningKey, error) {
	public := private.Public()
	key, err := newKey("", "", public)
	return SigningKey{private: private, public: key}, err
}

// ID is the thumbprint of the key (RFC 7638), its name where none is given.
func (k SigningKey) ID() string { return k.public.id }

// SignOptions say what a signature says.
type SignOptions struct {
	// KeyID is the name of the key; default its thumbprint.
	KeyID string
	// Scope is what the signature is for; default none.
	Scope string
	// Algorithm is the JWS algorithm; default the only one of the key's, and
	// RS256 for RSA.
	Algorithm string
}

// SignArchive signs the bundle archive r and writes it anew to w, the same
// files in order with .signatures.json beside them; a signature that it had is
// replaced. What [OpenArchive] would refuse is refused.
func SignArchive(w io.Writer, r io.Reader, key SigningKey, o SignOptions, l Limits) error {
	l = l.withDefaults()
	packed, err := readPacked(r, l)
	if err != nil {
		return err
	}
	files, err := unpack(packed, l)
	if err != nil {
		return err
	}
	text, err := signFiles(files, key, o, l)
	if err != nil {
		return err
	}
	return pack(w, append(unsigned(files), File{Path: signaturesFile, Data: text}))
}

// SignFolder returns the text of .signatures.json for the bundle in a folder.
// It lists every file that is not hidden, and the manifest: see [OpenSigned].
func SignFolder(path string, key SigningKey, o SignOptions, l Limits) ([]byte, error) {
	l = l.withDefaults()
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer root.Close() //nolint:errcheck // read only, nothing to lose
	files, err := readWholeFolder(root.FS(), l)
	if err != nil {
		return nil, err
	}
	known, _ := bundleFiles(files)
	if _, err := assemble(known, l); err != nil {
		return nil, err
	}
	return signList(files, key, o, l)
}

// signFiles signs an archive's files, if they make a bundle.
func signFiles(files []File, key SigningKey, o SignOptions, l Limits) ([]byte, error) {
	if _, err := assemble(slices.Clone(files), l); err != nil {
		return nil, err
	}
	return signList(files, key, o, l)
}

// unsigned is files without a signature.
func unsigned(files []File) []File {
	return slices.DeleteFunc(slices.Clone(files), func(f File) bool { return f.Path == signaturesFile })
}

// signedFile, signedPayload and signatureFile are OPA's format.
type signedFile struct {
	Name      string `json:"name"`
	Hash      string `json:"hash"`
	Algorithm string `json:"algorithm"`
}

type signedPayload struct {
	Files []signedFile `json:"files"`
	KeyID string       `json:"keyid"`
	Scope string       `json:"scope,omitempty"`
}

type signatureHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

type signatureFile struct {
	Signatures []string `json:"signatures"`
}

func signList(files []File, key SigningKey, o SignOptions, l Limits) ([]byte, error) {
	alg, err := key.algorithm(o.Algorithm)
	if err != nil {
		return nil, err
	}
	if len(o.KeyID) > maxKeyID {
		return nil, errorf(CodeKeyInvalid, "", "an id is longer than %d bytes", maxKeyID)
	}
	id := cmp.Or(o.KeyID, key.ID())
	payload := signedPayload{Files: []signedFile{}, KeyID: id, Scope: o.Scope}
	files = unsigned(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i := range files {
		f := &files[i]
		sum, err := hashFile(f, defaultHash, l)
		if err != nil {
			return nil, err
		}
		payload.Files = append(payload.Files, signedFile{Name: f.Path, Hash: hex.EncodeToString(sum), Algorithm: defaultHash})
	}
	header, err := json.Marshal(signatureHeader{Algorithm: alg, KeyID: id, Type: "JWT"})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64(header) + "." + b64(body)
	signature, err := sign(key.private, alg, rand.Reader, []byte(text))
	if err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(signatureFile{Signatures: []string{text + "." + b64(signature)}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append(out, '\n'), nil
}

// algorithm is what the key signs with.
func (k SigningKey) algorithm(wanted string) (string, error) {
	if k.private == nil {
		return "", errorf(CodeKeyInvalid, "", "no key to sign with")
	}
	names := algorithmNames()
	if _, ok := k.private.(*rsa.PrivateKey); ok {
		names = rsaNames()
	}
	for _, name := range names {
		if (wanted == "" || wanted == name) && k.public.accepts(name) {
			return name, nil
		}
	}
	return "", errorf(CodeSignatureAlgorithm, "", "the algorithm %q is not one of the key's", wanted)
}

// Kinds of keys that NewSigningKey makes.
const (
	KeyES256   = "es256"
	KeyEd25519 = "ed25519"
)

// NewSigningKey makes a key of a kind, KeyES256 or KeyEd25519, and returns both
// halves in PEM (PKCS #8 and PKIX), which OPA and openssl read too.
func NewSigningKey(kind string) (key SigningKey, private, public []byte, err error) {
	var signer crypto.Signer
	switch kind {
	case KeyES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case KeyEd25519:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		return key, nil, nil, errorf(CodeKeyInvalid, "", "%q is not one of %s, %s", kind, KeyES256, KeyEd25519)
	}
	if err != nil {
		return key, nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if key, err = newSigningKey(signer); err != nil {
		return key, nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return key, nil, nil, fmt.Errorf("make a key: %w", err)
	}
	open, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return key, nil, nil, fmt.Errorf("make a key: %w", err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open})
	return key, private, public, nil
}
