-- The newest checkpoint of each ledger that writes here: what a ledger's
-- folder is held against, so that an older copy of it is known for one.
CREATE TABLE anchor (
    origin  TEXT NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    root    BLOB NOT NULL CHECK (length(root) = 32),
    note    TEXT NOT NULL, -- the signed note (c2sp.org/tlog-checkpoint)
    kept_ms INTEGER NOT NULL
) STRICT;
