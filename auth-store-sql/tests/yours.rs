//! Answers from your own tables: exact, typed, and nobody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::Arc;

use auth_core::{
    Access, Account, AccountSource, ErrorKind, GroupOracle, Id, Lookup, Member, ObjectPerms, ObjectRef,
    Principal, Resolver,
};
use auth_store_sql::{ObjectId, SqlConfig, SqlStore};
use auth_testkit::{login, principal_at};
use common::{Database, connect, ctx, is, object_config};

const TABLES: &str = "\
    CREATE TABLE account (id, login COLLATE NOCASE, hash, scheme, disabled, locked, locked_until, expires_at);\
    CREATE TABLE grp (uid, login, name);\
    CREATE TABLE link (source, id, login, ours);\
    CREATE TABLE doc (id INTEGER PRIMARY KEY, label TEXT);\
    CREATE TABLE acl (doc INTEGER, uid, mode TEXT);\
    CREATE TABLE page (space TEXT, no TEXT);\
    INSERT INTO account (id, login, hash) VALUES (1, 'calvin', 'h1'), (2, 'Susie', 'h2');\
    INSERT INTO grp VALUES (1, 'calvin', 'staff'), (2, 'Susie', 'girls');\
    INSERT INTO doc VALUES (1, 'a'), (2, 'b');\
    INSERT INTO acl VALUES (1, 1, 'read'), (3, 1, 'read');\
    INSERT INTO page VALUES ('wiki', '42');";

fn settings(database: &Database) -> SqlConfig {
    let mut config = database.config();
    config.query.account = Some(
        "SELECT id, login, hash, scheme, disabled, locked, locked_until, expires_at FROM account \
         WHERE login = :login"
            .to_owned(),
    );
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    config.query.replace_hash =
        Some("UPDATE account SET hash = :new, scheme = :scheme WHERE id = :id AND hash = :old".to_owned());
    let mut doc = object_config(
        "SELECT 1 FROM doc WHERE id = :object",
        "SELECT 1 FROM acl WHERE doc = :object AND uid = :id AND mode = :mode",
    );
    doc.id = ObjectId::Int.into();
    config.object.insert("doc".to_owned(), doc);
    config
}

async fn store_with(sql: &str) -> (Database, Arc<SqlStore>) {
    let database = Database::with(&format!("{TABLES}{sql}")).await;
    let store = connect(settings(&database)).await.unwrap();
    (database, store)
}

async fn find(store: &SqlStore, text: &str) -> Lookup<Account> {
    store.account(&ctx(), &login(text)).await.unwrap()
}

async fn show(store: &SqlStore, text: &str) -> Account {
    find(store, text).await.found().unwrap()
}

async fn person(store: &SqlStore, text: &str) -> Principal {
    show(store, text).await.principal().clone()
}

#[tokio::test]
async fn ids_keep_their_type() {
    let (_database, store) = store_with("INSERT INTO account (id, login) VALUES ('1', 'moe');").await;
    assert_eq!(*person(&store, "calvin").await.id(), Id::from(1));
    assert_eq!(*person(&store, "moe").await.id(), Id::from("1"));
    let groups = store.groups_of(&ctx(), &person(&store, "moe").await).await.unwrap();
    assert!(groups.found().unwrap().is_empty(), "the text 1 is not calvin's number 1");
}

