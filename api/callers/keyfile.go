package callers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadKeys reads a file of keys.
func ReadKeys(file string) ([]Key, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := decodeKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// UpdateKeys reads a file of keys, lets change make other keys of them, and
// puts the file in place as a whole: whoever reads sees the old one or the new
// one. With create an absent file is an empty one. Two updates do not run at
// once: the later would undo a revocation of the earlier.
func UpdateKeys(file string, create bool, change func([]Key) ([]Key, error)) (err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	lock := file + ".lock"
	held, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there: another command changes the keys, or was killed; then remove it", lock)
	}
	if err != nil {
		return fmt.Errorf("lock the keys: %w", err)
	}
	_ = held.Close()
	defer func() { err = errors.Join(err, os.Remove(lock)) }()
	keys, err := ReadKeys(file)
	if create && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	if keys, err = change(keys); err != nil {
		return err
	}
	text := encodeKeys(keys)
	// What could not be read back would lock every caller out.
	if _, err := decodeKeys(text); err != nil {
		return fmt.Errorf("the new keys: %w", err)
	}
	return replace(file, text)
}

// replace puts text in the place of file, durably. A new file is readable by its
// owner only; an old one's owner stays, and its group may go on reading.
func replace(file string, text []byte) error {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, filepath.Base(file)+".tmp-*") // 0600
	if err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	if old, absent := os.Stat(file); absent == nil {
		err = errors.Join(temp.Chmod(old.Mode().Perm()&^0o137|0o400), likeOwner(temp, old))
	}
	if err == nil {
		_, err = temp.Write(text)
	}
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the keys: %w", err), os.Remove(temp.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the folder of a file that the operator names
	if err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	return nil
}
