package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"time"
)

// State is where a bundle stands.
type State string

// The states, in the order in which a bundle goes through them. Only the last
// four are states of a stored bundle; the others occur in events.
const (
	StateUploaded   State = "uploaded"
	StateVerified   State = "verified"
	StateTested     State = "tested"
	StateStaged     State = "staged"
	StateActive     State = "active"
	StateSuperseded State = "superseded"
	StateRejected   State = "rejected"
)

// Bundle is one uploaded archive under a name.
type Bundle struct {
	Tenant, Name string
	// Digest names the archive's bytes, Revision is what its manifest says.
	Digest, Revision string
	Sequence         int64
	Size             int64
	State            State
	// Kept: the archive is on disk, so that it can be activated.
	Kept       bool
	UploadedBy string
	UploadedAt time.Time
	// ChangedAt is when State became what it is.
	ChangedAt time.Time
	// Previous is the digest that was active before this one was activated; ""
	// for the first, and for what has never been active.
	Previous string
	// Report is the JSON of what its tests said, "" for none.
	Report string
	// Stored orders the uploads of a tenant; the store gives it.
	Stored int64
}

// Event is one step in the life of a bundle.
type Event struct {
	// Seq orders events; the store gives it.
	Seq              int64
	Tenant, Name     string
	Digest, Revision string
	At               time.Time
	// Who did it, and Why in their words.
	Who, Why string
	// What was asked for: push, activate, rollback, or data for a change of it.
	What     string
	From, To State
	// AllowOlder: a sequence lower than the active one's was admitted.
	AllowOlder bool
	// Report is JSON, "" for none.
	Report string
	// Path tells where data was changed, "" in every other event.
	Path string
}

// What is kept of each name beside what is active.
const (
	// Keep is how many superseded archives stay on disk, and how many staged ones
	// of each who uploaded them: whoever may push pushes nobody else's out.
	Keep = 5
	// keepStaged bounds the staged ones of all together.
	keepStaged = 25
	// keepRows is how many without an archive are remembered of each state.
	keepRows   = 50
	keepEvents = 1000
	// MaxNames bounds the names of bundles of a tenant. Names that never had an
	// active bundle make room for new ones.
	MaxNames = 200
)

const bundleColumns = `tenant, name, digest, revision, sequence, size, state, kept, uploaded_by, uploaded_at, changed_at, previous, report, stored`

// Stage stores a bundle that passed, with its archive and what led there, all
// of it or nothing.
func (s *Store) Stage(ctx context.Context, u *Upload, b Bundle, events []Event) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	b.Digest, b.Size, b.State, b.Kept = u.digest, u.size, StateStaged, true
	// The file first: a row without its archive would be worse than an archive
	// without a row, which the next Open removes.
	if err := s.name(u); err != nil {
		return err
	}
	if err := s.store(ctx, b, events); err != nil {
		// What no row knows of would fill the disk until the next start.
		if wanted, listErr := s.wanted(context.WithoutCancel(ctx)); listErr == nil && !wanted[u.digest] {
			_ = os.Remove(s.archiveFile(u.digest))
		}
		return err
	}
	return nil
}

// Reject records a bundle that did not pass. Its archive is not kept; one that
// passed before, and is kept, stays what it is.
func (s *Store) Reject(ctx context.Context, b Bundle, events []Event) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	b.State, b.Kept = StateRejected, false
	return s.store(ctx, b, events)
}

