//! What is refused at start, and what the refusal says.

use crate::common::{object_config, refused};
use crate::on::{ALL, Engine, On, tests};
use auth_core::ErrorKind;
use auth_store_sql::SqlConfig;

const TABLES: &str = "CREATE TABLE account (id INTEGER PRIMARY KEY, login TEXT, pwhash TEXT, scheme TEXT, mail TEXT);\
                      CREATE TABLE grp (uid INTEGER, name TEXT);\
                      CREATE TABLE doc (id TEXT); CREATE TABLE acl (doc TEXT, uid INTEGER, mode TEXT);";
const ACCOUNT: &str = "SELECT login, id, pwhash AS hash FROM account WHERE login = :login";

async fn check(on: &On, set: impl FnOnce(&mut SqlConfig), message: &str) {
    let database = on.with(TABLES).await;
    let mut config = database.config();
    config.query.account = Some(ACCOUNT.to_owned());
    set(&mut config);
    let error = refused(config).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
    assert_eq!(error.origin(), Some("app"));
    let shown = format!("{error:?}");
    assert!(shown.contains(message), "{shown:?} does not say {message:?}");
}

async fn account(on: &On, sql: &str, message: &str) {
    check(on, |config| config.query.account = Some(sql.to_owned()), message).await;
}

async fn a_parameter_that_does_not_fit_is_named_with_those_that_do(on: On) {
    account(
        &on,
        "SELECT login FROM account WHERE login = :login AND mail = :mode",
        "the query `account` has no parameter :mode; it has :login, :now",
    )
    .await;
    account(&on, "SELECT login FROM account WHERE login = :logn", "has no parameter :logn; it has :login")
        .await;
    check(
        &on,
        |config| config.query.groups = Some("SELECT name FROM grp WHERE uid = :object".to_owned()),
        "the query `groups` has no parameter :object; it has :login, :id, :now",
    )
    .await;
    check(
        &on,
        |config| {
            let doc = object_config("SELECT 1 FROM doc WHERE id = :object AND 1 = :id", "SELECT 1");
            config.object.insert("doc".to_owned(), doc);
        },
        "the query `object.doc.exists` has no parameter :id; it has :now, :object",
    )
    .await;
}

async fn placeholders_of_a_driver_are_refused(on: On) {
    let foreign = |sign: char| format!("has a parameter that begins with {sign}");
    if on.engine != Engine::Postgres {
        account(&on, "SELECT login FROM account WHERE login = ?", &foreign('?')).await;
    }
    if on.engine != Engine::MariaDb {
        account(&on, "SELECT login FROM account WHERE login = $1", &foreign('$')).await;
    }
    if on.engine == Engine::Sqlite {
        account(&on, "SELECT login FROM account WHERE login = @login", &foreign('@')).await;
    }
    // What is an operator or a variable there leaves the query without its parameter.
    for sign in ["?", "$1", "@login"] {
        let sql = format!("SELECT login FROM account WHERE login = {sign}");
        account(&on, &sql, "").await;
    }
}

async fn a_query_is_one_statement(on: On) {
    account(
        &on,
        "SELECT login FROM account WHERE login = :login; DROP TABLE account",
        "has more than one statement",
    )
    .await;
    account(&on, "SELECT login FROM account WHERE login = ':login", "has a string without an end").await;
    account(&on, "  ", "has no statement").await;
}

async fn columns_of_an_account_are_known_ones(on: On) {
    account(
        &on,
        "SELECT login, pwhash AS hahs FROM account WHERE login = :login",
        "returns a column `hahs`, which says nothing about an account; did you mean `hash`?",
    )
    .await;
    account(&on, "SELECT login, mail AS logged FROM account WHERE login = :login", "did you mean `locked`?")
        .await;
    account(
        &on,
        "SELECT login, mail AS address FROM account WHERE login = :login",
        "; known: `login`, `id`, `hash`",
    )
    .await;
    account(&on, "SELECT * FROM account WHERE login = :login", "returns a column `pwhash`").await;
    account(&on, "SELECT id, pwhash AS hash FROM account WHERE login = :login", "returns no column `login`")
        .await;
    account(
        &on,
        "SELECT login, mail AS login FROM account WHERE login = :login",
        "returns the column `login` twice",
    )
    .await;
    account(&on, "SELECT login FROM account", "has no :login: it would return everybody").await;
}

