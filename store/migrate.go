package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema forward, one transaction for each file of
// migrations/NNNN_what.sql. A schema that has more than these is of a later
// version, which this one could damage.
func (s *Store) migrate(ctx context.Context) error {
	const table = `CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)`
	if _, err := s.write.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var at int
	if err := s.write.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_migrations`).Scan(&at); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if at > len(files) {
		return errorf(CodeSchemaNewer, "", "the database has schema %d, this version knows %d: use the authzd that wrote it, or a later one", at, len(files))
	}
	for i, file := range files {
		version := i + 1
		if got, _, _ := strings.Cut(strings.TrimPrefix(file, "migrations/"), "_"); got != fmt.Sprintf("%04d", version) {
			return fmt.Errorf("migrate: %s is not number %d", file, version)
		}
		if version <= at {
			continue
		}
		if err := s.apply(ctx, file, version); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) apply(ctx context.Context, file string, version int) error {
	text, err := fs.ReadFile(migrations, file)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return s.change(ctx, "migrate to schema "+strconv.Itoa(version), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, query(`INSERT INTO schema_migrations (version, applied_at) VALUES (?, ?)`), version, micros(s.now()))
		return err
	})
}

// query is where the placeholders of another database would be written: SQLite
// takes "?", PostgreSQL "$1".
func query(text string) string { return text }
