package failclosed_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/bundles"
)

// archiveCase is one archive of archives.json: a good one, changed.
type archiveCase struct {
	Name string `json:"name"`
	Why  string `json:"why"`
	// Before is changed before it is signed, After after that.
	Before []fileChange `json:"before"`
	After  []fileChange `json:"after"`
	// Sign is whose key signs: release, which the server knows, other or none.
	// Default release.
	Sign  string `json:"sign"`
	KeyID string `json:"key_id"`
	Scope string `json:"scope"`
	// Bytes changes the archive as a whole.
	Bytes *byteChange `json:"bytes"`
	// Codes are what it may be refused with; none: any code.
	Codes []string `json:"codes"`
	// Accepted: it is taken. Same: it may be, where its files are the good one's.
	Accepted bool `json:"accepted"`
	Same     bool `json:"same"`
}

type fileChange struct {
	// Op is replace, append, add, first (add before all others), remove, rename (to
	// Text) or link (a symbolic link to Text).
	Op   string `json:"op"`
	Path string `json:"path"`
	Text string `json:"text"`
}

type byteChange struct {
	// Op is cut, flip (one bit), append or twice.
	Op string `json:"op"`
	// Parts is at how many places, evenly, each an archive of its own.
	Parts int    `json:"parts"`
	Keep  int    `json:"keep"`
	Text  string `json:"text"`
}

// entry is a file of an archive; link is where a link leads.
type entry struct{ name, text, link string }

// pushStand is a server that takes bundles by one key, and what is pushed to it.
type pushStand struct {
	server         *doors
	release, other bundles.SigningKey
	good           []byte
	base           []baseQuery
}

// TestPushedArchives: a pushed archive that is not, byte for byte, what somebody
// whose key the server knows has signed, or that says what policy must not, is refused
// with a code, and what was active goes on deciding.
func TestPushedArchives(t *testing.T) {
	t.Parallel()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		t.Skip("runs the binary")
	}
	data, err := os.ReadFile("archives.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Suite    string        `json:"suite"`
		Good     []fileChange  `json:"good"`
		Archives []archiveCase `json:"archives"`
	}
	decodeStrict(t, "archives.json", data, &file)
	s := newPushStand(t, authzd, file.Suite, file.Good)
	for i := range file.Archives {
		c := &file.Archives[i]
		for n, archive := range s.archives(t, c) {
			name := c.Name
			if n > 0 {
				name = fmt.Sprintf("%s, %d", c.Name, n)
			}
			s.push(t, name, c, archive)
		}
	}
}

func newPushStand(t *testing.T, authzd, dir string, changes []fileChange) *pushStand {
	t.Helper()
	s := &pushStand{}
	var public []byte
	var err error
	if s.release, _, public, err = bundles.NewSigningKey(bundles.KeyEd25519); err != nil {
		t.Fatal(err)
	}
	if s.other, _, _, err = bundles.NewSigningKey(bundles.KeyEd25519); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	keys := filepath.Join(at, "release.pem")
	if err := os.WriteFile(keys, public, 0o600); err != nil {
		t.Fatal(err)
	}
	var good bytes.Buffer
	if _, err := bundles.Build(&good, dir, bundles.Limits{}); err != nil {
		t.Fatal(err)
	}
	s.good = pack(t, changed(t, unpack(t, good.Bytes()), changes))
	for _, from := range loadSuites(t) {
		if from.dir == filepath.FromSlash(dir) {
			s.base = from.queries
		}
	}
	s.server = startServe(t, authzd, "--data-dir", filepath.Join(at, "data"), "--bundle-key", keys, "--bundle-scope", "release")
	return s
}

