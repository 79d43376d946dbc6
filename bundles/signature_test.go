package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/bundles"
)

const signatures = ".signatures.json"

// signedBundle is a bundle as its signer would pack it. Each attack changes one
// thing of it before or after the signature is made.
type signedBundle struct {
	files []tarEntry
	// listed are the files that the signature lists, by name.
	listed []map[string]any
	header map[string]any
	claims map[string]any
	// sign makes the signature; default with the trusted key.
	sign func(t *testing.T, text []byte) []byte
	// document wraps the JWS into .signatures.json.
	document func(jws string) string
	name     string // where it is put; "" leaves it out
}

type tarEntry struct {
	name, text string
	kind       byte
	link       string
}

// trust is a key that is trusted, and its file.
type trust struct {
	private *ecdsa.PrivateKey
	pem     []byte
}

func newTrust(t *testing.T) trust {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return trust{private: private, pem: publicPEM(t, private.Public())}
}

func publicPEM(t *testing.T, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func privatePEM(t *testing.T, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func keysOf(t *testing.T, id string, text []byte) bundles.Keys {
	t.Helper()
	var keys bundles.Keys
	if err := keys.Add(id, text); err != nil {
		t.Fatal(err)
	}
	return keys
}

func signES256(t *testing.T, key *ecdsa.PrivateKey, text []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

const (
	policyText   = "package authz\n\ndefault allow := false\n"
	dataText     = `{"limits": {"b": 1.50, "a": "<é"}}`
	dataCanon    = `{"limits":{"a":"<é","b":1.50}}`
	manifestText = `{"revision": "7", "metadata": {"authzd": {"contract": 1}}}`
	manifestHash = `{"metadata":{"authzd":{"contract":1}},"revision":"7"}`
	caseText     = "name: nobody\n"
)

func listed(name, content string) map[string]any {
	sum := sha256.Sum256([]byte(content))
	return map[string]any{"name": name, "hash": hex.EncodeToString(sum[:]), "algorithm": "SHA-256"}
}

func newSigned(tr trust) *signedBundle {
	return &signedBundle{
		files: []tarEntry{
			{name: "/authz/policy.rego", text: policyText}, // opa build writes the slash
			{name: "data.json", text: dataText},
			{name: ".manifest", text: manifestText},
			{name: "cases/one.yaml", text: caseText},
		},
		listed: []map[string]any{
			listed("authz/policy.rego", policyText),
			listed("data.json", dataCanon),
			listed(".manifest", manifestHash),
			listed("cases/one.yaml", caseText),
		},
		header:   map[string]any{"alg": "ES256", "kid": "release", "typ": "JWT"},
		claims:   map[string]any{"keyid": "release"},
		sign:     func(t *testing.T, text []byte) []byte { t.Helper(); return signES256(t, tr.private, text) },
		document: func(jws string) string { return `{"signatures": ["` + jws + `"]}` },
		name:     signatures,
	}
}

func (b *signedBundle) jws(t *testing.T) string {
	t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	claims := maps.Clone(b.claims)
	claims["files"] = b.listed
	text := part(b.header) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(b.sign(t, []byte(text)))
}

func (b *signedBundle) entries(t *testing.T) []tarEntry {
	t.Helper()
	entries := slices.Clone(b.files)
	if b.name != "" {
		entries = append(entries, tarEntry{name: b.name, text: b.document(b.jws(t))})
	}
	return entries
}

func (b *signedBundle) archive(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, e := range b.entries(t) {
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Size: int64(len(e.text)), Mode: 0o600, Linkname: e.link}
		if e.kind != 0 {
			h.Typeflag = e.kind
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (b *signedBundle) file(name string) *tarEntry {
	for i := range b.files {
		if strings.TrimPrefix(b.files[i].name, "/") == name {
			return &b.files[i]
		}
	}
	return nil
}

func (b *signedBundle) add(name, text string) {
	b.files = append(b.files, tarEntry{name: name, text: text})
}

func (b *signedBundle) remove(name string) {
	b.files = slices.DeleteFunc(b.files, func(e tarEntry) bool { return e.name == name })
}

func TestOpenSigned(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	packed := newSigned(tr).archive(t)
	content, s, err := bundles.OpenSignedArchive(bytes.NewReader(packed), keysOf(t, "release", tr.pem), bundles.VerifyOptions{}, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(packed)
	want := bundles.Signature{KeyID: "release", Algorithm: "ES256", Digest: "sha256:" + hex.EncodeToString(sum[:])}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if content.Bundle.Revision != "7" || len(content.Bundle.Modules) != 1 || len(content.Cases) != 1 || !content.Signed {
		t.Errorf("got %+v", content)
	}
}

// signedAttack is one thing that is wrong, and the code that it is refused with.
type signedAttack struct {
	name   string
	code   bundles.Code
	change func(*signedBundle)
	scope  string
	limits bundles.Limits
}

func hashed(name string, sum []byte, algorithm string) map[string]any {
	return map[string]any{"name": name, "hash": hex.EncodeToString(sum), "algorithm": algorithm}
}

func attacks(t *testing.T, tr trust) []signedAttack {
	t.Helper()
	other := newTrust(t)
	wide := sha512.Sum512_224([]byte(policyText))
	return []signedAttack{
		{name: "policy changed", code: bundles.CodeFileChanged, change: func(b *signedBundle) { b.file("authz/policy.rego").text += "allow := true\n" }},
		{name: "data changed", code: bundles.CodeFileChanged, change: func(b *signedBundle) { b.file("data.json").text = `{"limits": {"b": 1.5, "a": "<é"}}` }},
		{name: "manifest changed", code: bundles.CodeFileChanged, change: func(b *signedBundle) { b.file(".manifest").text = `{"revision": "8"}` }},
		{name: "case changed", code: bundles.CodeFileChanged, change: func(b *signedBundle) { b.file("cases/one.yaml").text = "name: somebody\n" }},
		{name: "policy added", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.add("z.rego", policyText) }},
		{name: "data added", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.add("a/data.json", "{}") }},
		{name: "manifest in a subfolder added", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.add("a/.manifest", "{}") }},
		{name: "listed twin of data in YAML", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) {
			b.file("data.json").name = "data.yaml"
		}},
		{name: "twin of data in YAML added", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.add("data.yaml", "limits: {}\n") }},
		{name: "renamed to another case", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.file("authz/policy.rego").name = "Authz/policy.rego" }},
		{name: "policy deleted", code: bundles.CodeFileMissing, change: func(b *signedBundle) { b.remove("/authz/policy.rego") }},
		{name: "manifest deleted", code: bundles.CodeFileMissing, change: func(b *signedBundle) { b.remove(".manifest") }},
		{name: "listed in another case too", code: bundles.CodeFileRepeated, change: func(b *signedBundle) {
			b.listed = append(b.listed, listed("DATA.json", dataCanon))
		}},
		{name: "listed twice", code: bundles.CodeFileRepeated, change: func(b *signedBundle) {
			b.listed = append(b.listed, listed("data.json", `{"evil":1}`))
		}},
		{name: "lists the signature", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) {
			b.listed = append(b.listed, listed(signatures, "{}"))
		}},
		{name: "lists a climbing name", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) {
			b.listed = append(b.listed, listed("../data.json", "{}"))
		}},
		{name: "lists an absolute name", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) { b.listed[1]["name"] = "/data.json" }},
		{name: "a listed file without algorithm", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) { delete(b.listed[1], "algorithm") }},
		{name: "a listed file says more", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) { b.listed[1]["skip"] = "yes" }},
		{name: "a hash cut short", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) { b.listed[1]["hash"] = "00" }},
		{name: "a hash of nothing", code: bundles.CodeSignatureFilesInvalid, change: func(b *signedBundle) { b.listed[1]["hash"] = "" }},
		{name: "MD5", code: bundles.CodeHashAlgorithm, change: func(b *signedBundle) { b.listed[0] = hashed("authz/policy.rego", make([]byte, 16), "MD5") }},
		{name: "SHA-1", code: bundles.CodeHashAlgorithm, change: func(b *signedBundle) { b.listed[0] = hashed("authz/policy.rego", make([]byte, 20), "SHA-1") }},
		{name: "SHA-512-224", code: bundles.CodeHashAlgorithm, change: func(b *signedBundle) { b.listed[0] = hashed("authz/policy.rego", wide[:], "SHA-512-224") }},
		{name: "no hash algorithm", code: bundles.CodeHashAlgorithm, change: func(b *signedBundle) { b.listed[0]["algorithm"] = "" }},

		{name: "no signature file", code: bundles.CodeSignatureMissing, change: func(b *signedBundle) { b.name = "" }},
		{name: "no signature in it", code: bundles.CodeSignatureMissing, change: func(b *signedBundle) { b.document = func(string) string { return `{"signatures": []}` } }},
		{name: "signature file in a subfolder", code: bundles.CodeSignatureMisplaced, change: func(b *signedBundle) { b.name = "authz/" + signatures }},
		{name: "another signature file in a subfolder", code: bundles.CodeSignatureMisplaced, change: func(b *signedBundle) { b.add("authz/"+signatures, "{}") }},
		{name: "signature file in another case", code: bundles.CodeSignatureMisplaced, change: func(b *signedBundle) { b.name = ".Signatures.json" }},
		{name: "two signature files", code: bundles.CodeDuplicateFile, change: func(b *signedBundle) { b.add(signatures, `{"signatures": []}`) }},
		{name: "two signature files, one in another case", code: bundles.CodeDuplicateFile, change: func(b *signedBundle) { b.add(".SIGNATURES.json", `{"signatures": []}`) }},
		{name: "two signatures", code: bundles.CodeSignatureRepeated, change: func(b *signedBundle) {
			b.document = func(jws string) string { return `{"signatures": ["` + jws + `", "` + jws + `"]}` }
		}},
		{name: "a plugin", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.document = func(jws string) string { return `{"signatures": ["` + jws + `"], "plugin": "none"}` }
		}},
		{name: "signatures given twice", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.document = func(jws string) string { return `{"signatures": [], "signatures": ["` + jws + `"]}` }
		}},
		{name: "no JSON", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.document = func(jws string) string { return jws } }},
		{name: "a fourth part", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.document = func(jws string) string { return `{"signatures": ["` + jws + `.x"]}` }
		}},
		{name: "a line break in it", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.document = func(jws string) string { return `{"signatures": ["` + jws[:8] + `\n` + jws[8:] + `"]}` }
		}},
		{name: "signature cut off", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.sign = func(*testing.T, []byte) []byte { return nil } }},
		{name: "zeros for a signature", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.sign = func(*testing.T, []byte) []byte { return make([]byte, 64) }
		}},
		{name: "another list below the signature", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.document = func(jws string) string {
				parts := strings.Split(jws, ".")
				return `{"signatures": ["` + parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"files":[]}`)) + "." + parts[2] + `"]}`
			}
		}},
		{name: "another key under the name of ours", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			b.sign = func(t *testing.T, text []byte) []byte { t.Helper(); return signES256(t, other.private, text) }
		}},
		{name: "another key, unnamed", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) {
			delete(b.header, "kid")
			b.sign = func(t *testing.T, text []byte) []byte { t.Helper(); return signES256(t, other.private, text) }
		}},
		{name: "a key of another name", code: bundles.CodeKeyUnknown, change: func(b *signedBundle) { b.header["kid"] = "stranger" }},
		{name: "a key of another name in the payload", code: bundles.CodeKeyUnknown, change: func(b *signedBundle) { b.claims["keyid"] = "stranger" }},
		{name: "none", code: bundles.CodeSignatureAlgorithm, change: func(b *signedBundle) {
			b.header["alg"] = "none"
			b.sign = func(*testing.T, []byte) []byte { return nil }
		}},
		{name: "none for an unnamed key", code: bundles.CodeSignatureAlgorithm, change: func(b *signedBundle) {
			b.header = map[string]any{"alg": "none"}
			b.sign = func(*testing.T, []byte) []byte { return nil }
		}},
		{name: "HMAC with the public key", code: bundles.CodeSignatureAlgorithm, change: func(b *signedBundle) {
			b.header["alg"] = "HS256"
			b.sign = func(_ *testing.T, text []byte) []byte {
				mac := hmac.New(sha256.New, tr.pem)
				mac.Write(text)
				return mac.Sum(nil)
			}
		}},
		{name: "an algorithm of another curve", code: bundles.CodeSignatureAlgorithm, change: func(b *signedBundle) { b.header["alg"] = "ES384" }},
		{name: "an algorithm in another case", code: bundles.CodeSignatureAlgorithm, change: func(b *signedBundle) { b.header["alg"] = "es256" }},
		{name: "brings its key", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.header["jwk"] = map[string]any{"kty": "EC"} }},
		{name: "says where its key is", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.header["jku"] = "https://attacker.example" }},
		{name: "wants an extension", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.header["crit"] = []string{"b64"} }},
		{name: "has an end", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.claims["exp"] = 4102444800 }},
		{name: "lists nothing", code: bundles.CodeFileUnlisted, change: func(b *signedBundle) { b.listed = []map[string]any{} }},
		{name: "has no list", code: bundles.CodeSignatureInvalid, change: func(b *signedBundle) { b.listed = nil }},

		{name: "a scope that is not wanted", code: bundles.CodeSignatureScope, change: func(b *signedBundle) { b.claims["scope"] = "test" }},
		{name: "without the scope that is wanted", code: bundles.CodeSignatureScope, scope: "production", change: func(*signedBundle) {}},
		{name: "the scope in another case", code: bundles.CodeSignatureScope, scope: "production", change: func(b *signedBundle) { b.claims["scope"] = "Production" }},
		{name: "a longer scope", code: bundles.CodeSignatureScope, scope: "production", change: func(b *signedBundle) { b.claims["scope"] = "production2" }},

		{name: "a name twice", code: bundles.CodeDuplicateFile, change: func(b *signedBundle) { b.add("data.json", "{}") }},
		{name: "a name in another case", code: bundles.CodeDuplicateFile, change: func(b *signedBundle) { b.add("Data.json", "{}") }},
		{name: "a path that climbs", code: bundles.CodeUnsafePath, change: func(b *signedBundle) { b.add("../evil.rego", policyText) }},
		{name: "a path that climbs within", code: bundles.CodeUnsafePath, change: func(b *signedBundle) { b.add("a/../evil.rego", policyText) }},
		{name: "a symbolic link", code: bundles.CodeUnsafeEntry, change: func(b *signedBundle) {
			b.files = append(b.files, tarEntry{name: "evil.rego", kind: tar.TypeSymlink, link: "/etc/passwd"})
		}},
		{name: "a signature that is a link", code: bundles.CodeUnsafeEntry, change: func(b *signedBundle) {
			b.files, b.name = append(b.files, tarEntry{name: signatures, kind: tar.TypeSymlink, link: "other.json"}), ""
		}},
		{name: "a hard link", code: bundles.CodeUnsafeEntry, change: func(b *signedBundle) {
			b.files = append(b.files, tarEntry{name: "evil.rego", kind: tar.TypeLink, link: "data.json"})
		}},
		{name: "a bomb", code: bundles.CodeTooLarge, limits: bundles.Limits{MaxBytes: 1 << 20, MaxFileBytes: 1 << 20}, change: func(b *signedBundle) {
			b.add("bomb.rego", strings.Repeat(" ", 8<<20))
		}},
		{name: "a bomb of many files", code: bundles.CodeTooLarge, limits: bundles.Limits{MaxFiles: 16}, change: func(b *signedBundle) {
			for i := range 100 {
				b.add(fmt.Sprintf("f%d.rego", i), policyText)
			}
		}},
	}
}

