package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

const (
	repository = "../.."
	errorsDoc  = repository + "/docs/errors.md"
)

// source is the repository as these tests read it.
type source struct {
	// declared are the constants of codes by folder and name.
	declared map[string]map[string]string
	tests    []testFile
	// data are the texts of test data by path.
	data map[string]string
}

type testFile struct {
	folder, path string
	file         *ast.File
}

// codes are the values of the declared constants, sorted, each once.
func (s *source) codes() []string {
	all := map[string]bool{}
	for _, constants := range s.declared {
		for _, code := range constants {
			all[code] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// constant gives the code of an identifier in a folder, or of the constant of
// another package: packages here are named as their folders are.
func (s *source) constant(folder string, pkg, name string) string {
	if pkg == "" {
		return s.declared[folder][name]
	}
	for f, constants := range s.declared {
		if path.Base(f) == pkg && constants[name] != "" {
			return constants[name]
		}
	}
	return ""
}

func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{declared: map[string]map[string]string{}, data: map[string]string{}}
	set := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(repository), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if p != "." && strings.HasPrefix(e.Name(), ".") || p == "proto" {
				return fs.SkipDir
			}
			return nil
		}
		name := filepath.Join(repository, filepath.FromSlash(p))
		switch {
		case strings.HasSuffix(p, ".go"):
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			if strings.HasSuffix(p, "_test.go") {
				s.tests = append(s.tests, testFile{folder: path.Dir(p), path: p, file: file})
			} else if constants := codeConstants(file); len(constants) > 0 {
				s.declare(path.Dir(p), constants)
			}
		case isTestData(p):
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			s.data[p] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) declare(folder string, constants map[string]string) {
	if s.declared[folder] == nil {
		s.declared[folder] = map[string]string{}
	}
	maps.Copy(s.declared[folder], constants)
}

// isTestData tells the files that say what a test wants. Rego is none of them:
// it is input.
func isTestData(p string) bool {
	switch path.Ext(p) {
	case ".json", ".yaml", ".txtar":
		return strings.HasPrefix(p, "tests/") || strings.Contains(p, "/testdata/") || strings.Contains(p, "/cases/")
	}
	return false
}

// codeConstants finds constants named Code… whose value looks like a code.
func codeConstants(file *ast.File) map[string]string {
	out := map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, name := range v.Names {
				if i >= len(v.Values) || !strings.HasPrefix(name.Name, "Code") {
					continue
				}
				if code := literal(v.Values[i]); isCode(code) {
					out[name.Name] = code
				}
			}
		}
	}
	return out
}

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return s
}

var (
	wholeCode = regexp.MustCompile(`^[a-z]+\.[a-z0-9_]+$`)
	anyCode   = regexp.MustCompile(`\b[a-z]+\.[a-z0-9_]+\b`)
)

func isCode(s string) bool { return wholeCode.MatchString(s) }

// codesIn finds everything in text that is spelt as a code.
func codesIn(text string) []string {
	return anyCode.FindAllString(text, -1)
}

// documented are the codes of the tables of docs/errors.md, in order: the
// first cell of each row, where it is spelt as a code.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(errorsDoc)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	section := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(name)
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		code := strings.Trim(strings.TrimSpace(cells[0]), "`")
		if !strings.HasPrefix(line, "| `") || section == "" {
			continue
		}
		if !strings.HasPrefix(code, section+".") || !isCode(code) {
			t.Errorf("%q does not belong in the table of %s", code, section)
		}
		if len(cells) != 4 || slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) == "" }) {
			t.Errorf("the row of %s lacks one of: what happened, what to do, where", code)
		}
		out = append(out, code)
	}
	return out
}

// TestDocErrorsListsEveryCode holds docs/errors.md against the constants in the
// source and against what the packages themselves list.
func TestDocErrorsListsEveryCode(t *testing.T) {
	t.Parallel()
	s := readSource(t)
	inDoc, declared := documented(t), s.codes()
	if len(declared) < 100 {
		t.Fatalf("only %d codes found in the source", len(declared))
	}
	for i, code := range inDoc {
		if slices.Contains(inDoc[:i], code) {
			t.Errorf("docs/errors.md lists %s twice", code)
		}
		if !slices.Contains(declared, code) {
			t.Errorf("docs/errors.md lists %s, which no package declares", code)
		}
	}
	listed := listedCodes()
	for _, code := range declared {
		if !slices.Contains(inDoc, code) {
			t.Errorf("docs/errors.md lacks %s", code)
		}
		if !listed[code] {
			t.Errorf("%s is declared, and no package's Codes lists it", code)
		}
	}
	for code := range listed {
		if !slices.Contains(declared, code) {
			t.Errorf("Codes lists %s, for which no constant was found", code)
		}
	}
}

// listedCodes are those of every package that refuses something. Those of
// engine/internal/contract are in engine.Codes.
func listedCodes() map[string]bool {
	all := map[string]bool{}
	for _, c := range api.Codes() {
		all[string(c)] = true
	}
	for _, c := range bundles.Codes() {
		all[string(c)] = true
	}
	for _, c := range engine.Codes() {
		all[string(c)] = true
	}
	for _, c := range mcp.Codes() {
		all[string(c)] = true
	}
	for _, c := range rar.Codes() {
		all[string(c)] = true
	}
	for _, c := range store.Codes() {
		all[string(c)] = true
	}
	return all
}

// TestDocErrorsEveryCodeIsReached looks in the tests and their data for every
// code: its text, or its constant.
//
// It proves that some test or vector names the code as a thing of its own,
// which a new code without a test does not pass. It does not prove that the
// test provokes the code: that is for whoever reads the test, and for the tests
// of packages rar and mcp, which run the provocation of each of their codes.
// Left out are the files that make errors by hand, to see how they are told,
// and the lists of all codes: they name codes that nothing need ever give.
func TestDocErrorsEveryCodeIsReached(t *testing.T) {
	t.Parallel()
	s := readSource(t)
	skip := map[string]bool{
		"cmd/authzd/errors_doc_test.go": true,
		"api/errors_internal_test.go":   true,
		"api/respond_internal_test.go":  true,
		"engine/codes_internal_test.go": true,
	}
	reached := map[string]bool{}
	for _, f := range s.tests {
		if skip[f.path] {
			delete(skip, f.path)
			continue
		}
		for _, code := range s.mentioned(f) {
			reached[code] = true
		}
	}
	for file, skipped := range skip {
		if skipped {
			t.Errorf("%s is left out of the search and does not exist", file)
		}
	}
	for _, text := range s.data {
		for _, code := range codesIn(text) {
			reached[code] = true
		}
	}
	for _, code := range s.codes() {
		if !reached[code] {
			t.Errorf("%s: no test and no test data names it", code)
		}
	}
}

// mentioned are the codes that a test file names in its code; what it says in
// comments does not count.
func (s *source) mentioned(f testFile) []string {
	var out []string
	ast.Inspect(f.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			out = append(out, codesIn(literal(n))...)
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok {
				out = append(out, s.constant(f.folder, pkg.Name, n.Sel.Name))
			}
		case *ast.Ident:
			out = append(out, s.constant(f.folder, "", n.Name))
		}
		return true
	})
	return out
}
