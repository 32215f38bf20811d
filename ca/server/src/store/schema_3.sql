-- From version 2 of the schema to version 3.

-- The bundle itself instead of the digest of its roots: as its newest entry has it.
CREATE TABLE bundle_3 (
    domain   TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    body     TEXT NOT NULL               -- of its entry
) STRICT, WITHOUT ROWID;

INSERT INTO bundle_3 (domain, sequence, body)
SELECT domain, sequence, (
    SELECT json_extract(CAST(leaf AS TEXT), '$.body') FROM entry
    WHERE instr(leaf, CAST('"kind":"bundle"' AS BLOB)) > 0
      AND json_extract(CAST(leaf AS TEXT), '$.kind') = 'bundle'
      AND json_extract(CAST(leaf AS TEXT), '$.body.domain') = bundle.domain
      AND json_extract(CAST(leaf AS TEXT), '$.body.sequence') = bundle.sequence
    ORDER BY id LIMIT 1
) FROM bundle;

DROP TABLE bundle;

ALTER TABLE bundle_3 RENAME TO bundle;

-- The newest entry of each rotation.
CREATE TABLE rotation (
    domain TEXT NOT NULL,
    number INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (domain, number)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 3;
