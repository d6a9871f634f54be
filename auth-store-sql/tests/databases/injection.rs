//! Whatever people send is bound: no statement but the configured ones ever runs.

use std::collections::BTreeSet;

use auth_core::{
    Access, AccountSource, ErrorKind, GroupOracle, Id, Login, LoginRule, Lookup, Member, ObjectPerms,
    ObjectRef, Principal,
};
use auth_store_sql::SqlStore;
use auth_testkit::{login, principal_at, realm_with};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::common::{connect, ctx, object_config};
use crate::on::{ALL, Database, Engine, On, tests};

const TABLES: &str = "CREATE TABLE account (id TEXT, login TEXT, hash TEXT);\
                      CREATE TABLE grp (uid TEXT, name TEXT);\
                      CREATE TABLE doc (id TEXT, owner TEXT);\
                      INSERT INTO account VALUES ('1', 'calvin', 'h1');\
                      INSERT INTO grp VALUES ('1', 'staff');\
                      INSERT INTO doc VALUES ('plans', '1');";

/// What breaks out of strings, names, comments and escapes, and what begins there.
const NASTY: [&str; 30] = [
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\'",
    "';DROP TABLE account;--",
    "' OR '1'='1",
    "') OR 1=1 -- ",
    "calvin'--",
    "calvin' #",
    "' UNION SELECT id, login, hash FROM account --",
    "\\' OR 1=1 -- ",
    "$$;DELETE FROM account;$$",
    "$1",
    "?",
    ":login",
    "%",
    "_",
    "/*",
    "*/",
    "/*!50000 DROP TABLE account */",
    "E'\\\\'",
    "\u{bf}'",
    "\u{2019} OR 1=1",
    "0",
    "NULL",
    "1; SELECT pg_sleep(1)",
    "' AND SLEEP(1) AND '1",
    "{{7*7}}",
];

fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        proptest::sample::select(NASTY.to_vec()).prop_map(str::to_owned),
        "[';\"`\\\\%_#/*()$:?@=a-z0-9 -]{1,12}",
        any::<String>(),
    ];
    proptest::collection::vec(pieces, 1..4)
        .prop_map(|pieces| pieces.concat().chars().take(60).collect::<String>())
        .prop_filter("something", |text| !text.is_empty())
}

/// Everything that is in the database.
async fn contents(database: &Database) -> Vec<i64> {
    let mut all = Vec::new();
    for table in ["account", "grp", "doc"] {
        all.push(database.count(table).await);
    }
    all.push(database.count("account WHERE id = '1' AND login = 'calvin' AND hash = 'h1'").await);
    all.push(database.count("grp WHERE uid = '1' AND name = 'staff'").await);
    all.push(database.count("doc WHERE id = 'plans' AND owner = '1'").await);
    all.push(match database.on.engine {
        Engine::Sqlite => database.count("sqlite_schema").await,
        Engine::Postgres => database.count("pg_class").await,
        Engine::MariaDb => database.count("information_schema.tables WHERE table_schema = DATABASE()").await,
    });
    all
}

/// The statements that the user of this database has run, without their values.
fn statements(database: &Database, user: &str) -> BTreeSet<String> {
    match database.on.engine {
        Engine::Sqlite => BTreeSet::new(),
        Engine::Postgres => {
            let begin = format!("{} LOG:  ", database.name);
            let log = database.on.servers.postgres().log();
            let said = log.lines().filter_map(|line| line.strip_prefix(&begin));
            // Not the name that the driver has given it.
            let bare = |line: &str| match line.strip_prefix("execute ").and_then(|line| line.split_once(": "))
            {
                Some((_, sql)) => sql.to_owned(),
                None => line.to_owned(),
            };
            said.map(bare).collect()
        }
        Engine::MariaDb => {
            let log = format!(
                "SELECT DISTINCT CONVERT(argument USING utf8mb4) FROM general_log \
                 WHERE user_host LIKE '{user}[%' AND command_type IN ('Query', 'Prepare')"
            );
            database.on.sql("mysql", &log).lines().map(str::to_owned).collect()
        }
    }
}

