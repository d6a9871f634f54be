-- Applied once, as it is: never edit it, add a new one instead. This database can't undo what makes tables: a migration
-- that was broken off is run again from its beginning, so each statement must be one that may run twice.

-- Sessions. Times are milliseconds since 1970. No token can be made of a row: the secrets are kept elsewhere.
CREATE TABLE IF NOT EXISTS gatepost_family (
    realm        VARCHAR(255)  NOT NULL CHECK (realm <> ''),
    -- 32 hexadecimal digits, as access tokens have it in `sid`.
    id           VARCHAR(32)   NOT NULL CHECK (LENGTH(id) = 32),
    -- In normal form, compared byte for byte.
    login        VARCHAR(255)  NOT NULL CHECK (login <> ''),
    person       VARCHAR(512)  NOT NULL,
    client       VARCHAR(255),
    scope        VARCHAR(1024) NOT NULL,
    device       VARCHAR(255),
    address      VARCHAR(64),
    agent        VARCHAR(512),
    secret       VARCHAR(64)   NOT NULL,
    generation   BIGINT        NOT NULL CHECK (generation BETWEEN 0 AND 4294967295),
    rotated_at   BIGINT        NOT NULL,
    retries      BIGINT        NOT NULL,
    confirmed    BOOLEAN       NOT NULL CHECK (confirmed IN (0, 1)),
    created_at   BIGINT        NOT NULL,
    last_used_at BIGINT        NOT NULL,
    idle         BIGINT        NOT NULL,
    idle_end     BIGINT        NOT NULL,
    absolute_end BIGINT        NOT NULL,
    ended_at     BIGINT,
    end_reason   VARCHAR(32),
    PRIMARY KEY (realm, id),
    INDEX gatepost_family_login (realm, login, created_at),
    INDEX gatepost_family_end (absolute_end),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

-- What was revoked before its end.
CREATE TABLE IF NOT EXISTS gatepost_revocation (
    realm      VARCHAR(255) NOT NULL,
    kind       VARCHAR(16)  NOT NULL CHECK (kind IN ('token', 'family', 'person', 'realm')),
    -- The mark of a token, the id of a family, a login, or nothing.
    name       VARCHAR(255) NOT NULL,
    revoked_at BIGINT       NOT NULL,
    keep_until BIGINT       NOT NULL,
    PRIMARY KEY (realm, kind, name),
    INDEX gatepost_revocation_end (keep_until)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;
