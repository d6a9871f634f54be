-- Applied once, as it is: never edit it, add a new one instead.

CREATE TABLE gatepost_user (
    -- Never used again, so nobody inherits a deleted person's sessions or rights.
    id                  BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    -- In normal form, compared byte for byte.
    login               TEXT    NOT NULL COLLATE "C" UNIQUE CHECK (login <> ''),
    hash                TEXT    COLLATE "C" CHECK (hash <> ''),
    scheme              TEXT    COLLATE "C" CHECK (scheme <> ''),
    disabled            BOOLEAN NOT NULL DEFAULT false,
    locked              BOOLEAN NOT NULL DEFAULT false,
    -- Times are seconds since 1970.
    locked_until        BIGINT,
    not_before          BIGINT,
    expires_at          BIGINT,
    password_expires_at BIGINT,
    must_change         BOOLEAN NOT NULL DEFAULT false,
    created_at          BIGINT  NOT NULL
);

CREATE TABLE gatepost_group (
    id   BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name TEXT   NOT NULL COLLATE "C" UNIQUE CHECK (name <> '')
);

CREATE TABLE gatepost_membership (
    user_id  BIGINT NOT NULL REFERENCES gatepost_user (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES gatepost_group (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);

CREATE INDEX gatepost_membership_group ON gatepost_membership (group_id);

CREATE TABLE gatepost_domain (
    id   BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name TEXT   NOT NULL COLLATE "C" UNIQUE CHECK (name <> '')
);

CREATE TABLE gatepost_object (
    id        BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    domain_id BIGINT NOT NULL REFERENCES gatepost_domain (id) ON DELETE CASCADE,
    -- The parts of the object's id, joined by commas; a comma or a backslash of a part has a backslash before it.
    name      TEXT   NOT NULL COLLATE "C" CHECK (name <> ''),
    UNIQUE (domain_id, name)
);

CREATE TABLE gatepost_right (
    object_id BIGINT NOT NULL REFERENCES gatepost_object (id) ON DELETE CASCADE,
    user_id   BIGINT NOT NULL REFERENCES gatepost_user (id) ON DELETE CASCADE,
    mode      TEXT   NOT NULL COLLATE "C" CHECK (mode <> ''),
    PRIMARY KEY (object_id, user_id, mode)
);

CREATE INDEX gatepost_right_user ON gatepost_right (user_id);
