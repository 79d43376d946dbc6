// Package store keeps what must survive a restart: bundles, what happened to
// them, which one is active (SQLite), and the archives themselves (files named
// by their digest).
//
// Whatever it has acknowledged survives kill -9 and the loss of power. It
// refuses a folder that another process has open, a database of a later
// version, and an archive that is not what its digest says; it verifies no
// signature. Open removes what an interrupted write left behind.
//
// It is called by bundles/registry and cmd/authzd. A *Store may be used by any
// number of goroutines; writes wait for each other.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	// The driver registers itself as "sqlite".
	_ "modernc.org/sqlite"
)

const (
	databaseFile  = "authzd.db"
	lockFile      = "lock"
	archiveFolder = "archives"
	uploadFolder  = "uploads"
	readers       = 4
	// busyTimeout is how long a statement waits for another process, such as a
	// backup.
	busyTimeout = 10 * time.Second
	// lockWait is how long Open waits for another process to end: on a busy machine
	// a killed one has been seen to hold its lock for seconds.
	lockWait  = 10 * time.Second
	lockRetry = 50 * time.Millisecond
)

// Options configure a Store. The zero value is ready for production.
type Options struct {
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Store is an open data directory.
type Store struct {
	dir  string
	now  func() time.Time
	lock *os.File
	// writing is held by the one writer.
	writing     sync.Mutex
	write, read *sql.DB
}

// Open opens the data directory dir, which it makes if it is not there, brings
// the schema up to date, and removes what an interrupted write left behind.
// Close it.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the data directory: %w", err)
	}
	s := &Store{dir: dir, now: o.Now}
	for _, d := range []string{dir, s.archives(), s.uploads()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open the data directory: %w", err)
		}
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if err := s.ours(); err != nil {
		return err
	}
	if s.write, s.read, err = openDatabase(s.database()); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return s.failed("open the data directory", err)
	}
	return s.sweep(ctx)
}

// ours refuses a folder that holds something and no database: what is in it
// would be swept away as if it were left over.
func (s *Store) ours() error {
	if _, err := os.Stat(s.database()); err == nil || !errors.Is(err, os.ErrNotExist) {
		return nil // opening it tells what is wrong
	}
	for _, dir := range []string{s.archives(), s.uploads()} {
		left, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("open the data directory: %w", err)
		}
		if len(left) > 0 {
			return errorf(CodeNotOurs, dir, "the folder holds files, and there is no database of authzd beside it")
		}
	}
	return nil
}

// acquire takes the lock. It waits a little for a process that is ending: a
// supervisor may start the next one before the system has cleaned up.
func (s *Store) acquire(ctx context.Context) error {
	for waited := time.Duration(0); ; waited += lockRetry {
		free, err := lock(s.lock)
		switch {
		case err != nil:
			return fmt.Errorf("lock the data directory %s: %w", s.dir, err)
		case free:
			return nil
		case waited >= lockWait:
			return errorf(CodeLocked, s.dir, "another process has this data directory open")
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return fmt.Errorf("lock the data directory %s: %w", s.dir, ctx.Err())
		}
	}
}

// openDatabase opens the database once for the one writer, and once for
// readers, whom write-ahead logging lets read meanwhile.
func openDatabase(file string) (write, read *sql.DB, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the operator's folder
	if err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	if write, err = sql.Open("sqlite", source(file, "_txlock=immediate")); err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	write.SetMaxOpenConns(1)
	if read, err = sql.Open("sqlite", source(file, "_pragma=query_only(1)")); err != nil {
		return write, nil, fmt.Errorf("open the database: %w", err)
	}
	read.SetMaxOpenConns(readers)
	return write, read, nil
}

// source names the database to the driver. Each commit is on disk before it
// returns (synchronous FULL).
func source(file string, more ...string) string {
	pragmas := append([]string{
		fmt.Sprintf("_pragma=busy_timeout(%d)", busyTimeout.Milliseconds()),
		"_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=foreign_keys(1)",
	}, more...)
	return "file:" + (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath() + "?" + strings.Join(pragmas, "&")
}

// Close closes the database and gives up the lock.
func (s *Store) Close() error {
	var faults []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			faults = append(faults, db.Close())
		}
	}
	if s.lock != nil {
		faults = append(faults, s.lock.Close())
	}
	return errors.Join(faults...)
}

func (s *Store) database() string { return filepath.Join(s.dir, databaseFile) }
func (s *Store) archives() string { return filepath.Join(s.dir, archiveFolder) }
func (s *Store) uploads() string  { return filepath.Join(s.dir, uploadFolder) }

// change runs do in one transaction of the one writer.
func (s *Store) change(ctx context.Context, what string, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(what, err)
	}
	if err := do(tx); err != nil {
		return s.failed(what, errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return s.failed(what, err)
	}
	return nil
}

// flag is how the schema writes a boolean.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func timeOf(n int64) time.Time { return time.UnixMicro(n).UTC() }
