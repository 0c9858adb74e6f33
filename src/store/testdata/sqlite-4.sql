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
INSERT INTO "_sqlx_migrations" VALUES(4,'access','2026-01-01 00:00:00',1,X'5F3770ABAAE03B85C982F54AC578D634D9733CCE25CC06A7C5039A8EE315DB0FD2A0A45427BB126207D373D2BDD1C52C',0);
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
    revoked_why        TEXT, ticket TEXT, request TEXT REFERENCES request (id),
    CHECK (from_ms < until_ms)
) STRICT;
INSERT INTO "access_grant" VALUES('01010101010101010101010101010101','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0101010101010101010101010101010101010101010101010101010101010101',1,0,NULL,1800000000010,'it''s over',NULL,NULL);
INSERT INTO "access_grant" VALUES('02020202020202020202020202020202','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0202020202020202020202020202020202020202020202020202020202020202',2,1,1800000000001,NULL,NULL,NULL,NULL);
INSERT INTO "access_grant" VALUES('03030303030303030303030303030303','alice','root','db1',1800000000000,1800003600000,'["10.0.0.0/8"]','["shell","sftp"]','it''s "broken"; DROP TABLE','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0303030303030303030303030303030303030303030303030303030303030303',3,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "access_grant" VALUES('07070707070707070707070707070707','alice','root','db1',1800000001000,1800003601000,'["10.0.0.0/8"]','["shell","exec"]','disk full','root',X'0101010101010101010101010101010101010101010101010101010101010101',X'0707070707070707070707070707070707070707070707070707070707070707',7,0,NULL,NULL,NULL,'INC-1','01010101010101010101010101010101');
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
CREATE TABLE anomaly (
    id       INTEGER NOT NULL PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    identity TEXT NOT NULL,
    session  TEXT,
    kind     TEXT NOT NULL,
    detail   TEXT NOT NULL,
    risk     INTEGER NOT NULL CHECK (risk BETWEEN 0 AND 100)
) STRICT;
INSERT INTO "anomaly" VALUES(1,1800000000001,'alice',NULL,'first-source','never seen from 192.0.2.7 before',31);
CREATE TABLE claim (
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
INSERT INTO "claim" VALUES('challenge','x',9223372036854775807);
CREATE TABLE counter (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO "counter" VALUES('certificate_serial',1);
CREATE TABLE decision (
    id            INTEGER NOT NULL PRIMARY KEY,
    at_ms         INTEGER NOT NULL,
    facts         TEXT NOT NULL, -- JSON, kernel::policy::facts::Facts
    allowed       INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    rules         TEXT NOT NULL, -- JSON array of names
    policy_digest TEXT NOT NULL
) STRICT;
INSERT INTO "decision" VALUES(1,1800000000001,'{"action":"connect","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}',0,'["production.approved","hours"]','abababababababababababababababababababababababababababababababab');
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
INSERT INTO "habit" VALUES('alice','hour','7',1800000000000,1800000000000,1,1,1);
CREATE TABLE idempotency (
    key_sha256  BLOB NOT NULL PRIMARY KEY CHECK (length(key_sha256) = 32),
    call_sha256 BLOB NOT NULL CHECK (length(call_sha256) = 32),
    until_ms    INTEGER NOT NULL,
    status      INTEGER, -- NULL: the call is running
    body        BLOB,
    CHECK ((status IS NULL) = (body IS NULL))
) STRICT;
INSERT INTO "idempotency" VALUES(X'0101010101010101010101010101010101010101010101010101010101010101',X'0202020202020202020202020202020202020202020202020202020202020202',1800003600000,200,X'7B7D');
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
INSERT INTO "request" VALUES('01010101010101010101010101010101','alice','alice','db1','["10.0.0.0/8"]','disk full','INC-1',1800000000001,'{"id":"01010101010101010101010101010101","identity":"alice","requested_by":"alice","destination":"root@db1","capabilities":["shell","exec"],"sources":["10.0.0.0/8"],"begins_ms":null,"for_ms":3600000,"reason":"disk full","ticket":"INC-1","public_key":null,"single_use":false,"extends":null,"made_ms":1800000000001,"answer_by_ms":1800003600000,"policy_digest":"0404040404040404040404040404040404040404040404040404040404040404","obligations":{"approvals":1,"approvers":["dba"],"max_ms":3600000,"answer_ms":null,"step_up_ms":null,"review":false,"single_use":false,"record":"full","warn_ms":[],"end_on_change":false,"grace_ms":null,"notify":false}}','{"action":"request","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}','[{"by":"bob","groups":["dba"],"verdict":"approve","request_sha256":"a652643f80045251b22d75818d48a6eb48aa89bb1e7ec7ae35f24ea2ca0e7d29","why":"looks right","method":"ssh-key","at_ms":1800000001000}]','approved',1800000001000,1800003601000,'07070707070707070707070707070707',1800000001000);
INSERT INTO "request" VALUES('02020202020202020202020202020202','alice','alice','db1','["10.0.0.0/8"]','disk full','INC-2',1800000000002,'{"id":"02020202020202020202020202020202","identity":"alice","requested_by":"alice","destination":"root@db1","capabilities":["shell","exec"],"sources":["10.0.0.0/8"],"begins_ms":null,"for_ms":3600000,"reason":"disk full","ticket":"INC-2","public_key":null,"single_use":false,"extends":null,"made_ms":1800000000002,"answer_by_ms":1800003600000,"policy_digest":"0404040404040404040404040404040404040404040404040404040404040404","obligations":{"approvals":2,"approvers":["dba"],"max_ms":3600000,"answer_ms":null,"step_up_ms":null,"review":false,"single_use":false,"record":"full","warn_ms":[],"end_on_change":false,"grace_ms":null,"notify":false}}','{"action":"request","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}','[{"by":"bob","groups":["dba"],"verdict":"approve","request_sha256":"912a1e93a3467cb6d163d58852bef5e896aa6dadf15104feb694dc1c0f8bd5ef","why":"looks right","method":"ssh-key","at_ms":1800000001000}]','pending',NULL,NULL,NULL,NULL);
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
INSERT INTO "review" VALUES('01010101010101010101010101010101',NULL,'alice','root','db1','policy','every session on db1 is looked at',1800000000001,1800000000009,'bob','fine');
INSERT INTO "review" VALUES('02020202020202020202020202020202','02020202020202020202020202020202','alice','root','db1','policy','every session on db1 is looked at',1800000000002,NULL,NULL,NULL);
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
CREATE TABLE token (
    sha256     BLOB NOT NULL PRIMARY KEY CHECK (length(sha256) = 32),
    identity   TEXT NOT NULL REFERENCES identity (name),
    roles      TEXT NOT NULL, -- JSON array of names
    method     TEXT NOT NULL,
    strength   INTEGER NOT NULL,
    made_ms    INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "token" VALUES(X'0101010101010101010101010101010101010101010101010101010101010101','alice','["user","approver"]','ssh-key',2,1800000000001,1800003600001);
CREATE INDEX access_grant_identity ON access_grant (identity);
CREATE INDEX access_grant_target ON access_grant (target);
CREATE INDEX access_grant_until ON access_grant (until_ms) WHERE revoked_at_ms IS NULL;
CREATE INDEX session_started ON session (started_ms);
CREATE INDEX session_live ON session (id) WHERE ended_ms IS NULL;
CREATE INDEX recording_sealed ON recording (sealed_ms);
CREATE INDEX request_made ON request (made_ms, id);
CREATE INDEX request_open ON request (identity) WHERE state IN ('pending', 'approved');
CREATE INDEX request_identity ON request (identity, made_ms);
CREATE INDEX session_grant ON session (grant_id);
CREATE INDEX token_identity ON token (identity);
CREATE INDEX token_expires ON token (expires_ms);
CREATE INDEX claim_until ON claim (until_ms);
CREATE INDEX idempotency_until ON idempotency (until_ms);
CREATE INDEX review_opened ON review (opened_ms, id);
CREATE INDEX review_open ON review (identity) WHERE closed_ms IS NULL;
CREATE INDEX habit_last ON habit (last_ms);
CREATE INDEX anomaly_at ON anomaly (at_ms, id);
CREATE INDEX decision_at ON decision (at_ms, id);
COMMIT;
