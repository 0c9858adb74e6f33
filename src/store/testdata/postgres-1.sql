SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

CREATE TABLE public.access_grant (
    id text NOT NULL,
    identity text NOT NULL,
    login text NOT NULL,
    target text NOT NULL,
    from_ms bigint NOT NULL,
    until_ms bigint NOT NULL,
    sources text NOT NULL,
    capabilities text NOT NULL,
    reason text NOT NULL,
    ticket text,
    request text,
    issued_by text NOT NULL,
    policy_digest bytea NOT NULL,
    certificate_sha256 bytea NOT NULL,
    certificate_serial bigint NOT NULL,
    single_use bigint NOT NULL,
    used_at_ms bigint,
    revoked_at_ms bigint,
    revoked_why text,
    CONSTRAINT access_grant_certificate_sha256_check CHECK ((length(certificate_sha256) = 32)),
    CONSTRAINT access_grant_check CHECK ((from_ms < until_ms)),
    CONSTRAINT access_grant_policy_digest_check CHECK ((length(policy_digest) = 32)),
    CONSTRAINT access_grant_single_use_check CHECK ((single_use = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);

CREATE TABLE public.anchor (
    origin text NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    kept_ms bigint NOT NULL,
    CONSTRAINT anchor_root_check CHECK ((length(root) = 32))
);

CREATE TABLE public.anomaly (
    id bigint NOT NULL,
    at_ms bigint NOT NULL,
    identity text NOT NULL,
    session text,
    kind text NOT NULL,
    detail text NOT NULL,
    risk bigint NOT NULL,
    CONSTRAINT anomaly_risk_check CHECK (((risk >= 0) AND (risk <= 100)))
);

ALTER TABLE public.anomaly ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.anomaly_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.claim (
    kind text NOT NULL,
    id text NOT NULL,
    until_ms bigint NOT NULL
);

CREATE TABLE public.counter (
    name text NOT NULL,
    value bigint NOT NULL
);

CREATE TABLE public.decision (
    id bigint NOT NULL,
    at_ms bigint NOT NULL,
    facts text NOT NULL,
    allowed bigint NOT NULL,
    rules text NOT NULL,
    policy_digest text NOT NULL,
    CONSTRAINT decision_allowed_check CHECK ((allowed = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);

ALTER TABLE public.decision ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.decision_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.habit (
    identity text NOT NULL COLLATE pg_catalog."C",
    facet text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C",
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    times bigint NOT NULL,
    amount bigint NOT NULL,
    most bigint NOT NULL
);

CREATE TABLE public.idempotency (
    key_sha256 bytea NOT NULL,
    call_sha256 bytea NOT NULL,
    until_ms bigint NOT NULL,
    status bigint,
    body bytea,
    CONSTRAINT idempotency_call_sha256_check CHECK ((length(call_sha256) = 32)),
    CONSTRAINT idempotency_check CHECK (((status IS NULL) = (body IS NULL))),
    CONSTRAINT idempotency_key_sha256_check CHECK ((length(key_sha256) = 32))
);

CREATE TABLE public.identity (
    name text NOT NULL COLLATE pg_catalog."C",
    body text NOT NULL
);

CREATE TABLE public.lease (
    node text NOT NULL,
    renewed_ms bigint NOT NULL,
    until_ms bigint NOT NULL
);

CREATE TABLE public.recording (
    session text NOT NULL COLLATE pg_catalog."C",
    file text NOT NULL,
    bytes bigint NOT NULL,
    kind text NOT NULL,
    end_code text NOT NULL,
    sealed_ms bigint NOT NULL,
    leaf bigint NOT NULL,
    hold text,
    expired_ms bigint,
    shredded_ms bigint
);

CREATE TABLE public.request (
    id text NOT NULL COLLATE pg_catalog."C",
    identity text NOT NULL,
    requested_by text NOT NULL,
    target text NOT NULL,
    sources text NOT NULL,
    reason text NOT NULL,
    ticket text,
    made_ms bigint NOT NULL,
    body text NOT NULL,
    facts text NOT NULL,
    answers text NOT NULL,
    state text NOT NULL,
    from_ms bigint,
    until_ms bigint,
    grant_id text,
    closed_ms bigint,
    CONSTRAINT request_check CHECK (((from_ms IS NULL) = (until_ms IS NULL)))
);

CREATE TABLE public.review (
    id text NOT NULL COLLATE pg_catalog."C",
    session text,
    identity text NOT NULL,
    login text NOT NULL,
    target text NOT NULL,
    kind text NOT NULL,
    why text NOT NULL,
    opened_ms bigint NOT NULL,
    closed_ms bigint,
    closed_by text,
    note text
);

CREATE TABLE public.revocation (
    seq bigint NOT NULL,
    what text NOT NULL,
    id text,
    by text NOT NULL,
    why text NOT NULL,
    at_ms bigint NOT NULL
);

CREATE TABLE public.session (
    id text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL,
    grant_id text NOT NULL,
    identity text NOT NULL,
    login text NOT NULL,
    target text NOT NULL,
    source text NOT NULL,
    started_ms bigint NOT NULL,
    until_ms bigint NOT NULL,
    ended_ms bigint,
    end_code text
);

CREATE TABLE public.target (
    name text NOT NULL COLLATE pg_catalog."C",
    body text NOT NULL
);

CREATE TABLE public.token (
    sha256 bytea NOT NULL,
    identity text NOT NULL,
    roles text NOT NULL,
    method text NOT NULL,
    strength bigint NOT NULL,
    made_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    CONSTRAINT token_sha256_check CHECK ((length(sha256) = 32))
);

INSERT INTO public._sqlx_migrations VALUES (1, 'first', '2026-01-01 00:00:00+00', true, '\xcddf5007618ac432db11d12dfbb07e2c5c885ac0de97faff14fc51ec6c1282a04a44e9652a5583f7921ae06734d3a721', 42658624);

INSERT INTO public.access_grant VALUES ('03030303030303030303030303030303', 'alice', 'root', 'db1', 1800000000000, 1800003600000, '["10.0.0.0/8"]', '["shell","sftp"]', 'it''s "broken"; DROP TABLE', NULL, NULL, 'root', '\x0101010101010101010101010101010101010101010101010101010101010101', '\x0303030303030303030303030303030303030303030303030303030303030303', 3, 0, NULL, NULL, NULL);
INSERT INTO public.access_grant VALUES ('02020202020202020202020202020202', 'alice', 'root', 'db1', 1800000000000, 1800003600000, '["10.0.0.0/8"]', '["shell","sftp"]', 'it''s "broken"; DROP TABLE', NULL, NULL, 'root', '\x0101010101010101010101010101010101010101010101010101010101010101', '\x0202020202020202020202020202020202020202020202020202020202020202', 2, 1, 1800000000001, NULL, NULL);
INSERT INTO public.access_grant VALUES ('01010101010101010101010101010101', 'alice', 'root', 'db1', 1800000000000, 1800003600000, '["10.0.0.0/8"]', '["shell","sftp"]', 'it''s "broken"; DROP TABLE', NULL, NULL, 'root', '\x0101010101010101010101010101010101010101010101010101010101010101', '\x0101010101010101010101010101010101010101010101010101010101010101', 1, 0, NULL, 1800000000010, 'it''s over');
INSERT INTO public.access_grant VALUES ('07070707070707070707070707070707', 'alice', 'root', 'db1', 1800000001000, 1800003601000, '["10.0.0.0/8"]', '["shell","exec"]', 'disk full', 'INC-1', '01010101010101010101010101010101', 'root', '\x0101010101010101010101010101010101010101010101010101010101010101', '\x0707070707070707070707070707070707070707070707070707070707070707', 7, 0, NULL, NULL, NULL);

INSERT INTO public.anchor VALUES ('a/log', 7, '\x0101010101010101010101010101010101010101010101010101010101010101', 'note 7

— key AAAA
', 1800000000007);

INSERT INTO public.anomaly OVERRIDING SYSTEM VALUE VALUES (1, 1800000000001, 'alice', NULL, 'first-source', 'never seen from 192.0.2.7 before', 31);

INSERT INTO public.claim VALUES ('challenge', 'x', 9223372036854775807);

INSERT INTO public.counter VALUES ('certificate_serial', 1);

INSERT INTO public.decision OVERRIDING SYSTEM VALUE VALUES (1, 1800000000001, '{"action":"connect","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}', 0, '["production.approved","hours"]', 'abababababababababababababababababababababababababababababababab');

INSERT INTO public.habit VALUES ('alice', 'hour', '7', 1800000000000, 1800000000000, 1, 1, 1);

INSERT INTO public.idempotency VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', '\x0202020202020202020202020202020202020202020202020202020202020202', 1800003600000, 200, '\x7b7d');

INSERT INTO public.identity VALUES ('alice', '{"name":"alice","kind":"person","owner":null,"purpose":null,"review_by_ms":null,"keys":["ssh-ed25519 AAAA x"],"roles":["approver"],"groups":["ops"],"disabled":false}');
INSERT INTO public.identity VALUES ('bob', '{"name":"bob","kind":"person","owner":null,"purpose":null,"review_by_ms":null,"keys":["ssh-ed25519 AAAA x"],"roles":["approver"],"groups":["ops"],"disabled":false}');

INSERT INTO public.lease VALUES ('node1', 1800000000000, 1800000010000);

INSERT INTO public.recording VALUES ('01010101010101010101010101010101', '1.pcr', 1234, 'sealed', 'closed', 1800000000001, 1, 'case 7', NULL, NULL);
INSERT INTO public.recording VALUES ('02020202020202020202020202020202', '2.pcr', 1234, 'sealed', 'closed', 1800000000002, 2, NULL, 1800000000011, NULL);

INSERT INTO public.request VALUES ('02020202020202020202020202020202', 'alice', 'alice', 'db1', '["10.0.0.0/8"]', 'disk full', 'INC-2', 1800000000002, '{"id":"02020202020202020202020202020202","identity":"alice","requested_by":"alice","destination":"root@db1","capabilities":["shell","exec"],"sources":["10.0.0.0/8"],"begins_ms":null,"for_ms":3600000,"reason":"disk full","ticket":"INC-2","public_key":null,"single_use":false,"extends":null,"made_ms":1800000000002,"answer_by_ms":1800003600000,"policy_digest":"0404040404040404040404040404040404040404040404040404040404040404","obligations":{"approvals":2,"approvers":["dba"],"max_ms":3600000,"answer_ms":null,"step_up_ms":null,"review":false,"single_use":false,"record":"full","warn_ms":[],"end_on_change":false,"grace_ms":null,"notify":false}}', '{"action":"request","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}', '[{"by":"bob","groups":["dba"],"verdict":"approve","request_sha256":"912a1e93a3467cb6d163d58852bef5e896aa6dadf15104feb694dc1c0f8bd5ef","why":"looks right","method":"ssh-key","at_ms":1800000001000}]', 'pending', NULL, NULL, NULL, NULL);
INSERT INTO public.request VALUES ('01010101010101010101010101010101', 'alice', 'alice', 'db1', '["10.0.0.0/8"]', 'disk full', 'INC-1', 1800000000001, '{"id":"01010101010101010101010101010101","identity":"alice","requested_by":"alice","destination":"root@db1","capabilities":["shell","exec"],"sources":["10.0.0.0/8"],"begins_ms":null,"for_ms":3600000,"reason":"disk full","ticket":"INC-1","public_key":null,"single_use":false,"extends":null,"made_ms":1800000000001,"answer_by_ms":1800003600000,"policy_digest":"0404040404040404040404040404040404040404040404040404040404040404","obligations":{"approvals":1,"approvers":["dba"],"max_ms":3600000,"answer_ms":null,"step_up_ms":null,"review":false,"single_use":false,"record":"full","warn_ms":[],"end_on_change":false,"grace_ms":null,"notify":false}}', '{"action":"request","who":{"name":"alice","kind":"person","roles":["approver","user"],"groups":["ops"],"owner":null,"purpose":null},"target":{"name":"db1","labels":["env=test"]},"login":"","now_ms":1800000000000,"local":{"weekday":0,"minute":0},"source":"10.1.2.3","zones":[],"device":null,"location":null,"reason":"disk 💾 full\u0000","ticket":null,"proof":{"method":"none","strength":0,"age_ms":0},"risk":0,"anomalies":[],"capabilities":[],"for_ms":3600000,"begins_in_ms":0,"single_use":false,"requested_by":null,"holder":null,"command":null,"labels":[],"subsystem":null,"forward":null,"terminal":false}', '[{"by":"bob","groups":["dba"],"verdict":"approve","request_sha256":"a652643f80045251b22d75818d48a6eb48aa89bb1e7ec7ae35f24ea2ca0e7d29","why":"looks right","method":"ssh-key","at_ms":1800000001000}]', 'approved', 1800000001000, 1800003601000, '07070707070707070707070707070707', 1800000001000);

INSERT INTO public.review VALUES ('02020202020202020202020202020202', '02020202020202020202020202020202', 'alice', 'root', 'db1', 'policy', 'every session on db1 is looked at', 1800000000002, NULL, NULL, NULL);
INSERT INTO public.review VALUES ('01010101010101010101010101010101', NULL, 'alice', 'root', 'db1', 'policy', 'every session on db1 is looked at', 1800000000001, 1800000000009, 'bob', 'fine');

INSERT INTO public.revocation VALUES (1, 'grant', '01010101010101010101010101010101', 'root', 'it''s over', 1800000000010);
INSERT INTO public.revocation VALUES (2, 'session', '00010707070707070707070707070707', 'root', 'it''s over', 1800000000010);
INSERT INTO public.revocation VALUES (3, 'identity', 'bob', 'root', 'it''s over', 1800000000010);

INSERT INTO public.session VALUES ('00020707070707070707070707070707', 'node1', '02020202020202020202020202020202', 'alice', 'root', 'db1', '10.1.2.3:4444', 1800000000002, 1800003600000, NULL, NULL);
INSERT INTO public.session VALUES ('00010707070707070707070707070707', 'node1', '01010101010101010101010101010101', 'alice', 'root', 'db1', '10.1.2.3:4444', 1800000000001, 1800003600000, 1800000000009, 'closed');

INSERT INTO public.target VALUES ('db1', '{"name":"db1","logins":["root"],"reach":{"kind":"local","command":["sh"],"run_as":"nobody"},"labels":["env=test"],"disabled":false}');
INSERT INTO public.target VALUES ('db2', '{"name":"db2","logins":["root"],"reach":{"kind":"local","command":["sh"],"run_as":"nobody"},"labels":["env=test"],"disabled":false}');

INSERT INTO public.token VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', 'alice', '["user","approver"]', 'ssh-key', 2, 1800000000001, 1800003600001);

SELECT pg_catalog.setval('public.anomaly_id_seq', 1, true);

SELECT pg_catalog.setval('public.decision_id_seq', 1, true);

ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_certificate_serial_key UNIQUE (certificate_serial);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_certificate_sha256_key UNIQUE (certificate_sha256);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.anchor
    ADD CONSTRAINT anchor_pkey PRIMARY KEY (origin);

ALTER TABLE ONLY public.anomaly
    ADD CONSTRAINT anomaly_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.claim
    ADD CONSTRAINT claim_pkey PRIMARY KEY (kind, id);

ALTER TABLE ONLY public.counter
    ADD CONSTRAINT counter_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.habit
    ADD CONSTRAINT habit_pkey PRIMARY KEY (identity, facet, value);

ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (key_sha256);

ALTER TABLE ONLY public.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (node);

ALTER TABLE ONLY public.recording
    ADD CONSTRAINT recording_pkey PRIMARY KEY (session);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_grant_id_key UNIQUE (grant_id);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.revocation
    ADD CONSTRAINT revocation_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.target
    ADD CONSTRAINT target_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (sha256);

CREATE INDEX access_grant_identity ON public.access_grant USING btree (identity);

CREATE INDEX access_grant_target ON public.access_grant USING btree (target);

CREATE INDEX access_grant_until ON public.access_grant USING btree (until_ms) WHERE (revoked_at_ms IS NULL);

CREATE INDEX anomaly_at ON public.anomaly USING btree (at_ms, id);

CREATE INDEX claim_until ON public.claim USING btree (until_ms);

CREATE INDEX decision_at ON public.decision USING btree (at_ms, id);

CREATE INDEX habit_last ON public.habit USING btree (last_ms);

CREATE INDEX idempotency_until ON public.idempotency USING btree (until_ms);

CREATE INDEX recording_sealed ON public.recording USING btree (sealed_ms);

CREATE INDEX request_identity ON public.request USING btree (identity, made_ms);

CREATE INDEX request_made ON public.request USING btree (made_ms, id);

CREATE INDEX request_open ON public.request USING btree (identity) WHERE (state = ANY (ARRAY['pending'::text, 'approved'::text]));

CREATE INDEX review_open ON public.review USING btree (identity) WHERE (closed_ms IS NULL);

CREATE INDEX review_opened ON public.review USING btree (opened_ms, id);

CREATE INDEX session_grant ON public.session USING btree (grant_id);

CREATE INDEX session_live ON public.session USING btree (id) WHERE (ended_ms IS NULL);

CREATE INDEX session_started ON public.session USING btree (started_ms);

CREATE INDEX token_expires ON public.token USING btree (expires_ms);

CREATE INDEX token_identity ON public.token USING btree (identity);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_identity_fkey FOREIGN KEY (identity) REFERENCES public.identity(name);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_request_fkey FOREIGN KEY (request) REFERENCES public.request(id);

ALTER TABLE ONLY public.access_grant
    ADD CONSTRAINT access_grant_target_fkey FOREIGN KEY (target) REFERENCES public.target(name);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.access_grant(id);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_identity_fkey FOREIGN KEY (identity) REFERENCES public.identity(name);

ALTER TABLE ONLY public.request
    ADD CONSTRAINT request_target_fkey FOREIGN KEY (target) REFERENCES public.target(name);

ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.access_grant(id);

ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_identity_fkey FOREIGN KEY (identity) REFERENCES public.identity(name);
