package store

import (
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Code names a fault of the store. Codes are API: listed in docs/errors.md,
// never reused for another meaning.
type Code string

// The codes. What has none is a fault of this program.
const (
	// CodeLocked is a data directory that another process has open.
	CodeLocked Code = "store.locked"
	// CodeSchemaNewer is a database that a later version of authzd has written.
	CodeSchemaNewer Code = "store.schema_newer"
	// CodeArchiveDamaged is an archive that is not what its digest says, or is
	// gone.
	CodeArchiveDamaged Code = "store.archive_damaged"
	// CodeNotOurs is a folder that holds files and no database of authzd.
	CodeNotOurs Code = "store.not_ours"
	// CodeNotKept is a bundle to activate whose archive is not kept, or no longer.
	CodeNotKept Code = "store.not_kept"
	// CodeNamesFull is a bundle under one name too many.
	CodeNamesFull Code = "store.names_full"
	// CodeChangesFull is a change too many on top of one archive.
	CodeChangesFull Code = "store.changes_full"
	// CodeChanged is a change on top of what is not there any more.
	CodeChanged Code = "store.changed"
	// CodeUnavailable is a disk or a database that can not be read or written now: full,
	// gone, failing, or kept busy by another process. It may be tried again.
	CodeUnavailable Code = "store.unavailable"
	// CodeDatabaseDamaged is a database that is none, or no longer whole. It stays so
	// until it is restored.
	CodeDatabaseDamaged Code = "store.database_damaged"
)

// Error is the only error type of this package that carries a code.
type Error struct {
	Code Code
	// Path is the file or folder at fault.
	Path string
	Err  error
}

// Error formats place, code and cause.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }

func errorf(code Code, path, format string, args ...any) *Error {
	return &Error{Code: code, Path: path, Err: fmt.Errorf(format, args...)}
}

// failed says what was attempted, and gives a fault of the disk or the database its place
// and code.
func (s *Store) failed(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if _, coded := errors.AsType[*Error](err); coded {
		return err
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return &Error{Code: CodeUnavailable, Path: s.dir, Err: err}
	}
	if said, ok := errors.AsType[*sqlite.Error](err); ok {
		if code := stateOf(said); code != "" {
			return &Error{Code: code, Path: s.database(), Err: err}
		}
	}
	return err
}

// stateOf tells what the database says of its state from what it says of a statement,
// which would be wrong the next time, too, and from a call that is given up.
func stateOf(said *sqlite.Error) Code {
	switch said.Code() & 0xff { // the rest tells more of the same: https://sqlite.org/rescode.html
	case sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL:
		return CodeUnavailable
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return CodeDatabaseDamaged
	}
	return ""
}

// Codes returns every code that this package declares. It exists for the tests
// that hold documentation against the code.
func Codes() []Code {
	return []Code{CodeLocked, CodeSchemaNewer, CodeArchiveDamaged, CodeNotOurs, CodeNotKept, CodeNamesFull, CodeChangesFull, CodeChanged, CodeUnavailable, CodeDatabaseDamaged}
}
