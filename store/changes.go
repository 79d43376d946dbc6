package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"strings"
	"time"
)

// Change is one change of the data of a bundle.
type Change struct {
	// Base is the digest of the archive that it is on top of, Number its place among
	// the changes of that one, from 1. Numbers may be missing: of what a later change
	// sets anew.
	Base   string
	Number int64
	// Line tells numbers apart that were given by different servers, or by one that has
	// lost changes meanwhile.
	Line string
	// Digest names the bytes of Archive, a delta bundle.
	Digest  string
	Archive []byte
	// Size is how many bytes it unpacks to.
	Size     int64
	Signed   bool
	Sequence int64
	// Path is the JSON Pointer of the one document that it sets, or removes, and that
	// lies in objects alone; "" for every other change.
	Path     string
	Removes  bool
	Who, Why string
	At       time.Time
}

// What there may be of changes on top of one archive. The bytes are unpacked: all are
// read at each start.
const (
	MaxChanges     = 20_000
	maxChangeBytes = 64 << 20
)

// AddChanges stores changes on top of the active archive of a bundle, all of them or
// none, numbered on from the last one. CodeChanged: another archive is active, or there
// are more changes already.
//
// What a later change sets anew is let go of: changes that set or remove the same
// document, or one below it, since the last change of another kind, and since the last
// one of a document above it: what that removes may be there by them alone. The changes
// that are left can be made again in order, on the archive alone, and come to the same.
func (s *Store) AddChanges(ctx context.Context, tenant, name string, changes []Change, events []Event) error {
	if len(changes) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.changeAndPrune(ctx, "store changes of data", tenant, name, func(tx *sql.Tx) error {
		base := changes[0].Base
		var active int
		err := tx.QueryRowContext(ctx, query(`SELECT COUNT(*) FROM active_bundles WHERE tenant = ? AND name = ? AND digest = ?`), tenant, name, base).Scan(&active)
		if err != nil {
			return err
		}
		var last, other int64
		err = tx.QueryRowContext(ctx, query(`
			SELECT COALESCE(MAX(number), 0), COALESCE(MAX(CASE WHEN path = '' THEN number ELSE 0 END), 0)
			FROM bundle_changes WHERE tenant = ? AND name = ? AND base = ?`), tenant, name, base).Scan(&last, &other)
		if err != nil {
			return err
		}
		for i := range changes {
			c := &changes[i]
			// A follower may have several of its source's in one.
			if active == 0 || c.Base != base || c.Number <= last {
				return errorf(CodeChanged, "", "the data has changed meanwhile")
			}
			if err := addChange(ctx, tx, tenant, name, c, other); err != nil {
				return err
			}
			if last = c.Number; c.Path == "" {
				other = c.Number
			}
		}
		var count, size int64
		err = tx.QueryRowContext(ctx, query(`
			SELECT COUNT(*), COALESCE(SUM(size), 0) FROM bundle_changes WHERE tenant = ? AND name = ? AND base = ?`), tenant, name, base).Scan(&count, &size)
		switch {
		case err != nil:
			return err
		case count > MaxChanges || size > maxChangeBytes:
			return errorf(CodeChangesFull, "", "there are %d changes, of %d bytes, on top of one archive", count-1, size)
		}
		return s.record(ctx, tx, events)
	})
}