func TestOpenSignedRefuses(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	keys := keysOf(t, "release", tr.pem)
	for _, tt := range attacks(t, tr) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newSigned(tr)
			tt.change(b)
			content, s, err := bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), keys, bundles.VerifyOptions{Scope: tt.scope}, tt.limits)
			wantCode(t, err, tt.code, "")
			if s != (bundles.Signature{}) || len(content.Bundle.Modules) > 0 {
				t.Errorf("refused, and yet got %+v, %+v", content, s)
			}
		})
	}
}

// TestOpenSignedFolderRefuses makes the same attacks on folders, as far as a
// folder can hold them.
func TestOpenSignedFolderRefuses(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	keys := keysOf(t, "release", tr.pem)
	instead := map[string]bundles.Code{
		// A hidden file that is no part of a bundle is not seen.
		"manifest in a subfolder added": "",
	}
	for _, tt := range attacks(t, tr) {
		if tt.code == bundles.CodeDuplicateFile || tt.code == bundles.CodeUnsafePath || strings.Contains(tt.name, "link") {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newSigned(tr)
			tt.change(b)
			dir := t.TempDir()
			for _, e := range b.entries(t) {
				where := filepath.Join(dir, filepath.FromSlash(e.name))
				if err := os.MkdirAll(filepath.Dir(where), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(where, []byte(e.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := bundles.OpenSigned(dir, keys, bundles.VerifyOptions{Scope: tt.scope}, tt.limits)
			if want, ok := instead[tt.name]; ok && want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, tt.code, "")
		})
	}
}

// TestOpenSignedLooksAtNothingBefore puts what no reader gets past into every
// file: while the signature does not hold, nobody tries.
func TestOpenSignedLooksAtNothingBefore(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	keys := keysOf(t, "release", tr.pem)
	for _, name := range []string{"authz/policy.rego", "data.json", ".manifest", "cases/one.yaml"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newSigned(tr)
			b.file(name).text = "{{{"
			b.sign = func(*testing.T, []byte) []byte { return make([]byte, 64) }
			_, _, err := bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), keys, bundles.VerifyOptions{}, bundles.Limits{})
			wantCode(t, err, bundles.CodeSignatureInvalid, signatures)
			// Nor at the list, before the signature over it holds.
			b = newSigned(tr)
			b.listed = []map[string]any{{"name": "../.."}}
			b.claims["keyid"], b.claims["scope"] = "stranger", "elsewhere"
			b.sign = func(*testing.T, []byte) []byte { return make([]byte, 64) }
			_, _, err = bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), keys, bundles.VerifyOptions{}, bundles.Limits{})
			wantCode(t, err, bundles.CodeSignatureInvalid, signatures)
		})
	}
}

