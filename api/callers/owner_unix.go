//go:build unix

package callers

import (
	"fmt"
	"os"
	"syscall"
)

// likeOwner gives a new file the owner of the one that it replaces, so that a
// server that runs as another user can still read it.
func likeOwner(f *os.File, old os.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err //nolint:wrapcheck // names the file itself
	}
	if is, ok := info.Sys().(*syscall.Stat_t); ok && is.Uid == was.Uid && is.Gid == was.Gid {
		return nil
	}
	if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
		return fmt.Errorf("keep the owner of the file, run the command as that user: %w", err)
	}
	return nil
}
