-- Which store this is. Its one row is locked by whoever changes something.
CREATE TABLE IF NOT EXISTS gatepost_store (
    only_one TINYINT    NOT NULL PRIMARY KEY CHECK (only_one = 1),
    id       BINARY(16) NOT NULL
) ENGINE = InnoDB;
INSERT IGNORE INTO gatepost_store (only_one, id) VALUES (1, UNHEX(REPLACE(UUID(), '-', '')));
