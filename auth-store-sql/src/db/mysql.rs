//! MariaDB and MySQL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Id, Result};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::mysql::{
    MySqlArguments, MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode, MySqlValueRef,
};
use sqlx::{
    Arguments, Column, ConnectOptions, Connection as _, Decode, Executor, MySql, Row as _, SqlSafeStr,
    Statement as _, Type, TypeInfo, ValueRef,
};

use super::assured;
use super::pool::{Driver, Leased, Limits, Pool, Transaction};
use super::server::{bare, check_url, misconfigured, tls_mode};
use crate::config::{SqlConfig, TlsMode};
use crate::error::{classify, classify_migration, in_time};
use crate::managed::{self, Claim, Plan};
use crate::scan::Dialect;
use crate::statement::{Described, Kind, Statement, Value};
use crate::value::{Cell, Row, days, from_unix};

pub(crate) type Conn = Leased<Link>;
pub(crate) type Tx = Transaction<Link>;

/// How long migrating may take, and waiting for somebody else who migrates.
const MIGRATION: Duration = Duration::from_secs(60);

/// As the scanner of statements reads them, and nothing is cut to fit.
const SQL_MODE: &str = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
                        NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT";

/// A MariaDB or MySQL database.
#[derive(Debug)]
pub(crate) struct Server {
    readers: Pool<Link>,
    writer: Pool<Link>,
}

/// How connections are made.
pub(crate) struct Link {
    options: MySqlConnectOptions,
    access: Access,
    statement_timeout: Duration,
    lock_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Reads,
    Writes,
}

impl fmt::Debug for Link {
    // The options show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("host", &self.options.get_host()).finish_non_exhaustive()
    }
}

/// Which of the two it is. They differ in how a statement's time is limited, and in the names of collations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    MariaDb,
    MySql,
}

impl Product {
    async fn of(connection: &mut MySqlConnection) -> sqlx::Result<Self> {
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(connection).await?;
        Ok(if version.contains("MariaDB") { Self::MariaDb } else { Self::MySql })
    }

    /// Compares byte for byte, trailing blanks included.
    const fn exact_collation(self) -> &'static str {
        match self {
            Self::MariaDb => "utf8mb4_nopad_bin",
            Self::MySql => "utf8mb4_0900_bin",
        }
    }
}

