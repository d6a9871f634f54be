//! SQLite: one writer, several readers, a file that may be moved away under us.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use auth_core::{Error, ErrorKind, Id, Result};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::sqlite::{
    SqliteArguments, SqliteColumn, SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{
    Arguments, Column, ConnectOptions, Connection as _, Decode, Executor, Row as _, SqlSafeStr, Sqlite,
    Statement as _, Transaction, TypeInfo, ValueRef,
};

use super::{Place, Tables, assured, count_row};
use crate::error::{classify, classify_migration};
use crate::managed::{self, Claim, Plan};
use crate::scan::Dialect;
use crate::statement::{Args, Described, Kind, Statement, Value};
use crate::value::{Cell, Row};
use crate::{PoolConfig, SqlConfig};

pub(crate) type Conn = PoolConnection<Sqlite>;

/// A transaction that writes.
pub(crate) struct Tx {
    inner: Transaction<'static, Sqlite>,
    file: Option<Arc<File>>,
}

impl Tx {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    pub(super) async fn commit(self) -> Result<()> {
        self.inner.commit().await.map_err(classify)?;
        check_written(self.file.as_deref())
    }
}

/// What is written to a file that was taken away meanwhile is not there for the next question.
fn check_written(file: Option<&File>) -> Result<()> {
    match file.map_or(Ok(Place::Same), File::place)? {
        Place::Same => Ok(()),
        Place::Replaced => Err(Error::new(
            ErrorKind::Unavailable,
            "the database file was replaced while it was written to: the change may be lost",
        )),
    }
}

/// How often two processes that make one new database at the same time step aside for each other.
const WAL_TRIES: usize = 20;

/// A SQLite database.
#[derive(Debug)]
pub(crate) struct Lite {
    /// In memory the one connection is both.
    readers: SqlitePool,
    writer: SqlitePool,
    tables: Tables,
    file: Option<Arc<File>>,
}

/// Where a url points.
enum Target {
    Memory,
    File { path: PathBuf, access: FileAccess },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileAccess {
    ReadWrite,
    ReadOnly,
}

impl Lite {
    /// Makes the pools. A file of the managed schema is made if need be, unless it must be there already;
    /// connections come with the first use.
    pub(super) fn open(config: &SqlConfig, tables: Tables, claim: Claim) -> Result<Self> {
        let (target, options) = parse(&config.url)?;
        let options = options
            .create_if_missing(false)
            .busy_timeout(Duration::from_millis(config.busy_timeout_ms))
            // A lock or a revocation that was reported as done must outlive a power cut: with less, the last
            // commits to a write-ahead log may be lost.
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let (path, access) = match target {
            Target::Memory => {
                // Another connection would be another database, and closing this one would end it.
                let pool = pool(&config.pool, 1).connect_lazy_with(options.shared_cache(false));
                return Ok(Self { readers: pool.clone(), writer: pool, tables, file: None });
            }
            Target::File { path, access } => (path, access),
        };
        if tables == Tables::Managed {
            if access == FileAccess::ReadOnly {
                return Err(misconfigured("the managed schema needs a database that it may write to"));
            }
            if claim != Claim::Ours {
                create(&path)?;
            }
        }
        let file = Arc::new(File::watch(path)?);
        // A pool must not mix connections to two files: one that was made while another file stood here
        // would be taken for this one's later.
        let watched = |pool: SqlitePoolOptions| {
            let file = Arc::clone(&file);
            pool.after_connect(move |_, _| {
                let place = file.place();
                Box::pin(async move {
                    match place {
                        Ok(Place::Same) => Ok(()),
                        Ok(Place::Replaced) | Err(_) => {
                            Err(sqlx::Error::Io(io::Error::other("the database file was replaced")))
                        }
                    }
                })
            })
        };
        Ok(Self {
            // Not `read_only`, unless the url says so: a reader of a write-ahead log must be able to make its index.
            readers: watched(pool(&config.pool, config.pool.max_connections))
                .connect_lazy_with(options.clone().pragma("query_only", "ON")),
            writer: watched(pool(&config.pool, 1)).before_acquire(is_in_step).connect_lazy_with(options),
            tables,
            file: Some(file),
        })
    }

    pub(super) async fn read(&self) -> Result<Conn> {
        self.readers.acquire().await.map_err(classify)
    }

    pub(super) async fn write(&self) -> Result<Tx> {
        // IMMEDIATE: wait for the lock now, where waiting helps, not in the middle.
        let inner = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(classify)?;
        Ok(Tx { inner, file: self.file.clone() })
    }

