-- Revocations and CRLs (docs/revocation.md).

CREATE INDEX certificate_by_end ON certificate (not_after);

-- The state of certificates that are not good, or were not since the last complete CRL.
CREATE TABLE revocation (
    issuer    BLOB NOT NULL,             -- key id
    serial    BLOB NOT NULL,
    date      INTEGER NOT NULL,          -- since when, Unix seconds
    reason    INTEGER NOT NULL,          -- reasonCode; 0 for none, 8 if it was released
    not_after INTEGER NOT NULL,
    changed   INTEGER NOT NULL,          -- the id of the entry that says so
    PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocation_by_change ON revocation (issuer, changed);

-- The last number of each series of CRLs.
CREATE TABLE crl_number (
    issuer BLOB NOT NULL,
    shard  INTEGER NOT NULL,             -- -1 for all certificates
    number INTEGER NOT NULL,
    PRIMARY KEY (issuer, shard)
) STRICT, WITHOUT ROWID;

-- The newest CRL of each series, and its newest delta.
CREATE TABLE crl (
    issuer      BLOB NOT NULL,
    shard       INTEGER NOT NULL,
    delta       INTEGER NOT NULL,        -- 1 for a delta
    delta_of    INTEGER,                 -- the number of its base
    number      INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    covers      INTEGER NOT NULL,        -- the last change that it knows of
    intent      INTEGER NOT NULL,        -- the id of the entry with its TBSCertList
    signature   BLOB NOT NULL,
    PRIMARY KEY (issuer, shard, delta)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 5;
