//! Where databases find more, or other, than what was asked for; and what their types say.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{
    Access, AccountSource, ErrorKind, GroupOracle, Id, Lock, Login, LoginRule, Lookup, Member, ObjectPerms,
    ObjectRef, Principal,
};
use auth_store_sql::{ObjectConfig, ObjectId, SqlConfig, SqlStore};
use auth_testkit::{World, login, realm_with};

use crate::common::{connect, ctx, is, load, object_config, refused};
use crate::on::{ALL, Database, Engine, On, SERVERS, tests};

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, login TEXT COLLATE NOCASE);";
const ACCOUNT: &str = "SELECT id, login FROM people WHERE login = :login";

async fn people(on: &On, rows: &str) -> (Database, SqlConfig) {
    let database = on.with(&format!("{PEOPLE} INSERT INTO people VALUES {rows};")).await;
    let mut config = database.config();
    config.query.account = Some(on.folding(ACCOUNT));
    (database, config)
}

async fn person(store: &SqlStore, text: &str) -> Principal {
    store.account(&ctx(), &login(text)).await.unwrap().found().unwrap().principal().clone()
}

async fn finds(store: &SqlStore, text: &str) -> bool {
    matches!(store.account(&ctx(), &login(text)).await.unwrap(), Lookup::Found(_))
}

fn object(domain: &str, id: Id) -> ObjectRef {
    ObjectRef::new(domain, [id]).unwrap()
}

async fn case_and_unicode_of_logins(on: On) {
    let (_database, config) = people(&on, "(1, 'Calvin'), (2, 'stra\u{df}e'), (3, 'caf\u{e9}')").await;
    let store = connect(config).await.unwrap();
    for same in ["calvin", "CALVIN", "cAlvin"] {
        assert_eq!(*person(&store, same).await.id(), Id::from(1), "{same}");
    }
    assert!(finds(&store, "caf\u{e9}").await && finds(&store, "stra\u{df}e").await);
    let exact = |text| Login::parse(&realm_with("exact", LoginRule::Exact), text).unwrap();
    assert_eq!(store.account(&ctx(), &exact("calvin")).await.unwrap(), Lookup::NotFound);
    assert!(matches!(store.account(&ctx(), &exact("Calvin")).await.unwrap(), Lookup::Found(_)));
}

async fn store_folds_more_than_we_do_collations(on: On) {
    let (_database, config) = people(&on, "(1, 'stra\u{df}e'), (2, 'caf\u{e9}'), (3, 'moe')").await;
    let store = connect(config).await.unwrap();
    for stranger in ["strasse", "cafe", "cafe\u{30a}", "mo\u{eb}", "m\u{f8}e"] {
        assert!(!finds(&store, stranger).await, "{stranger}");
    }
    if on.engine == Engine::MariaDb {
        let found = on.sql(&_database.name, "SELECT count(*) FROM people WHERE login IN ('strasse', 'cafe')");
        assert_eq!(found, "2", "the database itself finds them");
    }
}

async fn store_folds_more_than_we_do_pad_space(on: On) {
    let (database, config) = people(&on, "(1, 'moe '), (2, 'calvin')").await;
    let store = connect(config).await.unwrap();
    assert!(!finds(&store, "moe").await && finds(&store, "calvin").await);
    let exact = Login::parse(&realm_with("exact", LoginRule::Exact), "calvin ");
    if let Ok(padded) = exact {
        assert_eq!(store.account(&ctx(), &padded).await.unwrap(), Lookup::NotFound);
    }
    if on.engine == Engine::MariaDb {
        assert_eq!(on.sql(&database.name, "SELECT count(*) FROM people WHERE login = 'moe'"), "1");
    }
}