    /// Runs a statement that is committed by itself, and returns how many rows it changed.
    pub(super) async fn change(&self, statement: &Statement, args: Args<'_>) -> Result<u64> {
        let mut connection = self.writer.acquire().await.map_err(classify)?;
        let changed = execute(&mut connection, statement, args).await?;
        check_written(self.file.as_deref())?;
        Ok(changed)
    }

    pub(super) fn place(&self) -> Result<Place> {
        let place = self.file.as_ref().map_or(Ok(Place::Same), |file| file.place())?;
        Ok(if self.readers.is_closed() { Place::Replaced } else { place })
    }

    /// Remembers the write-ahead log that belongs to the file, as long as nobody else's can be there.
    pub(super) fn note_log(&self) {
        if let Some(file) = &self.file {
            let _known = file.log.set(identity(&file.log_path()).ok());
        }
    }

    /// Closes the connections, unless the next file would be mixed with this one's log.
    pub(super) async fn close(&self) -> Result<()> {
        self.readers.close().await;
        // The log stays behind when the file is taken away, and SQLite would read it as the next file's. Our
        // own tables' goes into the file that it belongs to. Somebody else's is theirs to move or remove.
        if self.tables == Tables::Managed
            && !self.writer.is_closed()
            && let Ok(mut connection) = self.writer.acquire().await
        {
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.ok();
        }
        self.file.as_ref().map_or(Ok(()), |file| file.check_log())?;
        self.writer.close().await;
        Ok(())
    }

    pub(super) async fn migrate(&self, plan: Plan, claim: Claim) -> Result<()> {
        let mut tx = self.write().await?;
        match claim {
            Claim::Any => {}
            Claim::IfEmpty => refuse_strangers(tx.connection()).await?,
            Claim::Ours => self.require_ours(tx.connection()).await?,
        }
        let migrator = managed::migrator(plan, Dialect::Sqlite, "");
        let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
        // In one transaction with the lock held: two processes that start at once must not both migrate.
        migrator
            .run_direct(None, tx.connection(), false)
            .await
            .map_err(|error| classify_migration(error, newest))?;
        tx.commit().await?;
        if self.file.is_some() { self.write_ahead().await } else { Ok(()) }
    }

    /// Refuses a file that has no tables of ours: it is empty, half copied, or somebody else's.
    async fn require_ours(&self, connection: &mut SqliteConnection) -> Result<()> {
        let table = managed::MIGRATIONS;
        let there = format!("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '{table}'");
        let noted = format!("SELECT count(*) FROM {table}");
        if count(connection, there).await? > 0 && count(connection, noted).await? > 0 {
            return Ok(());
        }
        let path = self.file.as_ref().map(|file| file.path.display().to_string()).unwrap_or_default();
        let message = "the file that replaced the database has no tables of Gatepost";
        Err(Error::new(ErrorKind::Unavailable, message).with("file", path).with("table", table))
    }

    pub(super) async fn identity(&self) -> Result<Vec<u8>> {
        let mut connection = self.read().await?;
        let row: SqliteRow =
            sqlx::query(managed::IDENTITY).fetch_one(&mut *connection).await.map_err(classify)?;
        row.try_get(0).map_err(classify)
    }

