package bundles

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto"
	_ "crypto/sha256" // SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512, SHA-512/256
	"encoding/json"
	"hash"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/authzd/authzd/rar"
)

// defaultHash is what our own signatures hash files with.
const defaultHash = "SHA-256"

// fileHash is the hash function of a name in a signature. OPA also knows MD5,
// SHA-1 and shorter ones, with which two files can be made that hash alike.
func fileHash(name string) (crypto.Hash, bool) {
	switch name {
	case defaultHash:
		return crypto.SHA256, true
	case "SHA-384":
		return crypto.SHA384, true
	case "SHA-512":
		return crypto.SHA512, true
	case "SHA-512-256":
		return crypto.SHA512_256, true
	}
	return 0, false
}

// hashFile hashes a file as OPA's signatures do: data files and the manifest by
// what they say (members sorted, no white space), every other file by its
// bytes.
//
// So data is decoded to be hashed: by our strict decoder, only after the
// signature over the list of hashes has been verified, and for nothing else.
// What it refuses has no hash.
// What it has decoded stays with the file, so that what is loaded is what was hashed.
func hashFile(f *File, algorithm string, l Limits) ([]byte, error) {
	h, ok := fileHash(algorithm)
	if !ok {
		return nil, errorf(CodeHashAlgorithm, f.Path, "no hash function %q", algorithm)
	}
	w := newCanonicalWriter(h.New())
	base := path.Base(f.Path)
	switch {
	case base == manifestFile:
		v, err := rar.DecodeStrict(f.Data, rar.Limits{MaxBytes: maxManifestBytes, RejectCaseVariants: true})
		if err != nil {
			return nil, decodeError(CodeManifestInvalid, f.Path, err)
		}
		w.value(v)
	case isData(base):
		v, err := decodeDocument(f, l)
		if err != nil {
			return nil, err
		}
		if path.Ext(base) != ".json" {
			if err := plainNumbers(v, f.Path, ""); err != nil {
				return nil, err
			}
		}
		w.value(v)
	default:
		_, _ = w.out.Write(f.Data)
	}
	return w.sum(), nil
}

// canonicalWriter hashes JSON in the form that OPA hashes: members sorted by
// their bytes, numbers letter by letter, strings as encoding/json writes them.
type canonicalWriter struct {
	h   hash.Hash
	out *bufio.Writer // to h, which never fails
	buf bytes.Buffer
	row []byte
}

func newCanonicalWriter(h hash.Hash) *canonicalWriter {
	const room = 32 << 10
	return &canonicalWriter{h: h, out: bufio.NewWriterSize(h, room)}
}

func (w *canonicalWriter) sum() []byte {
	_ = w.out.Flush()
	return w.h.Sum(nil)
}

func (w *canonicalWriter) text(s string) { _, _ = w.out.WriteString(s) }

// asIs tells texts that encoding/json writes as they are.
func asIs(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func (w *canonicalWriter) quoted(s string) {
	if asIs(s) {
		w.text(`"`)
		w.text(s)
		w.text(`"`)
		return
	}
	_, _ = w.out.Write(w.appendQuoted(nil, s))
}

// appendQuoted appends s as encoding/json writes it.
func (w *canonicalWriter) appendQuoted(dst []byte, s string) []byte {
	w.buf.Reset()
	enc := json.NewEncoder(&w.buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory
	return append(dst, bytes.TrimRight(w.buf.Bytes(), "\n")...)
}

func (w *canonicalWriter) value(v rar.Value) {
	switch v.Kind() {
	case rar.Object:
		w.object(v)
	case rar.Array:
		w.text("[")
		for i := range v.Len() {
			if i > 0 {
				w.text(",")
			}
			w.child(v, i)
		}
		w.text("]")
	case rar.String:
		w.quoted(v.Text())
	case rar.Number:
		w.text(v.Text())
	case rar.Absent, rar.Null, rar.Bool:
		_, _ = w.out.Write(v.AppendJSON(nil))
	}
}

// child writes child i of v. Rows of large data are written from their text.
func (w *canonicalWriter) child(v rar.Value, i int) {
	const most = 64 << 10
	switch size := v.ChildSize(i); {
	case size > 0 && size <= most:
		w.row = v.AppendSortedChild(w.row[:0], i, w.appendQuoted)
		_, _ = w.out.Write(w.row)
	case v.Kind() == rar.Object:
		w.value(v.Member(i).Value)
	default:
		w.value(v.Index(i))
	}
}

func (w *canonicalWriter) object(v rar.Value) {
	order := nameOrder(v)
	w.text("{")
	for n := range v.Len() {
		i := n
		if order != nil {
			i = order[n]
		}
		if n > 0 {
			w.text(",")
		}
		w.quoted(v.Name(i))
		w.text(":")
		w.child(v, i)
	}
	w.text("}")
}

// nameOrder are the members of an object by their names; nil if they stand so, as they do
// in much large data, of which nothing is made then.
func nameOrder(v rar.Value) []int {
	sorted := true
	for i := 1; i < v.Len() && sorted; i++ {
		sorted = v.Name(i-1) < v.Name(i)
	}
	if sorted {
		return nil
	}
	order, names := make([]int, v.Len()), make([]string, v.Len())
	for i := range order {
		order[i], names[i] = i, v.Name(i)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(names[a], names[b]) })
	return order
}

// plainNumbers refuses, in YAML that is hashed, numbers that OPA would spell
// otherwise. It reads them into 64 bits first, so that its hash is the same for
// 0.1 and 0.10000000000000001, while the policy sees them as they are written.
func plainNumbers(v rar.Value, file, pointer string) error {
	switch v.Kind() {
	case rar.Object:
		for i := range v.Len() {
			m := v.Member(i)
			if err := plainNumbers(m.Value, file, pointer+"/"+escapeToken(m.Name)); err != nil {
				return err
			}
		}
	case rar.Array:
		for i := range v.Len() {
			if err := plainNumbers(v.Index(i), file, pointer+"/"+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	case rar.Number:
		if !plainNumber(v.Text()) {
			return errorf(CodeDataInvalid, file+"#"+pointer,
				"the number %s has other spellings, which a signature over YAML can not tell apart: put it into data.json, or quote it", v.Text())
		}
	case rar.Absent, rar.Null, rar.Bool, rar.String:
	}
	return nil
}

func plainNumber(s string) bool {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(i, 10) == s
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return strconv.FormatUint(u, 10) == s
	}
	// Beyond these bounds OPA writes an exponent.
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && math.Abs(f) >= 1e-6 && math.Abs(f) < 1e21 &&
		strings.Contains(s, ".") && strconv.FormatFloat(f, 'f', -1, 64) == s
}
