package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// watchEvery is how often the files of bundles are looked at, as the
	// server's own files are. Looking also sees what file systems that are
	// mounted from elsewhere notify nobody of.
	watchEvery = 250 * time.Millisecond
	// maxSettle is how many looks a change may go on before it is loaded as it
	// is: a folder that is written to all the time is not ignored.
	maxSettle = 20
	// maxWatched bounds the files that are looked at. It is more than a bundle
	// may hold.
	maxWatched = 1 << 14
)

// watched looks at files and folders.
type watched struct {
	paths []string
	seen  map[string]os.FileInfo
	// pending counts the looks since a change that was not told of yet.
	pending int
}

// newWatched begins with what is there now, so it is called before the files
// are read.
func newWatched(paths []string) *watched {
	w := &watched{paths: paths}
	w.look()
	return w
}

// changed tells that something is not as it was, once it has held still for the
// time between two looks: an editor, or a copy, writes in several steps.
func (w *watched) changed() bool {
	moved := w.look()
	if moved || w.pending > 0 {
		w.pending++
	}
	if w.pending > 1 && !moved || w.pending > maxSettle {
		w.pending = 0
		return true
	}
	return false
}

// look takes in what is there, and tells whether it is something else than
// before.
func (w *watched) look() bool {
	now := map[string]os.FileInfo{}
	for _, p := range w.paths {
		listFiles(p, now)
	}
	before := w.seen
	w.seen = now
	if len(now) != len(before) {
		return true
	}
	for name, info := range now {
		old, ok := before[name]
		if !ok || !sameFile(info, old) {
			return true
		}
	}
	return false
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if a.IsDir() && b.IsDir() {
		return os.SameFile(a, b) // what is in it is looked at one by one
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// listFiles adds what is at a path, with all below it but what bundles do not
// read: hidden folders. Links are followed, as bundles follow them, so that a
// ConfigMap of Kubernetes is seen to change. What can not be read is nil.
func listFiles(where string, into map[string]os.FileInfo) {
	root, err := filepath.EvalSymlinks(where)
	if err != nil {
		into[where] = nil
		return
	}
	_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if len(into) > maxWatched {
			return fs.SkipAll
		}
		if err != nil {
			into[name] = nil
			return nil //nolint:nilerr // nil tells of it
		}
		if d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		into[name] = info
		return nil
	})
}