    /// Switches to the write-ahead log, so that readers and the writer do not wait for each other.
    async fn write_ahead(&self) -> Result<()> {
        let mut tries = 0;
        loop {
            let mut connection = self.writer.acquire().await.map_err(classify)?;
            let switched = connection.execute("PRAGMA journal_mode = WAL").await.map_err(classify);
            drop(connection);
            match switched {
                // The busy timeout does not apply to the switch: wait in a transaction, where it does.
                Err(error) if error.kind().is_temporary() && tries < WAL_TRIES => {
                    tries += 1;
                    self.write().await?.commit().await?;
                }
                switched => return switched.map(|_| ()),
            }
        }
    }
}

/// Counts rows of `sqlite_schema` or of the migrations.
async fn count(connection: &mut SqliteConnection, sql: String) -> Result<i64> {
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await.map_err(classify)?;
    row.try_get(0).map_err(classify)
}

/// Refuses to put our tables among somebody else's unasked.
async fn refuse_strangers(connection: &mut SqliteConnection) -> Result<()> {
    const OTHERS: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' \
                          ESCAPE '\\' AND name NOT LIKE 'gatepost\\_%' ESCAPE '\\' ORDER BY name LIMIT 1";
    let other: Option<SqliteRow> = sqlx::query(OTHERS).fetch_optional(connection).await.map_err(classify)?;
    match other {
        None => Ok(()),
        Some(row) => Err(managed::strangers(row.try_get(0).map_err(classify)?)),
    }
}

fn pool(config: &PoolConfig, connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
        // A file does not hang up; a ping would cost as much as the question.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Reports whether a connection that nobody has is in no transaction, and so can begin one.
///
/// Where a disk is full, SQLite undoes the transaction by itself, and the driver waits for ever for an end of it: such a
/// connection is closed, and another takes its place.
fn is_in_step(
    connection: &mut SqliteConnection,
    _: PoolConnectionMetadata,
) -> BoxFuture<'_, std::result::Result<bool, sqlx::Error>> {
    let free = !connection.is_in_transaction();
    Box::pin(async move { Ok(free) })
}

fn misconfigured(message: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// Reads `sqlite:path`, `sqlite://path`, `sqlite::memory:`, with `?mode=ro` or `?mode=rw`.
fn parse(url: &str) -> Result<(Target, SqliteConnectOptions)> {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (name, access) = match rest.split_once('?') {
        None => (rest, FileAccess::ReadWrite),
        Some((name, "mode=ro")) => (name, FileAccess::ReadOnly),
        Some((name, "mode=rw" | "mode=rwc")) => (name, FileAccess::ReadWrite),
        Some(_) => {
            return Err(misconfigured("of what may follow the ? of a sqlite url, only mode=ro is known"));
        }
    };
    let options = SqliteConnectOptions::from_str(url).map_err(classify)?;
    if name == ":memory:" {
        return Ok((Target::Memory, options));
    }
    let path = options.get_filename().to_path_buf();
    if path.as_os_str().is_empty() {
        return Err(misconfigured("the sqlite url names no file"));
    }
    if path.to_str().is_none_or(|path| path.starts_with("file:")) {
        return Err(misconfigured("the sqlite url must be sqlite:PATH, without file:"));
    }
    Ok((Target::File { path, access }, options))
}

/// Makes an empty database file that only its owner may read: it will hold hashes.
fn create(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(misconfigured("the folder of the database file does not exist").because(error))
        }
        Err(error) => Err(misconfigured("the database file can't be made").because(error)),
    }
}

/// The database file as it was when it was opened.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    identity: Identity,
    log: OnceLock<Option<Identity>>,
}

impl File {
    fn watch(path: PathBuf) -> Result<Self> {
        match identity(&path) {
            Ok(identity) => Ok(Self { path, identity, log: OnceLock::new() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(misconfigured("the database file does not exist").because(error))
            }
            Err(error) => Err(misconfigured("the database file can't be read").because(error)),
        }
    }

    /// Looks at what stands at the path now.
    ///
    /// An open file stays readable after it was deleted or replaced: without this, people deleted from the
    /// new one could log in for as long as the process lives.
    fn place(&self) -> Result<Place> {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(Place::Same),
            Ok(_) => Ok(Place::Replaced),
            Err(error) => Err(Error::new(ErrorKind::Unavailable, "the database file is gone").because(error)),
        }
    }

    fn log_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        path.into()
    }

    /// Refuses to open another file beside what this one's log still holds.
    fn check_log(&self) -> Result<()> {
        let (path, known) = (self.log_path(), self.log.get().copied().flatten());
        let left = known.is_some() && identity(&path).ok() == known;
        if !left || self.place()? == Place::Same || std::fs::metadata(&path).is_ok_and(|log| log.len() == 0) {
            return Ok(());
        }
        let message = "the write-ahead log of the replaced database lies beside the new one: \
                       move it to the file that it belongs to, or remove it";
        Err(Error::new(ErrorKind::Unavailable, message).with("file", path.display()))
    }
}

/// Device, inode, and when it was made, where the file system tells: inodes are used again.
type Identity = (u64, u64, Option<SystemTime>);

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino(), file.created().ok()))
}

// Elsewhere an open database file can't be deleted or replaced.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|_| (0, 0, None))
}

/// Prepares a statement and describes its columns.
pub(super) async fn columns(
    connection: &mut SqliteConnection,
    statement: &Statement,
) -> Result<Vec<Described>> {
    let prepared = connection.prepare(assured(statement.sql()).into_sql_str()).await.map_err(classify)?;
    Ok(prepared.columns().iter().map(described).collect())
}

