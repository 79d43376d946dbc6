package bundles

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine"
)

// kind is what a file of a bundle is, by its name.
type kind uint8

const (
	kindUnknown kind = iota
	kindManifest
	kindSignatures
	kindRego
	kindTest
	kindData
	kindCase
	// kindPatch is the changes of a delta bundle.
	kindPatch
	// kindCompiled is policy in a form that only OPA runs.
	kindCompiled
	// kindMistaken is a name that differs in case only from one that counts.
	kindMistaken
)

const (
	manifestFile   = ".manifest"
	signaturesFile = ".signatures.json"
	casesFolder    = "cases/"
	regoSuffix     = ".rego"
	testSuffix     = "_test.rego"
)

func classify(name string) kind {
	base := path.Base(name)
	switch name {
	case manifestFile:
		return kindManifest
	case signaturesFile:
		return kindSignatures
	case patchFile:
		return kindPatch
	}
	switch {
	case strings.HasPrefix(base, "."):
		return kindUnknown
	case base == "policy.wasm", base == "plan.json":
		return kindCompiled
	case strings.HasSuffix(base, testSuffix):
		return kindTest
	case strings.HasSuffix(base, regoSuffix):
		return kindRego
	case isData(base):
		if strings.HasPrefix(name, casesFolder) {
			return kindMistaken
		}
		return kindData
	case strings.HasPrefix(name, casesFolder) && isCase(base):
		return kindCase
	}
	if low := strings.ToLower(base); low != base && (isData(low) || strings.HasSuffix(low, regoSuffix)) {
		return kindMistaken
	}
	return kindUnknown
}

func isData(base string) bool {
	return base == "data.json" || base == "data.yaml" || base == "data.yml"
}

func isCase(base string) bool {
	ext := path.Ext(base)
	return ext == ".yaml" || ext == ".yml" || ext == ".json"
}

func mistaken(name string) error {
	return errorf(CodeUnknownFile, name, "looks like policy or data, but would not be loaded: "+
		"names end in .rego or are data.json, data.yaml, data.yml in lower case, and data does not live below cases/")
}

func compiled(name string) error {
	return errorf(CodeUnsupported, name, "compiled policy is not taken: build the bundle with plain Rego (opa build -t rego)")
}

// assemble makes a bundle's content of its files.
func assemble(files []File, l Limits) (Content, error) {
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	if slices.ContainsFunc(files, func(f File) bool { return f.Path == patchFile }) {
		return assembleDelta(files)
	}
	a := assembly{limits: l, data: newDataTree()}
	a.manifest.roots, a.manifest.allRoots = []string{""}, []string{""}
	for i := range files {
		a.content.Size += int64(len(files[i].Data))
		if err := a.add(&files[i]); err != nil {
			return Content{}, err
		}
	}
	b := &a.content.Bundle
	if len(b.Modules) == 0 && a.data.empty() {
		return Content{}, errorf(CodeEmpty, "", "neither Rego nor data; name a folder or archive that holds a bundle")
	}
	if a.library {
		a.manifest.withoutLibrary()
	}
	b.Data = a.data.value()
	a.content.Roots = a.manifest.allRoots
	b.Revision, b.Roots, b.Metadata = a.manifest.revision, a.manifest.roots, a.manifest.authzd
	if b.Revision == "" {
		// Signed again it is the same policy.
		b.Revision = contentDigest(unsigned(files))
	}
	return a.content, nil
}

// assembly is the state of one assemble.
type assembly struct {
	limits   Limits
	content  Content
	data     *dataTree
	manifest manifest
	// library: the bundle carries a copy of our policy library.
	library bool
}

func (a *assembly) add(f *File) error {
	switch classify(f.Path) {
	case kindManifest:
		m, err := decodeManifest(f.Data)
		a.manifest = m
		return err
	case kindSignatures:
		a.content.Signed = true
	case kindRego:
		a.addModule(&a.content.Bundle.Modules, f)
	case kindTest:
		a.addModule(&a.content.Bundle.Tests, f)
	case kindCase:
		a.content.Cases = append(a.content.Cases, *f)
	case kindData:
		return a.addData(f)
	case kindCompiled, kindPatch:
		return compiled(f.Path)
	case kindMistaken:
		return mistaken(f.Path)
	case kindUnknown:
		return errorf(CodeUnknownFile, f.Path, "has no place in a bundle: it holds .manifest, Rego, data.json or data.yaml, and cases/")
	}
	return nil
}

func (a *assembly) addModule(list *[]engine.Module, f *File) {
	m := engine.Module{Path: f.Path, Text: string(f.Data)}
	if isLibrary(m) {
		a.library = true
		return
	}
	*list = append(*list, m)
}

func (a *assembly) addData(f *File) error {
	v, err := decodeDocument(f, a.limits)
	if err != nil {
		return err
	}
	dir := path.Dir(f.Path)
	if dir == "." {
		dir = ""
	}
	return a.data.add(dir, f.Path, v)
}

// isLibrary tells a copy of our policy library. Stock opa build and opa test
// want it beside the policy; the engine brings its own, and a meaning never
// changes within one version, so the copy is left out.
func isLibrary(m engine.Module) bool {
	if !strings.Contains(m.Text, "package authzd.v1") {
		return false
	}
	mod, err := ast.ParseModuleWithOpts(m.Path, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil || mod == nil {
		return false // the engine reports what is wrong with it
	}
	switch mod.Package.Path.String() {
	case libraryPackage, libraryPackage + "_test":
		return true
	}
	return false
}

const libraryPackage = "data.authzd.v1"

// contentDigest names content, sorted by path, that has no name of its own.
// Each part carries its length, so that no two contents run into one.
func contentDigest(files []File) string {
	h := sha256.New()
	for _, f := range files {
		h.Write(fmt.Appendf(nil, "%d:%s%d:", len(f.Path), f.Path, len(f.Data)))
		h.Write(f.Data)
	}
	return digestPrefix + hex.EncodeToString(h.Sum(nil))
}
