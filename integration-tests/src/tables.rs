//! A database of somebody else's, for queries in the configuration.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

/// Makes an SQLite database by running statements.
///
/// # Panics
/// If it can't be made.
pub fn database(path: &Path, statements: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = format!("sqlite:{}?mode=rwc", path.display());
        let mut connection = SqliteConnection::connect(&url).await.expect("a new database");
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut connection)
            .await
            .expect("statements of SQLite");
        connection.close().await.expect("a database is written out");
    });
}

/// Makes a file useless, in place, and returns what was in it.
///
/// # Panics
/// If it can't be.
#[must_use]
pub fn break_file(path: &Path) -> Vec<u8> {
    let contents = std::fs::read(path).expect("a file");
    std::fs::write(path, vec![0x5a; contents.len()]).expect("a file");
    contents
}

/// Puts back what was in a file.
///
/// # Panics
/// If it can't be.
pub fn restore_file(path: &Path, contents: &[u8]) {
    std::fs::write(path, contents).expect("a file");
}