func addChange(ctx context.Context, tx *sql.Tx, tenant, name string, c *Change, other int64) error {
	path := ""
	if c.Path != "" {
		path = c.Path + "/"
	}
	if path != "" && !c.Removes {
		above, err := lastAbove(ctx, tx, tenant, name, c.Base, path)
		if err != nil {
			return err
		}
		// All that begins with it: "0" is the byte behind "/".
		_, err = tx.ExecContext(ctx, query(`
			DELETE FROM bundle_changes WHERE tenant = ? AND name = ? AND base = ? AND path >= ? AND path < ? AND number > ?`),
			tenant, name, c.Base, path, strings.TrimSuffix(path, "/")+"0", max(other, above))
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, query(`
		INSERT INTO bundle_changes (tenant, name, base, number, line, digest, archive, size, signed, sequence, path, who, why, happened_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
		tenant, name, c.Base, c.Number, c.Line, c.Digest, base64.StdEncoding.EncodeToString(c.Archive), max(c.Size, int64(len(c.Archive))), flag(c.Signed), c.Sequence, path, c.Who, c.Why, micros(c.At))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, query(`
		INSERT INTO bundle_lines (tenant, name, base, line, last) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant, name, base, line) DO UPDATE SET last = excluded.last`), tenant, name, c.Base, c.Line, c.Number)
	return err
}

// lastAbove is the number of the last change of a document that path, which has a slash
// behind, lies below; 0 if there is none.
func lastAbove(ctx context.Context, tx *sql.Tx, tenant, name, base, path string) (int64, error) {
	args := []any{tenant, name, base}
	for i := 1; i < len(path)-1; i++ {
		if path[i] == '/' {
			args = append(args, path[:i+1])
		}
	}
	const fixed = 3
	if len(args) == fixed {
		return 0, nil
	}
	var last int64
	marks := strings.Repeat(", ?", len(args)-fixed)[len(", "):]
	err := tx.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(number), 0) FROM bundle_changes WHERE tenant = ? AND name = ? AND base = ? AND path IN (`+marks+`)`), args...).Scan(&last)
	return last, err
}

// Changes returns up to limit changes of an archive behind the number after, in order.
func (s *Store) Changes(ctx context.Context, tenant, name, base string, after int64, limit int) ([]Change, error) {
	rows, err := s.read.QueryContext(ctx, query(`
		SELECT base, number, line, digest, archive, size, signed, sequence, path, who, why, happened_at FROM bundle_changes
		WHERE tenant = ? AND name = ? AND base = ? AND number > ? ORDER BY number LIMIT ?`), tenant, name, base, after, limit)
	if err != nil {
		return nil, s.failed("list changes of data", err)
	}
	var out []Change
	err = each(rows, func() error {
		var c Change
		var archive string
		var signed int
		var at int64
		if err := rows.Scan(&c.Base, &c.Number, &c.Line, &c.Digest, &archive, &c.Size, &signed, &c.Sequence, &c.Path, &c.Who, &c.Why, &at); err != nil {
			return err
		}
		c.Signed, c.Path, c.At = signed == 1, strings.TrimSuffix(c.Path, "/"), timeOf(at)
		if c.Archive, err = base64.StdEncoding.DecodeString(archive); err != nil || Digest(c.Archive) != c.Digest {
			return errorf(CodeArchiveDamaged, "", "change %d of %s is not what was stored", c.Number, c.Base)
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, s.failed("list changes of data", err)
	}
	return out, nil
}

// LastChange is the number of the last change of an archive, 0 if there is none.
func (s *Store) LastChange(ctx context.Context, tenant, name, base string) (int64, error) {
	var last int64
	err := s.read.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(number), 0) FROM bundle_changes WHERE tenant = ? AND name = ? AND base = ?`), tenant, name, base).Scan(&last)
	if err != nil {
		return 0, s.failed("find the last change of data", err)
	}
	return last, nil
}

// EndOfLine is the last number of a line of changes of an archive, 0 if there is none.
func (s *Store) EndOfLine(ctx context.Context, tenant, name, base, line string) (int64, error) {
	var last int64
	err := s.read.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(last), 0) FROM bundle_lines WHERE tenant = ? AND name = ? AND base = ? AND line = ?`), tenant, name, base, line).Scan(&last)
	if err != nil {
		return 0, s.failed("find the end of a line of changes", err)
	}
	return last, nil
}

// pruneChanges lets go of the changes of archives that are not kept.
func pruneChanges(ctx context.Context, tx *sql.Tx, tenant string) error {
	for _, table := range []string{`bundle_changes`, `bundle_lines`} {
		_, err := tx.ExecContext(ctx, query(`
			DELETE FROM `+table+` WHERE tenant = ? AND NOT EXISTS (
				SELECT 1 FROM bundles b WHERE b.tenant = `+table+`.tenant AND b.name = `+table+`.name AND b.digest = `+table+`.base AND b.kept = 1)`), tenant)
		if err != nil {
			return err
		}
	}
	return nil
}
