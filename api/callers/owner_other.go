//go:build !unix

package callers

import "os"

// likeOwner has nothing to do where a file's owner is no matter of its mode.
func likeOwner(*os.File, os.FileInfo) error { return nil }
