//! What is refused at start, and what the refusal says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use auth_core::ErrorKind;
use auth_store_sql::SqlConfig;
use common::{Database, connect, refused};

const TABLES: &str = "CREATE TABLE account (id INTEGER PRIMARY KEY, login TEXT, pwhash TEXT, scheme TEXT, mail TEXT);\
                      CREATE TABLE grp (uid INTEGER, name TEXT);\
                      CREATE TABLE doc (id TEXT); CREATE TABLE acl (doc TEXT, uid INTEGER, mode TEXT);";
const ACCOUNT: &str = "SELECT login, id, pwhash AS hash FROM account WHERE login = :login";

async fn check(set: impl FnOnce(&mut SqlConfig), message: &str) {
    let database = Database::with(TABLES).await;
    let mut config = database.config();
    config.query.account = Some(ACCOUNT.to_owned());
    set(&mut config);
    let error = refused(config).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
    assert_eq!(error.origin(), Some("app"));
    let shown = format!("{error:?}");
    assert!(shown.contains(message), "{shown:?} does not say {message:?}");
}

#[tokio::test]
async fn an_unknown_database_is_refused_and_its_url_not_shown() {
    for url in ["hobbes", "oracle:hobbes", ""] {
        let error = refused(SqlConfig::new(url)).await;
        assert_eq!(error.message(), "the url must begin with sqlite:, postgres: or mariadb:");
        assert!(!format!("{error:?}").contains("hobbes"));
    }
    for url in [
        "postgres://calvin:hobbes@127.0.0.1:1/app?sslmode=disable",
        "mariadb://calvin:hobbes@127.0.0.1:1/app?ssl-mode=disabled",
        "postgres://calvin:hobbes@127.0.0.1:1",
        "mysql://calvin:hobbes@127.0.0.1:1/",
        "postgresql://calvin:hobbes@127.0.0.1:port/app",
    ] {
        let error = refused(SqlConfig::new(url)).await;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}");
        assert!(!format!("{error:?}").contains("hobbes"), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_refused() {
    let database = Database::absent();
    let mut config = database.config();
    config.query.account = Some(ACCOUNT.to_owned());
    assert!(refused(config.clone()).await.message().contains("does not exist"));
    assert!(!database.path.exists(), "somebody else's database is not made");
    config.url = format!("sqlite:{}/no/such/folder.db", database.folder.path().display());
    assert!(refused(config.clone()).await.message().contains("does not exist"));
    config.query.account = None;
    assert!(
        refused(config.clone()).await.message().contains("the folder of the database file does not exist")
    );
    for url in ["sqlite:", "sqlite://", "sqlite:file:x.db", "sqlite:x.db?mode=memory", "sqlite:x.db?vfs=unix"]
    {
        config.url = url.to_owned();
        assert_eq!(refused(config.clone()).await.kind(), ErrorKind::Misconfigured, "{url}");
    }
    config.url = database.folder.path().display().to_string();
    config.url.insert_str(0, "sqlite:");
    assert!(connect(config).await.is_err(), "a folder is no database");
}

#[tokio::test]
async fn settings_that_exclude_each_other_are_refused() {
    check(|config| config.managed = Some(true), "exclude each other").await;
    check(
        |config| {
            config.managed = Some(false);
            config.query.account = None;
        },
        "there is nothing to ask",
    )
    .await;
    check(|config| config.pool.max_connections = 0, "pool.max_connections must be between 1 and 256, not 0")
        .await;
    check(|config| config.pool.acquire_timeout_ms = 0, "pool.acquire_timeout_ms must be between").await;
    check(|config| config.busy_timeout_ms = u64::MAX, "busy_timeout_ms must be between").await;
    check(|config| config.statement_timeout_ms = 0, "statement_timeout_ms must be between").await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let database = Database::absent();
    connect(database.config()).await.unwrap();
    database
        .run("INSERT INTO gatepost_migration VALUES (99, 'more', CURRENT_TIMESTAMP, TRUE, x'00', 1)")
        .await;
    let error = refused(database.config()).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let shown = error.to_string();
    assert!(
        shown.contains("a newer version has migrated this database (its migration 99, this build knows 2)"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_database_with_another_migration_of_that_number_is_refused() {
    let database = Database::absent();
    connect(database.config()).await.unwrap();
    database.run("UPDATE gatepost_migration SET checksum = x'00'").await;
    let error = refused(database.config()).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.message().contains("migration 1 is not the one of this program"), "{error}");
}

#[tokio::test]
async fn the_managed_schema_is_not_opened_to_read_only() {
    let database = Database::absent();
    let error = refused(SqlConfig::new(format!("{}?mode=ro", database.url()))).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(!database.path.exists());
}