async fn store_folds_more_than_we_do_wildcards(on: On) {
    let (_database, mut config) = people(&on, "(1, 'calvin'), (2, 'per%cent')").await;
    config.query.account = Some("SELECT id, login FROM people WHERE login LIKE :login".to_owned());
    let store = connect(config).await.unwrap();
    for stranger in ["%", "c%", "_alvin", "calvi_", "per_cent"] {
        assert!(!finds(&store, stranger).await, "{stranger}");
    }
    assert!(finds(&store, "calvin").await && finds(&store, "per%cent").await);
}

/// MariaDB takes the number 0 for every text that begins with no digit.
async fn store_folds_more_than_we_do_the_number_0(on: On) {
    let (database, mut config) = people(&on, "(0, 'calvin')").await;
    let tables = "CREATE TABLE grp (uid TEXT, name TEXT); INSERT INTO grp VALUES ('admin', 'admins');\
                  CREATE TABLE thing (name TEXT); INSERT INTO thing VALUES ('attic');";
    database.run(&on.spelled(tables)).await;
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    let mut thing = object_config("SELECT 1 FROM thing WHERE name = :object", "SELECT 1");
    thing.id = ObjectId::Int.into();
    config.object.insert("thing".to_owned(), thing);
    if on.engine == Engine::Postgres {
        assert_eq!(refused(config).await.kind(), ErrorKind::Misconfigured, "the types differ");
        return;
    }
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    assert_eq!(*calvin.id(), Id::from(0));
    assert!(store.groups_of(&ctx(), &calvin).await.unwrap().found().unwrap().is_empty());
    let attic = object("thing", Id::from(0));
    assert_eq!(store.access(&ctx(), &calvin, &attic, None).await.unwrap(), Access::NotFound);
}

/// Bound as text they must not be compared as fractions.
async fn large_ids_are_exact(on: On) {
    let (database, mut config) =
        people(&on, "(9007199254740993, 'calvin'), (9007199254740992, 'susie')").await;
    database
        .run(&on.spelled(
            "CREATE TABLE grp (uid INTEGER, name TEXT);\
             INSERT INTO grp VALUES (9007199254740992, 'girls'), (9007199254740993, 'boys');",
        ))
        .await;
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    assert_eq!(*calvin.id(), Id::from(9_007_199_254_740_993));
    let groups = store.groups_of(&ctx(), &calvin).await.unwrap().found().unwrap();
    assert!(groups.contains("boys") && !groups.contains("girls"));
}

async fn user_renamed_deleted_name_reused(on: On) {
    let (database, mut config) = people(&on, "(1, 'calvin')").await;
    database
        .run(&on.spelled("CREATE TABLE grp (uid INTEGER, name TEXT); INSERT INTO grp VALUES (1, 'a');"))
        .await;
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    let store = connect(config).await.unwrap();
    let old = person(&store, "calvin").await;
    database.run("UPDATE people SET login = 'hobbes'; INSERT INTO people VALUES (2, 'calvin')").await;
    let new = person(&store, "calvin").await;
    assert_ne!(old.id(), new.id());
    assert!(store.groups_of(&ctx(), &new).await.unwrap().found().unwrap().is_empty());
    assert_eq!(store.is_member(&ctx(), &person(&store, "hobbes").await, "a").await.unwrap(), Member::Yes);
    database.run("DELETE FROM people; DELETE FROM grp").await;
    assert_eq!(store.groups_of(&ctx(), &old).await.unwrap(), Lookup::NotFound);
}

async fn nul(on: On) {
    let (database, mut config) = people(&on, "(1, 'calvin')").await;
    database
        .run(&on.spelled(
            "CREATE TABLE acl (uid INTEGER, doc TEXT, mode TEXT); INSERT INTO acl VALUES (1, 'a', 'r');",
        ))
        .await;
    config.query.is_member = Some("SELECT doc AS name FROM acl WHERE uid = :id AND doc = :group".to_owned());
    let doc = object_config(
        "SELECT doc AS id FROM acl WHERE doc = :object",
        "SELECT 1 FROM acl WHERE doc = :object AND mode = :mode",
    );
    config.object.insert("doc".to_owned(), doc);
    let store = connect(config).await.unwrap();
    let calvin = person(&store, "calvin").await;
    assert!(Login::parse(&realm_with("exact", LoginRule::Exact), "calvin\0").is_err());
    assert_eq!(store.is_member(&ctx(), &calvin, "a\0").await.unwrap(), Member::No);
    let doc = object("doc", Id::from("a"));
    assert_eq!(store.access(&ctx(), &calvin, &doc, Some("r\0")).await.unwrap(), Access::Deny);
    assert_eq!(store.access(&ctx(), &calvin, &doc, Some("r")).await.unwrap(), Access::Allow);
}

