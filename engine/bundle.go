package engine

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/rar"
)

// ContractVersion is the policy contract that this engine implements
// (metadata.authzd.contract in a bundle's manifest).
const ContractVersion = 1

// Bundle is policy and data as package bundles read them from a folder or an
// archive. Nothing in it has been compiled.
type Bundle struct {
	// Name is the operator's name for it.
	Name string
	// Revision names its content.
	Revision string
	// Roots are the paths it owns, e.g. "authz" or "authzd_types"; [""] means
	// everything but the reserved roots.
	Roots []string
	// Metadata is metadata.authzd of the manifest; an object, or absent.
	Metadata rar.Value
	// Modules are its Rego files without tests; Tests are its *_test.rego files.
	Modules, Tests []Module
	// Data is its base data, an object (or absent: no data).
	Data rar.Value
}

// Module is one Rego file.
type Module struct{ Path, Text string }

// Severity tells errors from warnings among findings.
type Severity string

// Findings of severity SeverityError refuse the bundle.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Finding is one fault or warning found while compiling.
type Finding struct {
	Code     Code
	Severity Severity
	// File, Row and Col say where; empty and 0 where no place is known.
	File     string
	Row, Col int
	// Rule is the Rego rule meant, if any.
	Rule    string
	Message string
	// Fix says what to write instead, where the lint knows.
	Fix string
	// FailsOpen: what policy means to forbid may be allowed.
	FailsOpen bool
}

// Text is the message, and what to write instead.
func (f Finding) Text() string {
	if f.Fix == "" {
		return f.Message
	}
	return f.Message + ". Fix: " + f.Fix
}

// String formats a finding as compilers do: file:row:col: code: message.
func (f Finding) String() string {
	var b strings.Builder
	switch {
	case f.File != "" && f.Row > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Row, f.Col)
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	b.WriteString(string(f.Code) + ": " + f.Text())
	return b.String()
}

// CompileError refuses bundles; Findings holds every fault found.
type CompileError struct{ Findings []Finding }