// archives makes what a case says, one or many.
func (s *pushStand) archives(t *testing.T, c *archiveCase) [][]byte {
	t.Helper()
	archive := pack(t, changed(t, unpack(t, s.good), c.Before))
	if key := map[string]bundles.SigningKey{"": s.release, "release": s.release, "other": s.other}[c.Sign]; c.Sign != "none" {
		o := bundles.SignOptions{KeyID: c.KeyID, Scope: c.Scope}
		if c.KeyID == "release" {
			o.KeyID = s.release.ID()
		}
		if o.Scope == "" {
			o.Scope = "release"
		}
		var signed bytes.Buffer
		if err := bundles.SignArchive(&signed, bytes.NewReader(archive), key, o, bundles.Limits{}); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		archive = signed.Bytes()
	}
	if len(c.After) > 0 {
		archive = pack(t, changed(t, unpack(t, archive), c.After))
	}
	return c.Bytes.all(archive)
}

// push sends an archive, and asks everything of the suite after it.
func (s *pushStand) push(t *testing.T, name string, c *archiveCase, archive []byte) {
	t.Helper()
	url := strings.TrimSuffix(s.server.url, "check") + "bundles/main?activate=true&why=test"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.server.web.Do(req)
	if err != nil {
		t.Fatalf("%s: no answer: %v", name, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Code string }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Errorf("%s: %d, and no JSON: %s", name, resp.StatusCode, text)
	}
	taken := resp.StatusCode == http.StatusOK
	switch {
	case taken && !c.Accepted && !c.Same:
		t.Errorf("WRONG ACCEPT: %s (%s): %s", name, c.Why, text)
	case !taken && c.Accepted:
		t.Errorf("%s: %d %s, want it taken", name, resp.StatusCode, text)
	case !taken && (resp.StatusCode >= 500 || answer.Code == ""):
		t.Errorf("%s: %d %s, want a coded refusal", name, resp.StatusCode, text)
	case !taken && len(c.Codes) > 0 && !slices.ContainsFunc(c.Codes, func(code string) bool { return strings.Contains(string(text), `"`+code+`"`) }):
		t.Errorf("%s: %s, want one of %v", name, text, c.Codes)
	}
	for _, b := range s.base {
		if got := s.server.askREST(t, b.Query); !b.meets(got) && got.code != tooSlow {
			t.Errorf("after %s: %s is answered %v, want %s", name, b.Name, got, b.Want)
		}
	}
}

// all applies the change at each of its places.
func (b *byteChange) all(archive []byte) [][]byte {
	if b == nil {
		return [][]byte{archive}
	}
	var out [][]byte
	switch b.Op {
	case "append":
		return [][]byte{append(bytes.Clone(archive), b.Text...)}
	case "twice":
		return [][]byte{append(bytes.Clone(archive), archive...)}
	}
	if b.Parts == 0 {
		return [][]byte{archive[:b.Keep]}
	}
	for i := range b.Parts {
		at := len(archive) * i / b.Parts
		changed := bytes.Clone(archive)
		if b.Op == "cut" {
			changed = changed[:at]
		} else {
			changed[at] ^= 1 << (i % 8)
		}
		out = append(out, changed)
	}
	return out
}

// changed applies changes to the files of an archive.
func changed(t *testing.T, files []entry, changes []fileChange) []entry {
	t.Helper()
	for _, c := range changes {
		at := slices.IndexFunc(files, func(f entry) bool { return f.name == c.Path })
		if at < 0 && !slices.Contains([]string{"add", "first", "link"}, c.Op) {
			t.Fatalf("no file %s to %s", c.Path, c.Op)
		}
		switch c.Op {
		case "replace":
			files[at].text = c.Text
		case "append":
			files[at].text += c.Text
		case "add":
			files = append(files, entry{name: c.Path, text: c.Text})
		case "first":
			files = slices.Insert(files, 0, entry{name: c.Path, text: c.Text})
		case "remove":
			files = slices.Delete(files, at, at+1)
		case "rename":
			files[at].name = c.Text
		case "link":
			files = append(files, entry{name: c.Path, link: c.Text})
		default:
			t.Fatalf("unknown change %q", c.Op)
		}
	}
	return files
}

func unpack(t *testing.T, archive []byte) (files []entry) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, entry{name: strings.TrimPrefix(h.Name, "/"), text: string(text)})
	}
}

func pack(t *testing.T, files []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.text)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