/// Asks a statement and hands over each row.
///
/// If this is dropped, SQLite goes on in the connection's own thread until the next row; only then is
/// the connection free for others.
pub(super) async fn each<F>(
    connection: &mut SqliteConnection,
    statement: &Statement,
    args: Args<'_>,
    mut each: F,
) -> Result<()>
where
    F: FnMut(Row) -> Result<ControlFlow<()>> + Send,
{
    let query = sqlx::query_with(assured(statement.sql()), arguments(statement, args)?);
    let mut rows = query.fetch(connection);
    let mut seen = 0;
    while let Some(row) = rows.next().await {
        count_row(&mut seen)?;
        if each(read(&row.map_err(classify)?)?)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Runs a statement and returns how many rows it changed.
pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statement: &Statement,
    args: Args<'_>,
) -> Result<u64> {
    let query = sqlx::query_with(assured(statement.sql()), arguments(statement, args)?);
    Ok(query.execute(connection).await.map_err(classify)?.rows_affected())
}

fn described(column: &SqliteColumn) -> Described {
    Described { name: column.name().to_owned(), kind: Kind::Any }
}

fn arguments(statement: &Statement, args: Args<'_>) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    for value in statement.bind(args)? {
        let added = match value {
            Value::NoInt | Value::NoText => arguments.add(None::<i64>),
            Value::Int(number) | Value::Key(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Uuid(bytes) => arguments.add(Id::Uuid(bytes).to_string()),
        };
        added.map_err(|cause| classify(sqlx::Error::Encode(cause)))?;
    }
    Ok(arguments)
}

fn read(row: &SqliteRow) -> Result<Row> {
    let mut cells = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let value = row.try_get_raw(column).map_err(classify)?;
        let unreadable = |cause| classify(sqlx::Error::Decode(cause));
        if value.is_null() {
            cells.push(Cell::Null);
            continue;
        }
        let kind = value.type_info().into_owned();
        cells.push(match kind.name() {
            "INTEGER" => Cell::Int(<i64 as Decode<'_, Sqlite>>::decode(value).map_err(unreadable)?),
            "REAL" => Cell::Other("a fraction"),
            "TEXT" => Cell::Text(<String as Decode<'_, Sqlite>>::decode(value).map_err(unreadable)?),
            _ => Cell::Other("a blob"),
        });
    }
    Ok(Row::new(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Opened {
        lite: Lite,
        path: PathBuf,
        folder: tempfile::TempDir,
    }

    async fn opened() -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut config = SqlConfig::new(format!("sqlite:{}", path.display()));
        config.pool.acquire_timeout_ms = 50;
        let lite = Lite::open(&config, Tables::Managed, Claim::IfEmpty).unwrap();
        lite.migrate(Plan::Directory, Claim::IfEmpty).await.unwrap();
        Opened { lite, path, folder }
    }

    #[tokio::test]
    async fn every_commit_waits_for_the_disk() {
        let Opened { lite, folder: _folder, .. } = opened().await;
        let mut connection = lite.writer.acquire().await.unwrap();
        let level = count(&mut connection, "PRAGMA synchronous".to_owned()).await.unwrap();
        // 2 is FULL: <https://www.sqlite.org/pragma.html#pragma_synchronous>.
        assert_eq!(level, 2);
    }

    #[tokio::test]
    async fn a_commit_to_a_file_that_was_taken_away_is_not_reported_as_done() {
        for put_another in [false, true] {
            let Opened { lite, path, folder } = opened().await;
            let mut tx = lite.write().await.unwrap();
            sqlx::query("INSERT INTO gatepost_group (name) VALUES ('staff')")
                .execute(tx.connection())
                .await
                .unwrap();
            std::fs::rename(&path, folder.path().join("away.db")).unwrap();
            if put_another {
                std::fs::write(&path, "").unwrap();
            }
            assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::Unavailable, "{put_another}");
        }
    }

    #[tokio::test]
    async fn after_a_transaction_that_sqlite_has_undone_by_itself_another_can_begin() {
        let Opened { lite, folder: _folder, .. } = opened().await;
        let mut tx = lite.write().await.unwrap();
        // As SQLite does where the disk is full.
        sqlx::query("ROLLBACK").execute(tx.connection()).await.unwrap();
        assert!(tx.commit().await.is_err());
        lite.write().await.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_pool_connects_to_no_file_but_its_own() {
        let Opened { lite, path, folder } = opened().await;
        let other = opened().await;
        let away = folder.path().join("away.db");
        std::fs::rename(&path, &away).unwrap();
        std::fs::rename(&other.path, &path).unwrap();
        assert!(lite.read().await.is_err(), "no reader was connected yet: it would be the other file's");
        std::fs::rename(&away, &path).unwrap();
        assert!(lite.read().await.is_ok());
    }
}
