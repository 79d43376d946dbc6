package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/authzd/authzd/bundles"
)

const reviewManifest = `{"revision":"r","roots":["a"]}`

type reviewEntry struct {
	h    tar.Header
	data string
}

func reviewTar(t *testing.T, entries ...reviewEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.h
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.Size = int64(len(e.data))
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func reviewZip(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, p := range parts {
		zw := gzip.NewWriter(&buf)
		_, _ = zw.Write(p)
		_ = zw.Close()
	}
	return buf.Bytes()
}

type reviewSigner struct {
	private *ecdsa.PrivateKey
	keys    bundles.Keys
}

func newReviewSigner(t *testing.T) *reviewSigner {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&k.PublicKey)
	s := &reviewSigner{private: k}
	if err := s.keys.Add("k", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *reviewSigner) jws(t *testing.T, header string, payload any) string {
	t.Helper()
	body, _ := json.Marshal(payload)
	if text, ok := payload.(string); ok {
		body = []byte(text)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	r, q, err := ecdsa.Sign(rand.Reader, s.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	q.FillBytes(out[32:])
	_ = crypto.SHA256
	return text + "." + b64(out)
}

func reviewListed(name, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return fmt.Sprintf(`{"name":%q,"hash":%q,"algorithm":"SHA-256"}`, name, hex.EncodeToString(sum[:]))
}

func (s *reviewSigner) open(archive []byte) (bundles.Content, error) {
	c, _, err := bundles.OpenSignedArchive(bytes.NewReader(archive), s.keys, bundles.VerifyOptions{}, bundles.Limits{})
	return c, err
}

// What was tried and held.
func TestHeld(t *testing.T) {
	s := newReviewSigner(t)
	good := `{"files":[` + reviewListed(".manifest", reviewManifest) + `,` + reviewListed("a/data.json", `{"x":1}`) + `]}`
	sig := func(header string) string { return `{"signatures":["` + s.jws(t, header, good) + `"]}` }
	base := func(data string, more ...reviewEntry) []reviewEntry {
		return append([]reviewEntry{{tar.Header{Name: ".manifest"}, reviewManifest}, {tar.Header{Name: "a/data.json"}, data}, {tar.Header{Name: ".signatures.json"}, sig(`{"alg":"ES256","kid":"k"}`)}}, more...)
	}
	if _, err := s.open(reviewZip(t, reviewTar(t, base(`{"x":1}`)...))); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	if _, err := s.open(reviewZip(t, reviewTar(t, base("\r\n{ \"x\" : 1 }\r\n")...))); err != nil {
		t.Fatalf("white space: %v", err)
	}
	refused := func(name string, archive []byte) {
		t.Helper()
		if c, err := s.open(archive); err == nil {
			t.Errorf("%s is taken: %s", name, c.Bundle.Data.AppendJSON(nil))
		} else if coded := (*bundles.Error)(nil); !errors.As(err, &coded) || coded.Code == "" {
			t.Errorf("%s is refused without a code: %v", name, err)
		}
	}
	for name, data := range map[string]string{
		"1.0": `{"x":1.0}`, "1e0": `{"x":1e0}`, "-0": `{"x":-0}`, "text": `{"x":"1"}`, "twice": `{"x":2,"x":1}`, "escaped twice": `{"x":2,"\u0078":1}`,
		"BOM": "\ufeff{\"x\":1}", "after": `{"x":1} {}`, "huge exponent": `{"x":1e-999999999}`, "comment": `{"x":1/**/}`,
	} {
		refused("data "+name, reviewZip(t, reviewTar(t, base(data)...)))
	}
	tarBytes := reviewTar(t, base(`{"x":1}`)...)
	extra := reviewTar(t, reviewEntry{tar.Header{Name: "a/b/data.json"}, `{"y":1}`})
	refused("second gzip member", reviewZip(t, tarBytes, extra))
	refused("bytes after gzip", append(reviewZip(t, tarBytes), "x"...))
	refused("tar after tar", reviewZip(t, append(bytes.Clone(tarBytes), extra...)))
	refused("PAX path", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: "a/ü/data.json", Format: tar.FormatPAX}, `{"y":1}`})...)))
	refused("long GNU name", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: strings.Repeat("d/", 20) + strings.Repeat("e", 110) + "/data.json", Format: tar.FormatGNU}, `{"y":1}`})...)))
	refused("twice by ./", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: "./a/data.json"}, `{"x":1}`})...)))
	refused("twice by /", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: "/a/data.json"}, `{"x":1}`})...)))
	refused("second manifest in a folder", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: "a/.manifest"}, `{}`})...)))
	refused("kelvin", reviewZip(t, reviewTar(t, base(`{"x":1}`, reviewEntry{tar.Header{Name: ".\u017fignatures.json"}, `{}`})...)))
	for _, h := range []string{
		`{"alg":"none"}`, `{"alg":"HS256","kid":"k"}`, `{"alg":"ES256","kid":"k","jwk":"{}"}`, `{"alg":"ES256","kid":"k","crit":["b64"],"b64":false}`,
		`{"alg":"ES256","Alg":"none","kid":"k"}`, `{"alg":"ES256","kid":"K"}`, `["alg"]`, `{"alg":"es256","kid":"k"}`, `{"alg":"ES384","kid":"k"}`, `{"alg":"RS256","kid":"k"}`,
	} {
		refused("header "+h, reviewZip(t, reviewTar(t, reviewEntry{tar.Header{Name: ".manifest"}, reviewManifest}, reviewEntry{tar.Header{Name: "a/data.json"}, `{"x":1}`}, reviewEntry{tar.Header{Name: ".signatures.json"}, sig(h)})))
	}
	for name, payload := range map[string]string{
		"twice":       `{"files":[` + reviewListed(".manifest", reviewManifest) + `,` + reviewListed("a/data.json", `{"x":1}`) + `,` + reviewListed("A/data.json", `{"x":1}`) + `]}`,
		"dup files":   `{"files":[],"files":[` + reviewListed(".manifest", reviewManifest) + `,` + reviewListed("a/data.json", `{"x":1}`) + `]}`,
		"other key":   `{"keyid":"other","files":[` + reviewListed(".manifest", reviewManifest) + `,` + reviewListed("a/data.json", `{"x":1}`) + `]}`,
		"scope":       `{"scope":"s","files":[` + reviewListed(".manifest", reviewManifest) + `,` + reviewListed("a/data.json", `{"x":1}`) + `]}`,
		"slash names": `{"files":[` + reviewListed("/.manifest", reviewManifest) + `,` + reviewListed("/a/data.json", `{"x":1}`) + `]}`,
	} {
		refused("payload "+name, reviewZip(t, reviewTar(t, reviewEntry{tar.Header{Name: ".manifest"}, reviewManifest}, reviewEntry{tar.Header{Name: "a/data.json"}, `{"x":1}`},
			reviewEntry{tar.Header{Name: ".signatures.json"}, `{"signatures":["` + s.jws(t, `{"alg":"ES256","kid":"k"}`, payload) + `"]}`})))
	}
}

// What an unsigned archive of some 65 KB makes the server allocate before its
// signature is looked at.
func TestUnsignedBombAllocates(t *testing.T) {
	if testing.Short() {
		t.Skip("packs and unpacks 64 MiB")
	}
	s := newReviewSigner(t)
	zeros := strings.Repeat("\x00", 16<<20)
	bomb := reviewZip(t, reviewTar(t, reviewEntry{tar.Header{Name: "a.rego"}, zeros}, reviewEntry{tar.Header{Name: "b.rego"}, zeros}, reviewEntry{tar.Header{Name: "c.rego"}, zeros}, reviewEntry{tar.Header{Name: "d.rego"}, zeros[:16<<20-1]}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := s.open(bomb)
	runtime.ReadMemStats(&after)
	var refused *bundles.Error
	if !errors.As(err, &refused) || refused.Code != bundles.CodeSignatureMissing {
		t.Errorf("an unsigned archive: %v", err)
	}
	// All that it unpacks to, once, and no more.
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 96 {
		t.Errorf("%d bytes have %d MiB allocated", len(bomb), got)
	}
}
