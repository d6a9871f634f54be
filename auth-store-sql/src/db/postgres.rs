//! PostgreSQL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::Result;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgColumn, PgConnectOptions, PgConnection, PgRow, PgSslMode, PgTypeInfo,
    PgTypeKind, PgValueRef,
};
use sqlx::{
    Arguments, Column, ConnectOptions, Connection as _, Encode, Executor, Postgres, Row as _, SqlSafeStr,
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
use crate::value::{Cell, Row};

pub(crate) type Conn = Leased<Link>;
pub(crate) type Tx = Transaction<Link>;

/// What those who migrate at the same time wait for. Any number that nobody else uses does.
const LOCK: i64 = 0x6761_7465_706f_7374;

/// How long migrating may take, and waiting for somebody else who migrates.
const MIGRATION: Duration = Duration::from_secs(60);

/// A PostgreSQL database.
#[derive(Debug)]
pub(crate) struct Server {
    readers: Pool<Link>,
    writer: Pool<Link>,
}

/// How connections are made.
pub(crate) struct Link(PgConnectOptions);

impl fmt::Debug for Link {
    // The options show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("host", &self.0.get_host()).finish_non_exhaustive()
    }
}

/// Reads where the database is, how the connection to it is secured, and how long it may work on a statement.
///
/// # Errors
/// [`Misconfigured`](auth_core::ErrorKind::Misconfigured) if the url or a setting of `tls` is not acceptable.
pub(crate) fn options(config: &SqlConfig) -> Result<PgConnectOptions> {
    check_url(&config.url, &["host", "options"])?;
    let options = PgConnectOptions::from_str(&config.url).map_err(classify)?;
    if options.get_database().is_none() {
        return Err(misconfigured("the url names no database"));
    }
    let host = options.get_host().to_owned();
    let socket = options.get_socket().is_some() || host.starts_with('/');
    let mode = tls_mode(config, if socket { None } else { Some(bare(&host)) })?;
    let mut options = options
        .host(bare(&host))
        .ssl_mode(match mode {
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::Off => PgSslMode::Disable,
        })
        .application_name("gatepost")
        // The first of two is overruled: none of these may come from the url.
        .options([
            ("statement_timeout", config.statement_timeout_ms.to_string()),
            ("lock_timeout", config.busy_timeout_ms.max(1).to_string()),
            ("idle_in_transaction_session_timeout", MIGRATION.as_millis().to_string()),
            // As the scanner of statements reads strings.
            ("standard_conforming_strings", "on".to_owned()),
        ])
        .disable_statement_logging();
    if let Some(ca) = &config.tls.ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

impl Server {
    /// Makes the pools; connections come with the first use.
    pub(super) fn open(config: &SqlConfig) -> Result<Self> {
        let options = options(config)?;
        let reading = options.clone().options([("default_transaction_read_only", "on")]);
        Ok(Self {
            readers: Pool::new(Link(reading), Limits::new(config, config.pool.max_connections)),
            writer: Pool::new(Link(options), Limits::new(config, 1)),
        })
    }

    /// Makes one pool for all, where every connection writes.
    pub(super) fn open_for_writing(config: &SqlConfig) -> Result<Self> {
        let all = Pool::new(Link(options(config)?), Limits::new(config, config.pool.max_connections));
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
            let mut connection = self.writer.driver().0.connect().await.map_err(classify)?;
            let migrated = migrate(&mut connection, plan, claim).await;
            connection.close().await.ok();
            migrated
        })
        .await
    }

    pub(super) async fn identity(&self) -> Result<Vec<u8>> {
        in_time(MIGRATION, async {
            let mut connection = self.writer.driver().0.connect().await.map_err(classify)?;
            let row = sqlx::query(managed::IDENTITY).fetch_one(&mut connection).await.map_err(classify)?;
            connection.close().await.ok();
            row.try_get(0).map_err(classify)
        })
        .await
    }
}

async fn migrate(connection: &mut PgConnection, plan: Plan, claim: Claim) -> Result<()> {
    let mut tx = connection.begin().await.map_err(classify)?;
    let patience = MIGRATION.as_millis();
    let wait = format!("SET LOCAL statement_timeout = {patience}; SET LOCAL lock_timeout = {patience}");
    tx.execute(sqlx::AssertSqlSafe(wait)).await.map_err(classify)?;
    // In one transaction with the lock held: two processes that start at once must not both migrate.
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await.map_err(classify)?;
    if claim == Claim::IfEmpty {
        const OTHERS: &str = "SELECT tablename::text FROM pg_catalog.pg_tables \
             WHERE schemaname = current_schema() AND tablename NOT LIKE 'gatepost\\_%' ORDER BY 1 LIMIT 1";
        let other: Option<PgRow> = sqlx::query(OTHERS).fetch_optional(&mut *tx).await.map_err(classify)?;
        if let Some(row) = other {
            return Err(managed::strangers(row.try_get(0).map_err(classify)?));
        }
    }
    let migrator = managed::migrator(plan, Dialect::Postgres, "");
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    migrator.run_direct(None, &mut *tx, false).await.map_err(|error| classify_migration(error, newest))?;
    tx.commit().await.map_err(classify)
}

impl Driver for Link {
    type Connection = PgConnection;

