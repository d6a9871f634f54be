//! What is refused at start, and what the refusal says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use auth_core::ErrorKind;
use auth_store_sql::SqlConfig;
use common::{Database, connect, object_config, refused};

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

async fn account(sql: &str, message: &str) {
    check(|config| config.query.account = Some(sql.to_owned()), message).await;
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_named_with_those_that_do() {
    account(
        "SELECT login FROM account WHERE login = :login AND mail = :mode",
        "the query `account` has no parameter :mode; it has :login, :now",
    )
    .await;
    account("SELECT login FROM account WHERE login = :logn", "has no parameter :logn; it has :login").await;
    check(
        |config| config.query.groups = Some("SELECT name FROM grp WHERE uid = :object".to_owned()),
        "the query `groups` has no parameter :object; it has :login, :id, :now",
    )
    .await;
    check(
        |config| {
            let doc = object_config("SELECT 1 FROM doc WHERE id = :object AND 1 = :id", "SELECT 1");
            config.object.insert("doc".to_owned(), doc);
        },
        "the query `object.doc.exists` has no parameter :id; it has :now, :object",
    )
    .await;
}

#[tokio::test]
async fn placeholders_of_a_driver_are_refused() {
    account("SELECT login FROM account WHERE login = ?", "has a parameter that begins with ?").await;
    account("SELECT login FROM account WHERE login = $1", "has a parameter that begins with $").await;
    account("SELECT login FROM account WHERE login = @login", "has a parameter that begins with @").await;
}

#[tokio::test]
async fn a_query_is_one_statement() {
    account(
        "SELECT login FROM account WHERE login = :login; DROP TABLE account",
        "has more than one statement",
    )
    .await;
    account("SELECT login FROM account WHERE login = ':login", "has a string without an end").await;
    account("  ", "has no statement").await;
}

#[tokio::test]
async fn columns_of_an_account_are_known_ones() {
    account(
        "SELECT login, pwhash AS hahs FROM account WHERE login = :login",
        "returns a column `hahs`, which says nothing about an account; did you mean `hash`?",
    )
    .await;
    account("SELECT login, mail AS logged FROM account WHERE login = :login", "did you mean `locked`?").await;
    account(
        "SELECT login, mail AS address FROM account WHERE login = :login",
        "; known: `login`, `id`, `hash`",
    )
    .await;
    account("SELECT * FROM account WHERE login = :login", "returns a column `pwhash`").await;
    account("SELECT id, pwhash AS hash FROM account WHERE login = :login", "returns no column `login`").await;
    account(
        "SELECT login, mail AS login FROM account WHERE login = :login",
        "returns the column `login` twice",
    )
    .await;
    account("SELECT login FROM account", "has no :login: it would return everybody").await;
}

#[tokio::test]
async fn what_the_database_refuses_is_told_in_its_words() {
    account("SELECT login FROM acount WHERE login = :login", "no such table: acount").await;
    account("SELECT login, hash FROM account WHERE login = :login", "no such column: hash").await;
    account("SELEC login FROM account WHERE login = :login", "syntax error").await;
    account("SELEC login FROM account WHERE login = :login", "query account").await;
}

#[tokio::test]
async fn groups_return_one_column_of_names() {
    let groups = |sql: &'static str| move |config: &mut SqlConfig| config.query.groups = Some(sql.to_owned());
    let one = "the query `groups` must return one column `name`, and returns";
    check(groups("SELECT uid, name FROM grp WHERE uid = :id"), one).await;
    check(groups("SELECT uid FROM grp WHERE uid = :id"), "returns `uid`").await;
    check(groups("SELECT name FROM grp"), "has neither :id nor :login").await;
}

#[tokio::test]
async fn a_question_of_one_group_names_the_group() {
    let member =
        |sql: &'static str| move |config: &mut SqlConfig| config.query.is_member = Some(sql.to_owned());
    check(member("SELECT 1 FROM grp WHERE uid = :id"), "the query `is_member` has no :group").await;
    check(member("SELECT 1 FROM grp WHERE name = :group"), "has neither :id nor :login").await;
    check(member("DELETE FROM grp WHERE uid = :id AND name = :group"), "must be a SELECT").await;
}

#[tokio::test]
async fn a_hash_is_replaced_only_by_an_update_that_looks_at_the_old_one() {
    let replace =
        |sql: &'static str| move |config: &mut SqlConfig| config.query.replace_hash = Some(sql.to_owned());
    check(replace("UPDATE account SET pwhash = :new WHERE id = :id"), "has no :old").await;
    check(replace("UPDATE account SET pwhash = '' WHERE id = :id AND pwhash = :old"), "has no :new").await;
    check(replace("UPDATE account SET pwhash = :new WHERE pwhash = :old"), "has neither :id nor :login")
        .await;
    check(replace("SELECT :old, :new, :id"), "must be an UPDATE").await;
    check(
        |config| {
            config.query.account = Some(ACCOUNT.replace("FROM", ", scheme FROM"));
            config.query.replace_hash =
                Some("UPDATE account SET pwhash = :new WHERE id = :id AND pwhash = :old".to_owned());
        },
        "has no :scheme, but `account` returns a scheme",
    )
    .await;
    check(
        |config| {
            config.query.account = None;
            config.query.replace_hash =
                Some("UPDATE account SET pwhash = :new WHERE id = :id AND pwhash = :old".to_owned());
        },
        "is of no use without `account`",
    )
    .await;
}

#[tokio::test]
async fn a_link_returns_a_login() {
    let link = |sql: &'static str| move |config: &mut SqlConfig| config.query.link = Some(sql.to_owned());
    check(link("SELECT mail FROM account WHERE mail = :login"), "must return one column `login`").await;
    check(link("SELECT login FROM account WHERE :source = 'staff'"), "has neither :id nor :login").await;
}

#[tokio::test]
async fn objects_are_asked_for_by_all_their_parts() {
    let object = |exists: &'static str, access: &'static str| {
        move |config: &mut SqlConfig| {
            config.object.insert("doc".to_owned(), object_config(exists, access));
        }
    };
    check(object("DELETE FROM doc WHERE id = :object", "SELECT 1"), "`object.doc.exists` returns nothing")
        .await;
    check(object("SELECT 1", "UPDATE acl SET mode = :mode"), "`object.doc.access` returns nothing").await;
    check(
        object("SELECT 1 FROM doc WHERE id = :object2", "SELECT 1"),
        "ask for :object2 and never for :object1",
    )
    .await;
    check(
        object("SELECT 1 FROM doc WHERE id = :object", "SELECT 1 FROM acl WHERE doc = :object3"),
        "ask for :object3 and never for :object2",
    )
    .await;
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
