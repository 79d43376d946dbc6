package bundles

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// ChangeKind says what a change is about.
type ChangeKind string

// The kinds of changes, in the order in which Diff lists them.
const (
	ChangeMetadata    ChangeKind = "metadata"
	ChangeRoot        ChangeKind = "root"
	ChangePermit      ChangeKind = "permit"
	ChangeForbid      ChangeKind = "forbid"
	ChangeRule        ChangeKind = "rule"
	ChangeRequirement ChangeKind = "requirement"
	ChangeType        ChangeKind = "type"
	ChangeTool        ChangeKind = "tool"
	ChangeData        ChangeKind = "data"
	ChangeTest        ChangeKind = "test"
	ChangeCase        ChangeKind = "case"
)

func changeKinds() []ChangeKind {
	return []ChangeKind{
		ChangeMetadata, ChangeRoot, ChangePermit, ChangeForbid, ChangeRule, ChangeRequirement,
		ChangeType, ChangeTool, ChangeData, ChangeTest, ChangeCase,
	}
}

// Change is one difference between two bundles.
type Change struct {
	Kind ChangeKind
	// How is "added", "removed" or "changed".
	How string
	// Name is that of the rule, type, tool or file, or a JSON Pointer.
	Name string
}

// The values of Change.How.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Diff tells how b differs from a, as policy reads them: comments, layout and
// the distribution of rules over files make no difference. It verifies no
// signature and compiles nothing. Rego that does not parse is an
// *engine.CompileError.
func Diff(a, b Content) ([]Change, error) {
	before, err := partsOf(a)
	if err != nil {
		return nil, err
	}
	after, err := partsOf(b)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, kind := range changeKinds() {
		var changes []Change
		for name, text := range before[kind] {
			now, has := after[kind][name]
			switch {
			case !has:
				changes = append(changes, Change{kind, Removed, name})
			case now != text:
				changes = append(changes, Change{kind, Changed, name})
			}
		}
		for name := range after[kind] {
			if _, had := before[kind][name]; !had {
				changes = append(changes, Change{kind, Added, name})
			}
		}
		slices.SortFunc(changes, func(x, y Change) int { return cmp.Compare(x.Name, y.Name) })
		out = append(out, changes...)
	}
	return out, nil
}

// parts are the texts of a bundle's parts by kind and name.
type parts map[ChangeKind]map[string]string

func partsOf(c Content) (parts, error) {
	p := parts{}
	for _, kind := range changeKinds() {
		p[kind] = map[string]string{}
	}
	b := &c.Bundle
	p[ChangeMetadata]["/revision"] = b.Revision
	p.leaves(ChangeMetadata, "/metadata/authzd", b.Metadata)
	for _, root := range b.Roots {
		p[ChangeRoot]["/"+root] = ""
	}
	for i := range b.Data.Len() {
		m := b.Data.Member(i)
		switch m.Name {
		case "authzd_tools":
			p.members(ChangeTool, m.Value)
		case "authzd_types":
			p.members(ChangeType, m.Value)
		default:
			p.leaves(ChangeData, "/"+pointerToken(m.Name), m.Value)
		}
	}
	for _, f := range c.Cases {
		p[ChangeCase][f.Path] = string(f.Data)
	}
	entry := "authz"
	if v, ok := b.Metadata.Get("entrypoint"); ok {
		entry = v.Text()
	}
	if err := p.rules(b.Modules, entry, false); err != nil {
		return nil, err
	}
	return p, p.rules(b.Tests, "", true)
}

// members takes each member of an object as one part.
func (p parts) members(kind ChangeKind, v rar.Value) {
	for i := range v.Len() {
		if v.Kind() == rar.Object {
			m := v.Member(i)
			p[kind][m.Name] = string(m.Value.AppendCanonical(nil))
		}
	}
}

// leaves takes what is below objects as parts, named by its place.
func (p parts) leaves(kind ChangeKind, at string, v rar.Value) {
	if v.Kind() == rar.Absent {
		return
	}
	if v.Kind() != rar.Object || v.Len() == 0 {
		p[kind][at] = string(v.AppendCanonical(nil))
		return
	}
	for i := range v.Len() {
		m := v.Member(i)
		p.leaves(kind, at+"/"+pointerToken(m.Name), m.Value)
	}
}

// pointerToken escapes a name (RFC 6901 section 3).
func pointerToken(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// rules takes all definitions of one name as one part.
func (p parts) rules(modules []engine.Module, entry string, tests bool) error {
	texts := map[ChangeKind]map[string][]string{}
	for _, m := range modules {
		mod, err := ast.ParseModuleWithOpts(m.Path, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			return syntaxError(m.Path, err)
		}
		if mod == nil {
			continue
		}
		pkg := strings.TrimPrefix(mod.Package.Path.String(), "data.")
		for _, r := range mod.Rules {
			name := pkg + "." + r.Head.Ref().String()
			kind := ChangeRule
			switch first := r.Head.Ref()[0].Value.String(); {
			case tests:
				kind = ChangeTest
			case pkg == entry && (first == "permit" || first == "allow"):
				kind = ChangePermit
			case pkg == entry && (first == "forbid" || first == "deny"):
				kind = ChangeForbid
			}
			if texts[kind] == nil {
				texts[kind] = map[string][]string{}
			}
			texts[kind][name] = append(texts[kind][name], ruleText(r, mod.Imports))
			if !tests {
				p.requirements(name, r, mod.Imports)
			}
		}
	}
	for kind, named := range texts {
		for name, list := range named {
			slices.Sort(list)
			p[kind][name] = strings.Join(list, "\n")
		}
	}
	return nil
}

// ruleText is a rule without its layout, with the imports that it uses: the
// same words mean something else where these differ.
func ruleText(r *ast.Rule, imports []*ast.Import) string {
	used := map[string]bool{}
	ast.WalkVars(r, func(v ast.Var) bool {
		used[string(v)] = true
		return false
	})
	lines := []string{r.String()}
	for _, i := range imports {
		if used[string(i.Name())] {
			lines = append(lines, i.String())
		}
	}
	return strings.Join(lines, "\n")
}

// requirements finds which constructors of the library a rule calls.
func (p parts) requirements(name string, r *ast.Rule, imports []*ast.Import) {
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		for _, i := range imports {
			if path, ok := i.Path.Value.(ast.Ref); ok && ref[0].Value.String() == string(i.Name()) {
				ref = path.Concat(ref[1:])
				break
			}
		}
		constructor, ok := strings.CutPrefix(ref.String(), libraryPackage+".")
		if !ok {
			return false
		}
		switch constructor {
		case "scopes", "authorization_details", "single_use", "authentication", "proof_of_possession", "approval":
			p[ChangeRequirement][name+" "+constructor] = ""
		}
		return false
	})
}

func syntaxError(path string, err error) error {
	out := &engine.CompileError{}
	var list ast.Errors
	if !errors.As(err, &list) {
		list = ast.Errors{{Message: err.Error()}}
	}
	for _, e := range list {
		f := engine.Finding{Code: engine.CodePolicySyntax, Severity: engine.SeverityError, File: path, Message: e.Message}
		if e.Location != nil {
			f.Row, f.Col = e.Location.Row, e.Location.Col
		}
		out.Findings = append(out.Findings, f)
	}
	return out
}
