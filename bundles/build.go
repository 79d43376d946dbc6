package bundles

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Build writes the bundle in a folder to w as an archive: every file that
// [Open] takes over, decision cases included, and no other. A signature in the
// folder stays behind, because it may list more than that: sign the archive.
// The same files give the same bytes, whoever builds them when. What Open
// refuses is refused; the content is returned for its warnings.
func Build(w io.Writer, path string, l Limits) (Content, error) {
	l = l.withDefaults()
	root, err := os.OpenRoot(path)
	if err != nil {
		return Content{}, &Error{Code: CodeUnreadable, Path: path, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer root.Close() //nolint:errcheck // read only, nothing to lose
	files, warnings, err := readFolder(root.FS(), l)
	if err != nil {
		return Content{}, err
	}
	files = unsigned(files)
	content, err := assemble(slices.Clone(files), l)
	if err != nil {
		return Content{}, err
	}
	content.Warnings = append(warnings, content.Warnings...)
	return content, pack(w, files)
}

// pack writes files as OPA does, gzip-compressed tar, without anything that
// varies: owners, times, order.
func pack(w io.Writer, files []File) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	tw := tar.NewWriter(zw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Data)), Mode: 0o644, ModTime: time.Unix(0, 0).UTC()}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write archive: %q: %w", f.Path, err)
		}
		if _, err := tw.Write(f.Data); err != nil {
			return fmt.Errorf("write archive: %q: %w", f.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}
