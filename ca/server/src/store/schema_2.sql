-- From version 1 of the schema to version 2.

CREATE TABLE anchor (
    log     INTEGER NOT NULL REFERENCES log,
    counter INTEGER NOT NULL,            -- NV index
    value   INTEGER NOT NULL,
    entry   INTEGER NOT NULL,            -- the index of the announcement
    PRIMARY KEY (log, counter)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 2;
