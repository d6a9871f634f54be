//! A database file that is taken away, brought back, or replaced under a store that runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auth_core::{
    Access, AccountSource, Change, ErrorKind, GroupOracle, Id, Lookup, Member, NewUser, ObjectPerms,
    ObjectRef, Principal,
};
use auth_store_sql::{SqlConfig, SqlStore};
use auth_testkit::{ManualClock, hash, login, principal_at, realm};
use common::{Database, connect, connect_at, ctx, is, object_config, sidecar};
use futures_util::future::join_all;
use sqlx::Connection;

const SECOND: Duration = Duration::from_secs(1);

const TABLES: &str = "\
    CREATE TABLE account (id INTEGER, login TEXT, hash TEXT); INSERT INTO account VALUES (1, 'calvin', 'h1');\
    CREATE TABLE grp (uid INTEGER, name TEXT); INSERT INTO grp VALUES (1, 'staff');\
    CREATE TABLE doc (id TEXT); INSERT INTO doc VALUES ('1');";

struct Store {
    store: Arc<SqlStore>,
    clock: Arc<ManualClock>,
    database: Database,
}

async fn yours() -> Store {
    yours_on("").await
}

async fn yours_on(pragma: &str) -> Store {
    let database = Database::with(&format!("{pragma}{TABLES}")).await;
    let mut config = database.config();
    config.query.account = Some("SELECT * FROM account WHERE login = :login".to_owned());
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    config.query.replace_hash =
        Some("UPDATE account SET hash = :new WHERE id = :id AND hash = :old".to_owned());
    config.object.insert("doc".to_owned(), object_config("SELECT 1 FROM doc WHERE id = :object", "SELECT 1"));
    open(database, config).await
}

/// The same people in the managed schema.
async fn managed() -> Store {
    let database = Database::absent();
    let config = database.config();
    let opened = open(database, config).await;
    let directory = opened.store.directory().unwrap();
    let calvin = NewUser { login: login("calvin"), hash: Some(hash("h1")), groups: vec!["staff".to_owned()] };
    directory.add_user(&ctx(), &calvin).await.unwrap();
    directory.add_object(&ctx(), &doc()).await.unwrap();
    directory.grant(&ctx(), &calvin.login, &doc(), "read").await.unwrap();
    opened
}

async fn open(database: Database, config: SqlConfig) -> Store {
    let clock = ManualClock::new();
    let store = connect_at(config, Arc::clone(&clock)).await.unwrap();
    Store { store, clock, database }
}

fn doc() -> ObjectRef {
    ObjectRef::new("doc", [Id::from(1)]).unwrap()
}

fn calvin() -> Principal {
    principal_at("app", "calvin", Id::from(1))
}

impl Store {
    /// Every question gets this kind of error, never an answer.
    async fn fails(&self, kind: ErrorKind, saying: &[&str]) {
        let store = &self.store;
        let error = is(kind, store.account(&ctx(), &login("calvin")).await);
        for text in saying {
            assert!(format!("{error:?}").contains(text), "{error:?} does not say {text}");
        }
        is(kind, store.groups_of(&ctx(), &calvin()).await);
        is(kind, store.is_member(&ctx(), &calvin(), "staff").await);
        is(kind, store.access(&ctx(), &calvin(), &doc(), Some("read")).await);
        let many = store.access_many(&ctx(), &calvin(), &[doc(), doc()], Some("read")).await;
        assert_eq!(many.len(), 2);
        many.into_iter().for_each(|answer| drop(is(kind, answer)));
        is(kind, store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await);
        if let Some(directory) = store.directory() {
            is(kind, directory.users(&ctx(), &realm(), None, 10).await);
            is(kind, directory.user(&ctx(), &login("calvin")).await);
            is(kind, directory.groups(&ctx()).await);
            is(kind, directory.delete_user(&ctx(), &login("calvin")).await);
        }
    }