// Error lists the findings, one a line.
func (e *CompileError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Codes of bundles that are refused (Compile) or warned about.
const (
	CodeBundleContractMissing     Code = "bundle.contract_missing"
	CodeBundleContractUnsupported Code = "bundle.contract_unsupported"
	CodeBundleMetadata            Code = "bundle.metadata_invalid"
	CodeBundleEntrypointMissing   Code = "bundle.entrypoint_missing"
	CodeBundleEntrypointConflict  Code = "bundle.entrypoint_conflict"
	CodeBundleRootsConflict       Code = "bundle.roots_conflict"
	CodeBundleOutsideRoots        Code = "bundle.outside_roots"
	CodeBundleRequirementKind     Code = "bundle.requirement_kind_unsupported"
	CodeBundleToolInvalid         Code = "bundle.tool_invalid"
	CodeBundleTypeInvalid         Code = "bundle.type_invalid"
	CodeBundleLaxContract         Code = "bundle.lax_contract"
	CodePolicySyntax              Code = "engine.policy_syntax"
	CodePolicyCompile             Code = "engine.policy_compile"
	// CodePolicyTooDeep is policy whose terms or references go deeper than it may.
	CodePolicyTooDeep Code = "engine.policy_too_deep"
)

// settings is metadata.authzd, decoded.
type settings struct {
	hasContract  bool
	entrypoint   string
	untypedTools bool
	declared     DeclaredMappings
	laxForbids   bool
	optionalData []string
	// writableData are paths of data that may change without a signature.
	writableData []string
	// publicData are paths of data that hints may show; openHints: hints may
	// show anything.
	publicData []string
	openHints  bool
}

const defaultEntrypoint = "authz"

// packagePath is what an entry point may look like: a plain package path.
func validPackagePath(s string) bool {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`).MatchString(s)
}

// readSettings decodes metadata.authzd; every fault is reported.
func readSettings(b *Bundle) (settings, []Finding) {
	s := settings{entrypoint: defaultEntrypoint}
	m := b.Metadata
	var found []Finding
	bad := func(code Code, format string, args ...any) {
		found = append(found, Finding{Code: code, Severity: SeverityError, File: b.Name + "/.manifest", Message: fmt.Sprintf(format, args...)})
	}
	if m.Kind() != rar.Absent && m.Kind() != rar.Object {
		bad(CodeBundleMetadata, "metadata.authzd must be an object")
		return s, found
	}
	for i := range m.Len() {
		s.read(m.Member(i), bad)
	}
	if !s.hasContract && len(b.Modules) > 0 {
		bad(CodeBundleContractMissing, "bundle %q has Rego but no contract version: put \"metadata\": {\"authzd\": {\"contract\": 1}} into .manifest "+
			"(an existing OPA policy: {\"contract\": 1, \"untyped_tools\": true, \"lax_forbids\": true})", b.Name)
	}
	return s, found
}

// read takes in one member; bad reports a fault in it.
func (s *settings) read(m rar.Member, bad func(code Code, format string, args ...any)) {
	name, v := m.Name, m.Value
	switch name {
	case "contract":
		s.hasContract = true
		if v.Kind() != rar.Number || !rar.Equal(v, rar.IntValue(ContractVersion)) {
			bad(CodeBundleContractUnsupported, "metadata.authzd.contract is %s; this engine implements %d", v.AppendJSON(nil), ContractVersion)
		}
	case "entrypoint":
		s.entrypoint = v.Text()
		if v.Kind() != rar.String || !validPackagePath(s.entrypoint) || reservedRoot(rootOf(s.entrypoint)) {
			bad(CodeBundleMetadata, "metadata.authzd.entrypoint must be the path of a package that is not reserved, such as \"authz\"")
		}
	case "untyped_tools":
		s.untypedTools = v.Bool()
		wantBool(name, v, bad)
	case "lax_forbids":
		s.laxForbids = v.Bool()
		wantBool(name, v, bad)
	case "declared_mappings":
		s.declared = DeclaredMappings(v.Text())
		switch s.declared {
		case RefuseDeclared, VerifiedSubject, AnySubject:
		default:
			bad(CodeBundleMetadata, "metadata.authzd.declared_mappings must be \"refuse\", \"verified_subject\" or \"any_subject\"")
		}
	case "optional_data", "writable_data", "public_data":
		s.readPaths(name, wantList(name, v, bad), bad)
	case "open_hints":
		s.openHints = v.Bool()
		wantBool(name, v, bad)
	case "requirement_kinds":
		for _, k := range wantList(name, v, bad) {
			if !knownRequirement(Kind(k)) {
				bad(CodeBundleRequirementKind, "the bundle uses requirement kind %q, which this engine lacks", k)
			}
		}
	case "name":
		wantKind(name, v, rar.String, bad)
	case "sequence":
		wantKind(name, v, rar.Number, bad)
	default:
		bad(CodeBundleMetadata, "metadata.authzd.%s is not a member of contract %d", name, ContractVersion)
	}
}

// readPaths takes in a list of paths of data.
func (s *settings) readPaths(name string, paths []string, bad func(code Code, format string, args ...any)) {
	switch name {
	case "optional_data":
		s.optionalData = paths
	case "public_data":
		s.publicData = paths
	case "writable_data":
		s.writableData = paths
	}
	for _, path := range s.writableData {
		names := dataNames(path)
		if slices.Contains(names, "") || reservedRoot(names[0]) || strings.HasPrefix(names[0], "authzd_") {
			bad(CodeBundleMetadata, "metadata.authzd.writable_data: %q is not the path of a document below a root that is not reserved, such as \"lists/blocked\"", path)
		}
	}
}

func wantBool(name string, v rar.Value, bad func(code Code, format string, args ...any)) {
	if v.Kind() != rar.Bool {
		bad(CodeBundleMetadata, "metadata.authzd.%s must be true or false", name)
	}
}

func wantKind(name string, v rar.Value, kind rar.Kind, bad func(code Code, format string, args ...any)) {
	if v.Kind() != kind {
		bad(CodeBundleMetadata, "metadata.authzd.%s must be a %s", name, kind)
	}
}

func wantList(name string, v rar.Value, bad func(code Code, format string, args ...any)) []string {
	list, ok := stringList(v)
	if !ok {
		bad(CodeBundleMetadata, "metadata.authzd.%s must be an array of strings", name)
	}
	return list
}

func stringList(v rar.Value) ([]string, bool) {
	if v.Kind() != rar.Array {
		return nil, false
	}
	out := make([]string, 0, v.Len())
	for i := range v.Len() {
		if v.Index(i).Kind() != rar.String {
			return nil, false
		}
		out = append(out, v.Index(i).Text())
	}
	return out, true
}

// dataNames reads a path of data as manifests write it, a/b, a.b or data.a.b; a name with
// a dot is written with slashes.
func dataNames(path string) []string {
	if strings.Contains(path, "/") {
		return strings.Split(strings.Trim(path, "/"), "/")
	}
	return strings.Split(strings.TrimPrefix(path, "data."), ".")
}

func rootOf(path string) string {
	root, _, _ := strings.Cut(strings.ReplaceAll(path, "/", "."), ".")
	return root
}

// reservedRoot tells roots of the data tree that no pushed bundle may own
// (contract, "Reserved roots").
func reservedRoot(root string) bool {
	switch root {
	case "authzd", "system":
		return true
	case "authzd_tools", "authzd_types", "authzd_indexes":
		return false
	}
	return strings.HasPrefix(root, "authzd_")
}

// checkRoots refuses bundles whose roots overlap, and content outside them.
func checkRoots(bundles []Bundle) []Finding {
	var found []Finding
	for i := range bundles {
		for j := range i {
			for _, a := range bundles[j].Roots {
				for _, b := range bundles[i].Roots {
					if rootContains(a, b) || rootContains(b, a) {
						found = append(found, Finding{
							Code: CodeBundleRootsConflict, Severity: SeverityError, File: bundles[i].Name + "/.manifest",
							Message: fmt.Sprintf("root %q of bundle %q overlaps root %q of bundle %q", b, bundles[i].Name, a, bundles[j].Name),
						})
					}
				}
			}
		}
	}
	return found
}

// rootContains tells whether path (slashes) lies in root.
func rootContains(root, path string) bool {
	root, path = strings.Trim(root, "/"), strings.Trim(path, "/")
	return root == "" || root == path || strings.HasPrefix(path, root+"/")
}

func inRoots(roots []string, path string) bool {
	for _, r := range roots {
		if rootContains(r, path) {
			return true
		}
	}
	return false
}

// checkData refuses base data outside the bundle's roots. A parent of a root
// must be an object that holds nothing else.
func checkData(b *Bundle) []Finding {
	if k := b.Data.Kind(); k != rar.Absent && k != rar.Object {
		return []Finding{{Code: Code(contract.CodeDataInvalid), Severity: SeverityError, File: b.Name, Message: "base data must be an object"}}
	}
	var found []Finding
	var walk func(prefix string, v rar.Value)
	walk = func(prefix string, v rar.Value) {
		for i := range v.Len() {
			m := v.Member(i)
			path := strings.TrimPrefix(prefix+"/"+m.Name, "/")
			switch {
			case inRoots(b.Roots, path):
			case m.Value.Kind() == rar.Object && parentOfRoot(b.Roots, path):
				walk(path, m.Value)
			default:
				found = append(found, Finding{
					Code: CodeBundleOutsideRoots, Severity: SeverityError, File: b.Name,
					Message: fmt.Sprintf("data at %q is outside the bundle's roots %q", path, b.Roots),
				})
			}
		}
	}
	walk("", b.Data)
	return found
}

func parentOfRoot(roots []string, path string) bool {
	for _, r := range roots {
		if strings.HasPrefix(strings.Trim(r, "/"), path+"/") {
			return true
		}
	}
	return false
}

// mergeData joins the bundles' data. Roots do not overlap, so only objects on
// the way to a root can meet.
func mergeData(bundles []Bundle) rar.Value {
	out := rar.ObjectValue()
	for i := range bundles {
		switch v := bundles[i].Data; {
		case v.Kind() != rar.Object:
		case out.Len() == 0:
			out = v
		default:
			out = mergeObjects(out, v)
		}
	}
	return out
}

func mergeObjects(a, b rar.Value) rar.Value {
	members := make([]rar.Member, 0, a.Len()+b.Len())
	for i := range a.Len() {
		m := a.Member(i)
		if bv, ok := b.Get(m.Name); ok && m.Value.Kind() == rar.Object && bv.Kind() == rar.Object {
			m.Value = mergeObjects(m.Value, bv)
		}
		members = append(members, m)
	}
	for i := range b.Len() {
		m := b.Member(i)
		if _, ok := a.Get(m.Name); !ok {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}

func sortFindings(f []Finding) {
	sort.SliceStable(f, func(i, j int) bool {
		a, b := f[i], f[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Row != b.Row {
			return a.Row < b.Row
		}
		return a.Col < b.Col
	})
}
