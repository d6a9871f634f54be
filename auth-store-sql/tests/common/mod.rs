//! What the tests of this crate share.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth_core::{Ctx, Directory, Error, ErrorKind, NewUser, Result};
use auth_store_sql::{ObjectConfig, SqlConfig, SqlStore};
use auth_testkit::{ManualClock, Standing, World, info, realm};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

pub(crate) fn ctx() -> Ctx {
    Ctx::new()
}

pub(crate) async fn connect(config: SqlConfig) -> Result<Arc<SqlStore>> {
    connect_at(config, ManualClock::new()).await
}

pub(crate) async fn connect_at(config: SqlConfig, clock: Arc<ManualClock>) -> Result<Arc<SqlStore>> {
    SqlStore::connect(info("app"), config, clock).await.map(Arc::new)
}

pub(crate) async fn refused(config: SqlConfig) -> Error {
    connect(config).await.expect_err("these settings must be refused")
}

/// A database file in a folder of its own.
pub(crate) struct Database {
    pub(crate) folder: TempDir,
    pub(crate) path: PathBuf,
}

impl Database {
    /// A path at which there is nothing yet.
    pub(crate) fn absent() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        Self { folder, path }
    }

    /// A database with these tables and rows.
    pub(crate) async fn with(sql: &str) -> Self {
        let database = Self::absent();
        database.run(sql).await;
        database
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    pub(crate) fn config(&self) -> SqlConfig {
        SqlConfig::new(self.url())
    }

    /// A connection of somebody else.
    pub(crate) async fn open(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path).create_if_missing(true);
        options.connect().await.unwrap()
    }

    /// Runs statements from outside.
    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = self.open().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Writes a whole copy beside the database, as a backup does: what stands in its log included.
    pub(crate) async fn copy(&self) -> PathBuf {
        let copy = self.folder.path().join("copy.db");
        self.run(&format!("VACUUM INTO '{}'", copy.display())).await;
        copy
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let mut connection = self.open().await;
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }
}

pub(crate) fn sidecar(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

pub(crate) fn object_config(exists: &str, access: &str) -> ObjectConfig {
    toml::Table::from_iter([("exists".to_owned(), exists.into()), ("access".to_owned(), access.into())])
        .try_into()
        .unwrap()
}

/// Writes the world into a managed store.
pub(crate) async fn load(directory: &dyn Directory) {
    for user in World::users() {
        let login = user.login_in(&realm());
        let new = NewUser {
            login: login.clone(),
            hash: user.stored_hash(),
            groups: user.groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        directory.add_user(&ctx(), &new).await.unwrap();
        let state = user.state();
        let change = auth_core::StateChange {
            disabled: Some(state.disabled),
            lock: Some(state.lock),
            expires_at: Some(state.expires_at),
            must_change: Some(state.must_change),
        };
        directory.set_state(&ctx(), &login, &change).await.unwrap();
    }
    for object in World::objects() {
        directory.add_object(&ctx(), &object.object()).await.unwrap();
        for (login, mode) in object.rights {
            let login = World::user(login).login_in(&realm());
            directory.grant(&ctx(), &login, &object.object(), mode).await.unwrap();
        }
    }
}

/// Says how each person of the world stands, as columns.
pub(crate) fn standing(standing: Standing) -> (i64, i64, Option<i64>, i64) {
    match standing {
        Standing::Disabled => (1, 0, None, 0),
        Standing::Locked => (0, 1, None, 0),
        Standing::Expired => (0, 0, Some(978_307_200), 0),
        Standing::EndsLater => (0, 0, Some(2_114_380_800), 0),
        Standing::MustChange => (0, 0, None, 1),
        _ => (0, 0, None, 0),
    }
}

#[track_caller]
pub(crate) fn is<T>(kind: ErrorKind, answer: Result<T>) -> Error {
    match answer {
        Ok(_) => panic!("an answer where {kind} is due"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(error.origin(), Some("app"), "{error:?}");
            error
        }
    }
}
