package store

import "fmt"

// Code names a fault of the store. Codes are API: listed in docs/errors.md,
// never reused for another meaning.
type Code string

// The codes. What has none is the disk's or the database's own fault.
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

// Codes returns every code that this package declares. It exists for the tests
// that hold documentation against the code.
func Codes() []Code {
	return []Code{CodeLocked, CodeSchemaNewer, CodeArchiveDamaged, CodeNotOurs, CodeNotKept, CodeNamesFull, CodeChangesFull, CodeChanged}
}
