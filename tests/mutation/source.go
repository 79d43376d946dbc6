package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pkg is a package to mutate.
type pkg struct {
	path, name, dir string
	fset            *token.FileSet
	files           []file
	info            *types.Info
	// imports are the files with the types of what it imports.
	imports map[string]string
}

// file is a source file. Its path is relative to where the program runs.
type file struct {
	path   string
	text   []byte
	syntax *ast.File
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Name, Dir, Export string
	GoFiles                       []string
	DepOnly, Standard             bool
}

// load reads and checks packages.
func load(ctx context.Context, patterns []string) ([]*pkg, error) {
	args := []string{"list", "-deps", "-export", "-json=ImportPath,Name,Dir,Export,GoFiles,DepOnly,Standard", "os", "strconv", "sync"} // the helper's
	cmd := exec.CommandContext(ctx, "go", append(args, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	var pkgs []*pkg
	exports := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[l.ImportPath] = l.Export
		if l.DepOnly || l.Standard {
			continue
		}
		p := &pkg{path: l.ImportPath, name: l.Name, dir: l.Dir, fset: token.NewFileSet(), imports: exports}
		for _, name := range l.GoFiles {
			path, err := filepath.Rel(here, filepath.Join(l.Dir, name))
			if err != nil {
				return nil, err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			p.files = append(p.files, file{path: path, text: text})
		}
		pkgs = append(pkgs, p)
	}
	for _, p := range pkgs {
		texts := make([][]byte, len(p.files))
		for i := range p.files {
			texts[i] = p.files[i].text
		}
		syntax, info, errs := p.check(texts)
		if len(errs) > 0 {
			return nil, errs[0]
		}
		p.info = info
		for i := range p.files {
			p.files[i].syntax = syntax[i]
		}
	}
	return pkgs, nil
}

// check parses and type-checks the files of p with these texts.
func (p *pkg) check(texts [][]byte) ([]*ast.File, *types.Info, []error) {
	syntax := make([]*ast.File, len(texts))
	for i, text := range texts {
		f, err := parser.ParseFile(p.fset, p.files[i].path, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, []error{err}
		}
		syntax[i] = f
	}
	var errs []error
	conf := types.Config{
		Importer: importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(p.imports[path]) }),
		Error:    func(err error) { errs = append(errs, err) },
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	_, err := conf.Check(p.path, p.fset, syntax, info)
	if err != nil && len(errs) == 0 {
		errs = append(errs, err)
	}
	return syntax, info, errs
}

// helper is the file that is added to each package. A run with MUTATION_REACHED tells
// in that file which mutants were reached.
const helper = `package %s

import (
	"os"
	"strconv"
	"sync"
)

var (
	mutationActive, _ = strconv.Atoi(os.Getenv("MUTATION_ACTIVE"))
	mutationReached   = os.Getenv("MUTATION_REACHED")
	mutationSeen      sync.Map
)

func mutationIs(n int) bool {
	if mutationReached != "" {
		if _, seen := mutationSeen.LoadOrStore(n, true); !seen {
			f, err := os.OpenFile(mutationReached, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err == nil {
				_, err = f.WriteString(strconv.Itoa(n) + "\n")
			}
			if err != nil {
				panic(err)
			}
			_ = f.Close()
		}
	}
	return n == mutationActive
}
`

// instrumented returns the texts of p's files with the mutants in them that compile;
// the others become OutcomeInvalid.
func (p *pkg) instrumented(sample []*Mutant) ([][]byte, error) {
	helped := *p
	helped.files = append(slices.Clone(p.files), file{path: filepath.Join(p.dir, helperName)})
	for {
		texts := make([][]byte, 0, len(helped.files))
		for i := range p.files {
			texts = append(texts, insert(&p.files[i], sample))
		}
		texts = append(texts, fmt.Appendf(nil, helper, p.name))
		helped.fset = token.NewFileSet()
		_, _, errs := helped.check(texts)
		if len(errs) == 0 {
			return texts, nil
		}
		dropped := false
		for _, err := range errs {
			var at types.Error
			if !errors.As(err, &at) {
				return nil, err
			}
			place := at.Fset.Position(at.Pos)
			for _, m := range sample {
				if m.pkg == p && m.Outcome == "" && m.File == place.Filename && m.Line == place.Line {
					m.Outcome, dropped = OutcomeInvalid, true
				}
			}
		}
		if !dropped {
			return nil, errs[0]
		}
	}
}

// helperName is the name of the file that is added.
const helperName = "zz_mutation.go"

// insert writes the mutants of f into it. What surrounds goes around what is within.
func insert(f *file, sample []*Mutant) []byte {
	var mine []*Mutant
	for _, m := range sample {
		if m.File == f.path && m.Outcome != OutcomeInvalid {
			mine = append(mine, m)
		}
	}
	before, after := map[int]string{}, map[int]string{}
	// From the innermost on, so that those outside come before the ones within.
	slices.SortStableFunc(mine, func(a, b *Mutant) int { return (a.end - a.start) - (b.end - b.start) })
	for _, m := range mine {
		is := "mutationIs(" + strconv.Itoa(m.ID) + ")"
		before[m.start] = strings.ReplaceAll(m.prefix, "$is", is) + before[m.start]
		after[m.end] += strings.ReplaceAll(m.suffix, "$is", is)
	}
	var out []byte
	for i, b := range f.text {
		out = append(out, after[i]...)
		out = append(out, before[i]...)
		out = append(out, b)
	}
	return append(out, after[len(f.text)]...)
}