const UUID: &str = "0198c0de-1111-7222-8333-444455556666";
const OTHER: &str = "0198c0de-1111-7222-8333-444455556667";

/// The tables with UUIDs, and whether they are texts, in the database's best types.
fn uuid_tables(on: &On) -> Vec<(String, &'static str, &'static str)> {
    let text = |kind: &str| {
        format!(
            "CREATE TABLE people (id {kind} PRIMARY KEY, login VARCHAR(255));\
             INSERT INTO people VALUES ('{UUID}', 'calvin');\
             CREATE TABLE doc (id {kind} PRIMARY KEY, owner {kind});\
             INSERT INTO doc VALUES ('{OTHER}', '{UUID}');"
        )
    };
    match on.engine {
        Engine::Sqlite => vec![(text("TEXT"), ":object", ":id")],
        Engine::Postgres => vec![(text("uuid"), ":object", ":id")],
        Engine::MariaDb => vec![
            (text("CHAR(36)"), ":object", ":id"),
            (text("UUID"), ":object", ":id"),
            (
                text("BINARY(16)")
                    .replace(&format!("'{UUID}'"), &format!("UNHEX(REPLACE('{UUID}', '-', ''))"))
                    .replace(&format!("'{OTHER}'"), &format!("UNHEX(REPLACE('{OTHER}', '-', ''))")),
                "UNHEX(REPLACE(:object, '-', ''))",
                "UNHEX(REPLACE(:id, '-', ''))",
            ),
        ],
    }
}

async fn ids_that_are_uuids(on: On) {
    for (tables, asked, owner) in uuid_tables(&on) {
        let database = on.empty();
        database.run(&tables).await;
        let mut config = database.config();
        config.query.account = Some("SELECT id, login FROM people WHERE login = :login".to_owned());
        let exists = format!("SELECT id FROM doc WHERE id = {asked}");
        let access = format!("SELECT 1 FROM doc WHERE id = {asked} AND owner = {owner}");
        let mut doc = object_config(&exists, &access);
        doc.id = ObjectId::Uuid.into();
        if !asked.contains('(') {
            doc.exists_many = Some("SELECT id FROM doc WHERE id IN (:objects)".to_owned());
            doc.access_many = Some(format!("SELECT id FROM doc WHERE id IN (:objects) AND owner = {owner}"));
        }
        config.object.insert("doc".to_owned(), doc);
        let store = connect(config).await.unwrap();
        let calvin = person(&store, "calvin").await;
        assert_eq!(calvin.id().to_string(), UUID, "{tables}");
        let upper = OTHER.to_uppercase();
        let compact = OTHER.replace('-', "");
        let mut objects = Vec::new();
        let bytes = match Id::text(OTHER) {
            Id::Text(text) => u128::from_str_radix(&text.replace('-', ""), 16).unwrap(),
            _ => 0,
        };
        for (id, expected) in [
            (Id::text(OTHER), Access::Allow),
            (Id::Uuid(bytes.to_be_bytes()), Access::Allow),
            (Id::text(UUID), Access::NotFound),
            (Id::text(&upper), Access::NotFound),
            (Id::text(&compact), Access::NotFound),
            (Id::text("x"), Access::NotFound),
            (Id::from(1), Access::NotFound),
        ] {
            let object = object("doc", id);
            let answer = store.access(&ctx(), &calvin, &object, Some("read")).await.unwrap();
            assert_eq!(answer, expected, "{object} {tables}");
            objects.push((object, expected));
        }
        let (objects, expected): (Vec<_>, Vec<_>) = objects.into_iter().unzip();
        let answers = store.access_many(&ctx(), &calvin, &objects, Some("read")).await;
        assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected, "{tables}");
    }
}

