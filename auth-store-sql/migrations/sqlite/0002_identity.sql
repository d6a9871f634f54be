-- Which store this is: a file that takes its place while it is open is asked for the same.
CREATE TABLE gatepost_store (id BLOB NOT NULL);
INSERT INTO gatepost_store (id) VALUES (randomblob(16));
