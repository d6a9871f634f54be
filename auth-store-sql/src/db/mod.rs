//! The drivers behind one face: an enum of pools, one file a driver.
//!
//! Everything above speaks of statements, values and rows. What differs between databases (urls, locks,
//! placeholders, types, errors) is in `sqlite.rs` and its sisters.

mod mysql;
mod pool;
pub(crate) mod postgres;
mod server;
mod sqlite;

use std::ops::ControlFlow;
use std::sync::Arc;

use auth_core::{Error, ErrorKind, Result};

use crate::scan::Dialect;
use crate::statement::{Args, Described, Statement};
use crate::value::Row;
use crate::{SqlConfig, managed};

/// The most rows that one question may return. More of them is a query without its WHERE.
const MAX_ROWS: usize = 65_536;

/// Who keeps the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// This crate, with its migrations.
    Managed,
    /// Somebody else.
    Yours,
}

/// What stands where the database was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The database that is open.
    Same,
    /// Another one, or the connections to it are closed.
    Replaced,
}

/// A database: for each driver its pools.
#[derive(Debug)]
pub(crate) enum Db {
    Sqlite(sqlite::Lite),
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

impl Db {
    /// Opens the database that the url names.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for a url of no driver here; otherwise any kind.
    pub(crate) fn open(config: &SqlConfig, tables: Tables, claim: managed::Claim) -> Result<Self> {
        match scheme(config) {
            "sqlite" => sqlite::Lite::open(config, tables, claim).map(Self::Sqlite),
            "postgres" | "postgresql" => postgres::Server::open(config).map(Self::Postgres),
            "mysql" | "mariadb" => mysql::Server::open(config).map(Self::MySql),
            // The url may be a password that was put into the wrong variable: it is not shown.
            _ => Err(Error::new(
                ErrorKind::Misconfigured,
                "the url must begin with sqlite:, postgres: or mariadb:",
            )),
        }
    }

    /// Opens the database that the url names for sessions: whoever asks mostly writes, so all connections do.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub(crate) fn open_for_writing(config: &SqlConfig) -> Result<Self> {
        match scheme(config) {
            "postgres" | "postgresql" => postgres::Server::open_for_writing(config).map(Self::Postgres),
            "mysql" | "mariadb" => mysql::Server::open_for_writing(config).map(Self::MySql),
            // It has one writer, whatever is asked for.
            _ => Self::open(config, Tables::Managed, managed::Claim::Any),
        }
    }

    /// Runs a statement that is committed by itself, and returns how many rows it changed. It is never done twice.
    ///
    /// # Errors
    /// Any kind. Where a server was lost, it is not known whether it was done.
    pub(crate) async fn change(&self, statement: &Statement, args: Args<'_>) -> Result<u64> {
        let changed = match self {
            Self::Sqlite(lite) => lite.change(statement, args).await,
            Self::Postgres(server) => server.writer().change(statement, &statement.bind(args)?).await,
            Self::MySql(server) => server.writer().change(statement, &statement.bind(args)?).await,
        };
        changed.map_err(|error| about(error, statement))
    }

    /// Runs an INSERT by itself that ends [so](unless_there), and returns how many rows it made.
    ///
    /// # Errors
    /// Like [`change`](Self::change).
    pub(crate) async fn add(&self, statement: &Statement, args: Args<'_>) -> Result<u64> {
        let changed = match self {
            Self::Sqlite(_) | Self::Postgres(_) => return self.change(statement, args).await,
            Self::MySql(server) => server.writer().add(statement, &statement.bind(args)?).await,
        };
        changed.map_err(|error| about(error, statement))
    }

    /// Returns how this database writes SQL.
    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// Looks at what stands where the database was opened. To be asked before each question: an open file
    /// that was deleted or replaced would go on to answer.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there is nothing.
    pub(crate) fn place(&self) -> Result<Place> {
        match self {
            Self::Sqlite(lite) => lite.place(),
            Self::Postgres(server) => Ok(if server.is_closed() { Place::Replaced } else { Place::Same }),
            Self::MySql(server) => Ok(if server.is_closed() { Place::Replaced } else { Place::Same }),
        }
    }

