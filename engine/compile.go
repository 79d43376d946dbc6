package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/engine/internal/narrow"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

// Snapshot is the bundles of one tenant, compiled and immutable.
type Snapshot struct {
	policy PolicyRef
	// untypedTools admits tools/call without a schema or without an MCP message.
	untypedTools bool
	declared     DeclaredMappings
	types        *rar.Types
	tools        *toolSchemas
	eval         *evaluation
	bundles      []PolicyRef
	asks         Asks
	disclosable  *disclosable
	// made is what it was compiled from, for the next data.
	made *compilation
	// filter is made when it is asked for first, or by Prepare: it takes as long as
	// the rest of Compile, and no decision needs it.
	filter *lazyFilter
}

// Policy names the bundle that holds the entry point, and its revision.
func (s *Snapshot) Policy() PolicyRef { return s.policy }

// Bundles names every bundle of the snapshot.
func (s *Snapshot) Bundles() []PolicyRef { return append([]PolicyRef(nil), s.bundles...) }

// Types returns the declared authorization_details types.
func (s *Snapshot) Types() *rar.Types { return s.types }

// Compile makes one snapshot of bundles, applying every compile-time rule of
// the policy contract. The findings are warnings; an error is a *CompileError
// that lists all faults, or the context's.
func Compile(ctx context.Context, bundles []Bundle) (*Snapshot, []Finding, error) {
	c := &compilation{bundles: bundles}
	c.run(ctx)
	return c.result(ctx)
}

func (c *compilation) result(ctx context.Context) (*Snapshot, []Finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("compile policy: %w", err)
	}
	var faults, warnings []Finding
	for _, f := range c.findings {
		if f.Severity == SeverityError {
			faults = append(faults, f)
		} else {
			warnings = append(warnings, f)
		}
	}
	sortFindings(faults)
	sortFindings(warnings)
	if len(faults) > 0 || c.snapshot == nil {
		return nil, warnings, &CompileError{Findings: faults}
	}
	return c.snapshot, warnings, nil
}

// compilation is the state of one Compile.
type compilation struct {
	bundles  []Bundle
	findings []Finding
	failed   bool

	main     int // index of the bundle with the entry point
	settings []settings
	modules  map[string]*ast.Module
	library  map[string]bool // keys of modules that are ours
	data     rar.Value
	indexes  []narrow.Document // that are declared
	tools    []contract.Tool
	analysis *contract.Analysis
	snapshot *Snapshot
}

func (c *compilation) add(f ...Finding) {
	for _, x := range f {
		c.failed = c.failed || x.Severity == SeverityError
	}
	c.findings = append(c.findings, f...)
}

func (c *compilation) fault(code Code, file, format string, args ...any) {
	c.add(Finding{Code: code, Severity: SeverityError, File: file, Message: fmt.Sprintf(format, args...)})
}

func (c *compilation) run(ctx context.Context) {
	for i := range c.bundles {
		s, found := readSettings(&c.bundles[i])
		c.settings = append(c.settings, s)
		c.add(found...)
		c.add(checkData(&c.bundles[i])...)
	}
	c.add(checkRoots(c.bundles)...)
	c.parse()
	if c.failed || ctx.Err() != nil {
		return
	}
	c.findEntrypoint()
	if c.failed {
		return
	}
	c.data = mergeData(c.bundles)
	types := c.compileTypes()
	tools := c.compileTools()
	if c.failed || ctx.Err() != nil {
		return
	}
	main := c.settings[c.main]
	c.judge(main, tools)
	c.warnLax(main)
	c.checkPublicData()
	c.readIndexes()
	c.assemble(ctx, main, types, tools)
}

// assemble makes the snapshot, if nothing speaks against it.
func (c *compilation) assemble(ctx context.Context, main settings, types *rar.Types, tools *toolSchemas) {
	compiler := c.compileRego(main)
	if c.failed || ctx.Err() != nil {
		return
	}
	if c.checkIndexReads(compiler); c.failed {
		return
	}
	c.suggestIndexes(compiler)
	c.lint(ctx, compiler, main, types)
	eval, err := newTopdown(ctx, compiler, packageRef(main.entrypoint), c.data, lookUps{c.modules, c.indexes})
	if err != nil {
		c.fault(CodePolicyCompile, c.bundles[c.main].Name, "%v", err)
		return
	}
	s := &Snapshot{
		untypedTools: main.untypedTools, declared: main.declared, types: types, tools: tools,
		eval: newEvaluation(eval, packageRef(main.entrypoint), c.data),
	}
	s.asks = asksOf(compiler.Modules, c.library)
	s.disclosable = c.disclosable(types)
	c.finish(s, eval)
}

// finish adds what the bundles are called, and what decides the lists of tools.
func (c *compilation) finish(s *Snapshot, eval *topdownEvaluator) {
	modules, entrypoint := c.modules, packageRef(c.settings[c.main].entrypoint)
	s.filter = newLazyFilter(func() *filter { return newFilter(modules, eval, entrypoint) })
	s.bundles = make([]PolicyRef, len(c.bundles))
	for i := range c.bundles {
		s.bundles[i] = PolicyRef{Bundle: c.bundles[i].Name, Revision: c.bundles[i].Revision}
	}
	s.policy = s.bundles[c.main]
	s.made, c.snapshot = c, s
}