async fn ask(store: &SqlStore, who: &Principal, text: &str) {
    if let Ok(exact) = Login::parse(&realm_with("exact", LoginRule::Exact), text) {
        let found = store.account(&ctx(), &exact).await.unwrap();
        assert!(exact.as_str() == "calvin" || found == Lookup::NotFound, "{text:?}");
    }
    assert_eq!(store.is_member(&ctx(), who, text).await.unwrap(), Member::No, "{text:?}");
    let stranger = principal_at("app", "calvin", Id::from(text));
    if let Ok(Lookup::Found(groups)) = store.groups_of(&ctx(), &stranger).await {
        assert!(groups.is_empty() || text == "1", "{text:?}");
    }
    let plans = ObjectRef::new("doc", [Id::from("plans")]).unwrap();
    assert_eq!(store.access(&ctx(), who, &plans, Some(text)).await.unwrap(), Access::Deny, "{text:?}");
    if let Ok(object) = ObjectRef::new("doc", [Id::from(text)]) {
        assert_eq!(
            store.access(&ctx(), who, &object, Some("read")).await.unwrap(),
            Access::NotFound,
            "{text:?}"
        );
        let answers = store.access_many(&ctx(), who, &[object, plans], Some("read")).await;
        let answers: Vec<Access> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [Access::NotFound, Access::Allow], "{text:?}");
    }
    if let Ok(object) = ObjectRef::new(text, [Id::from(1)]) {
        let error = store.access(&ctx(), who, &object, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text:?}");
    }
    let stored = auth_core::StoredHash::new(text.to_owned(), None);
    if !text.contains('\0') {
        let replaced = store.replace_hash(&ctx(), who, &stored, &auth_testkit::hash("h9")).await;
        assert!(!replaced.unwrap(), "{text:?}");
    }
}

async fn no_statement_runs_but_the_configured_ones(on: On) {
    let database = on.with(TABLES).await;
    let mut config = database.config();
    let user = format!("hostile{}", database.name);
    if on.engine == Engine::MariaDb {
        on.sql(
            "mysql",
            &format!(
                "CREATE USER {user}@'%' IDENTIFIED BY 'tiger'; GRANT ALL ON {}.* TO {user}@'%';\
                 SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON",
                database.name
            ),
        );
        config.url = config.url.replace("//app:", &format!("//{user}:"));
    }
    config.query.account = Some("SELECT id, login, hash FROM account WHERE login = :login".to_owned());
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    config.query.is_member = Some("SELECT name FROM grp WHERE uid = :id AND name = :group".to_owned());
    config.query.replace_hash =
        Some("UPDATE account SET hash = :new WHERE id = :id AND hash = :old".to_owned());
    let mut doc = object_config(
        "SELECT id FROM doc WHERE id = :object",
        "SELECT 1 FROM doc WHERE id = :object AND owner = :id AND :mode = 'read'",
    );
    doc.exists_many = Some("SELECT id FROM doc WHERE id IN (:objects)".to_owned());
    doc.access_many =
        Some("SELECT id FROM doc WHERE id IN (:objects) AND owner = :id AND :mode = 'read'".to_owned());
    config.object.insert("doc".to_owned(), doc);
    let store = connect(config).await.unwrap();
    let calvin = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap().principal().clone();
    // All that it asks at all, asked by somebody harmless.
    ask(&store, &calvin, "harmless").await;
    let before = contents(&database).await;
    let configured = statements(&database, &user);
    assert!(on.engine == Engine::Sqlite || configured.len() > 6, "{configured:?}");
    let mut runner = TestRunner::deterministic();
    let mut texts: Vec<String> = NASTY.map(str::to_owned).to_vec();
    texts.extend((0..120).map(|_| hostile().new_tree(&mut runner).unwrap().current()));
    for text in texts.iter().filter(|text| !["1", "staff", "plans", "read", "h1"].contains(&text.as_str())) {
        ask(&store, &calvin, text).await;
    }
    assert_eq!(contents(&database).await, before);
    let ran = statements(&database, &user);
    let others: Vec<_> = ran.difference(&configured).collect();
    // The tests' own look at what is there is none of the store's.
    let others: Vec<_> = others.into_iter().filter(|sql| !sql.starts_with("SELECT count(*) FROM ")).collect();
    assert!(others.is_empty(), "{others:?}");
    if on.engine == Engine::MariaDb {
        on.sql("mysql", "SET GLOBAL general_log = OFF");
    }
}

tests! {
    ALL => { no_statement_runs_but_the_configured_ones }
}
