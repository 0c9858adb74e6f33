-- Requests for access and everything around them. Times and ids as in 0001.

-- What was asked for. The columns beside the body are those that are asked by;
-- an approval is bound to the hash of the body.
CREATE TABLE request (
    id           TEXT NOT NULL PRIMARY KEY,
    identity     TEXT NOT NULL REFERENCES identity (name),
    requested_by TEXT NOT NULL,
    target       TEXT NOT NULL REFERENCES target (name),
    sources      TEXT NOT NULL, -- JSON array of ADDR/PREFIX
    reason       TEXT NOT NULL,
    ticket       TEXT,
    made_ms      INTEGER NOT NULL,
    body         TEXT NOT NULL, -- JSON, kernel::access::AccessRequest
    facts        TEXT NOT NULL, -- JSON, kernel::policy::facts::Facts
    answers      TEXT NOT NULL, -- JSON array of kernel::access::Approval
    state        TEXT NOT NULL,
    from_ms      INTEGER,       -- the window, once approved
    until_ms     INTEGER,
    grant_id     TEXT UNIQUE REFERENCES access_grant (id),
    closed_ms    INTEGER,
    CHECK ((from_ms IS NULL) = (until_ms IS NULL))
) STRICT;
CREATE INDEX request_made ON request (made_ms, id);
CREATE INDEX request_open ON request (identity) WHERE state IN ('pending', 'approved');
CREATE INDEX request_identity ON request (identity, made_ms);

-- What a grant was for, and the request that it was collected from.
ALTER TABLE access_grant ADD COLUMN ticket TEXT;
ALTER TABLE access_grant ADD COLUMN request TEXT REFERENCES request (id);
CREATE INDEX session_grant ON session (grant_id);

-- Who speaks to the API: hashes of tokens. Forgotten when they have ended.
CREATE TABLE token (
    sha256     BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    identity   TEXT NOT NULL REFERENCES identity (name),
    roles      TEXT NOT NULL, -- JSON array of names
    method     TEXT NOT NULL,
    strength   INTEGER NOT NULL,
    made_ms    INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX token_identity ON token (identity);
CREATE INDEX token_expires ON token (expires_ms);

-- What may happen once: challenges, deliveries of hooks, break-glass grants.
CREATE TABLE claim (
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX claim_until ON claim (until_ms);

-- Idempotency keys of the API, and what was answered.
CREATE TABLE idempotency (
    key_sha256  BLOB NOT NULL PRIMARY KEY CHECK (length(key_sha256) = 32),
    call_sha256 BLOB NOT NULL CHECK (length(call_sha256) = 32),
    until_ms    INTEGER NOT NULL,
    status      INTEGER, -- NULL: the call is running
    body        BLOB,
    CHECK ((status IS NULL) = (body IS NULL))
) STRICT;
CREATE INDEX idempotency_until ON idempotency (until_ms);

-- Neither session nor identity is a reference: what ran while the store was
-- out of reach (break-glass) is reviewed all the same.
CREATE TABLE review (
    id        TEXT NOT NULL PRIMARY KEY,
    session   TEXT,
    identity  TEXT NOT NULL,
    login     TEXT NOT NULL,
    target    TEXT NOT NULL,
    kind      TEXT NOT NULL,
    why       TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    closed_by TEXT,
    note      TEXT
) STRICT;
CREATE INDEX review_opened ON review (opened_ms, id);
CREATE INDEX review_open ON review (identity) WHERE closed_ms IS NULL;

-- What each identity has done before.
CREATE TABLE habit (
    identity TEXT NOT NULL,
    facet    TEXT NOT NULL,
    value    TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    times    INTEGER NOT NULL,
    amount   INTEGER NOT NULL, -- sum
    most     INTEGER NOT NULL,
    PRIMARY KEY (identity, facet, value)
) STRICT;
CREATE INDEX habit_last ON habit (last_ms);

CREATE TABLE anomaly (
    id       INTEGER NOT NULL PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    identity TEXT NOT NULL,
    session  TEXT,
    kind     TEXT NOT NULL,
    detail   TEXT NOT NULL,
    risk     INTEGER NOT NULL CHECK (risk BETWEEN 0 AND 100)
) STRICT;
CREATE INDEX anomaly_at ON anomaly (at_ms, id);

CREATE TABLE decision (
    id            INTEGER NOT NULL PRIMARY KEY,
    at_ms         INTEGER NOT NULL,
    facts         TEXT NOT NULL, -- JSON, kernel::policy::facts::Facts
    allowed       INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    rules         TEXT NOT NULL, -- JSON array of names
    policy_digest TEXT NOT NULL
) STRICT;
CREATE INDEX decision_at ON decision (at_ms, id);
