// Package bundles reads policy bundles, folders and archives in OPA's bundle
// format, into what the engine compiles, and runs the Rego tests they carry. It
// makes such archives, and signs and verifies them in OPA's signature format.
//
// It refuses, with a coded *Error that names the file: archives with links,
// devices, absolute or climbing paths, the same name twice, or more than the
// Limits; manifests with unknown members, Rego v0 or compiled policy; data
// with duplicate keys, or two files that define the same key; and files that
// look like policy or data by mistake, because a forbid that is not loaded
// fails open. OpenSigned also refuses whatever one of the given keys has not
// signed, before it looks at it. It compiles nothing: package engine judges the policy itself.
//
// It is called by cmd/authzd and by whoever embeds the engine. Its functions
// keep no state and may be called by any number of goroutines.
package bundles

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// Defaults of Limits.
const (
	DefaultMaxArchiveBytes = 64 << 20
	DefaultMaxBytes        = 1 << 30
	DefaultMaxFileBytes    = 1 << 30
	DefaultMaxYAMLBytes    = 1 << 20
	DefaultMaxFiles        = 4096
	DefaultMaxPathDepth    = 32
	DefaultMaxDataDepth    = 64
	maxPathBytes           = 1024
)

// Limits bounds what Open reads. A zero field means its default.
type Limits struct {
	// MaxArchiveBytes bounds the archive as it is stored; default 16 MiB.
	MaxArchiveBytes int64
	// MaxBytes bounds all files together, unpacked; default 256 MiB.
	MaxBytes int64
	// MaxFileBytes bounds one file; default 256 MiB.
	MaxFileBytes int64
	// MaxYAMLBytes bounds one YAML file, which is slower to read than JSON;
	// default 1 MiB.
	MaxYAMLBytes int
	// MaxFiles bounds the number of files and folders; default 4096.
	MaxFiles int
	// MaxPathDepth bounds how deep folders nest; default 32.
	MaxPathDepth int
	// MaxDataDepth bounds how deep data nests within one file; default 64.
	MaxDataDepth int
}

func (l Limits) withDefaults() Limits {
	l.MaxArchiveBytes = orDefault(l.MaxArchiveBytes, DefaultMaxArchiveBytes)
	l.MaxBytes = orDefault(l.MaxBytes, DefaultMaxBytes)
	l.MaxFileBytes = orDefault(l.MaxFileBytes, DefaultMaxFileBytes)
	l.MaxYAMLBytes = orDefault(l.MaxYAMLBytes, DefaultMaxYAMLBytes)
	l.MaxFiles = orDefault(l.MaxFiles, DefaultMaxFiles)
	l.MaxPathDepth = orDefault(l.MaxPathDepth, DefaultMaxPathDepth)
	l.MaxDataDepth = orDefault(l.MaxDataDepth, DefaultMaxDataDepth)
	return l
}

func orDefault[T int | int64](n, byDefault T) T {
	if n <= 0 {
		return byDefault
	}
	return n
}

// File is one file of a bundle.
type File struct {
	// Path is relative to the bundle, with slashes.
	Path string
	Data []byte
	// document is what Data says, if it is a data file that was decoded.
	document rar.Value
}

// Content is a bundle as read. Its Bundle has no Name: that is the operator's
// to give.
type Content struct {
	Bundle engine.Bundle
	// Cases are the files below cases/, sorted by path: decision cases and what
	// they refer to.
	Cases []File
	// Roots are those that the manifest says, with what a copy of the policy library
	// needed.
	Roots []string
	// Delta is what a delta bundle changes, nil for every other: a delta bundle has no
	// policy, data or cases, and its Bundle no more than revision, roots and metadata.
	Delta *Delta
	// Size is how many bytes its files have together.
	Size int64
	// Signed says that the bundle carries .signatures.json. Only OpenSigned and
	// OpenSignedArchive verify it: a local bundle needs none.
	Signed bool
	// Warnings tell of files that were left out and might have been meant as
	// policy or data, one sentence each.
	Warnings []string
}

// Open reads the bundle at path, a folder or an archive (.tar.gz). Every fault
// of the content is an *Error; what the file system says is wrapped in one.
func Open(path string, l Limits) (Content, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return Content{}, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	if !stat.IsDir() {
		return openArchiveFile(path, l)
	}
	// A root keeps links from leading out of the bundle.
	root, err := os.OpenRoot(path)
	if err != nil {
		return Content{}, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer root.Close() //nolint:errcheck // read only, nothing to lose
	return OpenFS(root.FS(), l)
}

// OpenFS reads the bundle that fsys holds at its root, by the rules for
// folders. Use it for bundles that are embedded into a binary.
func OpenFS(fsys fs.FS, l Limits) (Content, error) {
	files, warnings, err := readFolder(fsys, l.withDefaults())
	if err != nil {
		return Content{}, err
	}
	content, err := assemble(files, l.withDefaults())
	if err != nil {
		return Content{}, err
	}
	content.Warnings = append(warnings, content.Warnings...)
	return content, nil
}
