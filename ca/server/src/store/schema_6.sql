-- From version 5 of the schema to version 6: nodes that attest (docs/attestation.md).

CREATE TABLE node (
    endorsement     BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the SubjectPublicKeyInfo of the endorsement key
    domain          TEXT NOT NULL,
    spiffe_id       TEXT NOT NULL,
    attestation_key BLOB NOT NULL,             -- its Name
    milliseconds    INTEGER NOT NULL,          -- the TPM's clock, as it was last seen
    resets          INTEGER NOT NULL,
    restarts        INTEGER NOT NULL,
    safe            INTEGER NOT NULL,
    firmware        INTEGER NOT NULL,          -- 64 bits, whatever the sign
    transcript      BLOB NOT NULL,             -- of the last exchange
    evidence        BLOB NOT NULL              -- SHA-256 of the last evidence
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX node_by_id ON node (spiffe_id);

CREATE INDEX node_by_domain ON node (domain, spiffe_id);

-- Exchanges that have led to a certificate. None leads to two. A day is longer than any connection.
CREATE TABLE spent_exchange (
    transcript BLOB NOT NULL PRIMARY KEY,
    spent      INTEGER NOT NULL                -- Unix seconds
) STRICT, WITHOUT ROWID;

CREATE INDEX spent_exchange_by_time ON spent_exchange (spent);

PRAGMA user_version = 6;