func (s *Store) store(ctx context.Context, b Bundle, events []Event) error {
	now := micros(s.now())
	return s.changeAndPrune(ctx, "store a bundle", b.Tenant, b.Name, func(tx *sql.Tx) error {
		var stored int64
		err := tx.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(stored), 0) + 1 FROM bundles WHERE tenant = ?`), b.Tenant).Scan(&stored)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, query(`
			INSERT INTO bundles (`+bundleColumns+`, activated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
			ON CONFLICT (tenant, name, digest) DO UPDATE SET revision = excluded.revision, sequence = excluded.sequence,
				size = excluded.size, state = excluded.state, kept = excluded.kept, uploaded_by = excluded.uploaded_by,
				uploaded_at = excluded.uploaded_at, changed_at = excluded.changed_at, report = excluded.report, stored = excluded.stored
			WHERE bundles.kept = 0`),
			b.Tenant, b.Name, b.Digest, b.Revision, b.Sequence, b.Size, string(b.State), flag(b.Kept), b.UploadedBy, now, now, "", b.Report, stored)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, events)
	})
}

// makeRoom forgets names that never had an active bundle, those first that were
// uploaded to the longest ago, until there are no more than MaxNames. It returns
// the digests of theirs.
func makeRoom(ctx context.Context, tx *sql.Tx, tenant, keep string) ([]string, error) {
	var names int
	if err := tx.QueryRowContext(ctx, query(`SELECT COUNT(DISTINCT name) FROM bundles WHERE tenant = ?`), tenant).Scan(&names); err != nil {
		return nil, err
	}
	var gone []string
	for ; names > MaxNames; names-- {
		var name string
		err := tx.QueryRowContext(ctx, query(`
			SELECT name FROM bundles WHERE tenant = ? AND name <> ? GROUP BY name HAVING MAX(activated) = 0 ORDER BY MAX(stored) LIMIT 1`), tenant, keep).Scan(&name)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errorf(CodeNamesFull, "", "there are bundles under %d names, each of which was active once", MaxNames)
		}
		if err != nil {
			return nil, err
		}
		rows, err := tx.QueryContext(ctx, query(`SELECT digest FROM bundles WHERE tenant = ? AND name = ? AND kept = 1`), tenant, name)
		if err != nil {
			return nil, err
		}
		err = each(rows, func() error {
			var digest string
			err := rows.Scan(&digest)
			gone = append(gone, digest)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, table := range []string{`bundles`, `bundle_events`} {
			if _, err := tx.ExecContext(ctx, query(`DELETE FROM `+table+` WHERE tenant = ? AND name = ?`), tenant, name); err != nil {
				return nil, err
			}
		}
	}
	return gone, nil
}

// Activate makes the bundle of e (tenant, name, digest) the active one of its
// name. A rollback leaves what was active before it as it was recorded.
func (s *Store) Activate(ctx context.Context, e Event, rollback bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := micros(s.now())
	return s.changeAndPrune(ctx, "activate a bundle", e.Tenant, e.Name, func(tx *sql.Tx) error {
		var before string
		err := tx.QueryRowContext(ctx, query(`SELECT digest FROM active_bundles WHERE tenant = ? AND name = ?`), e.Tenant, e.Name).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, query(`
			INSERT INTO active_bundles (tenant, name, digest) VALUES (?, ?, ?)
			ON CONFLICT (tenant, name) DO UPDATE SET digest = excluded.digest`), e.Tenant, e.Name, e.Digest)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, query(`UPDATE bundles SET state = ?, changed_at = ? WHERE tenant = ? AND name = ? AND state = ? AND digest <> ?`),
			string(StateSuperseded), now, e.Tenant, e.Name, string(StateActive), e.Digest)
		if err != nil {
			return err
		}
		var activated int64
		err = tx.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(activated), 0) + 1 FROM bundles WHERE tenant = ?`), e.Tenant).Scan(&activated)
		if err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, query(`UPDATE bundles SET state = ?, changed_at = ?, activated = ? WHERE tenant = ? AND name = ? AND digest = ? AND kept = 1`),
			string(StateActive), now, activated, e.Tenant, e.Name, e.Digest)
		if err != nil {
			return err
		}
		switch n, err := done.RowsAffected(); {
		case err != nil:
			return err
		case n != 1:
			return errorf(CodeNotKept, "", "the archive %s is not kept", e.Digest)
		}
		if !rollback && before != e.Digest {
			_, err = tx.ExecContext(ctx, query(`UPDATE bundles SET previous = ? WHERE tenant = ? AND name = ? AND digest = ?`), before, e.Tenant, e.Name, e.Digest)
			if err != nil {
				return err
			}
		}
		return s.record(ctx, tx, []Event{e})
	})
}

// record appends events.
func (s *Store) record(ctx context.Context, tx *sql.Tx, events []Event) error {
	for _, e := range events {
		var seq int64
		err := tx.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(seq), 0) + 1 FROM bundle_events WHERE tenant = ?`), e.Tenant).Scan(&seq)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, query(`
			INSERT INTO bundle_events (tenant, seq, name, digest, revision, happened_at, who, why, what, from_state, to_state, allow_older, report, path)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
			e.Tenant, seq, e.Name, e.Digest, e.Revision, micros(e.At), e.Who, e.Why, e.What, string(e.From), string(e.To), flag(e.AllowOlder), e.Report, e.Path)
		if err != nil {
			return err
		}
	}
	return nil
}

