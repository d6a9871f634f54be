//! Answers from your own tables: exact, typed, and nobody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{
    Access, Account, AccountSource, Error, ErrorKind, GroupOracle, Id, Lock, Login, LoginRule, Lookup,
    Member, ObjectPerms, ObjectRef, Principal, Resolver, StoredHash,
};
use auth_store_sql::{ObjectId, SqlConfig, SqlStore};
use auth_testkit::{hash, login, principal_at, realm_with};
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
async fn a_folding_column_finds_nobody_else() {
    let database = Database::with(&format!(
        "{TABLES} INSERT INTO account (id, login) VALUES (3, 'calvin '), (4, 'moe%'), (5, 'stra\u{df}e');"
    ))
    .await;
    for account in [
        "SELECT id, login FROM account WHERE login = :login",
        "SELECT id, login FROM account WHERE login LIKE :login",
        "SELECT id, login FROM account WHERE login LIKE '%' || :login || '%'",
        "SELECT id, login FROM account WHERE rtrim(login) = :login COLLATE NOCASE",
        "SELECT id, login FROM account WHERE :login <> ''",
    ] {
        let mut config = settings(&database);
        config.query.account = Some(account.to_owned());
        config.query.replace_hash = None;
        let store = connect(config).await.unwrap();
        assert_eq!(*person(&store, "calvin").await.id(), Id::from(1), "{account}");
        assert_eq!(person(&store, "SUSIE").await.shown(), "Susie", "{account}");
        for stranger in ["calvi_", "%", "moe", "c%", "strasse", "_alvin", "calvin1"] {
            assert_eq!(find(&store, stranger).await, Lookup::NotFound, "{account} {stranger}");
        }
    }
}

#[tokio::test]
async fn two_rows_that_are_one_person_are_ambiguous() {
    let (database, store) = store_with("INSERT INTO account (id, login) VALUES (9, 'CALVIN');").await;
    let error = is(ErrorKind::Ambiguous, store.account(&ctx(), &login("calvin")).await);
    assert!(error.to_string().contains("query account"), "{error}");
    // A stranger's row beside it is none of theirs.
    database.run("UPDATE account SET login = 'calvin\u{a0}' WHERE id = 9").await;
    assert_eq!(*person(&store, "calvin").await.id(), Id::from(1));
}

#[tokio::test]
async fn injections_are_values_and_nothing_else() {
    let (database, store) = store_with("").await;
    let calvin = person(&store, "calvin").await;
    for text in [
        "'",
        "''",
        "\"",
        "';DROP TABLE account;--",
        "'OR'1'='1",
        "calvin'--",
        "calvin';--",
        ":login",
        "?1",
        "%",
        "x'41'",
        "\\",
        "calvin\\'",
        "char(0)",
        "`",
        "[",
    ] {
        let exact = Login::parse(&realm_with("default", LoginRule::Exact), text).unwrap();
        assert_eq!(store.account(&ctx(), &exact).await.unwrap(), Lookup::NotFound, "{text}");
        assert_eq!(store.is_member(&ctx(), &calvin, text).await.unwrap(), Member::No, "{text}");
        let strange = ObjectRef::new("doc", [Id::from(text)]).unwrap();
        let answer = store.access(&ctx(), &calvin, &strange, Some("read")).await;
        assert_eq!(answer.unwrap(), Access::NotFound, "{text}");
        let doc = ObjectRef::new("doc", [Id::from(1)]).unwrap();
        assert_eq!(store.access(&ctx(), &calvin, &doc, Some(text)).await.unwrap(), Access::Deny, "{text}");
        let stranger = principal_at("app", "calvin", Id::from(text));
        assert_eq!(store.groups_of(&ctx(), &stranger).await.unwrap(), Lookup::NotFound, "{text}");
        is(
            ErrorKind::Invalid,
            store.access(&ctx(), &calvin, &ObjectRef::new(text, [Id::from(1)]).unwrap(), None).await,
        );
    }
    assert_eq!((database.count("account").await, database.count("acl").await), (2, 2));
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
async fn without_an_id_the_login_as_the_store_spells_it_is_the_id() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query.replace_hash = None;
    config.query.account = Some("SELECT login FROM account WHERE login = :login".to_owned());
    config.query.groups = Some("SELECT name FROM grp WHERE login = :id AND login = :login".to_owned());
    let store = connect(config).await.unwrap();
    let susie = person(&store, "susie").await;
    assert_eq!(*susie.id(), Id::from("Susie"));
    assert_eq!(store.is_member(&ctx(), &susie, "girls").await.unwrap(), Member::Yes);
}