func TestOpenSignedWithoutKeys(t *testing.T) {
	t.Parallel()
	tr := newTrust(t)
	b := newSigned(tr)
	_, _, err := bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), bundles.Keys{}, bundles.VerifyOptions{}, bundles.Limits{})
	wantCode(t, err, bundles.CodeKeyUnknown, signatures)
	delete(b.header, "kid")
	_, _, err = bundles.OpenSignedArchive(bytes.NewReader(b.archive(t)), bundles.Keys{}, bundles.VerifyOptions{}, bundles.Limits{})
	wantCode(t, err, bundles.CodeSignatureAlgorithm, signatures)
}

// TestSignedAlgorithms signs with every algorithm, under a key in PEM, in a
// certificate and in a JWK.
func TestSignedAlgorithms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"EdDSA": edKey, "Ed25519": edKey}
	for _, name := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[name] = rsaKey
	}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if keys[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for alg, private := range keys {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key, err := bundles.ParseSigningKey(privatePEM(t, private))
			if err != nil {
				t.Fatal(err)
			}
			var signed bytes.Buffer
			plain := newSigned(newTrust(t)).archive(t)
			if err := bundles.SignArchive(&signed, bytes.NewReader(plain), key, bundles.SignOptions{Algorithm: alg, Scope: "s"}, bundles.Limits{}); err != nil {
				t.Fatal(err)
			}
			for form, text := range map[string][]byte{
				"PEM": publicPEM(t, private.Public()), "certificate": certificate(t, private),
				"JWK": []byte(jwk(t, private.Public(), `"alg": "`+alg+`", "use": "sig"`)),
				"set": []byte(`{"keys": [` + jwk(t, private.Public(), "") + `]}`),
			} {
				_, s, err := bundles.OpenSignedArchive(bytes.NewReader(signed.Bytes()), keysOf(t, "", text), bundles.VerifyOptions{Scope: "s"}, bundles.Limits{})
				if err != nil {
					t.Errorf("%s: %v", form, err)
				}
				if s.Algorithm != alg || s.KeyID != key.ID() || s.Scope != "s" {
					t.Errorf("%s: got %+v", form, s)
				}
			}
			// A JWK for another algorithm does not verify this one.
			elsewhere := "RS384"
			if alg == elsewhere || private != crypto.Signer(rsaKey) {
				return
			}
			text := jwk(t, private.Public(), `"alg": "`+elsewhere+`"`)
			_, _, err = bundles.OpenSignedArchive(bytes.NewReader(signed.Bytes()), keysOf(t, "", []byte(text)), bundles.VerifyOptions{Scope: "s"}, bundles.Limits{})
			wantCode(t, err, bundles.CodeSignatureAlgorithm, signatures)
		})
	}
}

