//! The suite that every store runs: on the managed schema, and on tables that are quite different.

use crate::common::{self, connect, load, standing};
use crate::on::{ALL, Database, Engine, On, tests};
use auth_core::{Id, LoginRule};
use auth_store_sql::SqlConfig;
use auth_testkit::suite::{self, Bench};
use auth_testkit::{ByTable, ManualClock, World, realm, realm_with};

/// The part of the README between a fence and its end.
fn readme(language: &str, n: usize) -> String {
    let text = include_str!("../../README.md");
    let block = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language)).nth(n);
    block.unwrap().to_owned()
}

async fn run_all(config: SqlConfig, bench: &Bench) {
    let store = connect(config).await.unwrap();
    suite::run_all_account(&*store, bench).await;
    suite::run_all_groups(&*store, bench).await;
    suite::run_all_objects(&*store, bench).await;
    suite::run_all_password(&ByTable::new(store, ManualClock::new()), bench).await;
}

fn quote(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

async fn the_managed_schema(on: On) {
    let database = on.empty();
    let store = connect(database.config()).await.unwrap();
    load(&*store.directory().unwrap()).await;
    run_all(database.config(), &Bench::new(&realm())).await;
}

async fn every_configuration_of_the_readme_is_one(_on: On) {
    for n in 0..3 {
        let config: SqlConfig = toml::from_str(&readme("toml", n)).unwrap();
        assert!(config.query.account.is_some(), "{n}");
    }
}

async fn the_managed_schema_in_memory(_on: On) {
    let store = connect(SqlConfig::new("sqlite::memory:")).await.unwrap();
    load(&*store.directory().unwrap()).await;
    let bench = Bench::new(&realm());
    suite::run_all_account(&*store, &bench).await;
    suite::run_all_groups(&*store, &bench).await;
    suite::run_all_objects(&*store, &bench).await;
}

async fn the_managed_schema_under_every_rule_for_logins(on: On) {
    let database = on.empty();
    let store = connect(database.config()).await.unwrap();
    load(&*store.directory().unwrap()).await;
    for (name, rule) in LoginRule::NAMES {
        run_all(database.config(), &Bench::new(&realm_with(name, rule))).await;
    }
}

/// The README's tables and settings, as they stand there.
async fn readme_database(on: &On) -> (Database, SqlConfig) {
    let mut sql = readme("sql", 0);
    sql += "ALTER TABLE account ADD COLUMN locked INTEGER; ALTER TABLE account ADD COLUMN ends INTEGER; \
            ALTER TABLE account ADD COLUMN fresh INTEGER;";
    for (gid, group) in World::groups().iter().enumerate() {
        sql += &format!("INSERT INTO grp VALUES ({gid}, {});", quote(Some(group)));
    }
    for user in World::users() {
        let (disabled, locked, ends, must_change) = standing(user.standing);
        let ends = ends.map_or("NULL".to_owned(), |ends| ends.to_string());
        let (login, hash) = (quote(Some(user.login)), quote(user.hash));
        sql += &format!(
            "INSERT INTO account VALUES ({}, {login}, {hash}, {disabled}, {locked}, {ends}, {must_change});",
            user.id
        );
        for group in user.groups {
            let gid = World::groups().iter().position(|name| name == group).unwrap();
            sql += &format!("INSERT INTO member VALUES ({}, {gid});", user.id);
        }
    }
    for object in World::objects() {
        sql += &format!("INSERT INTO doc VALUES ({});", object.id);
        for (login, mode) in object.rights {
            let uid = World::user(login).id;
            sql += &format!("INSERT INTO doc_acl VALUES ({}, {uid}, '{mode}');", object.id);
        }
    }
    let database = on.with(&sql).await;
    let mut config: SqlConfig = toml::from_str(&readme("toml", 0)).unwrap();
    config.url = database.config().url;
    config.query.account = config.query.account.map(|account| on.folding(&account));
    (database, config)
}

async fn the_tables_of_the_readme_answer_to_its_queries(on: On) {
    let (_database, config) = readme_database(&on).await;
    let bench = Bench::new(&realm()).holding(|user| {
        // The README's account has no columns for these.
        !["rosalyn", "wormwood", "andy", "max"].contains(&user.login)
    });
    run_all(config, &bench).await;
}

async fn whole_number_ids_and_a_folding_login_column(on: On) {
    let (_database, mut config) = readme_database(&on).await;
    config.query.account = Some(on.folding(
        "SELECT uid AS ID, login, pwhash AS hash, closed AS disabled, locked, ends AS expires_at, \
         fresh AS must_change FROM account WHERE login LIKE :login",
    ));
    run_all(config, &Bench::new(&realm())).await;
}

async fn text_ids_and_membership_without_lists(on: On) {
    let mut sql = "CREATE TABLE people (k TEXT PRIMARY KEY, mail TEXT, secret TEXT, off INTEGER, jail INTEGER, ends TEXT, renew INTEGER);\
                   CREATE TABLE in_team (k TEXT, team TEXT COLLATE NOCASE);\
                   CREATE TABLE thing (a TEXT PRIMARY KEY, dummy INTEGER);\
                   CREATE TABLE may (a TEXT, k TEXT, what TEXT);"
        .to_owned();
    for user in World::users() {
        let (off, jail, ends, renew) = standing(user.standing);
        let ends =
            ends.map(
                |ends| if ends < 1_000_000_000 { "2001-01-01T01:00:00+01:00" } else { "2037-01-01 00:00:00" },
            );
        sql += &format!(
            "INSERT INTO people VALUES ('k-{}', {}, {}, {off}, {jail}, {}, {renew});",
            user.id,
            quote(Some(user.login)),
            quote(user.hash),
            quote(ends)
        );
        for group in user.groups {
            sql += &format!("INSERT INTO in_team VALUES ('k-{}', {});", user.id, quote(Some(group)));
        }
    }
    for object in World::objects() {
        sql += &format!("INSERT INTO thing VALUES ('{}', NULL);", object.id);
        for (login, mode) in object.rights {
            sql += &format!(
                "INSERT INTO may VALUES ('{}', 'k-{}', '{mode}');",
                object.id,
                World::user(login).id
            );
        }
    }
    let database = on.with(&sql).await;
    let mut config = database.config();
    config.query.account = Some(
        "SELECT k AS id, mail AS login, secret AS hash, off AS disabled, jail AS locked, ends AS expires_at, \
         renew AS must_change FROM people WHERE mail = :login -- not :id"
            .to_owned(),
    );
    config.query.is_member =
        Some("SELECT team AS name FROM in_team WHERE k = :id AND team LIKE :group".to_owned());
    let mut doc = common::object_config(
        on.choose(
            "SELECT EXISTS (SELECT 1 FROM thing WHERE a = :object)",
            "SELECT EXISTS (SELECT 1 FROM thing WHERE a = :object)",
            "SELECT a AS id FROM thing WHERE a = :object",
        ),
        "SELECT count(*) FROM may WHERE a = :object AND k = :id AND what = :mode",
    );
    doc.any = Some("SELECT what FROM may WHERE a = :object1 AND k = :id".to_owned());
    config.object.insert("doc".to_owned(), doc);
    let bench = Bench::new(&realm()).with_ids(|user| Id::Text(format!("k-{}", user.id).into()));
    run_all(config, &bench).await;
}

tests! {
    ALL => {
        the_managed_schema,
        the_managed_schema_under_every_rule_for_logins,
        the_tables_of_the_readme_answer_to_its_queries,
        whole_number_ids_and_a_folding_login_column,
        text_ids_and_membership_without_lists,
    }
    &[Engine::Sqlite] => { the_managed_schema_in_memory, every_configuration_of_the_readme_is_one }
}