fn options(config: &SqlConfig) -> Result<MySqlConnectOptions> {
    check_url(&config.url, &["socket"])?;
    let options = MySqlConnectOptions::from_str(&config.url).map_err(classify)?;
    if options.get_database().is_none() {
        return Err(misconfigured("the url names no database"));
    }
    let host = options.get_host().to_owned();
    let mode = tls_mode(config, if options.get_socket().is_some() { None } else { Some(bare(&host)) })?;
    let mut options = options
        .host(bare(&host))
        .ssl_mode(match mode {
            TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::Require => MySqlSslMode::Required,
            TlsMode::Off => MySqlSslMode::Disabled,
        })
        .disable_statement_logging();
    if let Some(ca) = &config.tls.ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

impl Link {
    const fn new(options: MySqlConnectOptions, config: &SqlConfig, access: Access) -> Self {
        Self {
            options,
            access,
            statement_timeout: Duration::from_millis(config.statement_timeout_ms),
            lock_timeout: Duration::from_millis(config.busy_timeout_ms),
        }
    }

    async fn open(&self) -> sqlx::Result<MySqlConnection> {
        let mut connection = self.options.connect().await?;
        let product = Product::of(&mut connection).await?;
        let limit = match product {
            Product::MariaDb => format!("max_statement_time = {}", self.statement_timeout.as_secs_f64()),
            // Of SELECT only: MySQL has no limit for others.
            Product::MySql => format!("max_execution_time = {}", self.statement_timeout.as_millis()),
        };
        let access = match self.access {
            Access::Reads => "READ ONLY",
            Access::Writes => "READ WRITE",
        };
        // In whole seconds, and one at least.
        let patience = self.lock_timeout.as_millis().div_ceil(1_000).max(1);
        let session = format!(
            "SET SESSION sql_mode = '{SQL_MODE}', {limit}, innodb_lock_wait_timeout = {patience}; \
             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, {access}"
        );
        connection.execute(sqlx::AssertSqlSafe(session)).await?;
        Ok(connection)
    }
}

impl Server {
    /// Makes the pools; connections come with the first use.
    pub(super) fn open(config: &SqlConfig) -> Result<Self> {
        let options = options(config)?;
        let link = |access| Link::new(options.clone(), config, access);
        Ok(Self {
            readers: Pool::new(link(Access::Reads), Limits::new(config, config.pool.max_connections)),
            writer: Pool::new(link(Access::Writes), Limits::new(config, 1)),
        })
    }

    /// Makes one pool for all, where every connection writes.
    pub(super) fn open_for_writing(config: &SqlConfig) -> Result<Self> {
        let limits = Limits::new(config, config.pool.max_connections);
        let all = Pool::new(Link::new(options(config)?, config, Access::Writes), limits);
        Ok(Self { readers: all.clone(), writer: all })
    }

    pub(super) fn writer(&self) -> &Pool<Link> {
        &self.writer
    }

    pub(super) async fn read(&self) -> Result<Conn> {
        self.readers.take().await
    }

    pub(super) async fn write(&self) -> Result<Tx> {
        Tx::begin(&self.writer).await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.readers.is_closed()
    }

    pub(super) fn close(&self) {
        self.readers.close();
        self.writer.close();
    }

    pub(super) async fn migrate(&self, plan: Plan, claim: Claim) -> Result<()> {
        // Its first connection says what is wrong, in the time that connections have.
        drop(self.writer.take().await?);
        in_time(MIGRATION, async {
            let mut connection = self.writer.driver().options.connect().await.map_err(classify)?;
            let migrated = migrate(&mut connection, plan, claim).await;
            // The lock ends with the connection.
            connection.close().await.ok();
            migrated
        })
        .await
    }

    pub(super) async fn identity(&self) -> Result<Vec<u8>> {
        in_time(MIGRATION, async {
            let mut connection = self.writer.driver().options.connect().await.map_err(classify)?;
            let row = sqlx::query(managed::IDENTITY).fetch_one(&mut connection).await.map_err(classify)?;
            connection.close().await.ok();
            row.try_get(0).map_err(classify)
        })
        .await
    }
}

async fn migrate(connection: &mut MySqlConnection, plan: Plan, claim: Claim) -> Result<()> {
    let product = Product::of(connection).await.map_err(classify)?;
    // No transaction holds what makes tables together: a lock does, which ends with the connection.
    let lock = "SELECT COALESCE(GET_LOCK(CONCAT('gatepost.', LEFT(SHA1(DATABASE()), 40)), ?), 0)";
    let row =
        sqlx::query(lock).bind(MIGRATION.as_secs()).fetch_one(&mut *connection).await.map_err(classify)?;
    let locked: i64 = row.try_get(0).map_err(classify)?;
    if locked != 1 {
        return Err(auth_core::Error::new(
            auth_core::ErrorKind::Timeout,
            "somebody else has been migrating this database for a minute",
        ));
    }
    if claim == Claim::IfEmpty {
        const OTHERS: &str = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name NOT LIKE 'gatepost\\_%' ORDER BY 1 LIMIT 1";
        let other: Option<MySqlRow> =
            sqlx::query(OTHERS).fetch_optional(&mut *connection).await.map_err(classify)?;
        if let Some(row) = other {
            return Err(managed::strangers(row.try_get(0).map_err(classify)?));
        }
    }
    // What was broken off is run again: see the migrations' first lines.
    let unfinished = format!("DELETE FROM {} WHERE success = FALSE", plan.noted());
    let there =
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";
    let row = sqlx::query(there).bind(plan.noted()).fetch_one(&mut *connection).await.map_err(classify)?;
    if row.try_get::<i64, _>(0).map_err(classify)? > 0 {
        connection.execute(sqlx::AssertSqlSafe(unfinished)).await.map_err(classify)?;
    }
    let migrator = managed::migrator(plan, Dialect::MySql, product.exact_collation());
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    migrator.run_direct(None, connection, false).await.map_err(|error| classify_migration(error, newest))
}

impl Driver for Link {
    type Connection = MySqlConnection;

    fn connect(&self) -> BoxFuture<'_, sqlx::Result<MySqlConnection>> {
        Box::pin(self.open())
    }

    fn columns<'c>(
        connection: &'c mut MySqlConnection,
        statement: &'c Statement,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Described>>> {
        Box::pin(async move {
            // A session that only reads does not even prepare an UPDATE. If that fails, it is not used again.
            connection.execute("SET SESSION TRANSACTION READ WRITE").await?;
            let prepared = connection.prepare(assured(statement.sql()).into_sql_str()).await?;
            connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
            Ok(prepared.columns().iter().map(described).collect())
        })
    }

    fn fetch<'c>(
        connection: &'c mut MySqlConnection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxStream<'c, sqlx::Result<Row>>> {
        let rows = sqlx::query_with(assured(sql), arguments(values)?).fetch(connection);
        Ok(rows.map(|row| read(&row?)).boxed())
    }

    fn execute<'c>(
        connection: &'c mut MySqlConnection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxFuture<'c, sqlx::Result<u64>>> {
        let query = sqlx::query_with(assured(sql), arguments(values)?);
        Ok(Box::pin(async move { Ok(query.execute(connection).await?.rows_affected()) }))
    }

    fn run<'c>(connection: &'c mut MySqlConnection, sql: &'static str) -> BoxFuture<'c, sqlx::Result<()>> {
        Box::pin(async move { connection.execute(sql).await.map(|_| ()) })
    }
}

fn described(column: &MySqlColumn) -> Described {
    Described { name: column.name().to_owned(), kind: Kind::Any }
}

