//! What happens when the database fails, is busy, goes away, or callers do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

mod common;

use std::sync::Arc;

use auth_core::{
    AccountSource, Change, ErrorKind, GroupOracle, Id, Lookup, Member, NewUser, ObjectPerms, ObjectRef,
    Principal,
};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::{hash, login, principal_at};
use common::{Database, connect, ctx, is, object_config, refused, sidecar};

const TABLES: &str = "\
    CREATE TABLE account (id INTEGER, login TEXT, hash TEXT); INSERT INTO account VALUES (1, 'calvin', 'h1');\
    CREATE TABLE grp (uid INTEGER, name TEXT); CREATE TABLE doc (id TEXT);";

fn settings(database: &Database) -> SqlConfig {
    let mut config = database.config();
    config.busy_timeout_ms = 0;
    config.query.account = Some("SELECT id, login, hash FROM account WHERE login = :login".to_owned());
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    config.query.replace_hash =
        Some("UPDATE account SET hash = :new WHERE id = :id AND hash = :old".to_owned());
    config.object.insert("doc".to_owned(), object_config("SELECT 1 FROM doc WHERE id = :object", "SELECT 1"));
    config
}

async fn yours() -> (Database, Arc<SqlStore>) {
    let database = Database::with(TABLES).await;
    let store = connect(settings(&database)).await.unwrap();
    (database, store)
}

fn calvin() -> Principal {
    principal_at("app", "calvin", Id::from(1))
}

/// Every question gets the same kind of error, never an answer.
async fn all_fail(store: &SqlStore, kind: ErrorKind) {
    let doc = ObjectRef::new("doc", [Id::from(1)]).unwrap();
    is(kind, store.account(&ctx(), &login("calvin")).await);
    is(kind, store.groups_of(&ctx(), &calvin()).await);
    is(kind, store.is_member(&ctx(), &calvin(), "staff").await);
    is(kind, store.access(&ctx(), &calvin(), &doc, Some("read")).await);
    is(kind, store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await);
}

async fn works(store: &SqlStore) {
    assert!(matches!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::Found(_)));
}

#[tokio::test]
async fn tables_that_are_dropped_meanwhile_are_missed() {
    let (database, store) = yours().await;
    database.run("DROP TABLE account; DROP TABLE grp; DROP TABLE doc").await;
    all_fail(&store, ErrorKind::Misconfigured).await;
}

#[tokio::test]
async fn columns_that_change_meanwhile_are_missed() {
    let (database, store) = yours().await;
    database.run("ALTER TABLE account RENAME COLUMN hash TO pwhash").await;
    is(ErrorKind::Misconfigured, store.account(&ctx(), &login("calvin")).await);
    database.run("ALTER TABLE account RENAME COLUMN pwhash TO hash").await;
    works(&store).await;
}

#[tokio::test]
async fn a_database_that_is_locked_times_out() {
    let (database, store) = yours().await;
    let mut other = database.open().await;
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    all_fail(&store, ErrorKind::Timeout).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    works(&store).await;
}

#[tokio::test]
async fn the_managed_schema_is_read_while_somebody_else_writes() {
    let database = Database::absent();
    let mut config = database.config();
    config.busy_timeout_ms = 0;
    let store = connect(config).await.unwrap();
    let directory = store.directory().unwrap();
    let user = NewUser { login: login("calvin"), hash: None, groups: Vec::new() };
    let mut other = database.open().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    is(ErrorKind::Timeout, directory.add_user(&ctx(), &user).await);
    assert_eq!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::NotFound);
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(directory.add_user(&ctx(), &user).await.unwrap(), Change::Done);
}

#[tokio::test]
async fn a_database_that_is_read_only_is_not_written_to() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.url = format!("{}?mode=ro", config.url);
    let store = connect(config).await.unwrap();
    works(&store).await;
    is(ErrorKind::Misconfigured, store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await);
    let account = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(account.hash(), Some(&hash("h1")));
}

#[tokio::test]
async fn a_file_of_garbage_must_be_mended() {
    let database = Database::absent();
    std::fs::write(&database.path, vec![0x5a; 8_192]).unwrap();
    assert_eq!(refused(database.config()).await.kind(), ErrorKind::Misconfigured);
    let database = Database::with(TABLES).await;
    let config = settings(&database);
    std::fs::write(&database.path, vec![0x5a; 8_192]).unwrap();
    assert_eq!(refused(config).await.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_file_that_turns_into_garbage_must_be_mended() {
    let (database, store) = yours().await;
    works(&store).await;
    // In place: the file stays the one that was opened.
    std::fs::write(&database.path, vec![0x5a; 16_384]).unwrap();
    all_fail(&store, ErrorKind::Misconfigured).await;
}

#[tokio::test]
async fn the_files_of_the_managed_schema_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let database = Database::absent();
    let store = connect(database.config()).await.unwrap();
    let user = NewUser { login: login("calvin"), hash: Some(hash("h")), groups: Vec::new() };
    store.directory().unwrap().add_user(&ctx(), &user).await.unwrap();
    for path in [database.path.clone(), sidecar(&database.path, "-wal"), sidecar(&database.path, "-shm")] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart() {
    let database = Database::absent();
    let store = connect(database.config()).await.unwrap();
    let user = NewUser { login: login("calvin"), hash: Some(hash("h")), groups: vec!["staff".to_owned()] };
    store.directory().unwrap().add_user(&ctx(), &user).await.unwrap();
    drop(store);
    let store = connect(database.config()).await.unwrap();
    let account = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(store.is_member(&ctx(), account.principal(), "staff").await.unwrap(), Member::Yes);
}

#[tokio::test]
async fn databases_in_memory_are_apart() {
    let one = connect(SqlConfig::new("sqlite::memory:")).await.unwrap();
    let two = connect(SqlConfig::new("sqlite::memory:")).await.unwrap();
    let user = NewUser { login: login("calvin"), hash: None, groups: Vec::new() };
    one.directory().unwrap().add_user(&ctx(), &user).await.unwrap();
    works(&one).await;
    assert_eq!(two.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::NotFound);
}
