-- From version 3 of the schema to version 4: what is frozen, and which approvals were carried out.

CREATE TABLE freeze (
    what  TEXT NOT NULL PRIMARY KEY,     -- as the entry has it: {"domain":"prod.example"}
    entry INTEGER NOT NULL               -- the id of the entry that froze it
) STRICT, WITHOUT ROWID;

CREATE TABLE approval_carried_out (
    nonce BLOB NOT NULL PRIMARY KEY      -- of the statement
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 4;
