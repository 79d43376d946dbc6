package bundles

import (
	"errors"
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

// manifest is what a .manifest says, as far as authzd uses it.
type manifest struct {
	revision string
	roots    []string
	// allRoots are roots before withoutLibrary.
	allRoots []string
	authzd   rar.Value // metadata.authzd, or absent
}

const (
	maxManifestBytes = 1 << 20
	regoV1           = 1
)

// decodeManifest reads a .manifest strictly: a misspelt "roots" would make the
// bundle own everything.
func decodeManifest(data []byte) (manifest, error) {
	m := manifest{roots: []string{""}, allRoots: []string{""}}
	doc, err := rar.DecodeStrict(data, rar.Limits{MaxBytes: maxManifestBytes, RejectCaseVariants: true})
	if err != nil {
		return m, decodeError(CodeManifestInvalid, manifestFile, err)
	}
	if doc.Kind() != rar.Object {
		return m, errorf(CodeManifestInvalid, manifestFile, "must be an object, not %s", doc.Kind())
	}
	for i := range doc.Len() {
		if err := m.member(doc.Member(i).Name, doc.Member(i).Value); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *manifest) member(name string, v rar.Value) error {
	bad := func(want string) error {
		return errorf(CodeManifestInvalid, manifestFile+"#/"+name, "must be %s, not %s", want, v.Kind())
	}
	switch name {
	case "revision":
		if v.Kind() != rar.String {
			return bad("a string")
		}
		m.revision = v.Text()
	case "roots":
		if v.Kind() != rar.Array {
			return bad("an array of strings")
		}
		return m.setRoots(v)
	case "metadata":
		if v.Kind() != rar.Object {
			return bad("an object")
		}
		m.authzd, _ = v.Get("authzd")
	case "rego_version":
		return regoVersion("/rego_version", v)
	case "file_rego_versions":
		if v.Kind() != rar.Object {
			return bad("an object")
		}
		for i := range v.Len() {
			if err := regoVersion("/file_rego_versions", v.Member(i).Value); err != nil {
				return err
			}
		}
	case "wasm":
		if v.Kind() != rar.Array {
			return bad("an array")
		}
		if v.Len() > 0 {
			return errorf(CodeUnsupported, manifestFile+"#/wasm", "policy compiled to Wasm is not taken: build the bundle with plain Rego (opa build -t rego)")
		}
	default:
		return errorf(CodeManifestInvalid, manifestFile+"#/"+escapeToken(name), "not a member of a bundle manifest")
	}
	return nil
}

// setRoots keeps the roots, which must not contain each other (OPA's rule).
func (m *manifest) setRoots(v rar.Value) error {
	m.roots = make([]string, 0, v.Len())
	for i := range v.Len() {
		if v.Index(i).Kind() != rar.String {
			return errorf(CodeManifestInvalid, manifestFile+"#/roots", "must be an array of strings")
		}
		root := strings.Trim(v.Index(i).Text(), "/")
		for _, other := range m.roots {
			if overlap(root, other) {
				return errorf(CodeManifestInvalid, manifestFile+"#/roots", "root %q overlaps root %q", root, other)
			}
		}
		m.roots = append(m.roots, root)
	}
	m.allRoots = slices.Clone(m.roots)
	return nil
}

func overlap(a, b string) bool {
	return a == "" || b == "" || a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// withoutLibrary drops the roots that the copy of the policy library needed.
func (m *manifest) withoutLibrary() {
	kept := m.roots[:0]
	for _, r := range m.roots {
		if r != "authzd" && r != "authzd/v1" && r != "authzd/v1_test" {
			kept = append(kept, r)
		}
	}
	m.roots = kept
}

func regoVersion(path string, v rar.Value) error {
	if !rar.Equal(v, rar.IntValue(regoV1)) {
		return errorf(CodeUnsupported, manifestFile+"#"+path,
			"only Rego v1 is taken, the manifest says %s: convert the policy with opa fmt --write --v0-v1", v.AppendJSON(nil))
	}
	return nil
}

// decodeError places a decoder's fault within its file.
func decodeError(code Code, file string, err error) error {
	var fault *rar.Error
	if errors.As(err, &fault) && fault.Path != "" {
		file += "#" + fault.Path
	}
	return &Error{Code: code, Path: file, Err: err}
}

// escapeToken makes a JSON Pointer token of a member name (RFC 6901 section 3).
func escapeToken(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