#[tokio::test]
async fn a_state_is_read_from_its_columns() {
    let (_database, store) = store_with(
        "INSERT INTO account VALUES (3, 'a', 'h', 'bcrypt', 1, 0, NULL, '2026-01-01 00:00:00'),\
         (4, 'b', '', '', 0, 0, 1767225600, NULL), (5, 'c', NULL, NULL, NULL, 1, 1767225600, 0);",
    )
    .await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let (a, b, c) = (show(&store, "a").await, show(&store, "b").await, show(&store, "c").await);
    assert!(a.state().disabled && a.state().expires_at == Some(at));
    assert_eq!(a.hash(), Some(&StoredHash::new("h".to_owned(), Some("bcrypt"))));
    assert_eq!((b.state().lock, b.hash()), (Lock::Until(at), None));
    assert_eq!((c.state().lock, c.state().expires_at), (Lock::Locked, Some(SystemTime::UNIX_EPOCH)));
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
async fn an_object_is_there_or_not_before_a_right_counts() {
    let (_database, store) = store_with("").await;
    let (calvin, susie) = (person(&store, "calvin").await, person(&store, "susie").await);
    let check = async |who: &Principal, id: Id, mode: Option<&str>, expected: Access| {
        let object = ObjectRef::new("doc", [id.clone()]).unwrap();
        assert_eq!(store.access(&ctx(), who, &object, mode).await.unwrap(), expected, "{id:?} {mode:?}");
    };
    check(&calvin, Id::from(1), Some("read"), Access::Allow).await;
    check(&calvin, Id::from("1"), Some("read"), Access::Allow).await;
    check(&calvin, Id::from(1), Some("READ"), Access::Deny).await;
    check(&susie, Id::from(1), Some("read"), Access::Deny).await;
    // There is a right on document 3, and no such document.
    check(&calvin, Id::from(3), Some("read"), Access::NotFound).await;
    for strange in ["01", "1 ", " 1", "+1", "1.0", "one", "1e0", "9223372036854775808"] {
        check(&calvin, Id::from(strange), Some("read"), Access::NotFound).await;
    }
    check(&calvin, Id::uuid(1), Some("read"), Access::NotFound).await;
    let two = ObjectRef::new("doc", [Id::from(1), Id::from(1)]).unwrap();
    is(ErrorKind::Invalid, store.access(&ctx(), &calvin, &two, Some("read")).await);
}

#[tokio::test]
async fn any_right_at_all_needs_a_query_or_rights_without_modes() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    let object = ObjectRef::new("doc", [Id::from(1)]).unwrap();
    let store = connect(config.clone()).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let error = is(ErrorKind::Unsupported, store.access(&ctx(), &calvin, &object, None).await);
    assert!(error.to_string().contains("no query `any` for the domain doc"), "{error}");
    let doc = config.object.get_mut("doc").unwrap();
    doc.access = "SELECT 1 FROM acl WHERE doc = :object AND uid = :id".to_owned();
    let store = connect(config.clone()).await.unwrap();
    for mode in [None, Some("read"), Some("whatever")] {
        assert_eq!(store.access(&ctx(), &calvin, &object, mode).await.unwrap(), Access::Allow);
    }
}

#[tokio::test]
async fn an_id_of_several_parts_is_bound_part_by_part() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    let page = object_config(
        "SELECT count(*) FROM page WHERE space = :object1 AND no = :object2",
        "SELECT 1 WHERE :object2 = '42' AND :login = 'calvin'",
    );
    config.object.insert("page".to_owned(), page);
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let check = async |parts: &[Id], expected: Access| {
        let object = ObjectRef::new("page", parts.iter().cloned()).unwrap();
        assert_eq!(store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap(), expected, "{object}");
    };
    check(&[Id::from("wiki"), Id::from(42)], Access::Allow).await;
    check(&[Id::from("wiki"), Id::from("42")], Access::Allow).await;
    check(&[Id::from(42), Id::from("wiki")], Access::NotFound).await;
    check(&[Id::from("wiki4"), Id::from("2")], Access::NotFound).await;
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
async fn many_objects_are_each_answered_for_itself() {
    let (_database, store) = store_with("").await;
    let calvin = person(&store, "calvin").await;
    let object = |domain: &str, id: i64| ObjectRef::new(domain, [Id::from(id)]).unwrap();
    let objects =
        [object("doc", 1), object("planet", 1), object("doc", 2), object("doc", 3), object("doc", 1)];
    let answers = store.access_many(&ctx(), &calvin, &objects, Some("read")).await;
    let shown: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(Error::kind)).collect();
    assert_eq!(
        shown,
        [
            Ok(&Access::Allow),
            Err(ErrorKind::Invalid),
            Ok(&Access::Deny),
            Ok(&Access::NotFound),
            Ok(&Access::Allow)
        ]
    );
    assert!(store.access_many(&ctx(), &calvin, &[], None).await.is_empty());
}

