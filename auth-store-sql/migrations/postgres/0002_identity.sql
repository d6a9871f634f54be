-- Which store this is. Its one row is locked by whoever changes something.
CREATE TABLE gatepost_store (id BYTEA NOT NULL);
INSERT INTO gatepost_store (id) VALUES (uuid_send(gen_random_uuid()));
