-- Bundles, what happened to them, and which one is active.
-- Times are microseconds since 1970, flags are 0 or 1, documents are JSON text:
-- types that SQLite and PostgreSQL both have.

CREATE TABLE bundles (
	tenant       TEXT NOT NULL,
	name         TEXT NOT NULL,
	digest       TEXT NOT NULL,
	revision     TEXT NOT NULL,
	sequence     BIGINT NOT NULL,
	size         BIGINT NOT NULL,
	state        TEXT NOT NULL,
	-- kept: the archive is on disk.
	kept         INTEGER NOT NULL,
	uploaded_by  TEXT NOT NULL,
	uploaded_at  BIGINT NOT NULL,
	changed_at   BIGINT NOT NULL,
	-- stored orders uploads, activated orders activations; 0 is never.
	stored       BIGINT NOT NULL,
	activated    BIGINT NOT NULL,
	-- previous is the digest that was active before this one was activated.
	previous     TEXT NOT NULL,
	report       TEXT NOT NULL,
	PRIMARY KEY (tenant, name, digest)
);

CREATE TABLE bundle_events (
	tenant       TEXT NOT NULL,
	seq          BIGINT NOT NULL,
	name         TEXT NOT NULL,
	digest       TEXT NOT NULL,
	revision     TEXT NOT NULL,
	happened_at  BIGINT NOT NULL,
	who          TEXT NOT NULL,
	why          TEXT NOT NULL,
	what         TEXT NOT NULL,
	from_state   TEXT NOT NULL,
	to_state     TEXT NOT NULL,
	allow_older  INTEGER NOT NULL,
	report       TEXT NOT NULL,
	PRIMARY KEY (tenant, seq)
);

CREATE INDEX bundle_events_of_name ON bundle_events (tenant, name, seq);

CREATE TABLE active_bundles (
	tenant       TEXT NOT NULL,
	name         TEXT NOT NULL,
	digest       TEXT NOT NULL,
	PRIMARY KEY (tenant, name),
	FOREIGN KEY (tenant, name, digest) REFERENCES bundles (tenant, name, digest)
);
