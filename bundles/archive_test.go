package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/compile"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

// entry is one tar entry of a test archive; the zero Typeflag is a file.
type entry struct {
	name, data string
	typeflag   byte
	link       string
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typeflag, Linkname: e.link, Mode: 0o600, Size: int64(len(e.data))}
		if e.typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const policy = "package authz\n\npermit[\"x\"] := {} if input.action.name == \"x\"\n"

// wantCode checks code and, where given, that the error names path.
func wantCode(t *testing.T, err error, code bundles.Code, path string) {
	t.Helper()
	var e *bundles.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error with %s", err, code)
	}
	if e.Code != code || (path != "" && e.Path != path) {
		t.Fatalf("error %v (path %q), want %s at %q", err, e.Path, code, path)
	}
}

func TestOpenArchiveRefuses(t *testing.T) {
	t.Parallel()
	ok := entry{name: "/policy.rego", data: policy}
	small := bundles.Limits{MaxArchiveBytes: 4096, MaxBytes: 2000, MaxFileBytes: 1000, MaxFiles: 4, MaxPathDepth: 2}
	tests := []struct {
		name    string
		entries []entry
		code    bundles.Code
		path    string
	}{
		{"nothing", nil, bundles.CodeEmpty, ""},
		{"only a manifest", []entry{{name: ".manifest", data: `{"revision":"1"}`}}, bundles.CodeEmpty, ""},
		{"empty data", []entry{{name: "data.json", data: `{}`}}, bundles.CodeEmpty, ""},
		{"climbing", []entry{ok, {name: "../policy2.rego"}}, bundles.CodeUnsafePath, "../policy2.rego"},
		{"climbing inside", []entry{ok, {name: "a/../b.rego"}}, bundles.CodeUnsafePath, "a/../b.rego"},
		{"climbing below the slash", []entry{ok, {name: "/../b.rego"}}, bundles.CodeUnsafePath, ""},
		{"two slashes", []entry{ok, {name: "//b.rego"}}, bundles.CodeUnsafePath, ""},
		{"empty step", []entry{ok, {name: "a//b.rego"}}, bundles.CodeUnsafePath, ""},
		{"dot step", []entry{ok, {name: "a/./b.rego"}}, bundles.CodeUnsafePath, ""},
		{"backslash", []entry{ok, {name: `a\b.rego`}}, bundles.CodeUnsafePath, ""},
		{"control character", []entry{ok, {name: "a\nb.rego"}}, bundles.CodeUnsafePath, ""},
		{"climbing folder", []entry{ok, {name: "../x/", typeflag: tar.TypeDir}}, bundles.CodeUnsafePath, ""},
		{"symbolic link", []entry{ok, {name: "b.rego", typeflag: tar.TypeSymlink, link: "policy.rego"}}, bundles.CodeUnsafeEntry, "b.rego"},
		{"hard link", []entry{ok, {name: "b.rego", typeflag: tar.TypeLink, link: "policy.rego"}}, bundles.CodeUnsafeEntry, "b.rego"},
		{"device", []entry{ok, {name: "b.rego", typeflag: tar.TypeChar}}, bundles.CodeUnsafeEntry, "b.rego"},
		{"pipe", []entry{ok, {name: "b.rego", typeflag: tar.TypeFifo}}, bundles.CodeUnsafeEntry, "b.rego"},
		{"the same name twice", []entry{ok, ok}, bundles.CodeDuplicateFile, "policy.rego"},
		{"the same name spelt otherwise", []entry{ok, {name: "./policy.rego"}}, bundles.CodeDuplicateFile, "policy.rego"},
		{"the same name in another case", []entry{ok, {name: "Policy.rego"}}, bundles.CodeDuplicateFile, "Policy.rego"},
		{"unknown file", []entry{ok, {name: "README.md"}}, bundles.CodeUnknownFile, "README.md"},
		{"hidden file", []entry{ok, {name: ".env"}}, bundles.CodeUnknownFile, ".env"},
		{"manifest below", []entry{ok, {name: "a/.manifest"}}, bundles.CodeUnknownFile, "a/.manifest"},
		{"data in another case", []entry{ok, {name: "a/Data.json", data: "{}"}}, bundles.CodeUnknownFile, "a/Data.json"},
		{"Rego in another case", []entry{ok, {name: "b.REGO"}}, bundles.CodeUnknownFile, "b.REGO"},
		{"data among cases", []entry{ok, {name: "cases/data.yaml", data: "a: 1"}}, bundles.CodeUnknownFile, "cases/data.yaml"},
		{"Wasm", []entry{ok, {name: "/policy.wasm"}}, bundles.CodeUnsupported, "policy.wasm"},
		{"plan", []entry{ok, {name: "/plan.json", data: "{}"}}, bundles.CodeUnsupported, "plan.json"},
		{"delta with policy", []entry{ok, {name: "/patch.json", data: `{"data":[{"op":"remove","path":"/a"}]}`}}, bundles.CodeUnsupported, "policy.rego"},
		{"large file", []entry{ok, {name: "b.rego", data: strings.Repeat("#", 1001)}}, bundles.CodeTooLarge, "b.rego"},
		{"large together", []entry{
			{name: "a.rego", data: strings.Repeat("#", 900)},
			{name: "b.rego", data: strings.Repeat("#", 900)},
			{name: "c.rego", data: strings.Repeat("#", 900)},
		}, bundles.CodeTooLarge, "c.rego"},
		{"many files", []entry{ok, {name: "a.rego"}, {name: "b.rego"}, {name: "c.rego"}, {name: "d.rego"}}, bundles.CodeTooLarge, ""},
		{"deep", []entry{ok, {name: "a/b/c/d.rego"}}, bundles.CodeTooLarge, "a/b/c/d.rego"},
		{"long name", []entry{ok, {name: strings.Repeat("a", 1025) + ".rego"}}, bundles.CodeTooLarge, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := bundles.OpenArchive(bytes.NewReader(pack(t, tt.entries...)), small)
			wantCode(t, err, tt.code, tt.path)
		})
	}
}

