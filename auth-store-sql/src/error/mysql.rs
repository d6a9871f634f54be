//! The numbers of MariaDB (<https://mariadb.com/kb/en/mariadb-error-codes/>) and MySQL
//! (<https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>).

use auth_core::ErrorKind;

use super::Words::{Hidden, Shown};
use super::{CONFLICT, Meaning, Trouble};

/// Reports what an error tells besides its kind.
pub(super) fn trouble(number: u16) -> Option<Trouble> {
    Some(match number {
        // Shutting down, aborted, killed, read and write errors, idle for too long.
        1053 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 4031 => Trouble::Lost,
        // A prepared statement that the server does not have, or can't bring up to date.
        1243 | 1615 => Trouble::Lost,
        1020 | 1213 => Trouble::Conflict,
        1290 | 1792 | 1836 => Trouble::ReadOnly,
        1062 => Trouble::Duplicate,
        _ => return None,
    })
}

/// Classifies an error by its number. The server's words are shown where they hold no value that was bound.
pub(super) fn classify(number: u16) -> Meaning {
    use ErrorKind::{Corrupt, Internal, Misconfigured, Overloaded, Timeout, Unavailable};
    match number {
        1053 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 4031 => (Unavailable, "no connection", Shown),
        1243 | 1615 => (Unavailable, "the tables changed meanwhile", Shown),
        1020 | 1213 => (Overloaded, CONFLICT, Shown),
        1290 | 1836 => (Unavailable, "the server is read-only", Shown),
        1792 => (Unavailable, "the session is read-only", Shown),
        1040 | 1203 | 1226 => (Overloaded, "the server has too many connections", Shown),
        1037 | 1038 | 1041 => (Overloaded, "the server has no memory", Shown),
        1021 | 1114 => (Unavailable, "the disk is full", Shown),
        1205 => (Timeout, "the database stayed locked", Shown),
        // MariaDB's, MySQL's, and anybody's KILL QUERY.
        1969 | 3024 | 1317 => (Timeout, "the query took too long", Shown),
        1045 | 1130 | 1251 | 1275 | 1524 | 1698 | 3118 | 3159 | 4151 => {
            (Misconfigured, "the server refuses the login", Shown)
        }
        1129 => (Unavailable, "the server has blocked this host", Shown),
        1044 | 1142 | 1143 | 1227 | 1370 => (Misconfigured, "the login may not do this", Shown),
        1046 | 1049 => (Misconfigured, "there is no such database", Shown),
        1051 | 1109 | 1146 => (Misconfigured, "there is no such table", Shown),
        1054 => (Misconfigured, "there is no such column", Shown),
        // Syntax, ambiguous columns, collations that do not mix, functions, more than one row where one is due.
        1052 | 1064 | 1149 | 1222 | 1235 | 1241 | 1242 | 1267 | 1271 | 1295 | 1305 | 1318 | 1582 | 1630 => {
            (Misconfigured, "the database refuses the query", Shown)
        }
        // No fault of the source's: somebody sent what does not fit.
        1264 | 1292 | 1300 | 1366 | 1367 | 1406 | 1690 | 3988 => {
            (Corrupt, "a value does not fit its column", Hidden)
        }
        1048 | 1062 | 1216 | 1217 | 1364 | 1451 | 1452 | 1586 | 3819 | 4025 => {
            (Misconfigured, "a constraint refused the write", Hidden)
        }
        // What a trigger or a procedure raises may say anything.
        1644 => (Misconfigured, "a function refused the query", Hidden),
        _ => (Internal, "MariaDB or MySQL failed", Hidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: u16, kind: ErrorKind, tells: Option<Trouble>) {
        assert_eq!((classify(number).0, trouble(number)), (kind, tells), "{number}");
    }

    #[test]
    fn each_number_says_what_the_caller_can_do() {
        use ErrorKind::{Corrupt, Internal, Misconfigured, Overloaded, Timeout, Unavailable};
        check(1053, Unavailable, Some(Trouble::Lost));
        check(1927, Unavailable, Some(Trouble::Lost));
        check(1040, Overloaded, None);
        check(1969, Timeout, None);
        check(3024, Timeout, None);
        check(1205, Timeout, None);
        check(1213, Overloaded, Some(Trouble::Conflict));
        check(1290, Unavailable, Some(Trouble::ReadOnly));
        check(1792, Unavailable, Some(Trouble::ReadOnly));
        check(1146, Misconfigured, None);
        check(1054, Misconfigured, None);
        check(1142, Misconfigured, None);
        check(1045, Misconfigured, None);
        check(1049, Misconfigured, None);
        check(1366, Corrupt, None);
        check(1062, Misconfigured, Some(Trouble::Duplicate));
        check(65_535, Internal, None);
    }

    #[test]
    fn words_that_may_hold_a_value_are_not_shown() {
        for number in [1062, 1292, 1366, 1406, 1644, 65_535] {
            assert_eq!(classify(number).2, Hidden, "{number}");
        }
    }
}
