-- What administrators have blocked, for how long and why; lifted_at 0 is never.

CREATE TABLE blocks (
	tenant       TEXT NOT NULL,
	id           TEXT NOT NULL,
	kind         TEXT NOT NULL,
	target       TEXT NOT NULL,
	-- issuer narrows a subject, '' is any.
	issuer       TEXT NOT NULL,
	why          TEXT NOT NULL,
	created_by   TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	ends_at      BIGINT NOT NULL,
	lifted_by    TEXT NOT NULL,
	lifted_why   TEXT NOT NULL,
	lifted_at    BIGINT NOT NULL,
	PRIMARY KEY (tenant, id)
);