async fn what_the_database_refuses_is_told_in_its_words(on: On) {
    account(
        &on,
        "SELECT login FROM acount WHERE login = :login",
        on.choose("no such table: acount", "relation \"acount\" does not exist", "acount' doesn't exist"),
    )
    .await;
    account(
        &on,
        "SELECT login, hash FROM account WHERE login = :login",
        on.choose("no such column: hash", "column \"hash\" does not exist", "Unknown column 'hash'"),
    )
    .await;
    account(
        &on,
        "SELEC login FROM account WHERE login = :login",
        on.choose("syntax error", "syntax error", "error in your SQL syntax"),
    )
    .await;
    account(&on, "SELEC login FROM account WHERE login = :login", "query account").await;
}

async fn groups_return_one_column_of_names(on: On) {
    let groups = |sql: &'static str| move |config: &mut SqlConfig| config.query.groups = Some(sql.to_owned());
    let one = "the query `groups` must return one column `name`, and returns";
    check(&on, groups("SELECT uid, name FROM grp WHERE uid = :id"), one).await;
    check(&on, groups("SELECT uid FROM grp WHERE uid = :id"), "returns `uid`").await;
    check(&on, groups("SELECT name FROM grp"), "has neither :id nor :login").await;
}

async fn a_question_of_one_group_names_the_group(on: On) {
    let member =
        |sql: &'static str| move |config: &mut SqlConfig| config.query.is_member = Some(sql.to_owned());
    check(&on, member("SELECT 1 FROM grp WHERE uid = :id"), "the query `is_member` has no :group").await;
    check(&on, member("SELECT 1 FROM grp WHERE name = :group"), "has neither :id nor :login").await;
    check(&on, member("DELETE FROM grp WHERE uid = :id AND name = :group"), "must be a SELECT").await;
}

async fn a_hash_is_replaced_only_by_an_update_that_looks_at_the_old_one(on: On) {
    let replace =
        |sql: &'static str| move |config: &mut SqlConfig| config.query.replace_hash = Some(sql.to_owned());
    check(&on, replace("UPDATE account SET pwhash = :new WHERE id = :id"), "has no :old").await;
    check(&on, replace("UPDATE account SET pwhash = '' WHERE id = :id AND pwhash = :old"), "has no :new")
        .await;
    check(&on, replace("UPDATE account SET pwhash = :new WHERE pwhash = :old"), "has neither :id nor :login")
        .await;
    check(&on, replace("SELECT :old, :new, :id"), "must be an UPDATE").await;
    check(
        &on,
        |config| {
            config.query.account = Some(ACCOUNT.replace("FROM", ", scheme FROM"));
            config.query.replace_hash =
                Some("UPDATE account SET pwhash = :new WHERE id = :id AND pwhash = :old".to_owned());
        },
        "has no :scheme, but `account` returns a scheme",
    )
    .await;
    check(
        &on,
        |config| {
            config.query.account = None;
            config.query.replace_hash =
                Some("UPDATE account SET pwhash = :new WHERE id = :id AND pwhash = :old".to_owned());
        },
        "is of no use without `account`",
    )
    .await;
}

async fn a_link_returns_a_login(on: On) {
    let link = |sql: &'static str| move |config: &mut SqlConfig| config.query.link = Some(sql.to_owned());
    check(&on, link("SELECT mail FROM account WHERE mail = :login"), "must return one column `login`").await;
    check(&on, link("SELECT login FROM account WHERE :source = 'staff'"), "has neither :id nor :login").await;
}

async fn objects_are_asked_for_by_all_their_parts(on: On) {
    let object = |exists: &'static str, access: &'static str| {
        move |config: &mut SqlConfig| {
            config.object.insert("doc".to_owned(), object_config(exists, access));
        }
    };
    check(
        &on,
        object("DELETE FROM doc WHERE id = :object", "SELECT 1"),
        "`object.doc.exists` returns nothing",
    )
    .await;
    check(&on, object("SELECT 1", "UPDATE acl SET mode = :mode"), "`object.doc.access` returns nothing")
        .await;
    check(
        &on,
        object("SELECT 1 FROM doc WHERE id = :object2", "SELECT 1"),
        "ask for :object2 and never for :object1",
    )
    .await;
    check(
        &on,
        object("SELECT 1 FROM doc WHERE id = :object", "SELECT 1 FROM acl WHERE doc = :object3"),
        "ask for :object3 and never for :object2",
    )
    .await;
}

tests! {
    ALL => {
        a_parameter_that_does_not_fit_is_named_with_those_that_do,
        placeholders_of_a_driver_are_refused,
        a_query_is_one_statement,
        columns_of_an_account_are_known_ones,
        what_the_database_refuses_is_told_in_its_words,
        groups_return_one_column_of_names,
        a_question_of_one_group_names_the_group,
        a_hash_is_replaced_only_by_an_update_that_looks_at_the_old_one,
        a_link_returns_a_login,
        objects_are_asked_for_by_all_their_parts,
    }
}