    async fn works(&self) {
        let store = &self.store;
        let account = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
        assert_eq!((account.principal(), account.hash()), (&calvin(), Some(&hash("h1"))));
        assert_eq!(store.is_member(&ctx(), &calvin(), "staff").await.unwrap(), Member::Yes);
        assert_eq!(store.access(&ctx(), &calvin(), &doc(), Some("read")).await.unwrap(), Access::Allow);
        assert!(store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await.unwrap());
    }

    fn path(&self) -> &Path {
        &self.database.path
    }

    /// Puts another file into the place at once.
    fn replace(&self, by: &Path) {
        std::fs::rename(by, self.path()).unwrap();
    }
}

async fn people(store: &Store) -> Vec<String> {
    let users = store.store.directory().unwrap().users(&ctx(), &realm(), None, 10).await.unwrap();
    users.iter().map(|user| user.principal.shown().to_owned()).collect()
}

fn new(name: &str) -> NewUser {
    NewUser { login: login(name), hash: None, groups: Vec::new() }
}

#[tokio::test]
async fn a_file_that_is_deleted_does_not_answer_until_it_is_restored() {
    for store in [yours().await, managed().await] {
        store.works().await;
        let copy = store.database.copy().await;
        std::fs::remove_file(store.path()).unwrap();
        for _ in 0..3 {
            store.fails(ErrorKind::Unavailable, &["the database file is gone"]).await;
            store.clock.advance(SECOND);
        }
        assert!(!store.path().exists(), "a missing file is not made");
        store.replace(&copy);
        store.works().await;
        store.works().await;
    }
}

#[tokio::test]
async fn a_file_that_is_moved_away_and_back_answers_at_once() {
    for store in [yours().await, managed().await] {
        store.works().await;
        let away = store.database.folder.path().join("away.db");
        std::fs::rename(store.path(), &away).unwrap();
        store.fails(ErrorKind::Unavailable, &["the database file is gone"]).await;
        store.replace(&away);
        store.works().await;
    }
}

#[tokio::test]
async fn a_file_that_comes_back_after_another_is_opened_anew() {
    for store in [yours().await, managed().await] {
        store.works().await;
        let away = store.database.folder.path().join("away.db");
        std::fs::rename(store.path(), &away).unwrap();
        std::fs::write(store.path(), "").unwrap();
        assert!(store.store.account(&ctx(), &login("calvin")).await.is_err());
        store.replace(&away);
        store.clock.advance(SECOND);
        store.works().await;
    }
}

#[tokio::test]
async fn a_restored_copy_of_the_managed_schema_is_what_it_was_when_it_was_copied() {
    let store = managed().await;
    let copy = store.database.copy().await;
    let directory = store.store.directory().unwrap();
    assert_eq!(directory.add_user(&ctx(), &new("moe")).await.unwrap(), Change::Done);
    assert!(std::fs::metadata(sidecar(store.path(), "-wal")).unwrap().len() > 0);
    store.replace(&copy);
    // The log that was left behind belongs to the other file.
    assert_eq!(people(&store).await, ["calvin"]);
    store.works().await;
    // A directory that was handed out before goes on with the new file.
    assert_eq!(directory.add_user(&ctx(), &new("susie")).await.unwrap(), Change::Done);
    assert_eq!(people(&store).await, ["calvin", "susie"]);
    let mut connection = store.database.open().await;
    let sound: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sound, "ok");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_was_in_the_log_of_a_replaced_file_is_in_the_file() {
    let store = managed().await;
    let copy = store.database.copy().await;
    let directory = store.store.directory().unwrap();
    assert_eq!(directory.add_user(&ctx(), &new("moe")).await.unwrap(), Change::Done);
    let away = store.database.folder.path().join("away.db");
    std::fs::rename(store.path(), &away).unwrap();
    store.replace(&copy);
    assert_eq!(people(&store).await, ["calvin"]);
    store.replace(&away);
    store.clock.advance(SECOND);
    assert_eq!(people(&store).await, ["calvin", "moe"]);
}

