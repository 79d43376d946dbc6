package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/authzd/authzd/bundles"
)

// target is the folder that init writes to.
type target struct {
	dir   string
	fresh bool // it does not exist yet
}

const stagingPattern = ".authzd-init-*"

// openTarget refuses what must not be written to, before a server is asked.
func openTarget(dir string, force bool) (*target, error) {
	if absent(dir) {
		return &target{dir: dir, fresh: true}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	if len(entries) > 0 && !force {
		return nil, fmt.Errorf("%s is not empty: name another folder, or use --force to replace the files that init writes", dir)
	}
	return &target{dir: dir}, nil
}

// install tests the files in a folder beside their place, and puts them there
// only if all is well.
func (t *target) install(ctx context.Context, files []bundles.File) (report *testReport, err error) {
	parent := t.dir
	if t.fresh {
		parent = filepath.Dir(filepath.Clean(t.dir))
	}
	staging, err := os.MkdirTemp(parent, stagingPattern)
	if err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	defer func() {
		if e := os.RemoveAll(staging); e != nil && err == nil {
			err = fmt.Errorf("clean up: %w", e)
		}
	}()
	made := filepath.Join(staging, "new")
	if err := writeFiles(made, files); err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	if report, err = testFolder(ctx, made); err != nil {
		return nil, err
	}
	if t.fresh {
		if err := os.Rename(made, t.dir); err != nil {
			return nil, fmt.Errorf("write the bundle: %w", err)
		}
		return report, nil
	}
	return t.replace(ctx, staging, files)
}

// writeFiles writes below dir, with the permissions that the umask leaves.
func writeFiles(dir string, files []bundles.File) error {
	for _, f := range files {
		where := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(where), 0o777); err != nil { //nolint:gosec // policy is no secret; the umask decides
			return err
		}
		if err := os.WriteFile(where, f.Data, 0o666); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}

// replace moves the files of staging into a folder that is there already, where
// the whole must pass its tests; else everything is moved back.
func (t *target) replace(ctx context.Context, staging string, files []bundles.File) (*testReport, error) {
	// A root keeps links within the folder from leading out of it.
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	defer root.Close() //nolint:errcheck // a handle on a folder, nothing to lose
	m := mover{root: root, staging: filepath.Base(staging)}
	for _, f := range files {
		if err := m.move(f.Path); err != nil {
			return nil, errors.Join(fmt.Errorf("write the bundle: %w", err), m.undo())
		}
	}
	report, err := testFolder(ctx, t.dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("with the files that were there: %w", err), m.undo())
	}
	return report, nil
}

// mover puts files in their place, and remembers how to take them back.
type mover struct {
	root    *os.Root
	staging string
	undos   []func() error // in order of what was done
}

func (m *mover) move(name string) error {
	if err := m.makeDirs(path.Dir(name)); err != nil {
		return err
	}
	old := path.Join(m.staging, "old", name)
	switch info, err := m.root.Lstat(name); {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder", name)
	case err == nil:
		if err := m.root.MkdirAll(path.Dir(old), 0o700); err != nil {
			return err
		}
		if err := m.root.Rename(name, old); err != nil {
			return err
		}
		m.undos = append(m.undos, func() error { return m.root.Rename(old, name) })
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := m.root.Rename(path.Join(m.staging, "new", name), name); err != nil {
		return err
	}
	m.undos = append(m.undos, func() error { return m.root.Remove(name) })
	return nil
}

// makeDirs makes a folder and those above it.
func (m *mover) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if err := m.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	switch err := m.root.Mkdir(dir, 0o777); {
	case err == nil:
		m.undos = append(m.undos, func() error { return m.root.Remove(dir) })
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return nil
}

// undo leaves the folder as it was found.
func (m *mover) undo() error {
	var faults []error
	for i := len(m.undos) - 1; i >= 0; i-- {
		faults = append(faults, m.undos[i]())
	}
	return errors.Join(faults...)
}