    fn connect(&self) -> BoxFuture<'_, sqlx::Result<PgConnection>> {
        Box::pin(self.0.connect())
    }

    fn columns<'c>(
        connection: &'c mut PgConnection,
        statement: &'c Statement,
    ) -> BoxFuture<'c, sqlx::Result<Vec<Described>>> {
        Box::pin(async move {
            let types: Vec<PgTypeInfo> =
                statement.parameters().iter().map(|parameter| kind(parameter.kind)).collect();
            let sql = assured(statement.sql()).into_sql_str();
            let prepared = connection.prepare_with(sql, &types).await?;
            Ok(prepared.columns().iter().map(described).collect())
        })
    }

    fn fetch<'c>(
        connection: &'c mut PgConnection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxStream<'c, sqlx::Result<Row>>> {
        let rows = sqlx::query_with(assured(sql), arguments(values)?).fetch(connection);
        Ok(rows.map(|row| read(&row?)).boxed())
    }

    fn execute<'c>(
        connection: &'c mut PgConnection,
        sql: Arc<str>,
        values: &[Value<'_>],
    ) -> sqlx::Result<BoxFuture<'c, sqlx::Result<u64>>> {
        let query = sqlx::query_with(assured(sql), arguments(values)?);
        Ok(Box::pin(async move { Ok(query.execute(connection).await?.rows_affected()) }))
    }

    fn run<'c>(connection: &'c mut PgConnection, sql: &'static str) -> BoxFuture<'c, sqlx::Result<()>> {
        Box::pin(async move { connection.execute(sql).await.map(|_| ()) })
    }
}

/// A UUID, which is no type of sqlx without a feature.
struct Uuid([u8; 16]);

/// <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/catalog/pg_type.dat>
const INT8: PgTypeInfo = PgTypeInfo::with_oid(Oid(20));
const TEXT: PgTypeInfo = PgTypeInfo::with_oid(Oid(25));
const UUID: PgTypeInfo = PgTypeInfo::with_oid(Oid(2950));
/// The server finds out.
const ANY: PgTypeInfo = PgTypeInfo::with_oid(Oid(0));

const fn kind(kind: Kind) -> PgTypeInfo {
    match kind {
        Kind::Int => INT8,
        Kind::Text | Kind::Foreign => TEXT,
        Kind::Uuid => UUID,
        Kind::Any => ANY,
    }
}

impl Type<Postgres> for Uuid {
    fn type_info() -> PgTypeInfo {
        UUID
    }
}

impl Encode<'_, Postgres> for Uuid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

fn described(column: &PgColumn) -> Described {
    let kind = match column.type_info().name() {
        "INT2" | "INT4" | "INT8" | "BOOL" => Kind::Int,
        "UUID" => Kind::Uuid,
        _ => Kind::Text,
    };
    Described { name: column.name().to_owned(), kind }
}

fn arguments(values: &[Value<'_>]) -> sqlx::Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match *value {
            Value::NoInt => arguments.add(None::<i64>),
            Value::NoText => arguments.add(None::<&str>),
            Value::Int(number) | Value::Key(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Uuid(bytes) => arguments.add(Uuid(bytes)),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn read(row: &PgRow) -> sqlx::Result<Row> {
    let mut cells = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let value = row.try_get_raw(column)?;
        let cell = if value.is_null() { Cell::Null } else { cell(&value).map_err(sqlx::Error::Decode)? };
        cells.push(cell);
    }
    Ok(Row::new(cells))
}

fn cell(value: &PgValueRef<'_>) -> std::result::Result<Cell, BoxDynError> {
    let kind = value.type_info();
    Ok(match kind.name() {
        "BOOL" => Cell::Int((value.as_bytes()? != [0]).into()),
        "INT2" => Cell::Int(i16::from_be_bytes(value.as_bytes()?.try_into()?).into()),
        "INT4" => Cell::Int(i32::from_be_bytes(value.as_bytes()?.try_into()?).into()),
        "INT8" => Cell::Int(i64::from_be_bytes(value.as_bytes()?.try_into()?)),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => Cell::Text(value.as_str()?.to_owned()),
        "UUID" => Cell::Uuid(value.as_bytes()?.try_into()?),
        "TIMESTAMPTZ" | "TIMESTAMP" => time(i64::from_be_bytes(value.as_bytes()?.try_into()?)),
        "FLOAT4" | "FLOAT8" | "NUMERIC" => Cell::Other("a fraction"),
        "BYTEA" => Cell::Other("a blob"),
        name if name.eq_ignore_ascii_case("citext") || matches!(kind.kind(), PgTypeKind::Enum(_)) => {
            Cell::Text(value.as_str()?.to_owned())
        }
        _ => Cell::Other("of a type that is not known here"),
    })
}

/// Reads microseconds since 2000. `infinity` is never.
fn time(micros: i64) -> Cell {
    /// From 1970 to 2000.
    const EPOCH: Duration = Duration::from_secs(946_684_800);
    if micros == i64::MAX {
        return Cell::Null;
    }
    let since = Duration::from_micros(micros.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH.checked_add(EPOCH);
    let time =
        epoch.and_then(|epoch| if micros < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) });
    time.map_or(Cell::Other("a time out of range"), Cell::Time)
}
