//! A database to test on.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use auth_store_sql::SqlConfig;
use auth_testkit::servers::{DatabaseTls, MariaDb, MariaDbOptions, Postgres, PostgresOptions, skipped};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{Mutex, MutexGuard};

use crate::common;

/// A test: what it does on a database.
pub(crate) type Test = fn(On) -> Pin<Box<dyn Future<Output = ()>>>;

pub(crate) const SERVERS: &[Engine] = &[Engine::Postgres, Engine::MariaDb];

/// A test's name and where it runs.
pub(crate) type Listed = (&'static str, &'static [Engine], Test);

pub(crate) const ALL: &[Engine] = &[Engine::Sqlite, Engine::Postgres, Engine::MariaDb];

/// Lists tests: one that is not listed is not used, and the compiler says so.
macro_rules! tests {
    ($($engines:expr => { $($name:ident),* $(,)? })*) => {
        pub(crate) const TESTS: &[$crate::on::Listed] =
            &[$($((stringify!($name), $engines, |on| Box::pin($name(on)))),*),*];
    };
}
pub(crate) use tests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }

    pub(crate) fn skipped(self) -> bool {
        self != Self::Sqlite && skipped(self.name())
    }
}

/// The servers that all tests share.
#[derive(Default)]
pub(crate) struct Servers {
    postgres: OnceLock<Postgres>,
    mariadb: OnceLock<MariaDb>,
    /// Those that are killed.
    victims: [OnceLock<Mutex<Server>>; 2],
    databases: AtomicU32,
}

impl Servers {
    pub(crate) fn postgres(&self) -> &Postgres {
        self.postgres.get_or_init(|| {
            let more = ["log_statement=all", "log_line_prefix=%d "].map(str::to_owned).to_vec();
            let postgres = Postgres::start(&PostgresOptions { tls: None, more });
            postgres.sql("template1", "CREATE EXTENSION citext");
            postgres
        })
    }

    pub(crate) fn mariadb(&self) -> &MariaDb {
        self.mariadb.get_or_init(|| MariaDb::start(&MariaDbOptions::default()))
    }
}

/// A server, whichever.
pub(crate) enum Server {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

macro_rules! either {
    ($self:ident, $server:ident => $what:expr) => {
        match $self {
            Server::Postgres($server) => $what,
            Server::MariaDb($server) => $what,
        }
    };
}

impl Server {
    pub(crate) fn start(engine: Engine, tls: Option<DatabaseTls>) -> Self {
        match engine {
            Engine::MariaDb => Self::MariaDb(MariaDb::start(&MariaDbOptions { tls, more: Vec::new() })),
            Engine::Postgres | Engine::Sqlite => {
                Self::Postgres(Postgres::start(&PostgresOptions { tls, more: Vec::new() }))
            }
        }
    }

    pub(crate) fn create(&self, database: &str) {
        either!(self, server => server.create(database));
    }

    pub(crate) fn url(&self, database: &str) -> String {
        either!(self, server => server.url(database))
    }

    pub(crate) fn port(&self) -> u16 {
        either!(self, server => server.port())
    }

    /// Runs statements as the superuser.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        either!(self, server => server.sql(database, sql))
    }

    pub(crate) fn kill(&self) {
        either!(self, server => server.kill());
    }

    pub(crate) fn stop(&self) {
        either!(self, server => server.stop_signal());
    }

    pub(crate) fn cont(&self) {
        either!(self, server => server.cont_signal());
    }

    pub(crate) fn restart(&self) {
        either!(self, server => server.restart());
    }
}

/// Where a test runs.
#[derive(Clone)]
pub(crate) struct On {
    pub(crate) engine: Engine,
    pub(crate) servers: Arc<Servers>,
}

impl On {
    pub(crate) fn new(engine: Engine, servers: Arc<Servers>) -> Self {
        Self { engine, servers }
    }

    /// Chooses among what is written for each database.
    pub(crate) fn choose<T>(&self, sqlite: T, postgres: T, mariadb: T) -> T {
        match self.engine {
            Engine::Sqlite => sqlite,
            Engine::Postgres => postgres,
            Engine::MariaDb => mariadb,
        }
    }

    /// A server that may be killed, for as long as it is held.
    pub(crate) async fn victim(&self) -> MutexGuard<'_, Server> {
        let victim = &self.servers.victims[usize::from(self.engine == Engine::MariaDb)];
        victim.get_or_init(|| Mutex::new(Server::start(self.engine, None))).lock().await
    }

    /// A name that no other test uses.
    pub(crate) fn fresh_name(&self) -> String {
        format!("t{}_", self.servers.databases.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs statements as the superuser of the server that all share.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        match self.engine {
            Engine::MariaDb => self.servers.mariadb().sql(database, sql),
            Engine::Postgres | Engine::Sqlite => self.servers.postgres().sql(database, sql),
        }
    }

    /// An empty database.
    pub(crate) fn empty(&self) -> Database {
        let name = self.fresh_name();
        let (url, file) = match self.engine {
            Engine::Sqlite => {
                let file = common::Database::absent();
                (file.url(), Some(file))
            }
            Engine::Postgres => {
                self.servers.postgres().create(&name);
                (self.servers.postgres().url(&name), None)
            }
            Engine::MariaDb => {
                self.servers.mariadb().create(&name);
                (self.servers.mariadb().url(&name), None)
            }
        };
        Database { on: self.clone(), name, url, file }
    }

    /// A database with these tables and rows, as SQLite would write them.
    pub(crate) async fn with(&self, sql: &str) -> Database {
        let database = self.empty();
        database.run(&self.spelled(sql)).await;
        database
    }

    /// PostgreSQL folds only where both sides do, and a text is bound as one.
    pub(crate) fn folding(&self, sql: &str) -> String {
        match self.engine {
            Engine::Postgres => sql.replace("= :login", "= :login::citext"),
            Engine::Sqlite | Engine::MariaDb => sql.to_owned(),
        }
    }

    /// Writes the types of SQLite as this database does. Columns that fold stay so.
    pub(crate) fn spelled(&self, sql: &str) -> String {
        match self.engine {
            Engine::Sqlite => sql.to_owned(),
            Engine::Postgres => sql
                .replace("TEXT UNIQUE COLLATE NOCASE", "CITEXT UNIQUE")
                .replace("TEXT COLLATE NOCASE", "CITEXT")
                .replace("INTEGER", "BIGINT"),
            Engine::MariaDb => sql
                .replace(" COLLATE NOCASE", "")
                // Where nothing comes back to be compared, the column must tell capitals from small letters.
                .replace("mode TEXT", "mode VARCHAR(255) COLLATE utf8mb4_nopad_bin")
                .replace("what TEXT", "what VARCHAR(255) COLLATE utf8mb4_nopad_bin")
                .replace("TEXT", "VARCHAR(255)")
                .replace("INTEGER", "BIGINT"),
        }
    }
}

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) on: On,
    pub(crate) name: String,
    url: String,
    file: Option<common::Database>,
}

impl Database {
    pub(crate) fn config(&self) -> SqlConfig {
        SqlConfig::new(self.url.clone())
    }

    /// Runs statements from outside.
    pub(crate) async fn run(&self, sql: &str) {
        match &self.file {
            Some(file) => file.run(sql).await,
            None if self.on.engine == Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            None => {
                let mut connection = MySqlConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        match &self.file {
            Some(file) => file.count(table).await,
            None if self.on.engine == Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
            None => {
                let mut connection = MySqlConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
        }
    }
}
