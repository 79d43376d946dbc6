package store

import (
	"context"
	"database/sql"
	"time"
)

// Block is one block of an administrator, and what became of it.
type Block struct {
	Tenant, ID string
	// Kind and Target say what is blocked; Issuer narrows a subject, "" is any.
	Kind, Target, Issuer string
	Why, CreatedBy       string
	CreatedAt, EndsAt    time.Time
	// LiftedAt is zero for a block that was not lifted.
	LiftedBy, LiftedWhy string
	LiftedAt            time.Time
}

// keepBlocks is how many blocks that have ended are remembered. Those that were
// not lifted hold again if the clock was ahead and is set back, so they are not
// forgotten soon.
const keepBlocks = 10000

// AddBlock records a block. Those that ended long ago are forgotten.
func (s *Store) AddBlock(ctx context.Context, b Block) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.change(ctx, "store a block", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query(`
			INSERT INTO blocks (tenant, id, kind, target, issuer, why, created_by, created_at, ends_at, lifted_by, lifted_why, lifted_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', 0)`),
			b.Tenant, b.ID, b.Kind, b.Target, b.Issuer, b.Why, b.CreatedBy, micros(b.CreatedAt), micros(b.EndsAt))
		if err != nil {
			return err
		}
		const ended = `tenant = ? AND (lifted_at <> 0 OR ends_at <= ?)`
		now := micros(b.CreatedAt)
		_, err = tx.ExecContext(ctx, query(`
			DELETE FROM blocks WHERE `+ended+` AND id NOT IN (
				SELECT id FROM (SELECT id FROM blocks WHERE `+ended+` ORDER BY created_at DESC, id DESC LIMIT ?) AS newest)`),
			b.Tenant, now, b.Tenant, now, keepBlocks)
		return err
	})
}

// LiftBlock records that a block was lifted. One that was already stays as it
// was recorded.
func (s *Store) LiftBlock(ctx context.Context, tenant, id, who, why string, at time.Time) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.change(ctx, "lift a block", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query(`UPDATE blocks SET lifted_by = ?, lifted_why = ?, lifted_at = ? WHERE tenant = ? AND id = ? AND lifted_at = 0`),
			who, why, micros(at), tenant, id)
		return err
	})
}

// Blocks returns the blocks of a tenant, the newest first, also those that have
// ended and are still remembered.
func (s *Store) Blocks(ctx context.Context, tenant string) ([]Block, error) {
	return s.blocks(ctx, `tenant = ? ORDER BY created_at DESC, id DESC`, tenant)
}

// BlocksBehind returns up to limit of them behind one of them; of none, from the
// beginning.
func (s *Store) BlocksBehind(ctx context.Context, tenant string, behind Block, limit int) ([]Block, error) {
	if behind.ID == "" {
		return s.blocks(ctx, `tenant = ? ORDER BY created_at DESC, id DESC LIMIT ?`, tenant, limit)
	}
	at := micros(behind.CreatedAt)
	return s.blocks(ctx, `tenant = ? AND (created_at < ? OR created_at = ? AND id < ?) ORDER BY created_at DESC, id DESC LIMIT ?`, tenant, at, at, behind.ID, limit)
}

// Block returns the block of an id; ok is false if there is none.
func (s *Store) Block(ctx context.Context, tenant, id string) (b Block, ok bool, err error) {
	list, err := s.blocks(ctx, `tenant = ? AND id = ?`, tenant, id)
	if err != nil || len(list) == 0 {
		return Block{}, false, err
	}
	return list[0], true, nil
}

func (s *Store) blocks(ctx context.Context, where string, args ...any) ([]Block, error) {
	rows, err := s.read.QueryContext(ctx, query(`
		SELECT tenant, id, kind, target, issuer, why, created_by, created_at, ends_at, lifted_by, lifted_why, lifted_at
		FROM blocks WHERE `+where), args...)
	if err != nil {
		return nil, s.failed("list blocks", err)
	}
	var out []Block
	err = each(rows, func() error {
		var b Block
		var created, ends, lifted int64
		err := rows.Scan(&b.Tenant, &b.ID, &b.Kind, &b.Target, &b.Issuer, &b.Why, &b.CreatedBy, &created, &ends, &b.LiftedBy, &b.LiftedWhy, &lifted)
		b.CreatedAt, b.EndsAt = timeOf(created), timeOf(ends)
		if lifted != 0 {
			b.LiftedAt = timeOf(lifted)
		}
		out = append(out, b)
		return err
	})
	if err != nil {
		return nil, s.failed("list blocks", err)
	}
	return out, nil
}
