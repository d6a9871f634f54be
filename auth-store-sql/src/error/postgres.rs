//! PostgreSQL's codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use auth_core::ErrorKind;

use super::Words::{Hidden, Shown};
use super::{CONFLICT, Meaning, Trouble};

/// Reports what an error tells besides its kind.
pub(super) fn trouble(code: &str, message: &str) -> Option<Trouble> {
    Some(match code {
        // The tables changed under a prepared statement, or it was taken away: both are over on a fresh connection.
        "0A000" if message.contains("cached plan") => Trouble::Lost,
        "26000" => Trouble::Lost,
        // Administrator's, crash's and other ends of a session; 57014 is a statement's.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" => Trouble::Lost,
        "40001" | "40P01" => Trouble::Conflict,
        "25006" => Trouble::ReadOnly,
        "23505" => Trouble::Duplicate,
        code if code.starts_with("08") => Trouble::Lost,
        _ => return None,
    })
}

/// Classifies an error by its code. The server's words are shown where they hold no value that was bound.
pub(super) fn classify(code: &str, message: &str) -> Meaning {
    use ErrorKind::{Corrupt, Internal, Misconfigured, Overloaded, Timeout, Unavailable};
    match code {
        "0A000" if message.contains("cached plan") => {
            return (Unavailable, "the tables changed meanwhile", Shown);
        }
        "25006" => return (Unavailable, "the server is read-only", Shown),
        "26000" => return (Unavailable, "the connection is broken", Shown),
        "28000" | "28P01" => return (Misconfigured, "the server refuses the login", Shown),
        "3D000" => return (Misconfigured, "there is no such database", Shown),
        "3F000" => return (Misconfigured, "there is no such schema", Shown),
        "40001" | "40P01" => return (Overloaded, CONFLICT, Shown),
        "42501" => return (Misconfigured, "the login may not do this", Shown),
        "42P01" => return (Misconfigured, "there is no such table", Shown),
        "42703" => return (Misconfigured, "there is no such column", Shown),
        "53100" => return (Unavailable, "the disk is full", Shown),
        "53300" => return (Overloaded, "the server has too many connections", Shown),
        "55P03" => return (Timeout, "the database stayed locked", Shown),
        "57014" => return (Timeout, "the query took too long", Shown),
        "25P03" => return (Unavailable, "the connection is broken", Shown),
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        "08" => (Unavailable, "no connection", Shown),
        // No fault of the source's: somebody sent what does not fit, such as a text where a number is due.
        "22" => (Corrupt, "a value does not fit its column", Hidden),
        "23" => (Misconfigured, "a constraint refused the write", Hidden),
        "42" | "0A" => (Misconfigured, "the database refuses the query", Shown),
        "53" | "54" => (Overloaded, "the server has not what it needs", Shown),
        "55" => (Unavailable, "the database is not ready", Shown),
        "57" => (Unavailable, "the server is shutting down or starting", Shown),
        "58" => (Unavailable, "the server's system failed", Hidden),
        // What a trigger or a function raises may say anything.
        "P0" => (Misconfigured, "a function refused the query", Hidden),
        "XX" => (Internal, "the server failed", Hidden),
        _ => (Internal, "PostgreSQL failed", Hidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, kind: ErrorKind, tells: Option<Trouble>) {
        assert_eq!((classify(code, "").0, trouble(code, "")), (kind, tells), "{code}");
    }

    #[test]
    fn each_code_says_what_the_caller_can_do() {
        use ErrorKind::{Corrupt, Internal, Misconfigured, Overloaded, Timeout, Unavailable};
        check("08006", Unavailable, Some(Trouble::Lost));
        check("57P01", Unavailable, Some(Trouble::Lost));
        check("57P03", Unavailable, Some(Trouble::Lost));
        check("57014", Timeout, None);
        check("55P03", Timeout, None);
        check("53300", Overloaded, None);
        check("40001", Overloaded, Some(Trouble::Conflict));
        check("40P01", Overloaded, Some(Trouble::Conflict));
        check("25006", Unavailable, Some(Trouble::ReadOnly));
        check("42P01", Misconfigured, None);
        check("42703", Misconfigured, None);
        check("42883", Misconfigured, None);
        check("42501", Misconfigured, None);
        check("28P01", Misconfigured, None);
        check("3D000", Misconfigured, None);
        check("22P02", Corrupt, None);
        check("23505", Misconfigured, Some(Trouble::Duplicate));
        check("26000", Unavailable, Some(Trouble::Lost));
        check("XX000", Internal, None);
        check("", Internal, None);
        let plan = "cached plan must not change result type";
        assert_eq!(trouble("0A000", plan), Some(Trouble::Lost));
        assert_eq!(classify("0A000", plan).0, Unavailable);
        check("0A000", Misconfigured, None);
    }

    #[test]
    fn words_that_may_hold_a_value_are_not_shown() {
        for code in ["22P02", "23505", "P0001", "XX000", "99999"] {
            assert_eq!(classify(code, "").2, Hidden, "{code}");
        }
    }
}
