-- An entry's id says where its recording stands in time: ids of one recording
-- are [first, last), in the order of their moments.
CREATE TABLE recording (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    identity TEXT NOT NULL,
    login TEXT NOT NULL,
    target TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    closed_ms INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    -- Of `Standing`.
    standing TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE INDEX recording_opened ON recording (opened_ms, closed_ms, first, last);
CREATE INDEX recording_identity ON recording (identity, opened_ms);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    recording INTEGER NOT NULL REFERENCES recording (id),
    at_ms INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    kind TEXT NOT NULL,
    status INTEGER,
    -- With blanks between them.
    labels TEXT NOT NULL,
    -- Who, where, what as words of letters and digits, see `facets`.
    facets TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5 (
    text, facets, content = 'entry', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 0'
);
-- What is deleted is gone from the file, not only from answers.
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
