package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runner runs tests of instrumented packages.
type runner struct {
	dir      string
	timeout  time.Duration
	progress io.Writer
	binaries []*binary
}

// binary is a test binary and what its tests reach.
type binary struct {
	pkg, path, dir string
	// flags are further ones of its tests.
	flags []string
	tests []reaching
}

// reaching is one test.
type reaching struct {
	name    string
	took    time.Duration
	mutants map[int]bool
}

// instrument writes the overlay.
func (r *runner) instrument(pkgs []*pkg, sample []*Mutant) error {
	replace := map[string]string{}
	for n, p := range pkgs {
		texts, err := p.instrumented(sample)
		if err != nil {
			return fmt.Errorf("instrument %s: %w", p.path, err)
		}
		for i, text := range texts {
			place := filepath.Join(p.dir, helperName)
			if i < len(p.files) {
				place = filepath.Join(p.dir, filepath.Base(p.files[i].path))
			}
			name := filepath.Join(r.dir, fmt.Sprintf("%d-%d.go", n, i))
			if err := os.WriteFile(name, text, 0o600); err != nil {
				return err
			}
			replace[place] = name
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(r.overlay(), overlay, 0o600)
}

// tell writes progress, which nothing depends on.
func (r *runner) tell(format string, args ...any) { _, _ = fmt.Fprintf(r.progress, format, args...) }

func (r *runner) overlay() string { return filepath.Join(r.dir, "overlay.json") }

// build makes the test binaries.
func (r *runner) build(ctx context.Context, pkgs []string) error {
	const format = "{{.ImportPath}} {{.Dir}} {{.TestImports}} {{.XTestImports}}"
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, pkgs...)...).Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		path, rest, _ := strings.Cut(line, " ")
		dir, imports, _ := strings.Cut(rest, " [")
		b := &binary{pkg: path, dir: dir, path: filepath.Join(r.dir, strconv.Itoa(len(r.binaries))+".test")}
		if strings.Contains(imports, "pgregory.net/rapid") {
			b.flags = []string{"-rapid.nofailfile"} // or what fails by a mutant stays in testdata
		}
		build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", r.overlay(), "-o", b.path, path)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s: %w\n%s", path, err, out)
		}
		if _, err := os.Stat(b.path); err == nil { // there is none without tests
			r.binaries = append(r.binaries, b)
		}
	}
	return nil
}

// reach runs each test that counts once. One that fails without a mutant is an error.
func (r *runner) reach(ctx context.Context, counts func(test string) bool) error {
	for _, b := range r.binaries {
		b.tests = nil
		list := exec.CommandContext(ctx, b.path, "-test.list", "^(Test|Fuzz|Example)")
		list.Dir = b.dir
		names, err := list.Output()
		if err != nil {
			return fmt.Errorf("list the tests of %s: %w", b.pkg, err)
		}
		for _, name := range strings.Fields(string(names)) {
			if !counts(name) {
				continue
			}
			file := filepath.Join(r.dir, "reached")
			start := time.Now()
			if out, err := b.run(ctx, 10*time.Minute, []string{name}, "MUTATION_REACHED="+file); err != nil {
				return fmt.Errorf("%s %s fails without a mutant: %w\n%s", b.pkg, name, err, out)
			}
			t := reaching{name: name, took: time.Since(start), mutants: map[int]bool{}}
			text, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			for id := range strings.FieldsSeq(string(text)) {
				n, err := strconv.Atoi(id)
				if err != nil {
					return fmt.Errorf("read what %s reached: %w", name, err)
				}
				t.mutants[n] = true
			}
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			b.tests = append(b.tests, t)
		}
		slices.SortStableFunc(b.tests, func(x, y reaching) int { return cmp.Compare(x.took, y.took) })
		r.tell("%s: %d tests\n", b.pkg, len(b.tests))
	}
	return nil
}

// run runs tests until one fails.
func (b *binary) run(ctx context.Context, limit time.Duration, tests []string, env string) ([]byte, error) {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	for i, name := range tests {
		tests[i] = regexp.QuoteMeta(name)
	}
	args := append([]string{"-test.short", "-test.failfast", "-test.run", "^(" + strings.Join(tests, "|") + ")$"}, b.flags...)
	cmd := exec.CommandContext(ctx, b.path, args...)
	cmd.Dir, cmd.WaitDelay = b.dir, 5*time.Second
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out, err
}

// quick is how long the tests take together that run first: most mutants do not
// survive those.
const quick = 2 * time.Second

// batches are the tests of b that reach m, and how long they take without a mutant.
func (b *binary) batches(m int) (names [2][]string, took [2]time.Duration) {
	for _, t := range b.tests {
		if !t.mutants[m] {
			continue
		}
		n := 0
		if took[0]+t.took > quick && len(names[0]) > 0 {
			n = 1
		}
		names[n], took[n] = append(names[n], t.name), took[n]+t.took
	}
	return names, took
}

// try runs the tests that reach m, quick ones of all packages first. What survived
// others before has survived if none does.
func (r *runner) try(ctx context.Context, m *Mutant) error {
	if m.Outcome == OutcomeInvalid {
		return nil
	}
	if m.Outcome == "" {
		m.Outcome = OutcomeUnrun
	}
	for n := range 2 {
		for _, b := range r.binaries {
			names, took := b.batches(m.ID)
			if len(names[n]) == 0 {
				continue
			}
			out, err := b.run(ctx, 3*took[n]+r.timeout, names[n], "MUTATION_ACTIVE="+strconv.Itoa(m.ID))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if m.Outcome = outcome(err); m.Outcome != OutcomeSurvived {
				m.By = b.pkg + firstFailure(out)
				return nil
			}
		}
	}
	return nil
}

func outcome(err error) Outcome {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return OutcomeTimeout
	case err != nil:
		return OutcomeKilled
	}
	return OutcomeSurvived
}

// firstFailure names the test that failed, or what ended the process.
func firstFailure(out []byte) string {
	for line := range bytes.Lines(out) {
		line = bytes.TrimSpace(line)
		if name, ok := bytes.CutPrefix(line, []byte("--- FAIL: ")); ok {
			name, _, _ = bytes.Cut(name, []byte(" "))
			return "." + string(name)
		}
		if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
			return ": " + clip(string(line))
		}
	}
	return ""
}
