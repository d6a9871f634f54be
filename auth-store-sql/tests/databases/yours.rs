//! Answers from your own tables: exact, typed, and nobody else's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::{connect, ctx, is, object_config};
use crate::on::{ALL, Database, On, tests};
use auth_core::{
    Access, Account, AccountSource, Error, ErrorKind, GroupOracle, Id, Lock, Login, LoginRule, Lookup,
    Member, ObjectPerms, ObjectRef, Principal, StoredHash,
};
use auth_store_sql::{ObjectId, SqlConfig, SqlStore};
use auth_testkit::{hash, login, principal_at, realm_with};

const TABLES: &str = "\
    CREATE TABLE account (id INTEGER, login TEXT COLLATE NOCASE, hash TEXT, scheme TEXT, disabled INTEGER, \
    locked INTEGER, locked_until INTEGER, expires_at INTEGER);\
    CREATE TABLE grp (uid INTEGER, login TEXT, name TEXT);\
    CREATE TABLE doc (id INTEGER PRIMARY KEY, label TEXT);\
    CREATE TABLE acl (doc INTEGER, uid INTEGER, mode TEXT);\
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
    config.query.account = config.query.account.map(|sql| database.on.folding(&sql));
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

async fn store_with(on: &On, sql: &str) -> (Database, Arc<SqlStore>) {
    let database = on.with(&format!("{TABLES}{sql}")).await;
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

async fn a_folding_column_finds_nobody_else(on: On) {
    let database = on
        .with(&format!(
            "{TABLES} INSERT INTO account (id, login) VALUES (3, 'calvin '), (4, 'moe%'), (5, 'stra\u{df}e');"
        ))
        .await;
    for account in [
        "SELECT id, login FROM account WHERE login = :login",
        "SELECT id, login FROM account WHERE login LIKE :login",
        "SELECT id, login FROM account WHERE login LIKE '%' || :login || '%'",
        on.choose(
            "SELECT id, login FROM account WHERE rtrim(login) = :login COLLATE NOCASE",
            "SELECT id, login FROM account WHERE rtrim(login::text) ILIKE :login::text",
            "SELECT id, login FROM account WHERE rtrim(login) = :login",
        ),
        "SELECT id, login FROM account WHERE :login <> ''",
    ] {
        let mut config = settings(&database);
        config.query.account = Some(on.folding(account));
        config.query.replace_hash = None;
        let store = connect(config).await.unwrap();
        assert_eq!(*person(&store, "calvin").await.id(), Id::from(1), "{account}");
        assert_eq!(person(&store, "SUSIE").await.shown(), "Susie", "{account}");
        for stranger in ["calvi_", "%", "moe", "c%", "strasse", "_alvin", "calvin1"] {
            assert_eq!(find(&store, stranger).await, Lookup::NotFound, "{account} {stranger}");
        }
    }
}

async fn two_rows_that_are_one_person_are_ambiguous(on: On) {
    let (database, store) = store_with(&on, "INSERT INTO account (id, login) VALUES (9, 'CALVIN');").await;
    let error = is(ErrorKind::Ambiguous, store.account(&ctx(), &login("calvin")).await);
    assert!(error.to_string().contains("query account"), "{error}");
    // A stranger's row beside it is none of theirs.
    database.run("UPDATE account SET login = 'calvin\u{a0}' WHERE id = 9").await;
    assert_eq!(*person(&store, "calvin").await.id(), Id::from(1));
}

async fn injections_are_values_and_nothing_else(on: On) {
    let (database, store) = store_with(&on, "").await;
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

async fn without_an_id_the_login_as_the_store_spells_it_is_the_id(on: On) {
    let database = on.with(TABLES).await;
    let mut config = settings(&database);
    config.query.replace_hash = None;
    config.query.account = Some(on.folding("SELECT login FROM account WHERE login = :login"));
    config.query.groups = Some("SELECT name FROM grp WHERE login = :id AND login = :login".to_owned());
    config.object.clear();
    let store = connect(config).await.unwrap();
    let susie = person(&store, "susie").await;
    assert_eq!(*susie.id(), Id::from("Susie"));
    assert_eq!(store.is_member(&ctx(), &susie, "girls").await.unwrap(), Member::Yes);
}

async fn a_state_is_read_from_its_columns(on: On) {
    let (_database, store) = store_with(
        &on,
        "INSERT INTO account VALUES (3, 'a', 'h', 'bcrypt', 1, 0, NULL, 1767225600),\
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

async fn an_object_is_there_or_not_before_a_right_counts(on: On) {
    let (_database, store) = store_with(&on, "").await;
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

async fn any_right_at_all_needs_a_query_or_rights_without_modes(on: On) {
    let database = on.with(TABLES).await;
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

async fn an_id_of_several_parts_is_bound_part_by_part(on: On) {
    let database = on.with(TABLES).await;
    let mut config = settings(&database);
    let page = object_config(
        on.choose(
            "SELECT count(*) FROM page WHERE space = :object1 AND no = :object2",
            "SELECT count(*) FROM page WHERE space = :object1 AND no = :object2",
            "SELECT space AS id1, no AS id2 FROM page WHERE space = :object1 AND no = :object2",
        ),
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

async fn many_objects_are_each_answered_for_itself(on: On) {
    let (_database, store) = store_with(&on, "").await;
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

async fn an_id_of_another_source_means_nothing_here(on: On) {
    let (_database, store) = store_with(&on, "").await;
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

async fn people_without_groups_are_told_from_people_who_are_not_there(on: On) {
    let (database, store) = store_with(&on, "DELETE FROM grp;").await;
    let calvin = person(&store, "calvin").await;
    assert!(store.groups_of(&ctx(), &calvin).await.unwrap().found().unwrap().is_empty());
    database.run("UPDATE account SET id = 77 WHERE id = 1").await;
    assert_eq!(store.groups_of(&ctx(), &calvin).await.unwrap(), Lookup::NotFound, "another calvin by now");
    database.run("DELETE FROM account").await;
    assert_eq!(store.groups_of(&ctx(), &calvin).await.unwrap(), Lookup::NotFound);
}

async fn a_hash_is_replaced_with_its_scheme_and_only_if_it_is_the_old_one(on: On) {
    let (_database, store) = store_with(&on, "").await;
    let calvin = person(&store, "calvin").await;
    let (old, new) = (hash("h1"), StoredHash::new("h9".to_owned(), Some("argon2")));
    assert!(!store.replace_hash(&ctx(), &calvin, &hash("h2"), &new).await.unwrap());
    assert!(store.replace_hash(&ctx(), &calvin, &old, &new).await.unwrap());
    assert!(!store.replace_hash(&ctx(), &calvin, &old, &new).await.unwrap());
    assert_eq!(show(&store, "calvin").await.hash(), Some(&new));
    assert_eq!(show(&store, "susie").await.hash(), Some(&hash("h2")), "and nobody else's");
}

async fn a_replacement_of_two_rows_is_undone(on: On) {
    let (_database, store) =
        store_with(&on, "INSERT INTO account (id, login, hash) VALUES (1, 'twin', 'h1');").await;
    let calvin = person(&store, "calvin").await;
    is(ErrorKind::Ambiguous, store.replace_hash(&ctx(), &calvin, &hash("h1"), &hash("h9")).await);
    assert_eq!(show(&store, "calvin").await.hash(), Some(&hash("h1")));
    assert_eq!(show(&store, "twin").await.hash(), Some(&hash("h1")));
}

async fn a_question_without_a_query_is_unsupported(on: On) {
    let database = on.with(TABLES).await;
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

async fn a_reading_query_can_not_write(on: On) {
    let database = on.with(TABLES).await;
    // Elsewhere nothing that writes returns rows but a function.
    let take = on.choose(
        "",
        "CREATE FUNCTION take(who bigint) RETURNS SETOF text LANGUAGE sql AS \
         'DELETE FROM grp WHERE uid = who RETURNING name'",
        "CREATE FUNCTION take(who BIGINT) RETURNS TEXT MODIFIES SQL DATA \
         BEGIN DELETE FROM grp WHERE uid = who; RETURN 'staff'; END",
    );
    database.run(take).await;
    let mut config = settings(&database);
    config.query.groups = Some(
        on.choose(
            "DELETE FROM grp WHERE uid = :id RETURNING name",
            "SELECT take(:id) AS name",
            "SELECT take(:id) AS name",
        )
        .to_owned(),
    );
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    is(ErrorKind::Misconfigured, store.groups_of(&ctx(), &calvin).await);
    assert_eq!(database.count("grp").await, 2);
}

async fn a_query_without_bounds_is_refused_when_it_shows(on: On) {
    let database = on.with(TABLES).await;
    let mut config = settings(&database);
    config.query.groups = Some(
        on.choose(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'g' || i AS name FROM n \
             WHERE :id > 0",
            "SELECT 'g' || i AS name FROM generate_series(1, 100000) g (i) WHERE :id > 0",
            "SELECT concat('g', seq) AS name FROM seq_1_to_100000 WHERE :id > 0",
        )
        .to_owned(),
    );
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    let error = is(ErrorKind::Misconfigured, store.groups_of(&ctx(), &calvin).await);
    assert!(error.message().contains("more than 65536 rows"), "{error}");
    // And its connection serves the next.
    assert_eq!(*person(&store, "calvin").await.id(), Id::from(1));
}

tests! {
    ALL => {
        a_folding_column_finds_nobody_else,
        two_rows_that_are_one_person_are_ambiguous,
        injections_are_values_and_nothing_else,
        without_an_id_the_login_as_the_store_spells_it_is_the_id,
        a_state_is_read_from_its_columns,
        an_object_is_there_or_not_before_a_right_counts,
        any_right_at_all_needs_a_query_or_rights_without_modes,
        an_id_of_several_parts_is_bound_part_by_part,
        many_objects_are_each_answered_for_itself,
        an_id_of_another_source_means_nothing_here,
        people_without_groups_are_told_from_people_who_are_not_there,
        a_hash_is_replaced_with_its_scheme_and_only_if_it_is_the_old_one,
        a_replacement_of_two_rows_is_undone,
        a_question_without_a_query_is_unsupported,
        a_reading_query_can_not_write,
        a_query_without_bounds_is_refused_when_it_shows,
    }
}
