package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/policies"
)

// bundleRef is one --bundle: the operator's name for a bundle, and where it is.
type bundleRef struct{ Name, Path string }

const bundleName = `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`

func validBundleName(name string) bool { return regexp.MustCompile(bundleName).MatchString(name) }

// parseBundleRef reads NAME=PATH.
func parseBundleRef(s string) (bundleRef, error) {
	name, where, ok := strings.Cut(s, "=")
	if !ok || where == "" || !validBundleName(name) {
		return bundleRef{}, fmt.Errorf("bundle: %q is not NAME=PATH with a name of letters, digits, '.', '_' and '-'", s)
	}
	return bundleRef{Name: name, Path: where}, nil
}

// looseBundleRef also takes a mere path, and names the bundle after it.
func looseBundleRef(s string) (bundleRef, error) {
	if _, err := os.Stat(s); err == nil || !strings.Contains(s, "=") {
		return bundleRef{Name: nameOf(s), Path: s}, nil
	}
	return parseBundleRef(s)
}

// nameOf makes a bundle's name of its path.
func nameOf(where string) string {
	if abs, err := filepath.Abs(where); err == nil {
		where = abs
	}
	base := filepath.Base(where)
	for _, ext := range []string{".tar.gz", ".tgz"} {
		base = strings.TrimSuffix(base, ext)
	}
	base = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(base, "-"), "-.")
	if !validBundleName(base) {
		return "bundle"
	}
	return base
}

// policySet is bundles as opened, with what is needed to name their files as
// the operator knows them.
type policySet struct {
	refs     []bundleRef
	contents []bundles.Content
	// signatures are those of contents, where they were verified.
	signatures []bundles.Signature
	// builtin: this is our own default policy, whose warnings help nobody.
	builtin bool
}

// openPolicies opens the bundles, or the embedded default policy if there are
// none. All faults are reported together.
func openPolicies(refs []bundleRef) (*policySet, error) { return openVerified(refs, nil) }

// openVerified is openPolicies for bundles that must be signed; nil: they need
// not. The embedded policy came with this program.
func openVerified(refs []bundleRef, v *verification) (*policySet, error) {
	if len(refs) == 0 {
		return openDefault()
	}
	set := &policySet{refs: refs}
	var faults []error
	for _, ref := range refs {
		c, err := v.open(set, ref.Path)
		if err != nil {
			faults = append(faults, fmt.Errorf("bundle %s (%s): %w", ref.Name, ref.Path, err))
			continue
		}
		c.Bundle.Name = ref.Name
		set.contents = append(set.contents, c)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return set, nil
}

// openDefault opens the policy that denies everything.
func openDefault() (*policySet, error) {
	sub, err := fs.Sub(policies.FS(), policies.Default)
	if err != nil {
		return nil, fmt.Errorf("open the default policy: %w", err)
	}
	c, err := bundles.OpenFS(sub, bundles.Limits{})
	if err != nil {
		return nil, fmt.Errorf("open the default policy: %w", err)
	}
	c.Bundle.Name = "default"
	return &policySet{refs: []bundleRef{{Name: "default", Path: "(default policy)"}}, contents: []bundles.Content{c}, builtin: true}, nil
}

// compile compiles the set. Findings name files by the paths that the operator
// gave.
func (s *policySet) compile(ctx context.Context) (*engine.Snapshot, []engine.Finding, error) {
	list := make([]engine.Bundle, 0, len(s.contents))
	for _, c := range s.contents {
		list = append(list, c.Bundle)
	}
	snapshot, warnings, err := engine.Compile(ctx, list)
	var refused *engine.CompileError
	if errors.As(err, &refused) {
		err = &engine.CompileError{Findings: s.located(refused.Findings)}
	}
	if s.builtin {
		warnings = nil
	}
	return snapshot, s.located(warnings), err
}

func (s *policySet) located(findings []engine.Finding) []engine.Finding {
	out := make([]engine.Finding, 0, len(findings))
	for _, f := range findings {
		f.File = s.locate(f.File)
		out = append(out, f)
	}
	return out
}

// findingText writes a finding as compilers do: file:row:col: code: message.
func findingText(f engine.Finding) string {
	text := string(f.Code) + ": " + f.Text()
	switch {
	case f.File == "":
		return text
	case f.Row == 0:
		return f.File + ": " + text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Row, f.Col, text)
}

func findingTexts(findings []engine.Finding) []string {
	out := make([]string, 0, len(findings))
	for _, f := range findings {
		out = append(out, findingText(f))
	}
	return out
}

// locate turns the engine's name of a file, which begins with the bundle's name
// where there is more than one, into a path.
func (s *policySet) locate(file string) string {
	if file == "" {
		return file
	}
	for _, ref := range s.refs {
		if file == ref.Name {
			return ref.Path
		}
		if rest, ok := strings.CutPrefix(file, ref.Name+"/"); ok {
			return path.Join(filepath.ToSlash(ref.Path), rest)
		}
	}
	if len(s.refs) == 1 {
		return path.Join(filepath.ToSlash(s.refs[0].Path), file)
	}
	return file
}

// warnings tells of files that were left out of the bundles.
func (s *policySet) warnings() []string {
	var out []string
	for i, c := range s.contents {
		for _, w := range c.Warnings {
			out = append(out, s.refs[i].Path+": "+w)
		}
	}
	return out
}
