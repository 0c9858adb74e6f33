BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'first','2026-01-01 00:00:00',1,X'675C878E5D4F2E3733BAB99DFF1DF245E5A913FF80C96E22D584C7CE2D2C9CD1B839B2D60BD749D090C80A3339E32093',0);
INSERT INTO "_sqlx_migrations" VALUES(2,'anchor','2026-01-01 00:00:00',1,X'7851A94025B73DFCC0C989F7A3A61D0058258534B78454F2DD320C6C5A80D2C267B8648E76A01776B4BC5F1E784E80FB',0);
INSERT INTO "_sqlx_migrations" VALUES(3,'retention','2026-01-01 00:00:00',1,X'1F43D98B043CC811DF1B3ED57332A463ECDC2D7F33C83DABD778D2471889322CE71446F7AF51DF4317F3FEC3756F0CF6',0);
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
INSERT INTO "access_grant" VALUES('01010101010101010101010101010101','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0101010101010101010101010101010101010101010101010101010101010101',1,0,NULL,1800000000010,'it''s over');
INSERT INTO "access_grant" VALUES('02020202020202020202020202020202','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0202020202020202020202020202020202020202020202020202020202020202',2,1,1800000000001,NULL,NULL);
INSERT INTO "access_grant" VALUES('03030303030303030303030303030303','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0303030303030303030303030303030303030303030303030303030303030303',3,0,NULL,NULL,NULL);
CREATE TABLE anchor (
    origin  TEXT NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    root    BLOB NOT NULL CHECK (length(root) = 32),
    note    TEXT NOT NULL, -- the signed note (c2sp.org/tlog-checkpoint)
    kept_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "anchor" VALUES('a/log',7,X'0101010101010101010101010101010101010101010101010101010101010101','note 7

— key AAAA
',1800000000007);
CREATE TABLE counter (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO "counter" VALUES('certificate_serial',1);
CREATE TABLE identity (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Identity
) STRICT;
INSERT INTO "identity" VALUES('alice','{"name":"alice","kind":"person","owner":null,"purpose":null,"review_by_ms":null,"keys":["ssh-ed25519 AAAA x"],"roles":["approver"],"groups":["ops"],"disabled":false}');
INSERT INTO "identity" VALUES('bob','{"name":"bob","kind":"person","owner":null,"purpose":null,"review_by_ms":null,"keys":["ssh-ed25519 AAAA x"],"roles":["approver"],"groups":["ops"],"disabled":false}');
CREATE TABLE lease (
    node       TEXT NOT NULL PRIMARY KEY,
    renewed_ms INTEGER NOT NULL,
    until_ms   INTEGER NOT NULL
) STRICT;
INSERT INTO "lease" VALUES('node1',1800000000000,1800000010000);
CREATE TABLE recording (
    session   TEXT NOT NULL PRIMARY KEY,
    file      TEXT NOT NULL,
    bytes     INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    end_code  TEXT NOT NULL,
    sealed_ms INTEGER NOT NULL,
    leaf      INTEGER NOT NULL
, hold TEXT, expired_ms INTEGER, shredded_ms INTEGER) STRICT;
INSERT INTO "recording" VALUES('01010101010101010101010101010101','1.pcr',1234,'sealed','closed',1800000000001,1,'case 7',NULL,NULL);
INSERT INTO "recording" VALUES('02020202020202020202020202020202','2.pcr',1234,'sealed','closed',1800000000002,2,NULL,1800000000011,NULL);
CREATE TABLE revocation (
    seq   INTEGER NOT NULL PRIMARY KEY,
    what  TEXT NOT NULL,
    id    TEXT,
    by    TEXT NOT NULL,
    why   TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "revocation" VALUES(1,'grant','01010101010101010101010101010101','root','it''s over',1800000000010);
INSERT INTO "revocation" VALUES(2,'session','00010707070707070707070707070707','root','it''s over',1800000000010);
INSERT INTO "revocation" VALUES(3,'identity','bob','root','it''s over',1800000000010);
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
INSERT INTO "session" VALUES('00010707070707070707070707070707','node1','01010101010101010101010101010101','alice','root','db1','10.1.2.3:4444',1800000000001,1800003600000,1800000000009,'closed');
INSERT INTO "session" VALUES('00020707070707070707070707070707','node1','02020202020202020202020202020202','alice','root','db1','10.1.2.3:4444',1800000000002,1800003600000,NULL,NULL);
CREATE TABLE target (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON, kernel::inventory::Target
) STRICT;
INSERT INTO "target" VALUES('db1','{"name":"db1","logins":["root"],"reach":{"kind":"local","command":["sh"],"run_as":"nobody"},"labels":["env=test"],"disabled":false}');
INSERT INTO "target" VALUES('db2','{"name":"db2","logins":["root"],"reach":{"kind":"local","command":["sh"],"run_as":"nobody"},"labels":["env=test"],"disabled":false}');
CREATE INDEX access_grant_identity ON access_grant (identity);
CREATE INDEX access_grant_target ON access_grant (target);
CREATE INDEX access_grant_until ON access_grant (until_ms) WHERE revoked_at_ms IS NULL;
CREATE INDEX session_started ON session (started_ms);
CREATE INDEX session_live ON session (id) WHERE ended_ms IS NULL;
CREATE INDEX recording_sealed ON recording (sealed_ms);
COMMIT;