#[tokio::test]
async fn what_can_not_be_read_is_corrupt_and_is_not_shown() {
    for (values, column) in [
        ("3, 'x', x'736563726574', NULL, 0, 0, NULL, NULL", "hash"),
        ("3, 'x', 12345, NULL, 0, 0, NULL, NULL", "hash"),
        ("3, 'x', 'secret', x'736563726574', 0, 0, NULL, NULL", "scheme"),
        ("3, 'x', 'secret', NULL, 'secret', 0, NULL, NULL", "disabled"),
        ("3, 'x', 'secret', NULL, 0, 0.5, NULL, NULL", "locked"),
        ("3, 'x', 'secret', NULL, 0, 0, 'secret', NULL", "locked_until"),
        ("3, 'x', 'secret', NULL, 0, 0, NULL, x'00'", "expires_at"),
        ("NULL, 'x', 'secret', NULL, 0, 0, NULL, NULL", "id"),
        ("3.5, 'x', 'secret', NULL, 0, 0, NULL, NULL", "id"),
    ] {
        let (_database, store) = store_with(&format!("INSERT INTO account VALUES ({values});")).await;
        let error = is(ErrorKind::Corrupt, store.account(&ctx(), &login("x")).await);
        let shown = format!("{error:?}");
        assert!(shown.contains(&format!("query account, column {column}")), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("12345"), "{shown}");
    }
    let (_database, store) = store_with("INSERT INTO grp VALUES (1, '', x'00');").await;
    let calvin = person(&store, "calvin").await;
    let error = is(ErrorKind::Corrupt, store.groups_of(&ctx(), &calvin).await);
    assert!(error.to_string().contains("query groups, column name"), "{error}");
    is(ErrorKind::Corrupt, store.is_member(&ctx(), &calvin, "staff").await);
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_is_corrupt() {
    let (_database, store) =
        store_with("INSERT INTO account (id, login, hash) VALUES (3, 'x', CAST(x'ff' AS TEXT));").await;
    is(ErrorKind::Corrupt, store.account(&ctx(), &login("x")).await);
}

#[tokio::test]
async fn a_text_that_means_no_gives_no_right() {
    let database = Database::with(&format!(
        "{TABLES} CREATE TABLE flag (uid, doc, allowed TEXT); INSERT INTO flag VALUES (1, 1, '0');"
    ))
    .await;
    let mut config = settings(&database);
    config.query.is_member = Some("SELECT allowed FROM flag WHERE uid = :id AND :group <> ''".to_owned());
    let doc = config.object.get_mut("doc").unwrap();
    doc.access = "SELECT allowed FROM flag WHERE doc = :object AND uid = :id".to_owned();
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let object = ObjectRef::new("doc", [Id::from(1)]).unwrap();
    for no in ["'0'", "''", "' '", "'false'", "'F'", "'No'", "'n'", "'off'", "'0.0'", "NULL", "0"] {
        database.run(&format!("UPDATE flag SET allowed = {no}")).await;
        let answer = store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap();
        assert_eq!(answer, Access::Deny, "{no}");
        assert_eq!(store.is_member(&ctx(), &calvin, "staff").await.unwrap(), Member::No, "{no}");
    }
    for yes in ["'1'", "'true'", "'y'", "'read'", "'nobody else'", "7"] {
        database.run(&format!("UPDATE flag SET allowed = {yes}")).await;
        let answer = store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap();
        assert_eq!(answer, Access::Allow, "{yes}");
        assert_eq!(store.is_member(&ctx(), &calvin, "staff").await.unwrap(), Member::Yes, "{yes}");
    }
    database.run("UPDATE flag SET allowed = x'31'").await;
    is(ErrorKind::Corrupt, store.access(&ctx(), &calvin, &object, Some("read")).await);
}

#[tokio::test]
async fn an_exists_that_returns_the_id_finds_no_other_spelling_of_it() {
    let database = Database::with(&format!(
        "{TABLES} INSERT INTO doc VALUES (42, 'c'), (0, 'zero');\
         CREATE TABLE folder (id TEXT COLLATE NOCASE, gone INTEGER);\
         INSERT INTO folder VALUES ('Plans', 0), ('no', 0), ('7', 0), ('old', 1);"
    ))
    .await;
    let mut config = settings(&database);
    for (domain, exists) in [
        ("number", "SELECT 1, id FROM doc WHERE id = :object"),
        ("bare", "SELECT ID FROM doc WHERE id = :object"),
        ("folder", "SELECT id FROM folder WHERE id = :object"),
        ("kept", "SELECT NOT gone, id FROM folder WHERE id = :object"),
    ] {
        config.object.insert(domain.to_owned(), object_config(exists, "SELECT 1"));
    }
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let check = async |domain: &str, id: Id, expected: Access| {
        let object = ObjectRef::new(domain, [id]).unwrap();
        let answer = store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap();
        assert_eq!(answer, expected, "{object}");
    };
    for domain in ["number", "bare"] {
        for id in [Id::from(42), Id::from("42"), Id::from(0)] {
            check(domain, id, Access::Allow).await;
        }
        for other in ["042", "+42", " 42", "42 ", "42.0", "4.2e1", "00", "-0"] {
            check(domain, Id::from(other), Access::NotFound).await;
        }
    }
    for (id, expected) in [
        (Id::from("Plans"), Access::Allow),
        (Id::from("no"), Access::Allow),
        (Id::from(7), Access::Allow),
        (Id::from("plans"), Access::NotFound),
        (Id::from("07"), Access::NotFound),
    ] {
        check("folder", id.clone(), expected).await;
        check("kept", id, expected).await;
    }
    check("folder", Id::from("old"), Access::Allow).await;
    check("kept", Id::from("old"), Access::NotFound).await;
}

#[tokio::test]
async fn each_part_of_an_id_can_be_compared() {
    let database = Database::with(&format!(
        "{TABLES} CREATE TABLE line (id INTEGER PRIMARY KEY, no INTEGER, part INTEGER);\
                                 INSERT INTO line VALUES (9, 42, 3);"
    ))
    .await;
    let mut config = settings(&database);
    let exists = "SELECT id, no AS id1, part AS id2 FROM line WHERE no = :object1 AND part = :object2";
    config.object.insert("line".to_owned(), object_config(exists, "SELECT 1"));
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    for (no, part, expected) in [
        ("42", "3", Access::Allow),
        ("042", "3", Access::NotFound),
        ("42", "3.0", Access::NotFound),
        ("3", "42", Access::NotFound),
    ] {
        let object = ObjectRef::new("line", [Id::from(no), Id::from(part)]).unwrap();
        let answer = store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap();
        assert_eq!(answer, expected, "{object}");
    }
}

#[tokio::test]
async fn a_link_makes_people_of_another_source_known_here() {
    let database = Database::with(&format!(
        "{TABLES} INSERT INTO link VALUES ('staff', 'u-7', 'calvin.hobbes', 'calvin'),\
         ('staff', 'u-8', 'twin', 'calvin'), ('staff', 'u-8', 'twin', 'susie'),\
         ('staff', 'u-9', 'gone', 'nobody'), ('staff', 'u-10', 'bad', 'a b'), ('staff', '1', 'text', 'calvin');"
    ))
    .await;
    let mut config = settings(&database);
    config.query.link = Some(
        "SELECT ours AS login FROM link WHERE source = :source AND id = :id AND login = :login".to_owned(),
    );
    let store = connect(config).await.unwrap();
    let resolve = async |source: &str, login: &str, id: Id| {
        store.resolve(&ctx(), &principal_at(source, login, id)).await
    };
    let who = principal_at("staff", "calvin.hobbes", Id::from("u-7"));
    let resolved = store.resolve(&ctx(), &who).await.unwrap().found().unwrap();
    assert_eq!(
        (resolved.login().as_str(), resolved.id(), resolved.source().as_ref()),
        ("calvin", &Id::from(1), "app")
    );
    assert_eq!(store.is_member(&ctx(), &resolved, "staff").await.unwrap(), Member::Yes);
    assert_eq!(store.resolve(&ctx(), &resolved).await.unwrap().found().unwrap(), resolved);
    assert!(store.has_link() && store.has_accounts() && store.has_groups());
    assert_eq!(store.domains(), ["doc"]);
    for (source, login, id) in [
        ("other", "calvin.hobbes", Id::from("u-7")),
        ("staff", "calvin", Id::from("u-7")),
        ("staff", "gone", Id::from("u-9")),
        ("staff", "text", Id::from(1)),
    ] {
        assert_eq!(resolve(source, login, id).await.unwrap(), Lookup::NotFound, "{source} {login}");
    }
    is(ErrorKind::Ambiguous, resolve("staff", "twin", Id::from("u-8")).await);
    is(ErrorKind::Corrupt, resolve("staff", "bad", Id::from("u-10")).await);
    // Whom a person stands for is decided there and nowhere else.
    assert_eq!(store.groups_of(&ctx(), &who).await.unwrap(), Lookup::NotFound);
    assert_eq!(store.is_member(&ctx(), &who, "staff").await.unwrap(), Member::No);
    let doc = ObjectRef::new("doc", [Id::from(1)]).unwrap();
    assert_eq!(store.access(&ctx(), &who, &doc, Some("read")).await.unwrap(), Access::Deny);
}

#[tokio::test]
async fn the_time_is_a_parameter() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    // The manual clock stands at 2026-01-01T00:00:00Z.
    config.query.groups = Some(
        "SELECT name FROM grp WHERE uid = :id AND :now = 1767225600 AND typeof(:now) = 'integer'".to_owned(),
    );
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    assert_eq!(store.is_member(&ctx(), &calvin, "staff").await.unwrap(), Member::Yes);
}