// judge applies the static rules of the contract.
func (c *compilation) judge(main settings, tools *toolSchemas) {
	analysis := contract.Analyze(contract.Input{
		Modules: c.modules, IsLibrary: func(path string) bool { return c.library[path] },
		Entrypoint: packageRef(main.entrypoint), Tools: c.tools, Data: c.data,
		OptionalData: main.optionalData, UntypedTools: main.untypedTools, LaxForbids: main.laxForbids,
	})
	c.analysis = analysis
	c.addJudged(append(analysis.Findings(), analysis.CheckData(c.data)...))
	tools.judge = func(name string, schema rar.Value) error {
		for _, f := range analysis.CheckTool(contract.Tool{Name: name, Arguments: schema}) {
			if f.Severity == contract.Error {
				return fmt.Errorf("under this schema policy could miss what it forbids: %s", f.Message)
			}
		}
		return nil
	}
}

func (c *compilation) addJudged(found []contract.Finding) {
	for _, f := range found {
		c.add(Finding{
			Code: Code(f.Code), Severity: Severity(f.Severity), File: f.File, Row: f.Row, Col: f.Col, Rule: f.Rule, Message: f.Message,
			FailsOpen: f.Code == contract.CodeForbidUndefined,
		})
	}
}

func packageRef(path string) ast.Ref {
	ref := ast.DefaultRootRef.Copy()
	for _, p := range strings.Split(path, ".") {
		ref = append(ref, ast.StringTerm(p))
	}
	return ref
}

// parse reads the bundles' modules and the library. A module's key is unique
// over bundles.
func (c *compilation) parse() {
	c.modules, c.library = map[string]*ast.Module{}, map[string]bool{}
	library := c.parseLibrary()
	for i := range c.bundles {
		b := &c.bundles[i]
		for _, m := range b.Modules {
			if library[m.Text] {
				continue // a copy of ours, put there so that opa build finds it
			}
			key := m.Path
			if len(c.bundles) > 1 {
				key = b.Name + "/" + m.Path
			}
			if _, dup := c.modules[key]; dup {
				c.fault(CodePolicySyntax, key, "two modules have this path")
				continue
			}
			mod, err := ast.ParseModuleWithOpts(key, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: contract.Capabilities()})
			if err != nil {
				c.add(regoFindings(CodePolicySyntax, key, err)...)
				continue
			}
			if mod == nil {
				c.fault(CodePolicySyntax, key, "the module is empty")
				continue
			}
			path, err := mod.Package.Path.Ptr()
			if err != nil || !inRoots(b.Roots, path) {
				loc := mod.Package.Location
				c.add(Finding{
					Code: CodeBundleOutsideRoots, Severity: SeverityError, File: key, Row: loc.Row, Col: loc.Col,
					Message: fmt.Sprintf("package %s is outside the bundle's roots %q", strings.ReplaceAll(path, "/", "."), b.Roots),
				})
				continue
			}
			if why, loc := tooDeep(mod); why != "" {
				c.add(Finding{Code: CodePolicyTooDeep, Severity: SeverityError, File: key, Row: loc.Row, Col: loc.Col, Message: why})
				continue
			}
			c.modules[key] = mod
		}
	}
}

// parseLibrary adds data.authzd.v1 beside the bundles' modules and returns the
// texts of its files.
func (c *compilation) parseLibrary() map[string]bool {
	texts := map[string]bool{}
	lib, err := Library()
	if err != nil {
		c.fault(CodePolicyCompile, "", "read the embedded library: %v", err)
		return texts
	}
	for _, m := range lib {
		texts[m.Text] = true
		c.library[m.Path] = true
		mod, err := ast.ParseModuleWithOpts(m.Path, m.Text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			c.add(regoFindings(CodePolicySyntax, m.Path, err)...)
			continue
		}
		c.modules[m.Path] = mod
	}
	return texts
}

// Library returns the policy library data.authzd.v1 that is compiled beside
// every bundle.
func Library() ([]Module, error) {
	var out []Module
	err := fs.WalkDir(policies.FS(), policies.Library, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(policies.FS(), path)
		out = append(out, Module{Path: strings.TrimPrefix(path, policies.Library+"/"), Text: string(text)})
		return err
	})
	return out, err
}

// findEntrypoint tells which bundle decides: the one with a module in its
// entry point's package. There is exactly one.
func (c *compilation) findEntrypoint() {
	c.main = -1
	for i := range c.bundles {
		b := &c.bundles[i]
		if !hasPackage(b, c.modules, len(c.bundles) > 1, packageRef(c.settings[i].entrypoint)) {
			continue
		}
		if c.main >= 0 {
			c.fault(CodeBundleEntrypointConflict, b.Name+"/.manifest", "bundles %q and %q both have an entry point", c.bundles[c.main].Name, b.Name)
			return
		}
		c.main = i
	}
	if c.main < 0 {
		names := make([]string, len(c.bundles))
		for i := range c.bundles {
			names[i] = fmt.Sprintf("%s (package %s)", c.bundles[i].Name, c.settings[i].entrypoint)
		}
		c.fault(CodeBundleEntrypointMissing, "", "no bundle has a module in its entry point's package: %s", strings.Join(names, ", "))
	}
}