async fn parts_of_an_id_have_a_type_each(on: On) {
    let (database, mut config) = people(&on, "(1, 'calvin')").await;
    database
        .run(&on.spelled(
            "CREATE TABLE page (space TEXT, no INTEGER, uid INTEGER); INSERT INTO page VALUES ('wiki', 42, 1);",
        ))
        .await;
    let page: ObjectConfig = toml::from_str(
        "id = ['text', 'int']\n\
         exists = 'SELECT space AS id1, no AS id2 FROM page WHERE space = :object1 AND no = :object2'\n\
         access = 'SELECT 1 FROM page WHERE space = :object1 AND no = :object2 AND uid = :id'",
    )
    .unwrap();
    config.object.insert("page".to_owned(), page.clone());
    let store = connect(config.clone()).await.unwrap();
    let calvin = person(&store, "calvin").await;
    for (space, no, expected) in [
        (Id::from("wiki"), Id::from(42), Access::Allow),
        (Id::from("wiki"), Id::from("42"), Access::Allow),
        (Id::from("wiki"), Id::from("042"), Access::NotFound),
        (Id::from("Wiki"), Id::from(42), Access::NotFound),
        (Id::from("wiki "), Id::from(42), Access::NotFound),
        (Id::from(42), Id::from(42), Access::NotFound),
        (Id::from("wiki"), Id::from("wiki"), Access::NotFound),
    ] {
        let object = ObjectRef::new("page", [space, no]).unwrap();
        assert_eq!(store.access(&ctx(), &calvin, &object, None).await.unwrap(), expected, "{object}");
    }
    let mut three = page;
    three.id =
        toml::from_str::<ObjectConfig>("exists = ''\naccess = ''\nid = ['text', 'int', 'int']").unwrap().id;
    config.object.insert("page".to_owned(), three);
    assert!(refused(config).await.message().contains("object.page.id has 3 types"));
}

async fn a_state_is_read_from_the_types_of_the_database(on: On) {
    let table = on.choose(
        "",
        "CREATE TABLE people (login varchar(40), disabled boolean, locked boolean, locked_until timestamptz, \
         not_before timestamp, expires_at timestamptz, must_change smallint);\
         INSERT INTO people VALUES ('open', false, NULL, NULL, NULL, 'infinity', 0),\
         ('shut', true, true, NULL, NULL, NULL, 1),\
         ('times', false, false, '2026-01-01 02:00:00.5+02', '2026-01-01 00:00:00', '1999-12-31 23:59:59Z', NULL);",
        "CREATE TABLE people (login VARCHAR(40), disabled BOOLEAN, locked BIT(1), locked_until DATETIME(6), \
         not_before TIMESTAMP NULL, expires_at DATETIME, must_change TINYINT UNSIGNED);\
         SET time_zone = '+00:00';\
         INSERT INTO people VALUES ('open', 0, NULL, NULL, NULL, NULL, 0), ('shut', 1, b'1', NULL, NULL, NULL, 1),\
         ('times', 0, b'0', '2026-01-01 00:00:00.5', '2026-01-01 00:00:00', '1999-12-31 23:59:59', NULL);",
    );
    let database = on.empty();
    database.run(table).await;
    let mut config = database.config();
    config.query.account = Some(
        "SELECT login, disabled, locked, locked_until, not_before, expires_at, must_change FROM people \
         WHERE login = :login"
            .to_owned(),
    );
    let store = connect(config).await.unwrap();
    let state = async |text: &str| {
        store.account(&ctx(), &login(text)).await.unwrap().found().unwrap().state().clone()
    };
    assert_eq!(state("open").await, auth_core::AccountState::default());
    let shut = state("shut").await;
    assert!(shut.disabled && shut.lock == Lock::Locked && shut.must_change);
    let times = state("times").await;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    assert_eq!(times.lock, Lock::Until(at + Duration::from_millis(500)));
    assert_eq!(times.not_before, Some(at));
    assert_eq!(times.expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_799)));
    assert!(!times.disabled && !times.must_change);
}

