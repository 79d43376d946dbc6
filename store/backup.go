package store

import (
	"archive/tar"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Backup writes the data directory dir into the new file name, a tar file that
// unpacks into a data directory. It may run while a server uses dir: the
// database is copied as of one moment, and an archive that is superseded
// meanwhile and gone is left out, which is no harm to what was active.
func Backup(ctx context.Context, dir, name string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	s := &Store{dir: dir}
	if _, err := os.Stat(s.database()); err != nil {
		return fmt.Errorf("back up: no data directory: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(name), ".authzd-backup-*")
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	copied := filepath.Join(temp, databaseFile)
	if err := s.copyDatabase(ctx, copied); err != nil {
		return fmt.Errorf("back up the database: %w", err)
	}
	packed := filepath.Join(temp, "backup.tar")
	if err := s.pack(ctx, copied, packed); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	// A link fails where a rename would replace a file.
	if err := os.Link(packed, name); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := syncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// copyDatabase copies the database as of one moment; SQLite's own statement,
// the only one that another database would not have.
func (s *Store) copyDatabase(ctx context.Context, to string) error {
	db, err := sql.Open("sqlite", source(s.database()))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, to)
	return errors.Join(err, db.Close())
}

// pack writes the copy of the database and the archives that it wants.
func (s *Store) pack(ctx context.Context, database, to string) (err error) {
	db, err := sql.Open("sqlite", source(database))
	if err != nil {
		return err
	}
	wanted, err := (&Store{dir: filepath.Dir(database), write: db}).wanted(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // named above
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	if err := addFile(w, databaseFile, database); err != nil {
		return err
	}
	for digest := range wanted {
		file := s.archiveFile(digest)
		name := archiveFolder + "/" + strings.TrimPrefix(filepath.Base(file), "/")
		if err := addFile(w, name, file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(w.Close(), out.Sync())
}

func addFile(w *tar.Writer, name, file string) error {
	f, err := os.Open(file) //nolint:gosec // ours
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: stat.Size(), ModTime: stat.ModTime()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
