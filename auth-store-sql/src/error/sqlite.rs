//! SQLite's result codes (<https://www.sqlite.org/rescode.html>).

use auth_core::ErrorKind;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// Classifies an error of SQLite by its extended result code.
pub(super) fn classify(error: &SqliteError) -> (ErrorKind, &'static str) {
    let code = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    by_code(code)
}

fn by_code(extended: i32) -> (ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Internal, Misconfigured, Overloaded, Timeout, Unavailable};
    match extended {
        // BUSY_SNAPSHOT: somebody wrote since this transaction began to read.
        517 => return (Overloaded, "the database was written to meanwhile"),
        // READONLY_DBMOVED: the file is not where it was.
        1032 => return (Unavailable, "the database file was moved or deleted"),
        // CANTOPEN_ISDIR.
        526 => return (Misconfigured, "the database is a folder"),
        _ => {}
    }
    // A damaged file is no bad record: `Corrupt` would leave the source green.
    match extended & 0xff {
        1 => (Misconfigured, "the database refuses the query"), // ERROR: no such table, syntax
        3 => (Misconfigured, "the database file may not be accessed"), // PERM
        5 => (Timeout, "the database stayed locked"),           // BUSY
        6 => (Overloaded, "a table is locked"),                 // LOCKED
        7 => (Overloaded, "SQLite has no memory"),              // NOMEM
        8 => (Misconfigured, "the database can't be written to"), // READONLY
        9 => (Timeout, "the query was interrupted"),            // INTERRUPT
        10 => (Unavailable, "the disk failed"),                 // IOERR
        11 => (Misconfigured, "the database file is damaged"),  // CORRUPT
        13 => (Unavailable, "the disk is full"),                // FULL
        14 => (Unavailable, "the database file can't be opened"), // CANTOPEN
        15 => (Overloaded, "the database's locks are contended"), // PROTOCOL
        17 => (Unavailable, "the tables changed meanwhile"),    // SCHEMA
        19 => (Misconfigured, "a constraint refused the write"), // CONSTRAINT
        20 => (Corrupt, "a value has the wrong type"),          // MISMATCH
        22 => (Misconfigured, "the file system lacks a feature"), // NOLFS
        23 => (Misconfigured, "the query is not permitted"),    // AUTH
        26 => (Misconfigured, "the file is not a database"),    // NOTADB
        _ => (Internal, "SQLite failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: i32, kind: ErrorKind) {
        assert_eq!(by_code(code).0, kind, "{code}");
    }

    #[test]
    fn each_code_says_what_the_caller_can_do() {
        check(1, ErrorKind::Misconfigured);
        check(5, ErrorKind::Timeout);
        check(261, ErrorKind::Timeout); // BUSY_RECOVERY
        check(517, ErrorKind::Overloaded);
        check(262, ErrorKind::Overloaded); // LOCKED_SHAREDCACHE
        check(8, ErrorKind::Misconfigured);
        check(1032, ErrorKind::Unavailable);
        check(266, ErrorKind::Unavailable); // IOERR_READ
        check(779, ErrorKind::Misconfigured); // CORRUPT_INDEX
        check(14, ErrorKind::Unavailable);
        check(526, ErrorKind::Misconfigured);
        check(2067, ErrorKind::Misconfigured); // CONSTRAINT_UNIQUE
        check(26, ErrorKind::Misconfigured);
        check(0, ErrorKind::Internal);
    }
}
