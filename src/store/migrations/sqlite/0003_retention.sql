-- What may not be deleted, and what was. Anybody else believes the ledger's
-- leaves about it; this is what the server goes by.
ALTER TABLE recording ADD COLUMN hold TEXT;           -- why it is held; NULL: it is not
ALTER TABLE recording ADD COLUMN expired_ms INTEGER;  -- deleted: file and key
ALTER TABLE recording ADD COLUMN shredded_ms INTEGER; -- the key to its content was destroyed

-- The ledger's journal keeps the bodies of leaves.
DROP TABLE leaf;