#[tokio::test]
async fn an_id_of_another_source_means_nothing_here() {
    let (_database, store) = store_with("").await;
    let stranger = principal_at("staff", "calvin", Id::from(1));
    assert_eq!(store.groups_of(&ctx(), &stranger).await.unwrap(), Lookup::NotFound);
    assert_eq!(store.is_member(&ctx(), &stranger, "staff").await.unwrap(), Member::No);
    let doc = |id: i64| ObjectRef::new("doc", [Id::from(id)]).unwrap();
    assert_eq!(store.access(&ctx(), &stranger, &doc(1), Some("read")).await.unwrap(), Access::Deny);
    assert_eq!(store.access(&ctx(), &stranger, &doc(3), Some("read")).await.unwrap(), Access::NotFound);
    let (old, new) = (hash("h1"), hash("h9"));
    is(ErrorKind::Invalid, store.replace_hash(&ctx(), &stranger, &old, &new).await);
    assert_eq!(show(&store, "calvin").await.hash(), Some(&old));
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
async fn people_without_groups_are_told_from_people_who_are_not_there() {
    let (database, store) = store_with("DELETE FROM grp;").await;
    let calvin = person(&store, "calvin").await;
    assert!(store.groups_of(&ctx(), &calvin).await.unwrap().found().unwrap().is_empty());
    database.run("UPDATE account SET id = 77 WHERE id = 1").await;
    assert_eq!(store.groups_of(&ctx(), &calvin).await.unwrap(), Lookup::NotFound, "another calvin by now");
    database.run("DELETE FROM account").await;
    assert_eq!(store.groups_of(&ctx(), &calvin).await.unwrap(), Lookup::NotFound);
}

#[tokio::test]
async fn a_hash_is_replaced_with_its_scheme_and_only_if_it_is_the_old_one() {
    let (_database, store) = store_with("").await;
    let calvin = person(&store, "calvin").await;
    let (old, new) = (hash("h1"), StoredHash::new("h9".to_owned(), Some("argon2")));
    assert!(!store.replace_hash(&ctx(), &calvin, &hash("h2"), &new).await.unwrap());
    assert!(store.replace_hash(&ctx(), &calvin, &old, &new).await.unwrap());
    assert!(!store.replace_hash(&ctx(), &calvin, &old, &new).await.unwrap());
    assert_eq!(show(&store, "calvin").await.hash(), Some(&new));
    assert_eq!(show(&store, "susie").await.hash(), Some(&hash("h2")), "and nobody else's");
}

#[tokio::test]
async fn a_replacement_of_two_rows_is_undone() {
    let (_database, store) =
        store_with("INSERT INTO account (id, login, hash) VALUES (1, 'twin', 'h1');").await;
    let calvin = person(&store, "calvin").await;
    is(ErrorKind::Ambiguous, store.replace_hash(&ctx(), &calvin, &hash("h1"), &hash("h9")).await);
    assert_eq!(show(&store, "calvin").await.hash(), Some(&hash("h1")));
    assert_eq!(show(&store, "twin").await.hash(), Some(&hash("h1")));
}

#[tokio::test]
async fn a_question_without_a_query_is_unsupported() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query = Default::default();
    let store = connect(config).await.unwrap();
    let calvin = principal_at("app", "calvin", Id::from(1));
    is(ErrorKind::Unsupported, store.account(&ctx(), &login("calvin")).await);
    is(ErrorKind::Unsupported, store.groups_of(&ctx(), &calvin).await);
    is(ErrorKind::Unsupported, store.is_member(&ctx(), &calvin, "staff").await);
    is(ErrorKind::Unsupported, store.replace_hash(&ctx(), &calvin, &hash("a"), &hash("b")).await);
    assert!(!store.has_link() && !store.has_accounts() && !store.has_groups());
    let can = AccountSource::source(&*store).capabilities();
    assert!(!can.tells_unknown && !can.lists_groups && !can.replaces_hash);
    assert!(store.directory().is_none());
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

#[tokio::test]
async fn a_reading_query_can_not_write() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query.groups = Some("DELETE FROM grp WHERE uid = :id RETURNING name".to_owned());
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    is(ErrorKind::Misconfigured, store.groups_of(&ctx(), &calvin).await);
    assert_eq!(database.count("grp").await, 2);
}

#[tokio::test]
async fn a_query_without_bounds_is_refused_when_it_shows() {
    let database = Database::with(TABLES).await;
    let mut config = settings(&database);
    config.query.groups = Some(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'g' || i AS name FROM n \
         WHERE :id > 0"
            .to_owned(),
    );
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let error = is(ErrorKind::Misconfigured, store.groups_of(&ctx(), &calvin).await);
    assert!(error.message().contains("more than 65536 rows"), "{error}");
    // And its connection serves the next.
    assert_eq!(*person(&store, "calvin").await.id(), Id::from(1));
}
