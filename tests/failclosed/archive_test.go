package failclosed_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const signatures = ".signatures.json"

// The stages of making an archive, at which an edit may be.
const (
	inFiles   = "files"   // before the files are signed
	inEntries = "entries" // after that, the signature among them
	inTar     = "tar"     // the packed bytes
	inGzip    = "gzip"    // the compressed bytes
)

// edit is one change of an archive.
type edit struct {
	In string `json:"in"`
	// Do is set (Text is the whole), add (also where Name is there), remove,
	// rename (to Text), link (to Text), replace (Old, which is there once, by Text),
	// append, prepend, cut (at At), or flip (a bit at At).
	Do   string `json:"do"`
	Name string `json:"name,omitempty"` // of the file; none in tar and gzip
	Old  string `json:"old,omitempty"`
	Text string `json:"text,omitempty"`
	// At are places, each a mutant of its own: an offset, from the end where
	// negative, or a share of the length ("50%").
	At []string `json:"at,omitempty"`
}

// eachPlace is edits once for each place of the one that has several.
func eachPlace(edits []edit) [][]edit {
	for i, e := range edits {
		if len(e.At) < 2 {
			continue
		}
		var out [][]edit
		for _, at := range e.At {
			one := slices.Clone(edits)
			one[i].At = []string{at}
			out = append(out, one)
		}
		return out
	}
	return [][]edit{edits}
}

// entry is one of a tar.
type entry struct {
	name, text, link string
}

func readEntries(t *testing.T, dir string) []entry {
	t.Helper()
	var out []entry
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path) //nolint:gosec // below this folder
		name, _ := filepath.Rel(dir, path)
		out = append(out, entry{name: filepath.ToSlash(name), text: string(data)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// archive packs files, signs them for the scope of a server, and makes the edits.
func (k keyring) archive(t *testing.T, files []entry, s seal, edits []edit) []byte {
	t.Helper()
	files = edited(t, files, edits, inFiles)
	listed := []map[string]any{}
	for _, f := range files {
		sum := sha256.Sum256(hashed(t, f))
		listed = append(listed, map[string]any{"name": f.name, "hash": hex.EncodeToString(sum[:]), "algorithm": "SHA-256"})
	}
	header := map[string]any{"alg": "ES256", "kid": "release", "typ": "JWT"}
	token := k.jws(t, s, header, map[string]any{"files": listed, "keyid": "release", "scope": "failclosed"})
	files = append(files, entry{name: signatures, text: jsonText(t, map[string]any{"signatures": []string{token}})})
	packed := []entry{{text: packTar(t, edited(t, files, edits, inEntries))}}
	packed[0].text = compress(t, edited(t, packed, edits, inTar)[0].text)
	return []byte(edited(t, packed, edits, inGzip)[0].text)
}

// hashed is what the signature's hash is of: JSON by what it says, as OPA reads it.
func hashed(t *testing.T, f entry) []byte {
	t.Helper()
	if f.name == ".manifest" || strings.HasSuffix(f.name, ".json") {
		d := json.NewDecoder(strings.NewReader(f.text))
		d.UseNumber()
		var v any
		if d.Decode(&v) == nil {
			return []byte(jsonText(t, v))
		}
	}
	return []byte(f.text)
}

func packTar(t *testing.T, entries []entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Size: int64(len(e.text)), Mode: 0o600}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size, e.text = tar.TypeSymlink, e.link, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func compress(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// edited is entries after the edits of one stage.
func edited(t *testing.T, entries []entry, edits []edit, stage string) []entry {
	t.Helper()
	out := slices.Clone(entries)
	for _, e := range edits {
		if e.In != stage {
			continue
		}
		if e.Do == "add" {
			out = append(out, entry{name: e.Name, text: e.Text})
			continue
		}
		i := slices.IndexFunc(out, func(f entry) bool { return f.name == e.Name })
		if i < 0 {
			t.Fatalf("no file %q", e.Name)
		}
		if e.Do == "remove" {
			out = slices.Delete(out, i, i+1)
		} else {
			out[i] = e.of(t, out[i])
		}
	}
	return out
}

func (e edit) of(t *testing.T, f entry) entry {
	t.Helper()
	switch e.Do {
	case "set":
		f.text = e.Text
	case "rename":
		f.name = e.Text
	case "link":
		f.link = e.Text
	case "append":
		f.text += e.Text
	case "prepend":
		f.text = e.Text + f.text
	case "replace":
		if strings.Count(f.text, e.Old) != 1 {
			t.Fatalf("%q is not once in %s", e.Old, f.name)
		}
		f.text = strings.Replace(f.text, e.Old, e.Text, 1)
	case "cut":
		f.text = f.text[:e.place(t, len(f.text))]
	case "flip":
		b := []byte(f.text)
		b[e.place(t, len(b))] ^= 1
		f.text = string(b)
	default:
		t.Fatalf("no edit %q", e.Do)
	}
	return f
}

// place is the only place of e in n bytes.
func (e edit) place(t *testing.T, n int) int {
	t.Helper()
	text, share := strings.CutSuffix(e.At[0], "%")
	at, err := strconv.Atoi(text)
	switch {
	case share:
		at = at * n / 100
	case at < 0:
		at += n
	}
	if err != nil || len(e.At) != 1 || at < 0 || at >= n {
		t.Fatalf("no place %v in %d bytes", e.At, n)
	}
	return at
}