fn arguments(values: &[Value<'_>]) -> sqlx::Result<MySqlArguments> {
    let mut arguments = MySqlArguments::default();
    for value in values {
        let added = match *value {
            Value::NoInt => arguments.add(None::<i64>),
            Value::NoText => arguments.add(None::<&str>),
            Value::Int(number) => arguments.add(number),
            // As a number, 0 is any text that begins with no digit.
            Value::Key(number) => arguments.add(number.to_string()),
            Value::Text(text) => arguments.add(text),
            Value::Uuid(bytes) => arguments.add(Id::Uuid(bytes).to_string()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn read(row: &MySqlRow) -> sqlx::Result<Row> {
    let mut cells = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let value = row.try_get_raw(column)?;
        let cell = if value.is_null() { Cell::Null } else { cell(value).map_err(sqlx::Error::Decode)? };
        cells.push(cell);
    }
    Ok(Row::new(cells))
}

fn cell(value: MySqlValueRef<'_>) -> std::result::Result<Cell, BoxDynError> {
    let kind = value.type_info().into_owned();
    // Not by the name: sqlx calls texts of a collation that ends in `_bin` binary.
    if <str as Type<MySql>>::compatible(&kind) {
        return Ok(Cell::Text(<String as Decode<'_, MySql>>::decode(value)?));
    }
    Ok(match kind.name() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            Cell::Int(<i64 as Decode<'_, MySql>>::decode(value)?)
        }
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
        | "BIGINT UNSIGNED" => {
            let number = <u64 as Decode<'_, MySql>>::decode(value)?;
            i64::try_from(number).map_or(Cell::Other("a number out of range"), Cell::Int)
        }
        "BIT" => bits(<&[u8] as Decode<'_, MySql>>::decode(value)?),
        "DECIMAL" => {
            let text = <&str as Decode<'_, MySql>>::decode(value)?;
            text.parse().map_or(Cell::Other("a fraction"), Cell::Int)
        }
        "DATETIME" | "TIMESTAMP" => time(<&[u8] as Decode<'_, MySql>>::decode(value)?),
        "FLOAT" | "DOUBLE" => Cell::Other("a fraction"),
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
            let bytes = <&[u8] as Decode<'_, MySql>>::decode(value)?;
            match (kind.name(), bytes.try_into(), std::str::from_utf8(bytes)) {
                ("BINARY", Ok(uuid), _) => Cell::Uuid(uuid),
                // Many keep texts so, to have them compared exactly.
                (_, _, Ok(text)) => Cell::Text(text.to_owned()),
                _ => Cell::Other("a blob"),
            }
        }
        "DATE" | "TIME" | "YEAR" => Cell::Other("a date or a time of day"),
        _ => Cell::Other("of a type that is not known here"),
    })
}

/// Reads `BIT(n)`: up to eight bytes, the highest first.
fn bits(bytes: &[u8]) -> Cell {
    let number = bytes.iter().try_fold(0_i64, |number, byte| {
        number.checked_mul(256).and_then(|number| number.checked_add(i64::from(*byte)))
    });
    number.map_or(Cell::Other("a number out of range"), Cell::Int)
}

/// Reads a time of the binary protocol, in UTC as the session is: its length, then year, month, day, hour, minute,
/// second, microseconds; what is 0 at the end is left out.
fn time(bytes: &[u8]) -> Cell {
    let at = |n: usize| i64::from(bytes.get(n).copied().unwrap_or(0));
    let (year, month, day) = (at(1) + 256 * at(2), at(3), at(4));
    if month == 0 || day == 0 {
        return Cell::Other("the date 0, which is none");
    }
    let seconds = days(year, month, day) * 86_400 + at(5) * 3_600 + at(6) * 60 + at(7);
    let micros = at(8) + 256 * (at(9) + 256 * (at(10) + 256 * at(11)));
    let nanos = u32::try_from(micros * 1_000).unwrap_or(0);
    from_unix(seconds, nanos).map_or(Cell::Other("a time out of range"), Cell::Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn times_and_bits_are_read_from_their_bytes() {
        let second = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let check = |bytes: &[u8], expected: Option<SystemTime>| match (time(bytes), expected) {
            (Cell::Time(read), Some(expected)) => assert_eq!(read, expected),
            (Cell::Other(_), None) => {}
            _ => panic!("{bytes:?}"),
        };
        check(&[7, 0xea, 7, 1, 1, 0, 0, 1], Some(second(1_767_225_601)));
        check(&[4, 0xea, 7, 1, 1], Some(second(1_767_225_600)));
        let half = second(1_767_225_600) + Duration::from_micros(500_000);
        check(&[11, 0xea, 7, 1, 1, 0, 0, 0, 0x20, 0xa1, 7, 0], Some(half));
        check(&[0], None);
        check(&[4, 0xea, 7, 0, 1], None);
        assert!(matches!(bits(&[1, 1]), Cell::Int(257)) && matches!(bits(&[0xff; 8]), Cell::Other(_)));
    }
}