async fn a_value_of_a_type_that_does_not_fit_is_corrupt_and_is_not_shown(on: On) {
    let table = on.choose(
        "",
        "CREATE TABLE people (login text, blob bytea, fraction numeric, span interval);\
         INSERT INTO people VALUES ('calvin', 'secret', 12.25, '1 day');",
        "CREATE TABLE people (login TEXT, `blob` BLOB, fraction DECIMAL(9, 2), span DATE);\
         INSERT INTO people VALUES ('calvin', X'ff736563726574', 12.25, '2026-01-01');",
    );
    let database = on.empty();
    database.run(table).await;
    for (value, column) in [
        (on.choose("", "blob", "`blob`"), "hash"),
        ("fraction", "id"),
        ("fraction", "disabled"),
        ("span", "expires_at"),
        ("login", "locked_until"),
    ] {
        let mut config = database.config();
        config.query.account =
            Some(format!("SELECT login, {value} AS {column} FROM people WHERE login = :login"));
        let store = connect(config).await.unwrap();
        let error = is(ErrorKind::Corrupt, store.account(&ctx(), &login("calvin")).await);
        let shown = format!("{error:?}");
        assert!(shown.contains(&format!("query account, column {column}")), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("12.25"), "{shown}");
    }
}

/// A store with documents 1 to 300, of which calvin may read those that 3 divides.
async fn many(on: &On, listing: bool) -> (Database, Arc<SqlStore>) {
    let (database, mut config) = people(on, "(1, 'calvin')").await;
    let rows = |every: usize, end: &str| {
        (1..=300).filter(|n| n % every == 0).map(|n| format!("({n}{end})")).collect::<Vec<_>>().join(",")
    };
    let (docs, rights) = (rows(1, ""), rows(3, ", 1, 'read'"));
    database
        .run(&on.spelled(&format!(
            "CREATE TABLE doc (id INTEGER PRIMARY KEY); INSERT INTO doc VALUES {docs};\
             CREATE TABLE acl (doc INTEGER, uid INTEGER, mode TEXT); INSERT INTO acl VALUES {rights};"
        )))
        .await;
    let mut doc = object_config(
        "SELECT 1 FROM doc WHERE id = :object",
        "SELECT 1 FROM acl WHERE doc = :object AND uid = :id AND mode = :mode",
    );
    doc.id = ObjectId::Int.into();
    if listing {
        doc.exists_many = Some("SELECT id FROM doc WHERE id IN (:objects)".to_owned());
        doc.access_many = Some(
            "SELECT doc AS id FROM acl WHERE doc IN (:objects) AND uid = :id AND mode = :mode".to_owned(),
        );
    }
    config.object.insert("doc".to_owned(), doc);
    (database, connect(config).await.unwrap())
}

