package bundles

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/authzd/authzd/rar"
)

// VerifyOptions say what a signature must be, beside made with one of the keys.
type VerifyOptions struct {
	// Scope must be the signature's, letter by letter. Default none: a signature
	// for a scope is refused.
	Scope string
}

// Signature is a signature that held.
type Signature struct {
	// KeyID is the name of the key, among ours, that it was verified with.
	KeyID string
	// Algorithm is the JWS algorithm.
	Algorithm string
	// Scope is what the signature says that it is for; empty for everything.
	Scope string
	// Issuer is who signed, by the signature's own word; often empty.
	Issuer string
	// Digest names the bytes that were verified, "sha256:" and hexadecimal: of
	// the archive as it is stored, or of all names and contents of a folder.
	Digest string
}

// OpenSigned reads the bundle at path, a folder or an archive, as [Open] does,
// and verifies its signature: exactly one, in .signatures.json at the root, in
// OPA's format, made with one of keys for o.Scope, that lists every file with
// its hash and no other. Nothing in the bundle can turn that off or choose how
// it is done. Use it wherever a bundle comes from elsewhere, and again when it
// is loaded from a disk.
//
// Neither Rego, data nor the manifest is looked at before the signature itself
// has been verified. Of a folder, hidden files (other than the manifest and the
// signature) are no part and are not read; every other file must be listed.
func OpenSigned(path string, keys Keys, o VerifyOptions, l Limits) (Content, Signature, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return Content{}, Signature{}, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	if stat.IsDir() {
		return openSignedFolder(path, keys, o, l.withDefaults())
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the bundle to load
	if err != nil {
		return Content{}, Signature{}, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	return OpenSignedArchive(f, keys, o, l)
}

// OpenSignedArchive is [OpenSigned] for an archive that is not a file, such as
// one that was just uploaded.
func OpenSignedArchive(r io.Reader, keys Keys, o VerifyOptions, l Limits) (Content, Signature, error) {
	l = l.withDefaults()
	packed, err := readPacked(r, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	files, err := unpack(packed, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	s, err := verifyFiles(files, keys, o, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	content, err := assemble(files, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	sum := sha256.Sum256(packed)
	s.Digest = digestPrefix + hex.EncodeToString(sum[:])
	return content, s, nil
}

const digestPrefix = "sha256:"

func openSignedFolder(name string, keys Keys, o VerifyOptions, l Limits) (Content, Signature, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return Content{}, Signature{}, &Error{Code: CodeUnreadable, Path: name, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer root.Close() //nolint:errcheck // read only, nothing to lose
	all, err := readWholeFolder(root.FS(), l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	s, err := verifyFiles(all, keys, o, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	s.Digest = contentDigest(all)
	files, warnings := bundleFiles(all)
	content, err := assemble(files, l)
	if err != nil {
		return Content{}, Signature{}, err
	}
	content.Warnings = append(warnings, content.Warnings...)
	return content, s, nil
}

// verifyFiles finds the signature among files, verifies it, and only then looks
// at the others.
func verifyFiles(files []File, keys Keys, o VerifyOptions, l Limits) (Signature, error) {
	var signature *File
	for i, f := range files {
		switch {
		case f.Path == signaturesFile:
			signature = &files[i]
		case strings.EqualFold(path.Base(f.Path), signaturesFile):
			return Signature{}, errorf(CodeSignatureMisplaced, f.Path, "the signature of a bundle is %s at its root, and nothing else is called so", signaturesFile)
		}
	}
	if signature == nil {
		return Signature{}, errorf(CodeSignatureMissing, "", "the bundle holds no %s, and only signed bundles are taken here", signaturesFile)
	}
	token, err := signatureToken(signature.Data)
	if err != nil {
		return Signature{}, err
	}
	payload, s, err := verifyToken(token, keys)
	if err != nil {
		return Signature{}, err
	}
	// From here on the words are the signer's.
	claims, err := decodePayload(payload)
	if err != nil {
		return Signature{}, err
	}
	if claims.keyID != "" && claims.keyID != s.KeyID {
		return Signature{}, errorf(CodeKeyUnknown, signaturesFile, "the signature names the key %q, and was made with %q", claims.keyID, s.KeyID)
	}
	if claims.scope != o.Scope {
		return Signature{}, errorf(CodeSignatureScope, signaturesFile, "the signature is for the scope %q, not %q", claims.scope, o.Scope)
	}
	s.Scope, s.Issuer = claims.scope, claims.issuer
	return s, verifyList(claims.files, files, l)
}

// opaPlugin is OPA's name for its own way to sign.
const opaPlugin = "_default"

func badSignature(format string, args ...any) *Error {
	return errorf(CodeSignatureInvalid, signaturesFile, format, args...)
}

// signatureToken takes the one JWS out of .signatures.json.
func signatureToken(text []byte) (string, error) {
	doc, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: len(text) + 1, RejectCaseVariants: true})
	if err != nil {
		return "", decodeError(CodeSignatureInvalid, signaturesFile, err)
	}
	list, _ := doc.Get("signatures")
	if doc.Kind() != rar.Object || list.Kind() != rar.Array {
		return "", badSignature(`must be an object with "signatures", an array`)
	}
	for i := range doc.Len() {
		switch m := doc.Member(i); {
		case m.Name == "signatures":
		case m.Name == "plugin" && m.Value.Kind() == rar.String && m.Value.Text() == opaPlugin:
			// opa build writes it; it is how we verify anyway. Another one would
			// say how to verify, which is not the bundle's to say.
		default:
			return "", badSignature("the member %q, or its value, is not taken", m.Name)
		}
	}
	switch {
	case list.Len() == 0:
		return "", errorf(CodeSignatureMissing, signaturesFile, "holds no signature")
	case list.Len() > 1:
		return "", errorf(CodeSignatureRepeated, signaturesFile, "holds %d signatures where one is taken", list.Len())
	case list.Index(0).Kind() != rar.String:
		return "", badSignature("a signature is a string")
	}
	return list.Index(0).Text(), nil
}

// verifyToken verifies a JWS in compact form (RFC 7515 section 7.1) and returns
// its payload, which nothing has looked at before.
func verifyToken(token string, keys Keys) ([]byte, Signature, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, Signature{}, badSignature("not a JWS in compact form")
	}
	var raw [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, Signature{}, badSignature("not a JWS in compact form: part %d is no base64url", i+1)
		}
		raw[i] = b
	}
	alg, kid, err := decodeHeader(raw[0])
	if err != nil {
		return nil, Signature{}, err
	}
	signed := []byte(token[:len(parts[0])+1+len(parts[1])])
	key, err := keys.verify(kid, alg, signed, raw[2])
	if err != nil {
		return nil, Signature{}, err
	}
	return raw[1], Signature{KeyID: key.id, Algorithm: alg}, nil
}

const maxHeader = 4 << 10

// decodeHeader reads the header of a JWS. Members that would say where a key
// is, or change what is signed (jwk, jku, x5c, crit, b64), are refused with all
// others that we do not need.
func decodeHeader(text []byte) (alg, kid string, err error) {
	doc, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: maxHeader, RejectCaseVariants: true})
	if err != nil {
		return "", "", badSignature("header: %w", err)
	}
	for i := range doc.Len() {
		m := doc.Member(i)
		if m.Value.Kind() != rar.String {
			return "", "", badSignature("header: %q is no string", m.Name)
		}
		switch m.Name {
		case "alg":
			alg = m.Value.Text()
		case "kid":
			kid = m.Value.Text()
		case "typ", "cty":
		default:
			return "", "", badSignature("header: %q is not taken", m.Name)
		}
	}
	if doc.Kind() != rar.Object || alg == "" {
		return "", "", badSignature(`header: an object with "alg" is needed`)
	}
	return alg, kid, nil
}

// verify finds the key that made a signature: the one of that name, or, where
// the signature names none (opa sign does not), any of ours. The algorithm must
// be one of the key's own.
func (k *Keys) verify(kid, alg string, signed, signature []byte) (publicKey, error) {
	candidates := k.list
	if kid != "" {
		key, ok := k.find(kid)
		if !ok {
			return publicKey{}, errorf(CodeKeyUnknown, signaturesFile, "the signature names the key %q, which is not among %q", kid, k.IDs())
		}
		candidates = []publicKey{key}
	}
	fitting := 0
	for _, key := range candidates {
		if !key.accepts(alg) {
			continue
		}
		fitting++
		if key.verify(alg, signed, signature) {
			return key, nil
		}
	}
	if fitting == 0 {
		return publicKey{}, errorf(CodeSignatureAlgorithm, signaturesFile, "the algorithm %q is not one of the key's", alg)
	}
	return publicKey{}, badSignature("the signature was not made with the key, or not over this list")
}

// claims are the payload of a signature, as far as it is used.
type claims struct {
	keyID, scope, issuer string
	files                []listedFile
}

// listedFile is one file that a signature vouches for.
type listedFile struct {
	name, algorithm string
	hash            []byte
}

// decodePayload reads what was signed. Claims that we do not know are passed
// over, as OPA does, but not those that would end the signature's validity.
func decodePayload(text []byte) (claims, error) {
	var c claims
	doc, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: len(text) + 1, RejectCaseVariants: true})
	if err != nil {
		return c, badSignature("payload: %w", err)
	}
	for name, field := range map[string]*string{"keyid": &c.keyID, "scope": &c.scope, "iss": &c.issuer} {
		if v, ok := doc.Get(name); ok {
			if v.Kind() != rar.String {
				return c, badSignature("payload: %q is no string", name)
			}
			*field = v.Text()
		}
	}
	for _, name := range []string{"exp", "nbf"} {
		if _, ok := doc.Get(name); ok {
			return c, badSignature("payload: %q is not taken: a bundle's signature has no dates; withdraw its key instead", name)
		}
	}
	list, _ := doc.Get("files")
	if doc.Kind() != rar.Object || list.Kind() != rar.Array {
		return c, badSignature(`payload: "files" must be an array`)
	}
	for i := range list.Len() {
		f, err := decodeListed(list.Index(i))
		if err != nil {
			return c, err
		}
		c.files = append(c.files, f)
	}
	return c, nil
}

func decodeListed(v rar.Value) (listedFile, error) {
	bad := func(format string, args ...any) (listedFile, error) {
		return listedFile{}, errorf(CodeSignatureFilesInvalid, signaturesFile, format, args...)
	}
	var f listedFile
	var hash string
	fields := map[string]*string{"name": &f.name, "hash": &hash, "algorithm": &f.algorithm}
	if v.Kind() != rar.Object || v.Len() != len(fields) {
		return bad("a listed file is an object of name, hash and algorithm")
	}
	for i := range v.Len() {
		field := fields[v.Member(i).Name]
		if field == nil || v.Member(i).Value.Kind() != rar.String {
			return bad("a listed file is an object of name, hash and algorithm, all strings")
		}
		*field = v.Member(i).Value.Text()
	}
	if clean, err := cleanName(f.name, Limits{}.withDefaults()); err != nil || clean != f.name || f.name == "" {
		return bad("%q is not the name of a file, relative to the bundle", f.name)
	}
	if strings.EqualFold(path.Base(f.name), signaturesFile) {
		return bad("%s can not vouch for itself", signaturesFile)
	}
	h, ok := fileHash(f.algorithm)
	if !ok {
		return listedFile{}, errorf(CodeHashAlgorithm, f.name, "hashed with %q; SHA-256, SHA-384, SHA-512 or SHA-512-256 is needed", f.algorithm)
	}
	var err error
	if f.hash, err = hex.DecodeString(hash); err != nil || len(f.hash) != h.Size() {
		return bad("%q is not a hash by %s", hash, f.algorithm)
	}
	return f, nil
}

// verifyList holds the files against those that the signature lists: the same
// names, each once, with the same content.
func verifyList(listed []listedFile, files []File, l Limits) error {
	byName := make(map[string]listedFile, len(listed))
	seen := make(map[string]string, len(listed))
	for _, f := range listed {
		key := strings.ToLower(f.name)
		if before, dup := seen[key]; dup {
			return errorf(CodeFileRepeated, f.name, "the signature lists %q already", before)
		}
		seen[key] = f.name
		byName[f.name] = f
	}
	for i := range files {
		f := &files[i]
		if f.Path == signaturesFile {
			continue
		}
		want, ok := byName[f.Path]
		if !ok {
			return errorf(CodeFileUnlisted, f.Path, "the signature does not list the file")
		}
		delete(byName, f.Path)
		got, err := hashFile(f, want.algorithm, l)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want.hash) {
			return errorf(CodeFileChanged, f.Path, "the file is not the one that was signed")
		}
	}
	for _, f := range listed { // in order, so that the report does not vary
		if _, left := byName[f.name]; left {
			return errorf(CodeFileMissing, f.name, "the signature lists a file that the bundle does not hold")
		}
	}
	return nil
}
