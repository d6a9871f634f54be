//! What a driver's error means to the caller. One file a driver, one `match` each.

mod mysql;
mod postgres;
mod sqlite;

use std::future::Future;
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use sqlx::migrate::MigrateError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;
use tokio::time::timeout;

/// What is said of two transactions that stand in each other's way.
const CONFLICT: &str = "somebody else has changed the same meanwhile";

/// What an error tells whoever asks a server, besides its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection is of no use any more.
    Lost,
    /// There was no answer in time, and the connection waits for it for ever.
    Silent,
    /// Of two transactions this one has lost.
    Conflict,
    /// The server does not write, or not here.
    ReadOnly,
    /// What was to be added is there.
    Duplicate,
}

/// What a server's error means: its kind, a message, and whether the server's own words may be shown. They may not where
/// they hold a value that somebody sent.
type Meaning = (ErrorKind, &'static str, Words);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Shown,
    Hidden,
}

/// Reports what an error tells besides its kind.
pub(crate) fn trouble(error: &sqlx::Error) -> Option<Trouble> {
    match error {
        sqlx::Error::Database(database) => {
            if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
                postgres::trouble(error.code(), error.message())
            } else if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
                mysql::trouble(error.number())
            } else {
                None
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Some(Trouble::Lost),
        _ => None,
    }
}

/// Reports whether it is worth it to do the whole once more.
pub(crate) fn is_conflict(error: &Error) -> bool {
    error.kind() == ErrorKind::Overloaded && error.message() == CONFLICT
}

/// Classifies an error of sqlx.
///
/// The cause is kept where it holds no value: the texts of SQLite name tables and columns, and of a server's errors
/// only those that can't hold one are shown.
pub(crate) fn classify(error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<SqliteError>() {
            Some(sqlite) => sqlite::classify(sqlite),
            None => return classify_server(&**database),
        },
        sqlx::Error::PoolTimedOut => (ErrorKind::Overloaded, "no free connection"),
        sqlx::Error::PoolClosed => (ErrorKind::Unavailable, "the connection pool is closed"),
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "the connection is broken"),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => (ErrorKind::Unavailable, "no connection"),
        sqlx::Error::Protocol(_) => (ErrorKind::Unavailable, "the connection is broken"),
        sqlx::Error::Configuration(_) => (ErrorKind::Misconfigured, "the url is not acceptable"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            (ErrorKind::Corrupt, "a value can't be read")
        }
        _ => (ErrorKind::Internal, "the driver failed"),
    };
    Error::new(kind, message).because(error)
}

fn classify_server(error: &dyn sqlx::error::DatabaseError) -> Error {
    let ((kind, message, words), code, said) =
        if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
            (postgres::classify(error.code(), error.message()), error.code().to_owned(), error.message())
        } else if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            (mysql::classify(error.number()), error.number().to_string(), error.message())
        } else {
            return Error::new(ErrorKind::Internal, "an unknown driver's error");
        };
    let known = Error::new(kind, message).with("code", code);
    if words == Words::Shown { known.with("server", said) } else { known }
}

/// Classifies what prevents a connection.
pub(crate) fn classify_connect(error: sqlx::Error) -> Error {
    match &error {
        // A server that wants an authentication that the driver can't.
        sqlx::Error::Protocol(said) if said.contains("authentication") => {
            Error::new(ErrorKind::Misconfigured, "the server wants another way to log in").because(error)
        }
        sqlx::Error::Tls(_) => Error::new(ErrorKind::Unavailable, "no secure connection").because(error),
        // What rustls says comes this way.
        sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(ErrorKind::Unavailable, "no secure connection").because(error)
        }
        _ => classify(error),
    }
}

/// Does something that must end in time.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) if it does not; otherwise its own.
pub(crate) async fn in_time<T>(limit: Duration, what: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Unavailable, "the server does not answer");
    timeout(limit, what).await.map_err(late)?
}

/// Classifies an error of a migration. `newest` is the last migration that this build knows.
pub(crate) fn classify_migration(error: MigrateError, newest: i64) -> Error {
    let message = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return classify(error),
        MigrateError::VersionMissing(version) if version > newest => format!(
            "a newer version has migrated this database (its migration {version}, this build knows {newest}): \
             install that version or restore a backup"
        ),
        MigrateError::VersionMissing(version) => {
            format!("the database has a migration {version} that no version of this program has made")
        }
        MigrateError::VersionMismatch(version) => {
            format!("the database's migration {version} is not the one of this program")
        }
        MigrateError::Dirty(version) => format!("the database's migration {version} was not finished"),
        other => {
            return Error::new(ErrorKind::Misconfigured, "the database can't be migrated").because(other);
        }
    };
    Error::new(ErrorKind::Misconfigured, message)
}