// changeAndPrune runs do, and lets go of what is beyond what is kept of name.
// Files go last: one that is left over is removed by the next Open.
func (s *Store) changeAndPrune(ctx context.Context, what, tenant, name string, do func(*sql.Tx) error) error {
	var gone []string
	err := s.change(ctx, what, func(tx *sql.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		// After the events are recorded, so that their numbers stay the greatest.
		forgotten, err := makeRoom(ctx, tx, tenant, name)
		if err != nil {
			return err
		}
		dropped, err := prune(ctx, tx, tenant, name)
		if err != nil {
			return err
		}
		if gone, err = unwanted(ctx, tx, append(forgotten, dropped...)); err != nil {
			return err
		}
		if len(forgotten)+len(dropped) == 0 {
			return nil
		}
		return pruneChanges(ctx, tx, tenant)
	})
	if err != nil {
		return err
	}
	for _, digest := range gone {
		_ = os.Remove(s.archiveFile(digest))
	}
	return nil
}

// prune lets go of archives and rows of name, and returns the archives'
// digests.
func prune(ctx context.Context, tx *sql.Tx, tenant, name string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query(`
		SELECT digest, state, kept, uploaded_by FROM bundles WHERE tenant = ? AND name = ? ORDER BY activated DESC, stored DESC`), tenant, name)
	if err != nil {
		return nil, err
	}
	var drop, remove []string
	superseded, staged, uploaders, others := 0, 0, map[string]int{}, map[State]int{}
	err = each(rows, func() error {
		var digest, state, who string
		var kept int
		if err := rows.Scan(&digest, &state, &kept, &who); err != nil {
			return err
		}
		switch {
		case State(state) == StateActive:
		case kept == 1 && State(state) == StateStaged:
			staged, uploaders[who] = staged+1, uploaders[who]+1
			if uploaders[who] > Keep || staged > keepStaged {
				drop = append(drop, digest)
			}
		case kept == 1:
			if superseded++; superseded > Keep {
				drop = append(drop, digest)
			}
		default:
			if others[State(state)]++; others[State(state)] > keepRows {
				remove = append(remove, digest)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, digest := range drop {
		if _, err := tx.ExecContext(ctx, query(`UPDATE bundles SET kept = 0 WHERE tenant = ? AND name = ? AND digest = ?`), tenant, name, digest); err != nil {
			return nil, err
		}
	}
	for _, digest := range remove {
		if _, err := tx.ExecContext(ctx, query(`DELETE FROM bundles WHERE tenant = ? AND name = ? AND digest = ?`), tenant, name, digest); err != nil {
			return nil, err
		}
	}
	// Whoever may push, or change data, can make any number of these. They push no
	// activation and no rollback out of the record.
	for _, kind := range kinds() {
		_, err = tx.ExecContext(ctx, query(`
		DELETE FROM bundle_events WHERE tenant = ? AND name = ? AND `+kind+` AND seq <= (
			SELECT COALESCE(MIN(seq), 0) - 1 FROM (SELECT seq FROM bundle_events WHERE tenant = ? AND name = ? AND `+kind+` ORDER BY seq DESC LIMIT ?) AS newest)`),
			tenant, name, tenant, name, keepEvents)
		if err != nil {
			return nil, err
		}
	}
	return drop, nil
}

// unwanted are the digests whose archives nothing wants any more.
func unwanted(ctx context.Context, tx *sql.Tx, digests []string) ([]string, error) {
	var gone []string
	for _, digest := range digests {
		var n int
		if err := tx.QueryRowContext(ctx, query(`SELECT COUNT(*) FROM bundles WHERE digest = ? AND kept = 1`), digest).Scan(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			gone = append(gone, digest)
		}
	}
	return gone, nil
}

// each runs do for every row.
func each(rows *sql.Rows, do func() error) error {
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		if err := do(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Active returns the active bundles of a tenant, by name.
func (s *Store) Active(ctx context.Context, tenant string) ([]Bundle, error) {
	return s.bundles(ctx, `
		SELECT `+bundleColumns+` FROM bundles b WHERE tenant = ? AND EXISTS (
			SELECT 1 FROM active_bundles a WHERE a.tenant = b.tenant AND a.name = b.name AND a.digest = b.digest)
		ORDER BY name`, tenant)
}

// Place is where a list goes on: behind the bundle of this name and number. The
// zero Place is its beginning.
type Place struct {
	Name   string
	Stored int64
}

// Bundles returns up to limit bundles of a tenant, by name, the newest upload
// first.
func (s *Store) Bundles(ctx context.Context, tenant string, after Place, limit int) ([]Bundle, error) {
	return s.bundles(ctx, `SELECT `+bundleColumns+` FROM bundles WHERE tenant = ? AND (name > ? OR name = ? AND stored < ?)
		ORDER BY name, stored DESC LIMIT ?`, tenant, after.Name, after.Name, after.Stored, limit)
}

// Admits tells whether a bundle may be stored under name: CodeNamesFull if it
// would be one too many.
func (s *Store) Admits(ctx context.Context, tenant, name string) error {
	var known, lasting int
	err := s.read.QueryRowContext(ctx, query(`SELECT COUNT(*) FROM bundles WHERE tenant = ? AND name = ?`), tenant, name).Scan(&known)
	if err == nil && known == 0 {
		err = s.read.QueryRowContext(ctx, query(`
			SELECT COUNT(*) FROM (SELECT name FROM bundles WHERE tenant = ? GROUP BY name HAVING MAX(activated) > 0) AS lasting`), tenant).Scan(&lasting)
	}
	switch {
	case err != nil:
		return s.failed("count the names of bundles", err)
	case lasting >= MaxNames:
		return errorf(CodeNamesFull, "", "there are bundles under %d names, each of which was active once", MaxNames)
	}
	return nil
}

// Named returns the bundles of one name, the newest upload first.
func (s *Store) Named(ctx context.Context, tenant, name string) ([]Bundle, error) {
	return s.bundles(ctx, `SELECT `+bundleColumns+` FROM bundles WHERE tenant = ? AND name = ? ORDER BY stored DESC`, tenant, name)
}

func (s *Store) bundles(ctx context.Context, text string, args ...any) ([]Bundle, error) {
	rows, err := s.read.QueryContext(ctx, query(text), args...)
	if err != nil {
		return nil, s.failed("list bundles", err)
	}
	var out []Bundle
	err = each(rows, func() error {
		var b Bundle
		var state string
		var kept int
		var uploaded, changed int64
		err := rows.Scan(&b.Tenant, &b.Name, &b.Digest, &b.Revision, &b.Sequence, &b.Size, &state, &kept, &b.UploadedBy, &uploaded, &changed, &b.Previous, &b.Report, &b.Stored)
		b.State, b.Kept, b.UploadedAt, b.ChangedAt = State(state), kept == 1, timeOf(uploaded), timeOf(changed)
		out = append(out, b)
		return err
	})
	if err != nil {
		return nil, s.failed("list bundles", err)
	}
	return out, nil
}

// kinds are the three of events: pushes, changes of data, and activations and
// rollbacks.
func kinds() []string {
	return []string{`what = 'push'`, `what = 'data'`, `what NOT IN ('push', 'data')`}
}

// Events returns the last events of one name, the newest first: up to a third of
// limit are of each kind.
func (s *Store) Events(ctx context.Context, tenant, name string, limit int) ([]Event, error) {
	var all []Event
	for _, kind := range kinds() {
		list, err := s.events(ctx, `WHERE tenant = ? AND name = ? AND `+kind+` ORDER BY seq DESC LIMIT ?`, tenant, name, limit/len(kinds()))
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Event) int { return cmp.Compare(b.Seq, a.Seq) })
	return all, nil
}

// EventsAfter returns up to limit events of a tenant behind the number after,
// the oldest first.
func (s *Store) EventsAfter(ctx context.Context, tenant string, after int64, limit int) ([]Event, error) {
	return s.events(ctx, `WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?`, tenant, after, limit)
}

// LastEvent is the number of the last event of a tenant, 0 if there is none.
func (s *Store) LastEvent(ctx context.Context, tenant string) (int64, error) {
	var seq int64
	err := s.read.QueryRowContext(ctx, query(`SELECT COALESCE(MAX(seq), 0) FROM bundle_events WHERE tenant = ?`), tenant).Scan(&seq)
	if err != nil {
		return 0, s.failed("find the last event", err)
	}
	return seq, nil
}

func (s *Store) events(ctx context.Context, where string, args ...any) ([]Event, error) {
	rows, err := s.read.QueryContext(ctx, query(`
		SELECT seq, tenant, name, digest, revision, happened_at, who, why, what, from_state, to_state, allow_older, report, path
		FROM bundle_events `+where), args...)
	if err != nil {
		return nil, s.failed("list events", err)
	}
	var out []Event
	err = each(rows, func() error {
		var e Event
		var from, to string
		var at int64
		var older int
		err := rows.Scan(&e.Seq, &e.Tenant, &e.Name, &e.Digest, &e.Revision, &at, &e.Who, &e.Why, &e.What, &from, &to, &older, &e.Report, &e.Path)
		e.At, e.From, e.To, e.AllowOlder = timeOf(at), State(from), State(to), older == 1
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, s.failed("list events", err)
	}
	return out, nil
}
