-- Changes of the data of bundles, each on top of an archive and the changes before.

CREATE TABLE bundle_changes (
	tenant       TEXT NOT NULL,
	name         TEXT NOT NULL,
	-- base is the digest of the archive, number the place among its changes.
	base         TEXT NOT NULL,
	number       BIGINT NOT NULL,
	digest       TEXT NOT NULL,
	-- size is how many bytes the archive unpacks to.
	size         BIGINT NOT NULL,
	signed       INTEGER NOT NULL,
	-- line is who numbered it, and since when.
	line         TEXT NOT NULL,
	-- sequence is that of a signed one, 0 of others.
	sequence     BIGINT NOT NULL,
	-- path is the JSON Pointer of the one document that it sets or removes, with a
	-- slash behind; '' where a later change of the same document needs this one.
	path         TEXT NOT NULL,
	who          TEXT NOT NULL,
	why          TEXT NOT NULL,
	happened_at  BIGINT NOT NULL,
	-- archive is the delta bundle, in base64. It is the last, so that nobody reads over it
	-- who looks for the others.
	archive      TEXT NOT NULL,
	PRIMARY KEY (tenant, name, base, number)
);

-- All that each change looks at.
CREATE INDEX bundle_changes_of_path ON bundle_changes (tenant, name, base, path, number, size);

-- The last number of each line, also of changes that are forgotten.
CREATE TABLE bundle_lines (
	tenant       TEXT NOT NULL,
	name         TEXT NOT NULL,
	base         TEXT NOT NULL,
	line         TEXT NOT NULL,
	last         BIGINT NOT NULL,
	PRIMARY KEY (tenant, name, base, line)
);

ALTER TABLE bundle_events ADD COLUMN path TEXT NOT NULL DEFAULT '';