func hasPackage(b *Bundle, modules map[string]*ast.Module, prefixed bool, ref ast.Ref) bool {
	for _, m := range b.Modules {
		key := m.Path
		if prefixed {
			key = b.Name + "/" + m.Path
		}
		if mod := modules[key]; mod != nil && mod.Package.Path.Equal(ref) {
			return true
		}
	}
	return false
}

func (c *compilation) warnLax(s settings) {
	file := c.bundles[c.main].Name + "/.manifest"
	if s.untypedTools {
		c.add(Finding{
			Code: CodeBundleLaxContract, Severity: SeverityWarning, File: file,
			Message: "untyped_tools: arguments of tools without a schema are not validated",
		})
	}
	if s.declared == AnySubject {
		c.add(Finding{
			Code: CodeBundleLaxContract, Severity: SeverityWarning, File: file,
			Message: "declared_mappings: a tool may name a subject whom nobody has authenticated; policy can tell by input.context.coaz.subject_verified",
		})
	}
	if s.laxForbids {
		c.add(Finding{
			Code: CodeBundleLaxContract, Severity: SeverityWarning, File: file,
			Message: "lax_forbids: a forbid may silently be undefined when the input lacks what it reads",
		})
	}
}

// compileTypes compiles data.authzd_types (rar.md section 8).
func (c *compilation) compileTypes() *rar.Types {
	doc, _ := c.data.Get("authzd_types")
	if k := doc.Kind(); k != rar.Absent && k != rar.Object {
		c.fault(CodeBundleTypeInvalid, "", "data.authzd_types must be an object of type declarations")
		return nil
	}
	decls := make([]rar.Declaration, 0, doc.Len())
	for i := range doc.Len() {
		m := doc.Member(i)
		decls = append(decls, rar.Declaration{Name: m.Name, Document: m.Value})
	}
	types, warnings, err := rar.CompileTypes(decls)
	for _, w := range warnings {
		c.add(Finding{Code: CodeBundleTypeInvalid, Severity: SeverityWarning, File: "authzd_types" + w.Path, Message: w.Message})
	}
	if err != nil {
		c.fault(CodeBundleTypeInvalid, "authzd_types", "%v", err)
	}
	return types
}

// compileTools compiles data.authzd_tools[NAME].arguments.
func (c *compilation) compileTools() *toolSchemas {
	doc, _ := c.data.Get("authzd_tools")
	if k := doc.Kind(); k != rar.Absent && k != rar.Object {
		c.fault(CodeBundleToolInvalid, "authzd_tools", "data.authzd_tools must be an object of tools")
		return nil
	}
	t := newToolSchemas()
	for i := range doc.Len() {
		name, tool := doc.Member(i).Name, doc.Member(i).Value
		args, ok := tool.Get("arguments")
		if tool.Kind() != rar.Object || !ok {
			c.fault(CodeBundleToolInvalid, "authzd_tools/"+name, "tool %q must be an object with the member arguments, a JSON Schema", name)
			continue
		}
		if err := t.declare(name, args); err != nil {
			c.fault(CodeBundleToolInvalid, "authzd_tools/"+name, "schema of tool %q: %v", name, err)
			continue
		}
		c.tools = append(c.tools, contract.Tool{Name: name, Arguments: args})
	}
	return t
}

// compileRego runs OPA's strict compiler with our builtins and the tools'
// reduced schemas.
func (c *compilation) compileRego(s settings) *ast.Compiler {
	compiler := ast.NewCompiler().WithCapabilities(contract.Capabilities()).WithStrict(true).SetErrorLimit(0)
	schemas, err := contract.Reduce(c.tools, s.untypedTools)
	if err != nil {
		c.fault(CodeBundleToolInvalid, "authzd_tools", "%v", err)
		return nil
	}
	compiler = compiler.WithSchemas(schemas)
	compiler.Compile(c.modules)
	if compiler.Failed() {
		c.add(regoFindings(CodePolicyCompile, "", compiler.Errors)...)
	}
	return compiler
}

// regoFindings turns OPA's errors into findings.
func regoFindings(code Code, file string, err error) []Finding {
	var list ast.Errors
	if !errors.As(err, &list) {
		var one *ast.Error
		if !errors.As(err, &one) {
			return []Finding{{Code: code, Severity: SeverityError, File: file, Message: err.Error()}}
		}
		list = ast.Errors{one}
	}
	out := make([]Finding, 0, len(list))
	for _, e := range list {
		f := Finding{Code: code, Severity: SeverityError, File: file, Message: e.Code + ": " + e.Message}
		if e.Location != nil {
			f.File, f.Row, f.Col = e.Location.File, e.Location.Row, e.Location.Col
		}
		out = append(out, f)
	}
	return out
}
