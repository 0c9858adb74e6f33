-- Ids are lower-case hexadecimal text, so that an operator can read them with
-- any SQLite tool. Times are ms of the wall clock since the epoch, UTC.
-- Nothing is ever deleted here: history is what reviews read.

CREATE TABLE target (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Target
) STRICT;

CREATE TABLE identity (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Identity
) STRICT;

CREATE TABLE counter (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('certificate_serial', 0);

CREATE TABLE access_grant (
    id                 TEXT NOT NULL PRIMARY KEY,
    identity           TEXT NOT NULL REFERENCES identity (name),
    login              TEXT NOT NULL,
    target             TEXT NOT NULL REFERENCES target (name),
    from_ms            INTEGER NOT NULL,
    until_ms           INTEGER NOT NULL,
    sources            TEXT NOT NULL, -- JSON array of ADDR/PREFIX
    capabilities       TEXT NOT NULL, -- JSON array of names
    reason             TEXT NOT NULL,
    issued_by          TEXT NOT NULL,
    policy_digest      BLOB NOT NULL CHECK (length(policy_digest) = 32),
    certificate_sha256 BLOB NOT NULL UNIQUE CHECK (length(certificate_sha256) = 32),
    certificate_serial INTEGER NOT NULL UNIQUE,
    single_use         INTEGER NOT NULL CHECK (single_use IN (0, 1)),
    used_at_ms         INTEGER,
    revoked_at_ms      INTEGER,
    revoked_why        TEXT,
    CHECK (from_ms < until_ms)
) STRICT;
CREATE INDEX access_grant_identity ON access_grant (identity);
CREATE INDEX access_grant_target ON access_grant (target);
CREATE INDEX access_grant_until ON access_grant (until_ms) WHERE revoked_at_ms IS NULL;

CREATE TABLE session (
    id         TEXT NOT NULL PRIMARY KEY,
    node       TEXT NOT NULL,
    grant_id   TEXT NOT NULL REFERENCES access_grant (id),
    identity   TEXT NOT NULL,
    login      TEXT NOT NULL,
    target     TEXT NOT NULL,
    source     TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    until_ms   INTEGER NOT NULL,
    ended_ms   INTEGER,
    end_code   TEXT
) STRICT;
CREATE INDEX session_started ON session (started_ms);
CREATE INDEX session_live ON session (id) WHERE ended_ms IS NULL;

-- No reference to session: the recording of a session that ran while the store
-- was out of reach (break-glass) is entered here all the same.
CREATE TABLE recording (
    session   TEXT NOT NULL PRIMARY KEY,
    file      TEXT NOT NULL,
    bytes     INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    end_code  TEXT NOT NULL,
    sealed_ms INTEGER NOT NULL,
    leaf      INTEGER NOT NULL
) STRICT;
CREATE INDEX recording_sealed ON recording (sealed_ms);

-- The revocation journal. seq is given by the inserting transaction as the
-- greatest so far plus one and no row leaves, so there is never a gap.
CREATE TABLE revocation (
    seq   INTEGER NOT NULL PRIMARY KEY,
    what  TEXT NOT NULL,
    id    TEXT,
    by    TEXT NOT NULL,
    why   TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE lease (
    node       TEXT NOT NULL PRIMARY KEY,
    renewed_ms INTEGER NOT NULL,
    until_ms   INTEGER NOT NULL
) STRICT;

CREATE TABLE leaf (
    idx  INTEGER NOT NULL PRIMARY KEY,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    body BLOB NOT NULL
) STRICT;