    /// Notes what lies beside the database, when everything has been asked once.
    pub(crate) fn ready(&self) {
        match self {
            Self::Sqlite(lite) => lite.note_log(),
            Self::Postgres(_) | Self::MySql(_) => {}
        }
    }

    /// Closes all connections, when the questions that have them are done.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the next database must not be opened yet.
    pub(crate) async fn close(&self) -> Result<()> {
        match self {
            Self::Sqlite(lite) => lite.close().await,
            Self::Postgres(server) => {
                server.close();
                Ok(())
            }
            Self::MySql(server) => {
                server.close();
                Ok(())
            }
        }
    }

    /// Brings tables of ours up to date.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the database is a newer version's, or has other tables
    /// and `claim` does not say that it may be used; [`Unavailable`](ErrorKind::Unavailable) if `claim` wants
    /// a database that has the tables already, and it has not; otherwise any kind.
    pub(crate) async fn migrate(&self, plan: managed::Plan, claim: managed::Claim) -> Result<()> {
        match self {
            Self::Sqlite(lite) => lite.migrate(plan, claim).await,
            Self::Postgres(server) => server.migrate(plan, claim).await,
            Self::MySql(server) => server.migrate(plan, claim).await,
        }
    }

    /// Returns which managed store this is.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn identity(&self) -> Result<Vec<u8>> {
        match self {
            Self::Sqlite(lite) => lite.identity().await,
            Self::Postgres(server) => server.identity().await,
            Self::MySql(server) => server.identity().await,
        }
    }

    /// Takes a connection to read with.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded) if none is free in time; otherwise any kind.
    pub(crate) async fn read(&self) -> Result<Conn> {
        match self {
            Self::Sqlite(lite) => lite.read().await.map(Conn::Sqlite),
            Self::Postgres(server) => server.read().await.map(Conn::Postgres),
            Self::MySql(server) => server.read().await.map(Conn::MySql),
        }
    }

    /// Begins a transaction that writes.
    ///
    /// # Errors
    /// Like [`read`](Self::read); also [`Timeout`](ErrorKind::Timeout) if somebody else keeps writing.
    pub(crate) async fn write(&self) -> Result<Tx> {
        match self {
            Self::Sqlite(lite) => lite.write().await.map(Tx::Sqlite),
            Self::Postgres(server) => server.write().await.map(Tx::Postgres),
            Self::MySql(server) => server.write().await.map(Tx::MySql),
        }
    }

    /// Begins a transaction in which nobody else writes to the managed tables through us.
    ///
    /// # Errors
    /// Like [`write`](Self::write).
    pub(crate) async fn write_alone(&self) -> Result<Tx> {
        let mut tx = self.write().await?;
        match &mut tx {
            // It has one writer at a time anyway.
            Tx::Sqlite(_) => {}
            Tx::Postgres(tx) => tx.alone().await?,
            Tx::MySql(tx) => tx.alone().await?,
        }
        Ok(tx)
    }
}

/// A connection that reads.
pub(crate) enum Conn {
    Sqlite(sqlite::Conn),
    Postgres(postgres::Conn),
    MySql(mysql::Conn),
}

impl Conn {
    /// Prepares a statement and describes its columns.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) if the database refuses it; otherwise any kind.
    pub(crate) async fn columns(&mut self, statement: &Statement) -> Result<Vec<Described>> {
        let columns = match self {
            Self::Sqlite(conn) => sqlite::columns(conn, statement).await,
            Self::Postgres(conn) => conn.columns(statement).await,
            Self::MySql(conn) => conn.columns(statement).await,
        };
        columns.map_err(|error| about(error, statement))
    }

    /// Asks a statement and hands over each row until `each` has enough.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn each<F>(&mut self, statement: &Statement, args: Args<'_>, each: F) -> Result<()>
    where
        F: FnMut(Row) -> Result<ControlFlow<()>> + Send,
    {
        let done = match self {
            Self::Sqlite(conn) => sqlite::each(conn, statement, args, each).await,
            Self::Postgres(conn) => conn.each(statement, &statement.bind(args)?, each).await,
            Self::MySql(conn) => conn.each(statement, &statement.bind(args)?, each).await,
        };
        done.map_err(|error| about(error, statement))
    }
}

