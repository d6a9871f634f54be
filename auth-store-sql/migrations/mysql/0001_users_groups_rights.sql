-- Applied once, as it is: never edit it, add a new one instead. This database can't undo what makes tables: a migration
-- that was broken off is run again from its beginning, so each statement must be one that may run twice.

CREATE TABLE IF NOT EXISTS gatepost_user (
    -- Never used again, so nobody inherits a deleted person's sessions or rights.
    id                  BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- In normal form, compared byte for byte.
    login               VARCHAR(255) NOT NULL UNIQUE CHECK (login <> ''),
    hash                TEXT         CHECK (hash <> ''),
    scheme              VARCHAR(255) CHECK (scheme <> ''),
    disabled            BOOLEAN      NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    locked              BOOLEAN      NOT NULL DEFAULT 0 CHECK (locked IN (0, 1)),
    -- Times are seconds since 1970.
    locked_until        BIGINT,
    not_before          BIGINT,
    expires_at          BIGINT,
    password_expires_at BIGINT,
    must_change         BOOLEAN      NOT NULL DEFAULT 0 CHECK (must_change IN (0, 1)),
    created_at          BIGINT       NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

CREATE TABLE IF NOT EXISTS gatepost_group (
    id   BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(255) NOT NULL UNIQUE CHECK (name <> '')
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

CREATE TABLE IF NOT EXISTS gatepost_membership (
    user_id  BIGINT NOT NULL,
    group_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, group_id),
    INDEX gatepost_membership_group (group_id),
    FOREIGN KEY (user_id) REFERENCES gatepost_user (id) ON DELETE CASCADE,
    FOREIGN KEY (group_id) REFERENCES gatepost_group (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

CREATE TABLE IF NOT EXISTS gatepost_domain (
    id   BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(255) NOT NULL UNIQUE CHECK (name <> '')
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

CREATE TABLE IF NOT EXISTS gatepost_object (
    id        BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    domain_id BIGINT       NOT NULL,
    -- The parts of the object's id, joined by commas; a comma or a backslash of a part has a backslash before it.
    name      VARCHAR(700) NOT NULL CHECK (name <> ''),
    UNIQUE (domain_id, name),
    FOREIGN KEY (domain_id) REFERENCES gatepost_domain (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;

CREATE TABLE IF NOT EXISTS gatepost_right (
    object_id BIGINT       NOT NULL,
    user_id   BIGINT       NOT NULL,
    mode      VARCHAR(255) NOT NULL CHECK (mode <> ''),
    PRIMARY KEY (object_id, user_id, mode),
    INDEX gatepost_right_user (user_id),
    FOREIGN KEY (object_id) REFERENCES gatepost_object (id) ON DELETE CASCADE,
    FOREIGN KEY (user_id) REFERENCES gatepost_user (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE EXACT_COLLATION;
