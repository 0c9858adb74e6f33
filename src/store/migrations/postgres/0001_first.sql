-- Ids are lower-case hexadecimal text, so that an operator can read them with
-- any PostgreSQL tool. Times are ms of the wall clock since the epoch, UTC.
-- History is never deleted, since reviews read it; what serves a moment only
-- (tokens, claims, idempotency keys) is forgotten when that is over.
-- What rows are ordered by is compared byte by byte, as SQLite does.

CREATE TABLE target (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Target
);

CREATE TABLE identity (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Identity
);

CREATE TABLE counter (
    name  TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('certificate_serial', 0);

CREATE TABLE access_grant (
    id                 TEXT NOT NULL PRIMARY KEY,
    identity           TEXT NOT NULL REFERENCES identity (name),
    login              TEXT NOT NULL,
    target             TEXT NOT NULL REFERENCES target (name),
    from_ms            BIGINT NOT NULL,
    until_ms           BIGINT NOT NULL,
    sources            TEXT NOT NULL, -- JSON array of ADDR/PREFIX
    capabilities       TEXT NOT NULL, -- JSON array of names
    reason             TEXT NOT NULL,
    ticket             TEXT,
    request            TEXT, -- the one that it was collected from
    issued_by          TEXT NOT NULL,
    policy_digest      BYTEA NOT NULL CHECK (length(policy_digest) = 32),
    certificate_sha256 BYTEA NOT NULL UNIQUE CHECK (length(certificate_sha256) = 32),
    certificate_serial BIGINT NOT NULL UNIQUE,
    single_use         BIGINT NOT NULL CHECK (single_use IN (0, 1)),
    used_at_ms         BIGINT,
    revoked_at_ms      BIGINT,
    revoked_why        TEXT,
    CHECK (from_ms < until_ms)
);
CREATE INDEX access_grant_identity ON access_grant (identity);
CREATE INDEX access_grant_target ON access_grant (target);
CREATE INDEX access_grant_until ON access_grant (until_ms) WHERE revoked_at_ms IS NULL;

CREATE TABLE session (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    node       TEXT NOT NULL,
    grant_id   TEXT NOT NULL REFERENCES access_grant (id),
    identity   TEXT NOT NULL,
    login      TEXT NOT NULL,
    target     TEXT NOT NULL,
    source     TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    until_ms   BIGINT NOT NULL,
    ended_ms   BIGINT,
    end_code   TEXT
);
CREATE INDEX session_started ON session (started_ms);
CREATE INDEX session_live ON session (id) WHERE ended_ms IS NULL;

-- No reference to session: the recording of a session that ran while the store
-- was out of reach (break-glass) is entered here all the same.
CREATE TABLE recording (
    session   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    file      TEXT NOT NULL,
    bytes     BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    end_code  TEXT NOT NULL,
    sealed_ms BIGINT NOT NULL,
    leaf      BIGINT NOT NULL,
    hold      TEXT,     -- why it may not be deleted; NULL: it may
    expired_ms  BIGINT, -- deleted: file and key
    shredded_ms BIGINT  -- the key to its content was destroyed
);
CREATE INDEX recording_sealed ON recording (sealed_ms);

-- The revocation journal. seq is given by the inserting transaction as the
-- greatest so far plus one and no row leaves, so there is never a gap.
CREATE TABLE revocation (
    seq   BIGINT NOT NULL PRIMARY KEY,
    what  TEXT NOT NULL,
    id    TEXT,
    by    TEXT NOT NULL,
    why   TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

CREATE TABLE lease (
    node       TEXT NOT NULL PRIMARY KEY,
    renewed_ms BIGINT NOT NULL,
    until_ms   BIGINT NOT NULL
);

-- The newest checkpoint of each ledger that writes here: what a ledger's
-- folder is held against, so that an older copy of it is known for one.
CREATE TABLE anchor (
    origin  TEXT NOT NULL PRIMARY KEY,
    size    BIGINT NOT NULL,
    root    BYTEA NOT NULL CHECK (length(root) = 32),
    note    TEXT NOT NULL, -- the signed note (c2sp.org/tlog-checkpoint)
    kept_ms BIGINT NOT NULL
);

-- What was asked for. The columns beside the body are those that are asked by;
-- an approval is bound to the hash of the body.
CREATE TABLE request (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    identity     TEXT NOT NULL REFERENCES identity (name),
    requested_by TEXT NOT NULL,
    target       TEXT NOT NULL REFERENCES target (name),
    sources      TEXT NOT NULL, -- JSON array of ADDR/PREFIX
    reason       TEXT NOT NULL,
    ticket       TEXT,
    made_ms      BIGINT NOT NULL,
    body         TEXT NOT NULL, -- JSON, kernel::access::AccessRequest
    facts        TEXT NOT NULL, -- JSON, kernel::policy::facts::Facts
    answers      TEXT NOT NULL, -- JSON array of kernel::access::Approval
    state        TEXT NOT NULL,
    from_ms      BIGINT,       -- the window, once approved
    until_ms     BIGINT,
    grant_id     TEXT UNIQUE REFERENCES access_grant (id),
    closed_ms    BIGINT,
    CHECK ((from_ms IS NULL) = (until_ms IS NULL))
);
CREATE INDEX request_made ON request (made_ms, id);
CREATE INDEX request_open ON request (identity) WHERE state IN ('pending', 'approved');
CREATE INDEX request_identity ON request (identity, made_ms);

ALTER TABLE access_grant ADD FOREIGN KEY (request) REFERENCES request (id);
CREATE INDEX session_grant ON session (grant_id);

-- Who speaks to the API: hashes of tokens. Forgotten when they have ended.
CREATE TABLE token (
    sha256     BYTEA NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    identity   TEXT NOT NULL REFERENCES identity (name),
    roles      TEXT NOT NULL, -- JSON array of names
    method     TEXT NOT NULL,
    strength   BIGINT NOT NULL,
    made_ms    BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX token_identity ON token (identity);
CREATE INDEX token_expires ON token (expires_ms);

-- What may happen once: challenges, deliveries of hooks, break-glass grants.
CREATE TABLE claim (
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX claim_until ON claim (until_ms);

-- Idempotency keys of the API, and what was answered.
CREATE TABLE idempotency (
    key_sha256  BYTEA NOT NULL PRIMARY KEY CHECK (length(key_sha256) = 32),
    call_sha256 BYTEA NOT NULL CHECK (length(call_sha256) = 32),
    until_ms    BIGINT NOT NULL,
    status      BIGINT, -- NULL: the call is running
    body        BYTEA,
    CHECK ((status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotency_until ON idempotency (until_ms);

-- Neither session nor identity is a reference: what ran while the store was
-- out of reach (break-glass) is reviewed all the same.
CREATE TABLE review (
    id        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    session   TEXT,
    identity  TEXT NOT NULL,
    login     TEXT NOT NULL,
    target    TEXT NOT NULL,
    kind      TEXT NOT NULL,
    why       TEXT NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    closed_by TEXT,
    note      TEXT
);
CREATE INDEX review_opened ON review (opened_ms, id);
CREATE INDEX review_open ON review (identity) WHERE closed_ms IS NULL;

-- What each identity has done before.
CREATE TABLE habit (
    identity TEXT COLLATE "C" NOT NULL,
    facet    TEXT COLLATE "C" NOT NULL,
    value    TEXT COLLATE "C" NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    times    BIGINT NOT NULL,
    amount   BIGINT NOT NULL, -- sum
    most     BIGINT NOT NULL,
    PRIMARY KEY (identity, facet, value)
);
CREATE INDEX habit_last ON habit (last_ms);

CREATE TABLE anomaly (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    identity TEXT NOT NULL,
    session  TEXT,
    kind     TEXT NOT NULL,
    detail   TEXT NOT NULL,
    risk     BIGINT NOT NULL CHECK (risk BETWEEN 0 AND 100)
);
CREATE INDEX anomaly_at ON anomaly (at_ms, id);

CREATE TABLE decision (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms         BIGINT NOT NULL,
    facts         TEXT NOT NULL, -- JSON, kernel::policy::facts::Facts
    allowed       BIGINT NOT NULL CHECK (allowed IN (0, 1)),
    rules         TEXT NOT NULL, -- JSON array of names
    policy_digest TEXT NOT NULL
);
CREATE INDEX decision_at ON decision (at_ms, id);
