package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

// typeFinding is one fault or warning of a type declaration.
type typeFinding struct {
	Severity string `json:"severity"`
	File     string `json:"file"`
	Type     string `json:"type,omitempty"`
	// Pointer is a JSON Pointer into the declaration.
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

type lintReport struct {
	Types    []string      `json:"types"`
	Findings []typeFinding `json:"findings"`
}

func newRARLint(std stdio) *cobra.Command {
	var strict bool
	var format *string
	cmd := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Check type declarations",
		Long: "Checks declarations of authorization_details types: those of a bundle (folder or archive), or a file that\n" +
			"holds one declaration. Warnings tell of what is legal and probably meant otherwise.\n\n" +
			"Exit code: 0, or 1 if there is an error (with --strict, also on a warning).",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		report := lintReport{Types: []string{}, Findings: []typeFinding{}}
		for _, where := range args {
			if err := report.lint(where); err != nil {
				return err
			}
		}
		if err := report.write(std.out, *format); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		for _, f := range report.Findings {
			if strict || f.Severity == severityError {
				return exit{exitError}
			}
		}
		return nil
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "a warning is an error")
	format = outputFlag(cmd, "text", "json")
	return cmd
}

const (
	severityError   = "error"
	severityWarning = "warning"
)

// lint adds the findings of one bundle or file.
func (r *lintReport) lint(where string) error {
	decls, file, err := declarations(where)
	if err != nil {
		return err
	}
	types, warnings, err := rar.CompileTypes(decls)
	for _, w := range warnings {
		r.add(severityWarning, where, file, w.Path, w.Message)
	}
	for _, e := range joined(err) {
		var fault *rar.Error
		if !errors.As(e, &fault) {
			return e
		}
		r.add(severityError, where, file, fault.Path, causeText(fault.Err))
	}
	r.Types = append(r.Types, types.Names()...)
	return nil
}

// add splits a path, which starts with the name of the declaration.
func (r *lintReport) add(severity, where, file, path, message string) {
	name, pointer, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	f := typeFinding{Severity: severity, File: where, Message: message}
	if pointer != "" {
		f.Pointer = "/" + pointer
	}
	name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
	if file == "" {
		// Where the declaration has a file of its own, as it should.
		own := filepath.Join(where, "authzd_types", name, "data.json")
		if _, err := os.Stat(own); err == nil {
			f.File = own
		}
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		f.Type = decoded
	}
	r.Findings = append(r.Findings, f)
}

func joined(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

const maxDeclaration = 1 << 20

// declarations reads those of a bundle, or the one of a JSON file, whose name
// it then returns.
func declarations(where string) ([]rar.Declaration, string, error) {
	if info, err := os.Stat(where); err == nil && !info.IsDir() && strings.HasSuffix(where, ".json") {
		decl, err := declarationFile(where)
		return []rar.Declaration{decl}, where, err
	}
	content, err := bundles.Open(where, bundles.Limits{})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", where, err)
	}
	doc, _ := content.Bundle.Data.Get("authzd_types")
	if doc.Len() == 0 {
		return nil, "", fmt.Errorf("%s: declares no authorization_details types (data.authzd_types)", where)
	}
	decls := make([]rar.Declaration, 0, doc.Len())
	for i := range doc.Len() {
		decls = append(decls, rar.Declaration{Name: doc.Member(i).Name, Document: doc.Member(i).Value})
	}
	return decls, "", nil
}

func declarationFile(name string) (rar.Declaration, error) {
	f, err := os.Open(name) //nolint:gosec // the user names the file to read
	if err != nil {
		return rar.Declaration{}, fmt.Errorf("read the declaration: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	text, err := io.ReadAll(io.LimitReader(f, maxDeclaration+1))
	if err != nil {
		return rar.Declaration{}, fmt.Errorf("read the declaration: %w", err)
	}
	v, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: maxDeclaration})
	if err != nil {
		return rar.Declaration{}, fmt.Errorf("%s: %w", name, err)
	}
	typ, _ := v.Get("type")
	return rar.Declaration{Name: url.PathEscape(typ.Text()), Document: v}, nil
}

func (r *lintReport) write(w io.Writer, format string) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(w, "%s: %s: %s: %s\n", f.File, f.Severity, orRoot(f.Pointer), f.Message); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s, %s\n", counted(len(r.Types), "type"), counted(len(r.Findings), "finding"))
	return err
}

func orRoot(pointer string) string {
	if pointer == "" {
		return "/"
	}
	return pointer
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
