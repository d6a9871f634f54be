-- Applied once, as it is: never edit it, add a new one instead.

-- Sessions. Times are milliseconds since 1970. No token can be made of a row: the secrets are kept elsewhere.
CREATE TABLE gatepost_family (
    realm        TEXT     NOT NULL COLLATE "C" CHECK (realm <> ''),
    -- 32 hexadecimal digits, as access tokens have it in `sid`.
    id           TEXT     NOT NULL COLLATE "C" CHECK (length(id) = 32),
    -- In normal form, compared byte for byte.
    login        TEXT     NOT NULL COLLATE "C" CHECK (login <> ''),
    person       TEXT     NOT NULL COLLATE "C",
    client       TEXT     COLLATE "C",
    scope        TEXT     NOT NULL COLLATE "C",
    device       TEXT     COLLATE "C",
    address      TEXT     COLLATE "C",
    agent        TEXT     COLLATE "C",
    secret       TEXT     NOT NULL COLLATE "C",
    generation   BIGINT   NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    rotated_at   BIGINT   NOT NULL,
    retries      BIGINT   NOT NULL,
    confirmed    SMALLINT NOT NULL CHECK (confirmed IN (0, 1)),
    created_at   BIGINT   NOT NULL,
    last_used_at BIGINT   NOT NULL,
    idle         BIGINT   NOT NULL,
    idle_end     BIGINT   NOT NULL,
    absolute_end BIGINT   NOT NULL,
    ended_at     BIGINT,
    end_reason   TEXT     COLLATE "C",
    PRIMARY KEY (realm, id),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
-- Room for the row as it is renewed, in its place: no renewal writes to an index.
) WITH (fillfactor = 75);
CREATE INDEX gatepost_family_login ON gatepost_family (realm, login, created_at);
CREATE INDEX gatepost_family_end ON gatepost_family (absolute_end);

-- What was revoked before its end.
CREATE TABLE gatepost_revocation (
    realm      TEXT   NOT NULL COLLATE "C",
    kind       TEXT   NOT NULL COLLATE "C" CHECK (kind IN ('token', 'family', 'person', 'realm')),
    -- The mark of a token, the id of a family, a login, or nothing.
    name       TEXT   NOT NULL COLLATE "C",
    revoked_at BIGINT NOT NULL,
    keep_until BIGINT NOT NULL,
    PRIMARY KEY (realm, kind, name)
);
CREATE INDEX gatepost_revocation_end ON gatepost_revocation (keep_until);
