-- Applied once, as it is: never edit it, add a new one instead.

-- Sessions. Times are milliseconds since 1970. No token can be made of a row: the secrets are kept elsewhere.
CREATE TABLE gatepost_family (
    realm        TEXT    NOT NULL COLLATE BINARY CHECK (realm <> ''),
    -- 32 hexadecimal digits, as access tokens have it in `sid`.
    id           TEXT    NOT NULL COLLATE BINARY CHECK (length(id) = 32),
    -- In normal form, compared byte for byte.
    login        TEXT    NOT NULL COLLATE BINARY CHECK (login <> ''),
    person       TEXT    NOT NULL,
    client       TEXT,
    scope        TEXT    NOT NULL,
    device       TEXT,
    address      TEXT,
    agent        TEXT,
    secret       TEXT    NOT NULL,
    generation   INTEGER NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    rotated_at   INTEGER NOT NULL,
    retries      INTEGER NOT NULL,
    confirmed    INTEGER NOT NULL CHECK (confirmed IN (0, 1)),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    idle         INTEGER NOT NULL,
    idle_end     INTEGER NOT NULL,
    absolute_end INTEGER NOT NULL,
    ended_at     INTEGER,
    end_reason   TEXT,
    PRIMARY KEY (realm, id),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX gatepost_family_login ON gatepost_family (realm, login, created_at);
CREATE INDEX gatepost_family_end ON gatepost_family (absolute_end);

-- What was revoked before its end.
CREATE TABLE gatepost_revocation (
    realm      TEXT    NOT NULL COLLATE BINARY,
    kind       TEXT    NOT NULL CHECK (kind IN ('token', 'family', 'person', 'realm')),
    -- The mark of a token, the id of a family, a login, or nothing.
    name       TEXT    NOT NULL COLLATE BINARY,
    revoked_at INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (realm, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX gatepost_revocation_end ON gatepost_revocation (keep_until);