func TestOpenArchiveRefusesBytes(t *testing.T) {
	t.Parallel()
	good := pack(t, entry{name: "policy.rego", data: policy})
	corrupt := bytes.Clone(good)
	corrupt[len(corrupt)-6] ^= 1 // gzip's checksum
	bomb := func() []byte {
		var buf bytes.Buffer
		zw := gzip.NewWriter(&buf)
		zeros := make([]byte, 1<<20)
		for range 8 {
			if _, err := zw.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}()
	tests := []struct {
		name string
		data []byte
		code bundles.Code
	}{
		{"empty", nil, bundles.CodeUnreadable},
		{"not gzip", []byte("package authz"), bundles.CodeUnreadable},
		{"cut off", good[:len(good)/2], bundles.CodeUnreadable},
		{"without its checksum", good[:len(good)-8], bundles.CodeUnreadable},
		{"corrupt", corrupt, bundles.CodeUnreadable},
		{"trailing bytes", append(bytes.Clone(good), "more"...), bundles.CodeUnreadable},
		{"a second archive behind", append(bytes.Clone(good), good...), bundles.CodeUnreadable},
		{"a bomb of zeros", bomb, bundles.CodeTooLarge},
		{"large archive", make([]byte, 1<<16+1), bundles.CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := bundles.OpenArchive(bytes.NewReader(tt.data), bundles.Limits{MaxArchiveBytes: 1 << 16})
			wantCode(t, err, tt.code, "")
		})
	}
}

func TestManifestRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		manifest string
		code     bundles.Code
		path     string
	}{
		{``, bundles.CodeManifestInvalid, ".manifest"},
		{`[]`, bundles.CodeManifestInvalid, ".manifest"},
		{`{"revision":"1"} x`, bundles.CodeManifestInvalid, ".manifest"},
		{`{"revision":1}`, bundles.CodeManifestInvalid, ".manifest#/revision"},
		{`{"revision":"1","revision":"2"}`, bundles.CodeManifestInvalid, ".manifest#/revision"},
		{`{"roots":["a"],"Roots":["b"]}`, bundles.CodeManifestInvalid, ".manifest#/Roots"},
		{`{"root":["a"]}`, bundles.CodeManifestInvalid, ".manifest#/root"},
		{`{"roots":"a"}`, bundles.CodeManifestInvalid, ".manifest#/roots"},
		{`{"roots":[1]}`, bundles.CodeManifestInvalid, ".manifest#/roots"},
		{`{"roots":["a","a/b"]}`, bundles.CodeManifestInvalid, ".manifest#/roots"},
		{`{"roots":["a","a"]}`, bundles.CodeManifestInvalid, ".manifest#/roots"},
		{`{"roots":["","a"]}`, bundles.CodeManifestInvalid, ".manifest#/roots"},
		{`{"metadata":[]}`, bundles.CodeManifestInvalid, ".manifest#/metadata"},
		{`{"rego_version":0}`, bundles.CodeUnsupported, ".manifest#/rego_version"},
		{`{"rego_version":2}`, bundles.CodeUnsupported, ".manifest#/rego_version"},
		{`{"rego_version":"1"}`, bundles.CodeUnsupported, ".manifest#/rego_version"},
		{`{"file_rego_versions":{"/policy.rego":0}}`, bundles.CodeUnsupported, ".manifest#/file_rego_versions"},
		{`{"file_rego_versions":[]}`, bundles.CodeManifestInvalid, ".manifest#/file_rego_versions"},
		{`{"wasm":[{"entrypoint":"a","module":"/policy.wasm"}]}`, bundles.CodeUnsupported, ".manifest#/wasm"},
		{`{"wasm":{}}`, bundles.CodeManifestInvalid, ".manifest#/wasm"},
	}
	for _, tt := range tests {
		t.Run(tt.manifest, func(t *testing.T) {
			t.Parallel()
			data := pack(t, entry{name: "/policy.rego", data: policy}, entry{name: "/.manifest", data: tt.manifest})
			_, err := bundles.OpenArchive(bytes.NewReader(data), bundles.Limits{})
			wantCode(t, err, tt.code, tt.path)
		})
	}
}