func certificate(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// jwk writes a public key as a JWK with further members.
func jwk(t *testing.T, public any, more string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	if more != "" {
		more = ", " + more
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty": "RSA", "n": %q, "e": "AQAB"%s}`, b64(k.N.Bytes()), more)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty": "OKP", "crv": "Ed25519", "x": %q%s}`, b64(k), more)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := len(point) / 2
		return fmt.Sprintf(`{"kty": "EC", "crv": %q, "x": %q, "y": %q%s}`, k.Curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:]), more)
	}
	t.Fatalf("no JWK of %T", public)
	return ""
}

func TestOpenSignedFolderLinks(t *testing.T) {
	t.Parallel()
	_, private, public, err := bundles.NewSigningKey(bundles.KeyES256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundles.ParseSigningKey(private)
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for _, name := range []string{"policy.rego", "README.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.rego"), []byte(policyText), 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := bundles.SignFolder(dir, key, bundles.SignOptions{}, bundles.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, signatures), text, 0o600); err != nil {
				t.Fatal(err)
			}
			keys := keysOf(t, "", public)
			if _, _, err := bundles.OpenSigned(dir, keys, bundles.VerifyOptions{}, bundles.Limits{}); err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{filepath.Join(outside, name), outside, "."} {
				link := filepath.Join(dir, name)
				if err := os.Symlink(to, link); err != nil {
					t.Fatal(err)
				}
				_, _, err := bundles.OpenSigned(dir, keys, bundles.VerifyOptions{}, bundles.Limits{})
				var e *bundles.Error
				if !errors.As(err, &e) || e.Code != bundles.CodeUnsafeEntry && e.Code != bundles.CodeUnreadable {
					t.Errorf("a link to %s: %v", to, err)
				}
				if err := os.Remove(link); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// FuzzOpenSigned puts anything into .signatures.json. Whatever is taken was
// signed for these very files.
func FuzzOpenSigned(f *testing.F) {
	_, private, public, err := bundles.NewSigningKey(bundles.KeyEd25519)
	if err != nil {
		f.Fatal(err)
	}
	key, err := bundles.ParseSigningKey(private)
	if err != nil {
		f.Fatal(err)
	}
	var keys bundles.Keys
	if err := keys.Add("", public); err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.rego"), []byte(policyText), 0o600); err != nil {
		f.Fatal(err)
	}
	good, err := bundles.SignFolder(dir, key, bundles.SignOptions{}, bundles.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"signatures": ["eyJhbGciOiJub25lIn0.eyJmaWxlcyI6W119."]}`))
	f.Add([]byte(`{"signatures": ["e30.e30.e30"], "plugin": "_default"}`))
	var document struct{ Signatures []string }
	if err := json.Unmarshal(good, &document); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var buf bytes.Buffer
		zw := gzip.NewWriter(&buf)
		tw := tar.NewWriter(zw)
		for _, e := range []tarEntry{{name: "a.rego", text: policyText}, {name: signatures, text: string(text)}} {
			if err := tw.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.text)), Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(tw.Close(), zw.Close()); err != nil {
			t.Fatal(err)
		}
		_, s, err := bundles.OpenSignedArchive(&buf, keys, bundles.VerifyOptions{}, bundles.Limits{})
		if err != nil {
			return
		}
		// Ed25519 signatures can not be varied, so the token is the one we made.
		var taken struct{ Signatures []string }
		if err := json.Unmarshal(text, &taken); err != nil || !slices.Equal(taken.Signatures, document.Signatures) || s.KeyID != key.ID() {
			t.Fatalf("taken: %q", text)
		}
	})
}