/// A transaction that writes; dropping it undoes everything.
pub(crate) enum Tx {
    Sqlite(sqlite::Tx),
    Postgres(postgres::Tx),
    MySql(mysql::Tx),
}

impl Tx {
    /// Asks a statement and returns its rows.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn rows(&mut self, statement: &Statement, args: Args<'_>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        };
        let done = match self {
            Self::Sqlite(tx) => sqlite::each(tx.connection(), statement, args, keep).await,
            Self::Postgres(tx) => tx.each(statement, &statement.bind(args)?, keep).await,
            Self::MySql(tx) => tx.each(statement, &statement.bind(args)?, keep).await,
        };
        done.map_err(|error| about(error, statement))?;
        Ok(rows)
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn execute(&mut self, statement: &Statement, args: Args<'_>) -> Result<u64> {
        let changed = match self {
            Self::Sqlite(tx) => sqlite::execute(tx.connection(), statement, args).await,
            Self::Postgres(tx) => tx.execute(statement, &statement.bind(args)?).await,
            Self::MySql(tx) => tx.execute(statement, &statement.bind(args)?).await,
        };
        changed.map_err(|error| about(error, statement))
    }

    /// Returns how an INSERT ends that changes nothing of what is there already.
    pub(crate) const fn unless_there(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => unless_there(Dialect::Sqlite),
            Self::Postgres(_) => unless_there(Dialect::Postgres),
            Self::MySql(_) => unless_there(Dialect::MySql),
        }
    }

    /// Runs an INSERT that ends [so](Self::unless_there), and returns how many rows it made.
    ///
    /// # Errors
    /// Any kind.
    pub(crate) async fn insert(&mut self, statement: &Statement, args: Args<'_>) -> Result<u64> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => self.execute(statement, args).await,
            Self::MySql(tx) => {
                let changed = tx.insert(statement, &statement.bind(args)?).await;
                changed.map_err(|error| about(error, statement))
            }
        }
    }

    /// Makes everything that was done stay.
    ///
    /// # Errors
    /// Any kind; it is not known then whether it stays.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
            Self::MySql(tx) => tx.commit().await,
        }
    }
}

fn scheme(config: &SqlConfig) -> &str {
    config.url.split_once(':').map_or("", |(scheme, _)| scheme)
}

/// Returns how an INSERT ends that changes nothing of what is there already.
pub(crate) const fn unless_there(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite | Dialect::Postgres => " ON CONFLICT DO NOTHING",
        // It has no such words that do not swallow other errors too: the error is taken for the answer.
        Dialect::MySql => "",
    }
}

fn about(error: Error, statement: &Statement) -> Error {
    error.with("query", statement.name())
}

/// Counts rows against [`MAX_ROWS`].
fn count_row(seen: &mut usize) -> Result<()> {
    *seen += 1;
    if *seen > MAX_ROWS {
        return Err(Error::new(
            ErrorKind::Misconfigured,
            format!("the query returns more than {MAX_ROWS} rows"),
        ));
    }
    Ok(())
}

/// Checks the limits that configuration sets.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) naming the setting.
pub(crate) fn check_limits(config: &SqlConfig) -> Result<()> {
    let faults = [
        ("pool.max_connections", u64::from(config.pool.max_connections), 1, 256),
        ("pool.acquire_timeout_ms", config.pool.acquire_timeout_ms, 1, 60_000),
        ("busy_timeout_ms", config.busy_timeout_ms, 0, 60_000),
        ("statement_timeout_ms", config.statement_timeout_ms, 1, 60_000),
    ];
    for (setting, value, least, most) in faults {
        if !(least..=most).contains(&value) {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                format!("{setting} must be between {least} and {most}, not {value}"),
            ));
        }
    }
    Ok(())
}

/// An [`Arc`] of a statement's text as sqlx takes it.
///
/// The texts come from configuration and from this crate; what people send is bound.
fn assured(sql: Arc<str>) -> sqlx::AssertSqlSafe<Arc<str>> {
    sqlx::AssertSqlSafe(sql)
}
