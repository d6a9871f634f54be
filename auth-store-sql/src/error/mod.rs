//! What a driver's error means to the caller. One file a driver, one `match` each.

mod sqlite;

use auth_core::{Error, ErrorKind};
use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqliteError;

/// Classifies an error of sqlx.
///
/// The cause is kept: the texts of SQLite name tables and columns, and no driver here puts a bound value
/// into its errors.
pub(crate) fn classify(error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<SqliteError>() {
            Some(sqlite) => sqlite::classify(sqlite),
            None => (ErrorKind::Internal, "an unknown driver's error"),
        },
        sqlx::Error::PoolTimedOut => (ErrorKind::Overloaded, "no free connection"),
        sqlx::Error::PoolClosed => (ErrorKind::Unavailable, "the connection pool is closed"),
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "the connection is broken"),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => (ErrorKind::Unavailable, "no connection"),
        sqlx::Error::Configuration(_) => (ErrorKind::Misconfigured, "the url is not acceptable"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            (ErrorKind::Corrupt, "a value can't be read")
        }
        _ => (ErrorKind::Internal, "the driver failed"),
    };
    Error::new(kind, message).because(error)
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
