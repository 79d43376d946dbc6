package bundles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// readFolder reads the files of a folder that belong to a bundle. Hidden files,
// and whatever else lies about in a working copy, are left out; the warnings
// name those that might have been meant as data.
func readFolder(fsys fs.FS, l Limits) ([]File, []string, error) {
	r := folderReader{fsys: fsys, limits: l}
	err := fs.WalkDir(fsys, ".", r.visit)
	var coded *Error
	if err != nil && !errors.As(err, &coded) {
		err = errorf(CodeUnreadable, "", "read folder: %w", err)
	}
	return r.files, r.warnings, err
}

// readWholeFolder reads all files that are not hidden, and those hidden ones
// that belong to a bundle: what a signature must list.
func readWholeFolder(fsys fs.FS, l Limits) ([]File, error) {
	r := folderReader{fsys: fsys, limits: l, whole: true}
	err := fs.WalkDir(fsys, ".", r.visit)
	var coded *Error
	if err != nil && !errors.As(err, &coded) {
		err = errorf(CodeUnreadable, "", "read folder: %w", err)
	}
	return r.files, err
}

// bundleFiles leaves out what readFolder would not have read.
func bundleFiles(all []File) ([]File, []string) {
	var r folderReader
	for _, f := range all {
		if classify(f.Path) == kindUnknown {
			r.warnOf(f.Path)
			continue
		}
		r.files = append(r.files, f)
	}
	return r.files, r.warnings
}

type folderReader struct {
	fsys   fs.FS
	limits Limits
	// whole: also read what is no part of a bundle.
	whole    bool
	files    []File
	warnings []string
	entries  int
	total    int64
}

func (r *folderReader) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	if name == "." {
		return nil
	}
	if r.entries++; r.entries > r.limits.MaxFiles {
		return errorf(CodeTooLarge, "", "more than %d files", r.limits.MaxFiles)
	}
	if d.IsDir() {
		if strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if strings.Count(name, "/")+1 > r.limits.MaxPathDepth {
			return errorf(CodeTooLarge, name, "more than %d folders deep", r.limits.MaxPathDepth)
		}
		return nil
	}
	switch classify(name) {
	case kindUnknown:
		// A signature elsewhere is told as such, though it is hidden.
		hidden := strings.HasPrefix(path.Base(name), ".") && !strings.EqualFold(path.Base(name), signaturesFile)
		if r.whole && !hidden {
			break
		}
		r.warnOf(name)
		return nil
	case kindMistaken:
		return mistaken(name)
	case kindCompiled:
		return compiled(name)
	case kindManifest, kindSignatures, kindRego, kindTest, kindData, kindCase, kindPatch:
	}
	if _, err := cleanName(name, r.limits); err != nil {
		return err
	}
	return r.read(name)
}

// warnOf tells of files that opa run would load as data and a bundle does not.
func (r *folderReader) warnOf(name string) {
	base := path.Base(name)
	if strings.HasPrefix(base, ".") {
		return
	}
	switch path.Ext(base) {
	case ".json", ".yaml", ".yml":
		r.warnings = append(r.warnings, name+" is not part of the bundle: data files are named data.json or data.yaml")
	}
}

// read takes over a regular file, or a link to one within the folder (this is
// how Kubernetes mounts a ConfigMap).
func (r *folderReader) read(name string) error {
	info, err := fs.Stat(r.fsys, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("read %q: %w", name, err)
		}
		return errorf(CodeUnsafeEntry, name, "a link must lead to a file within the bundle: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errorf(CodeUnsafeEntry, name, "not a regular file")
	}
	f, err := r.fsys.Open(name)
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	// One byte more than allowed tells a file that grew while it was read.
	var buf bytes.Buffer
	buf.Grow(int(min(max(info.Size(), 0), r.limits.MaxFileBytes)) + bytes.MinRead) // data is kept as it is read
	if _, err := buf.ReadFrom(io.LimitReader(f, r.limits.MaxFileBytes+1)); err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	data := buf.Bytes()
	if int64(len(data)) > r.limits.MaxFileBytes {
		return errorf(CodeTooLarge, name, "the file is larger than %d bytes", r.limits.MaxFileBytes)
	}
	if r.total += int64(len(data)); r.total > r.limits.MaxBytes {
		return errorf(CodeTooLarge, name, "the files together are larger than %d bytes", r.limits.MaxBytes)
	}
	r.files = append(r.files, File{Path: name, Data: data})
	return nil
}