#[tokio::test]
async fn a_log_that_somebody_still_reads_is_not_mixed_into_the_next_file() {
    let database = Database::absent();
    let mut config = database.config();
    config.busy_timeout_ms = 0;
    let store = open(database, config).await;
    let directory = store.store.directory().unwrap();
    assert_eq!(directory.add_user(&ctx(), &new("calvin")).await.unwrap(), Change::Done);
    let copy = store.database.copy().await;
    assert_eq!(directory.add_user(&ctx(), &new("moe")).await.unwrap(), Change::Done);
    let mut other = store.database.open().await;
    sqlx::raw_sql("BEGIN; SELECT * FROM gatepost_user").execute(&mut other).await.unwrap();
    store.replace(&copy);
    for _ in 0..2 {
        store.fails(ErrorKind::Unavailable, &["write-ahead log of the replaced", "app.db-wal"]).await;
        store.clock.advance(SECOND);
    }
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(people(&store).await, ["calvin"]);
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_log_of_yours_is_not_mixed_into_the_next_file_and_is_left_alone() {
    let store = yours_on("PRAGMA journal_mode = WAL;").await;
    let copy = store.database.copy().await;
    store.database.run("UPDATE account SET hash = 'h2'; INSERT INTO account VALUES (2, 'moe', 'h');").await;
    let log = sidecar(store.path(), "-wal");
    let before = std::fs::read(&log).unwrap();
    assert!(!before.is_empty());
    store.replace(&copy);
    store.fails(ErrorKind::Unavailable, &["write-ahead log of the replaced", "app.db-wal"]).await;
    assert!(std::fs::read(&log).unwrap() == before, "it is not ours");
    std::fs::remove_file(&log).unwrap();
    store.clock.advance(SECOND);
    store.works().await;
    assert_eq!(store.store.account(&ctx(), &login("moe")).await.unwrap(), Lookup::NotFound);
}

#[tokio::test]
async fn an_empty_or_foreign_file_is_no_managed_store_without_people() {
    for foreign in [
        "",
        "CREATE TABLE app (x)",
        "CREATE TABLE gatepost_user (id, login)",
        "CREATE TABLE gatepost_migration (version)",
    ] {
        let store = managed().await;
        let copy = store.database.copy().await;
        let other = Database::with(foreign).await;
        if foreign.is_empty() {
            std::fs::write(&other.path, "").unwrap();
        }
        let before = std::fs::read(&other.path).unwrap();
        store.replace(&other.path);
        let path = store.path().display().to_string();
        let says = ["no tables of Gatepost", "gatepost_migration", &path];
        for _ in 0..2 {
            store.fails(ErrorKind::Unavailable, &says).await;
            store.clock.advance(SECOND);
        }
        assert_eq!(std::fs::read(store.path()).unwrap(), before, "nothing is put into {foreign:?}");
        store.replace(&copy);
        store.works().await;
    }
}

#[tokio::test]
async fn another_store_of_ours_is_not_taken_for_the_one_that_was_open() {
    let store = managed().await;
    let copy = store.database.copy().await;
    let other = Database::absent();
    drop(connect(other.config()).await.unwrap());
    let newly_made = other.copy().await;
    store.replace(&newly_made);
    for _ in 0..2 {
        store.fails(ErrorKind::Unavailable, &["another store stands in the place"]).await;
        store.clock.advance(SECOND);
    }
    store.replace(&copy);
    store.works().await;
}

#[tokio::test]
async fn an_empty_file_is_no_store_of_yours_without_people() {
    let store = yours().await;
    std::fs::remove_file(store.path()).unwrap();
    std::fs::write(store.path(), "").unwrap();
    store.fails(ErrorKind::Misconfigured, &["query account", "no such table: account"]).await;
    // As if it was copied in place by somebody slow.
    store.database.run(TABLES).await;
    store.clock.advance(SECOND);
    store.works().await;
}

#[tokio::test]
async fn a_file_of_garbage_is_none() {
    for store in [yours().await, managed().await] {
        let copy = store.database.copy().await;
        std::fs::remove_file(store.path()).unwrap();
        std::fs::write(store.path(), vec![0x5a; 8_192]).unwrap();
        store.fails(ErrorKind::Misconfigured, &["not a database"]).await;
        store.replace(&copy);
        store.clock.advance(SECOND);
        store.works().await;
    }
}

#[tokio::test]
async fn columns_are_looked_up_anew_in_another_file() {
    let store = yours().await;
    store.works().await;
    let moved = TABLES.replace("(id INTEGER, login TEXT, hash TEXT)", "(hash TEXT, login TEXT, id INTEGER)");
    let other = Database::with(&moved.replace("(1, 'calvin', 'h1')", "('h1', 'calvin', 1)")).await;
    store.replace(&other.path);
    store.works().await;
}

#[tokio::test]
async fn a_file_with_other_columns_is_refused_by_the_query() {
    let store = yours().await;
    store.works().await;
    let other = Database::with(&TABLES.replace("hash TEXT", "pwhash TEXT")).await;
    store.replace(&other.path);
    // Those who ask again before it is looked at again are told the same.
    store.fails(ErrorKind::Misconfigured, &["the query `account` returns a column `pwhash`"]).await;
    store.clock.advance(SECOND);
    let other = Database::with(&TABLES.replace("name TEXT", "title TEXT")).await;
    store.replace(&other.path);
    store.fails(ErrorKind::Misconfigured, &["query groups", "no such column: name"]).await;
    store.database.run("ALTER TABLE grp RENAME COLUMN title TO name").await;
    store.fails(ErrorKind::Misconfigured, &["query groups"]).await;
    store.clock.advance(SECOND);
    store.works().await;
}

#[tokio::test]
async fn a_file_is_opened_anew_once_a_second_at_most() {
    let store = yours().await;
    store.replace(&Database::with(TABLES).await.path);
    store.works().await;
    store.replace(&Database::with(TABLES).await.path);
    store.fails(ErrorKind::Unavailable, &["replaced again"]).await;
    store.clock.advance(SECOND - Duration::from_nanos(1));
    store.fails(ErrorKind::Unavailable, &["replaced again"]).await;
    store.clock.advance(Duration::from_nanos(1));
    store.works().await;
}

/// The people of generation `n`: the id, the hash and the group are its own, and so is where they stand.
fn generation(n: i64) -> String {
    let (columns, values) = if n % 2 == 0 {
        ("id INTEGER, login TEXT, hash TEXT", format!("{n}, 'calvin', 'h{n}'"))
    } else {
        ("hash TEXT, id INTEGER, login TEXT", format!("'h{n}', {n}, 'calvin'"))
    };
    format!(
        "CREATE TABLE account ({columns}); INSERT INTO account VALUES ({values});\
         CREATE TABLE grp (uid INTEGER, name TEXT); INSERT INTO grp VALUES ({n}, 'staff');\
         CREATE TABLE doc (id TEXT);"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_ask_meanwhile_are_answered_from_one_file_or_not_at_all() {
    const GENERATIONS: i64 = 12;
    let store = Arc::new(yours().await);
    let done = Arc::new(AtomicBool::new(false));
    let askers = (0..8).map(|_| {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                match store.store.account(&ctx(), &login("calvin")).await {
                    Ok(Lookup::Found(account)) => {
                        let due = format!("h{}", account.principal().id());
                        assert_eq!(account.hash(), Some(&hash(&due)), "one row of one file");
                    }
                    Ok(Lookup::NotFound) => panic!("calvin is in every file"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let askers: Vec<_> = askers.collect();
    for n in 2..GENERATIONS {
        store.replace(&Database::with(&generation(n)).await.path);
        store.clock.advance(SECOND);
        // Until one of the askers or this one has opened it.
        loop {
            match store.store.account(&ctx(), &login("calvin")).await {
                Ok(answer) => {
                    assert_eq!(*answer.found().unwrap().principal().id(), Id::from(n));
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            store.clock.advance(SECOND);
            tokio::task::yield_now().await;
        }
        let who = principal_at("app", "calvin", Id::from(n));
        assert_eq!(store.store.is_member(&ctx(), &who, "staff").await.unwrap(), Member::Yes);
    }
    done.store(true, Ordering::Relaxed);
    for asker in join_all(askers).await {
        asker.unwrap();
    }
}
