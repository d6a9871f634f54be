-- Applied once, as it is: never edit it, add 0002 instead.

CREATE TABLE gatepost_user (
    -- AUTOINCREMENT: an id is never used again, so nobody inherits a deleted person's sessions or rights.
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- In normal form, compared byte for byte.
    login               TEXT    NOT NULL COLLATE BINARY UNIQUE CHECK (login <> ''),
    hash                TEXT    CHECK (hash <> ''),
    scheme              TEXT    CHECK (scheme <> ''),
    disabled            INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    locked              INTEGER NOT NULL DEFAULT 0 CHECK (locked IN (0, 1)),
    -- Times are seconds since 1970.
    locked_until        INTEGER,
    not_before          INTEGER,
    expires_at          INTEGER,
    password_expires_at INTEGER,
    must_change         INTEGER NOT NULL DEFAULT 0 CHECK (must_change IN (0, 1)),
    created_at          INTEGER NOT NULL
) STRICT;

CREATE TABLE gatepost_group (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT    NOT NULL COLLATE BINARY UNIQUE CHECK (name <> '')
) STRICT;

CREATE TABLE gatepost_membership (
    user_id  INTEGER NOT NULL REFERENCES gatepost_user (id) ON DELETE CASCADE,
    group_id INTEGER NOT NULL REFERENCES gatepost_group (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX gatepost_membership_group ON gatepost_membership (group_id);

CREATE TABLE gatepost_domain (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT    NOT NULL COLLATE BINARY UNIQUE CHECK (name <> '')
) STRICT;

CREATE TABLE gatepost_object (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    domain_id INTEGER NOT NULL REFERENCES gatepost_domain (id) ON DELETE CASCADE,
    -- The parts of the object's id, joined by commas; a comma or a backslash of a part has a backslash before it.
    name      TEXT    NOT NULL COLLATE BINARY CHECK (name <> ''),
    UNIQUE (domain_id, name)
) STRICT;

CREATE TABLE gatepost_right (
    object_id INTEGER NOT NULL REFERENCES gatepost_object (id) ON DELETE CASCADE,
    user_id   INTEGER NOT NULL REFERENCES gatepost_user (id) ON DELETE CASCADE,
    mode      TEXT    NOT NULL COLLATE BINARY CHECK (mode <> ''),
    PRIMARY KEY (object_id, user_id, mode)
) STRICT, WITHOUT ROWID;

CREATE INDEX gatepost_right_user ON gatepost_right (user_id);
