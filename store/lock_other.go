//go:build !unix

package store

import "os"

// lock is not to be had here in the standard library: SQLite's own locks keep
// the database whole, and nothing keeps a second process out.
func lock(*os.File) (bool, error) { return true, nil }

// syncDir is not to be had here either.
func syncDir(string) error { return nil }
