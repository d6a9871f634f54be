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
use futures_util::future::join_all;
use futures_util::poll;
use sqlx::Connection;

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

/// Counting this far takes SQLite much longer than anybody here waits.
const SLOW: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000) \
                    SELECT 'staff' AS name FROM n WHERE i = 4000000 AND :id > 0";

#[tokio::test]
async fn a_full_pool_is_overloaded() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query.groups = Some(SLOW.to_owned());
    (config.pool.max_connections, config.pool.acquire_timeout_ms) = (1, 300);
    let store = connect(config).await.unwrap();
    works(&store).await;
    let (context, who, asked) = (ctx(), calvin(), login("calvin"));
    let (slow, other) =
        tokio::join!(store.is_member(&context, &who, "staff"), store.account(&context, &asked));
    is(ErrorKind::Overloaded, other);
    assert_eq!(slow.unwrap(), Member::Yes);
}

#[tokio::test]
async fn a_question_that_is_dropped_leaves_the_store_usable() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query.groups = Some(SLOW.to_owned());
    (config.pool.max_connections, config.pool.acquire_timeout_ms) = (1, 60_000);
    let store = connect(config).await.unwrap();
    works(&store).await;
    for polls in 0..8 {
        let (context, who) = (ctx(), calvin());
        let mut slow = store.groups_of(&context, &who);
        for _ in 0..polls {
            assert!(poll!(&mut slow).is_pending());
            tokio::task::yield_now().await;
        }
        drop(slow);
    }
    works(&store).await;
}

#[tokio::test]
async fn a_write_that_is_dropped_is_done_wholly_or_not_at_all() {
    let database = Database::absent();
    let store = connect(database.config()).await.unwrap();
    let directory = store.directory().unwrap();
    for polls in 0..40 {
        let user = NewUser {
            login: login(&format!("user{polls}")),
            hash: None,
            groups: vec!["staff".to_owned(), format!("group{polls}")],
        };
        let context = ctx();
        let mut write = directory.add_user(&context, &user);
        for _ in 0..polls {
            if poll!(&mut write).is_ready() {
                break;
            }
            // SQLite works in a thread of its own: let it get a step further.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        drop(write);
    }
    let last = NewUser { login: login("last"), hash: None, groups: vec!["staff".to_owned()] };
    assert_eq!(directory.add_user(&ctx(), &last).await.unwrap(), Change::Done);
    for entry in directory.users(&ctx(), &auth_testkit::realm(), None, 100).await.unwrap() {
        let groups = store.groups_of(&ctx(), &entry.principal).await.unwrap().found().unwrap();
        let due = if entry.principal.shown() == "last" { 1 } else { 2 };
        assert_eq!(groups.len(), due, "{:?}", entry.principal);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_write_and_read_at_once() {
    let database = Database::absent();
    let mut config = database.config();
    (config.pool.acquire_timeout_ms, config.busy_timeout_ms) = (60_000, 60_000);
    // Two stores on one file, as two processes would be.
    let stores = [connect(config.clone()).await.unwrap(), connect(config).await.unwrap()];
    let tasks = (0..16_usize).map(|task| {
        let store = Arc::clone(&stores[task % 2]);
        tokio::spawn(async move {
            let directory = store.directory().unwrap();
            for n in 0..12 {
                let (user, shared) = (login(&format!("u{task}-{n}")), login(&format!("shared{n}")));
                let new = |login: &auth_core::Login| NewUser {
                    login: login.clone(),
                    hash: Some(hash("h")),
                    groups: vec!["all".to_owned(), format!("g{n}")],
                };
                assert_eq!(directory.add_user(&ctx(), &new(&user)).await.unwrap(), Change::Done);
                let who = store.account(&ctx(), &user).await.unwrap().found().unwrap();
                let groups = store.groups_of(&ctx(), who.principal()).await.unwrap().found().unwrap();
                assert_eq!(groups.len(), 2, "a write is seen by the next question");
                // All add the same ones too: each is added once.
                directory.add_user(&ctx(), &new(&shared)).await.unwrap();
                assert_eq!(directory.join(&ctx(), &user, "late").await.unwrap(), Change::Done);
                if n % 3 == 0 {
                    assert_eq!(directory.delete_user(&ctx(), &user).await.unwrap(), Change::Done);
                    assert_eq!(store.account(&ctx(), &user).await.unwrap(), Lookup::NotFound);
                }
            }
        })
    });
    for done in join_all(tasks).await {
        done.unwrap();
    }
    assert_eq!(database.count("gatepost_user").await, 16 * 8 + 12);
    assert_eq!(database.count("gatepost_membership").await, 16 * 8 * 3 + 12 * 2);
    assert_eq!(database.count("gatepost_group").await, 14);
    let mut connection = database.open().await;
    let sound: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sound, "ok");
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_make_one_new_database_agree_on_it() {
    for _ in 0..5 {
        let database = Database::absent();
        let starts = (0..6).map(|_| {
            let mut config = database.config();
            config.busy_timeout_ms = 60_000;
            tokio::spawn(connect(config))
        });
        for store in join_all(starts).await {
            store.unwrap().unwrap();
        }
        assert_eq!(database.count("gatepost_migration").await, 2);
    }
}

#[cfg(unix)]
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