func TestOpenArchive(t *testing.T) {
	t.Parallel()
	data := pack(
		t,
		entry{name: "./", typeflag: tar.TypeDir},
		entry{name: "./.manifest", data: `{"revision":"r1","roots":["authz","limits/"],"rego_version":1,"file_rego_versions":{"/x.rego":1},"wasm":[],"metadata":{"authzd":{"contract":1},"other":2}}`},
		entry{name: "/policy.rego", data: policy},
		entry{name: "policy_test.rego", data: "package authz_test"},
		entry{name: "limits/data.json", data: `{"max":9007199254740993}`},
		entry{name: "limits/deep/data.yaml", data: "step: 12000.50"},
		entry{name: "cases/one.yaml", data: "cases: {}"},
		entry{name: "/.signatures.json", data: `{"signatures":[]}`},
	)
	got, err := bundles.OpenArchive(bytes.NewReader(data), bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b := got.Bundle
	if diff := cmp.Diff([]string{"authz", "limits"}, b.Roots); diff != "" || b.Revision != "r1" || !got.Signed {
		t.Errorf("roots %s revision %q signed %t", diff, b.Revision, got.Signed)
	}
	if s := string(b.Metadata.AppendJSON(nil)); s != `{"contract":1}` {
		t.Errorf("metadata %s", s)
	}
	if s := string(b.Data.AppendJSON(nil)); s != `{"limits":{"max":9007199254740993,"deep":{"step":12000.50}}}` {
		t.Errorf("data %s", s)
	}
	if len(b.Modules) != 1 || b.Modules[0].Path != "policy.rego" || b.Modules[0].Text != policy || len(b.Tests) != 1 || len(got.Cases) != 1 {
		t.Errorf("modules %v tests %v cases %v", b.Modules, b.Tests, got.Cases)
	}
}

func TestRevisionOfContent(t *testing.T) {
	t.Parallel()
	revision := func(entries ...entry) string {
		c, err := bundles.OpenArchive(bytes.NewReader(pack(t, entries...)), bundles.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Bundle.Revision
	}
	a := entry{name: "a.rego", data: policy}
	b := entry{name: "b/data.json", data: `1`}
	one, two := revision(a, b), revision(b, a)
	if !strings.HasPrefix(one, "sha256:") || len(one) != 7+64 || one != two {
		t.Errorf("revisions %q and %q of one content", one, two)
	}
	if other := revision(a, entry{name: "b/data.json", data: `2`}); other == one {
		t.Error("another content has the same revision")
	}
}

// What opa build makes of a folder is read as the folder itself is, numbers
// and YAML included.
func TestOpensWhatOPABuilds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		".manifest":                     `{"revision":"r1","roots":["authz","t","lists","n"],"metadata":{"authzd":{"contract":1}}}`,
		"policy.rego":                   policy,
		"sub/more_test.rego":            "package authz.more_test\n\ntest_x if true\n",
		"lists/data.json":               `{"blocked":["a","b"],"big":9007199254740993}`,
		"lists/x.y/data.yaml":           "a: 1e3\nb: 9007199254740993\nc: [1, -0.5, yes, ~, \"7\"]\nd: 2026-01-01\n",
		"t/payments.initiate/data.json": `{"arguments":{"type":"object"}}`,
		"n/data.yml":                    "just text\n",
		"README.md":                     "not part of it",
	})
	var buf bytes.Buffer
	c := compile.New().WithAsBundle(true).WithPaths(dir).WithOutput(&buf)
	if err := c.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	built, err := bundles.OpenArchive(&buf, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := bundles.Open(dir, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !rar.Equal(built.Bundle.Data, folder.Bundle.Data) {
		t.Errorf("built  %s\nfolder %s", built.Bundle.Data.AppendCanonical(nil), folder.Bundle.Data.AppendCanonical(nil))
	}
	if built.Bundle.Revision != "r1" || !rar.Equal(built.Bundle.Metadata, folder.Bundle.Metadata) {
		t.Errorf("revision %q metadata %s", built.Bundle.Revision, built.Bundle.Metadata.AppendJSON(nil))
	}
	if diff := cmp.Diff(folder.Bundle.Roots, built.Bundle.Roots); diff != "" {
		t.Error(diff)
	}
	if len(built.Bundle.Modules) != 1 || built.Bundle.Modules[0].Text != policy || len(built.Bundle.Tests) != 1 {
		t.Errorf("modules %v tests %v", built.Bundle.Modules, built.Bundle.Tests)
	}
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := os.WriteFile(file, pack(t, entry{name: "/policy.rego", data: policy}), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := bundles.Open(file, bundles.Limits{}); err != nil || len(c.Bundle.Modules) != 1 {
		t.Errorf("open of a file: %v %v", c, err)
	}
}

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzOpenArchive(f *testing.F) {
	f.Add(pack(f, entry{name: "/policy.rego", data: policy}, entry{name: "/.manifest", data: `{"revision":"","roots":[""]}`}))
	f.Add(pack(f, entry{name: "a/data.yaml", data: "a: [1, {b: c}]"}, entry{name: "cases/x.yaml", data: "a: 1"}))
	f.Add(pack(f, entry{name: "b.rego", typeflag: tar.TypeSymlink, link: "../x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := bundles.Limits{MaxBytes: 1 << 16, MaxFiles: 16}
		c, err := bundles.OpenArchive(bytes.NewReader(data), l)
		if err != nil {
			var e *bundles.Error
			if !errors.As(err, &e) || e.Code == "" {
				t.Fatalf("uncoded error %v", err)
			}
			return
		}
		for _, m := range c.Bundle.Modules {
			if strings.HasPrefix(m.Path, "/") || strings.Contains(m.Path, "..") && strings.Contains("/"+m.Path+"/", "/../") {
				t.Fatalf("path %q", m.Path)
			}
		}
		if c.Bundle.Revision == "" || c.Bundle.Data.Kind() != rar.Object {
			t.Fatal(fmt.Sprint("incomplete content ", c.Bundle))
		}
	})
}
