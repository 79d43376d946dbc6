package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	digestPrefix  = "sha256:"
	archiveSuffix = ".tar.gz"
)

// Digest names an archive by its bytes.
func Digest(archive []byte) string {
	sum := sha256.Sum256(archive)
	return digestPrefix + hex.EncodeToString(sum[:])
}

// Size is the bytes of an archive, without reading it; 0 if it is not there.
func (s *Store) Size(digest string) int64 {
	info, err := os.Stat(s.archiveFile(digest))
	if err != nil {
		return 0
	}
	return info.Size()
}

// Upload is an archive on disk that no row knows of yet. Stage makes it one of
// the store's, Discard removes it, and so does the next Open.
type Upload struct {
	digest string
	size   int64
	temp   string
}

// Write puts an archive on disk, durable but under no name that counts.
func (s *Store) Write(archive []byte) (*Upload, error) {
	f, err := os.CreateTemp(s.uploads(), "*")
	if err != nil {
		return nil, s.failed("store an archive", err)
	}
	u := &Upload{digest: Digest(archive), size: int64(len(archive)), temp: f.Name()}
	_, err = f.Write(archive)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(s.failed("store an archive", err), u.Discard())
	}
	return u, nil
}

// Discard removes the archive, unless Stage took it.
func (u *Upload) Discard() error {
	if u.temp == "" {
		return nil
	}
	if err := os.Remove(u.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard an upload: %w", err)
	}
	u.temp = ""
	return nil
}

// name gives the upload its name, for good.
func (s *Store) name(u *Upload) error {
	if err := os.Rename(u.temp, s.archiveFile(u.digest)); err != nil {
		return s.failed("store an archive", err)
	}
	u.temp = ""
	if err := syncDir(s.archives()); err != nil {
		return s.failed("store an archive", err)
	}
	return nil
}

// Archive reads the archive of a digest, and makes sure that it is this one.
func (s *Store) Archive(digest string) ([]byte, error) {
	file := s.archiveFile(digest)
	data, err := os.ReadFile(file) //nolint:gosec // named by a digest of ours
	if errors.Is(err, fs.ErrNotExist) && s.there() {
		return nil, &Error{Code: CodeArchiveDamaged, Path: file, Err: err}
	}
	if err != nil {
		return nil, s.failed("read an archive", err)
	}
	if got := Digest(data); got != digest {
		return nil, errorf(CodeArchiveDamaged, file, "the file has the digest %s", got)
	}
	return data, nil
}

// there tells whether the folder of archives is.
func (s *Store) there() bool {
	_, err := os.Stat(s.archives())
	return err == nil
}

func (s *Store) archiveFile(digest string) string {
	return filepath.Join(s.archives(), strings.TrimPrefix(digest, digestPrefix)+archiveSuffix)
}

// sweep removes uploads that did not come to their end, and archives that no
// row wants.
func (s *Store) sweep(ctx context.Context) error {
	left, err := os.ReadDir(s.uploads())
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	for _, e := range left {
		if err := os.Remove(filepath.Join(s.uploads(), e.Name())); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	wanted, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	stored, err := os.ReadDir(s.archives())
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	for _, e := range stored {
		name, isArchive := strings.CutSuffix(e.Name(), archiveSuffix)
		if !isArchive || wanted[digestPrefix+name] {
			continue
		}
		if err := os.Remove(filepath.Join(s.archives(), e.Name())); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return nil
}

// wanted are the digests whose archives are kept.
func (s *Store) wanted(ctx context.Context) (map[string]bool, error) {
	rows, err := s.write.QueryContext(ctx, query(`SELECT DISTINCT digest FROM bundles WHERE kept = 1`))
	if err != nil {
		return nil, s.failed("list archives", err)
	}
	defer rows.Close() //nolint:errcheck // read only
	out := map[string]bool{}
	for rows.Next() {
		var digest string
		if err := rows.Scan(&digest); err != nil {
			return nil, s.failed("list archives", err)
		}
		out[digest] = true
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed("list archives", err)
	}
	return out, nil
}
