-- One database holds the logs of an installation and the facts that become durable with their entries.
--
-- Entries are found by `log * 2^40 + index`, which is the rowid: SQLite keeps rows of a kilobyte or two well in a
-- rowid table and badly in one without. Indices are below 2^40 and logs below 2^22.

CREATE TABLE log (
    id     INTEGER PRIMARY KEY,
    origin TEXT NOT NULL UNIQUE,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    time   INTEGER                       -- of the last entry, Unix seconds
) STRICT;

CREATE TABLE key_use (
    log      INTEGER NOT NULL REFERENCES log,
    key      BLOB NOT NULL,              -- SHA-256 of the SubjectPublicKeyInfo
    sequence INTEGER NOT NULL,           -- of its last intent
    PRIMARY KEY (log, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    id   INTEGER PRIMARY KEY,            -- log * 2^40 + index
    leaf BLOB NOT NULL
) STRICT;

CREATE TABLE tile (
    log    INTEGER NOT NULL REFERENCES log,
    level  INTEGER NOT NULL,
    tile   INTEGER NOT NULL,
    hashes BLOB NOT NULL,                -- 256 hashes
    UNIQUE (log, level, tile)
) STRICT;

CREATE TABLE checkpoint (
    log  INTEGER NOT NULL REFERENCES log,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (log, size)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    sha256 BLOB NOT NULL UNIQUE,
    bytes  BLOB NOT NULL
) STRICT;

-- A certificate counts as issued from its intent on.
CREATE TABLE certificate (
    id        INTEGER PRIMARY KEY,       -- of the intent's entry
    serial    BLOB NOT NULL,
    issuer    BLOB NOT NULL,             -- key id
    name      TEXT NOT NULL,
    not_after INTEGER NOT NULL
) STRICT;

-- Intents that have no outcome yet. What is here at start was cut off by a crash.
CREATE TABLE open_intent (
    id INTEGER PRIMARY KEY               -- of the intent's entry
) STRICT;

CREATE TABLE enrolment (
    token    BLOB NOT NULL PRIMARY KEY,  -- SHA-256 of the token
    id       TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    redeemed INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle (
    domain   TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    body     TEXT NOT NULL               -- of its entry
) STRICT, WITHOUT ROWID;

-- The newest entry of each rotation.
CREATE TABLE rotation (
    domain TEXT NOT NULL,
    number INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (domain, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    sha256 BLOB NOT NULL
) STRICT;

-- The newest value of a counter that a log announces.
CREATE TABLE anchor (
    log     INTEGER NOT NULL REFERENCES log,
    counter INTEGER NOT NULL,            -- NV index
    value   INTEGER NOT NULL,
    entry   INTEGER NOT NULL,            -- the index of the announcement
    PRIMARY KEY (log, counter)
) STRICT, WITHOUT ROWID;

CREATE TABLE ceremony (
    checkpoint BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