async fn many_objects_get_the_answers_that_each_would_get(on: On) {
    let (_first, listing) = many(&on, true).await;
    let (_second, single) = many(&on, false).await;
    let ids = |count: usize| -> Vec<ObjectRef> {
        let mut ids: Vec<Id> = (0..count).map(|n| Id::from(i64::try_from(n * 7 % 400).unwrap())).collect();
        if count > 4 {
            (ids[1], ids[2], ids[3]) = (Id::from("03"), ids[4].clone(), Id::from("3"));
        }
        ids.into_iter().map(|id| object("doc", id)).collect()
    };
    for count in [0, 1, 2, 8, 9, 64, 65, 256, 257, 600] {
        let mut objects = ids(count);
        if count > 8 {
            objects[5] = object("planet", Id::from(1));
            objects[6] = ObjectRef::new("doc", [Id::from(1), Id::from(2)]).unwrap();
        }
        for mode in [Some("read"), Some("write"), Some("READ\0"), None] {
            let mut answers = Vec::new();
            for store in [&listing, &single] {
                let calvin = person(store, "calvin").await;
                let answer = store.access_many(&ctx(), &calvin, &objects, mode).await;
                answers.push(answer.into_iter().map(|a| a.map_err(|e| e.kind())).collect::<Vec<_>>());
            }
            assert_eq!(answers[0].len(), count);
            assert_eq!(answers[0], answers[1], "{count} {mode:?}");
        }
    }
}

async fn many_objects_take_two_round_trips(on: On) {
    let (database, store) = many(&on, true).await;
    let calvin = person(&store, "calvin").await;
    let asked = |database: &Database| {
        let log = on.servers.postgres().log();
        let begin = format!("{} LOG:  execute ", database.name);
        log.lines().filter(|line| line.starts_with(&begin)).count()
    };
    for (count, trips) in [(2, 2), (256, 2), (300, 4)] {
        let objects: Vec<_> = (1..=count).map(|n| object("doc", Id::from(n))).collect();
        let before = asked(&database);
        let answers = store.access_many(&ctx(), &calvin, &objects, Some("read")).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked(&database) - before, trips, "{count}");
    }
    let managed = on.empty();
    let store = connect(managed.config()).await.unwrap();
    load(&*store.directory().unwrap()).await;
    let calvin = person(&store, "calvin").await;
    let objects: Vec<_> = World::objects().iter().map(|object| object.object()).collect();
    let before = asked(&managed);
    let answers = store.access_many(&ctx(), &calvin, &objects, Some("read")).await;
    assert!(answers.iter().all(Result::is_ok) && asked(&managed) - before == 2);
}

async fn queries_about_many_objects_are_checked_at_start(on: On) {
    let (_database, mut config) = people(&on, "(1, 'calvin')").await;
    let check = async |config: &mut SqlConfig, exists: Option<&str>, access: Option<&str>, says: &str| {
        let mut doc = object_config("SELECT id FROM people WHERE id = :object", "SELECT 1");
        doc.id = ObjectId::Int.into();
        (doc.exists_many, doc.access_many) = (exists.map(str::to_owned), access.map(str::to_owned));
        config.object.insert("doc".to_owned(), doc);
        let error = refused(config.clone()).await;
        assert!(error.message().contains(says), "{error}");
    };
    let good = "SELECT id FROM people WHERE id IN (:objects)";
    check(&mut config, Some(good), None, "needs both").await;
    check(&mut config, None, Some(good), "needs both").await;
    check(&mut config, Some("SELECT id FROM people"), Some(good), "has no :objects").await;
    check(
        &mut config,
        Some("SELECT 1 AS x FROM people WHERE id IN (:objects)"),
        Some(good),
        "no column `id`",
    )
    .await;
}

tests! {
    ALL => {
        case_and_unicode_of_logins,
        store_folds_more_than_we_do_collations,
        store_folds_more_than_we_do_pad_space,
        store_folds_more_than_we_do_wildcards,
        store_folds_more_than_we_do_the_number_0,
        large_ids_are_exact,
        user_renamed_deleted_name_reused,
        nul,
        ids_that_are_uuids,
        parts_of_an_id_have_a_type_each,
        many_objects_get_the_answers_that_each_would_get,
        queries_about_many_objects_are_checked_at_start,
    }
    SERVERS => {
        a_state_is_read_from_the_types_of_the_database,
        a_value_of_a_type_that_does_not_fit_is_corrupt_and_is_not_shown,
    }
    &[Engine::Postgres] => { many_objects_take_two_round_trips }
}
