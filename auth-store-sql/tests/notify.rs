//! What PostgreSQL tells of changes that somebody else makes, and what processes tell each other through it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use auth_core::{Bus, ChangeEar, Changed, Ear, ErrorKind, Fingerprint, Id, Listening, SourceInfo};
use auth_store_sql::{PostgresBus, SqlConfig, SqlStore};
use auth_testkit::ManualClock;
use auth_testkit::servers::{Postgres, PostgresOptions, skipped, stopwatch};

/// The server of all tests that do not break one.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(&PostgresOptions::default()));

const PATIENCE: Duration = Duration::from_secs(20);

/// What was heard.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Changed>>, Mutex<Vec<&'static str>>);

impl ChangeEar for Heard {
    fn changed(&self, what: &[Changed]) {
        self.0.lock().unwrap().extend_from_slice(what);
    }
    fn lost(&self) {
        self.1.lock().unwrap().push("lost");
    }
    fn back(&self) {
        self.1.lock().unwrap().push("back");
    }
}

impl Heard {
    async fn hears(&self, what: &[Changed]) {
        let all = || what.iter().all(|changed| self.0.lock().unwrap().contains(changed));
        until(all, || format!("{what:?} of {:?}", self.0.lock().unwrap())).await;
    }

    fn forget(&self) -> Vec<Changed> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn until(so: impl Fn() -> bool, what: impl Fn() -> String) {
    let began = stopwatch();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(config: SqlConfig) -> SqlStore {
    let info = SourceInfo::new("app", Fingerprint::default());
    SqlStore::connect(info, config, ManualClock::new()).await.unwrap()
}

/// Installs the triggers, opens the store again, and listens.
async fn followed(config: &SqlConfig) -> (SqlStore, Arc<Heard>, Listening) {
    open(config.clone()).await.push().unwrap().install(false).await.unwrap();
    let store = open(config.clone()).await;
    let heard = Arc::new(Heard::default());
    let listening = store.feed().unwrap().follow(Arc::clone(&heard) as Arc<dyn ChangeEar>).unwrap();
    until(|| heard.1.lock().unwrap().contains(&"back"), || "back".to_owned()).await;
    (store, heard, listening)
}

const SCHEMA: &str = r#"
    SET ROLE app;
    CREATE TABLE account (uid int PRIMARY KEY, login text, pwhash text, seen timestamptz);
    CREATE TABLE "we""ird" ("it's" text, "a\b" int, other int);
    CREATE TABLE grp (gid int PRIMARY KEY, title text);
    CREATE TABLE unknown (x int);
    CREATE TABLE odd (uid int, extra json);
    INSERT INTO account SELECT n, 'user' || n, 'x', now() FROM generate_series(1, 1000) n;
"#;

const PUSH: &str = r#"
    [query]
    account = "SELECT login, uid AS id, pwhash AS hash FROM account WHERE login = :login"
    [push.account]
    login = "login"
    id = "uid"
    ignore = ["seen"]
    [push.'we"ird']
    object = "do'c"
    key = ["it's", 'a\b']
    [push.grp]
    groups = true
    [push.unknown]
    [push.odd]
    id = "uid"
"#;

/// A database with tables of its own.
fn yours(database: &str) -> SqlConfig {
    SERVER.create(database);
    SERVER.sql(database, SCHEMA);
    let text = format!("url = '{}'\n{PUSH}", SERVER.url(database));
    toml::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_with_psql_in_your_tables_is_told_by_login_id_object_and_groups() {
    if skipped("postgres") {
        return;
    }
    let config = yours("pushed");
    let (_store, heard, _listening) = followed(&config).await;
    let (login, id) = (Changed::Login("user7".into()), Changed::Id(Id::from(7)));
    SERVER.sql("pushed", "UPDATE account SET pwhash = 'y' WHERE uid = 7");
    heard.hears(&[login.clone(), id.clone()]).await;
    assert_eq!(heard.forget().len(), 2, "and of nobody else");
    SERVER.sql("pushed", "UPDATE account SET login = 'renamed' WHERE uid = 7");
    heard.hears(&[login, Changed::Login("renamed".into()), id]).await;
    heard.forget();
    let weird =
        |a: &str, b: i64| Changed::Object { domain: "do'c".into(), id: vec![Id::from(a), Id::from(b)] };
    SERVER.sql("pushed", r#"INSERT INTO "we""ird" VALUES ('x"y'',z', 5, 1), ('other', 6, 1)"#);
    heard.hears(&[weird("x\"y',z", 5), weird("other", 6)]).await;
    SERVER.sql("pushed", r#"DELETE FROM "we""ird" WHERE other = 1"#);
    SERVER.sql("pushed", "INSERT INTO grp VALUES (1, 'staff')");
    heard.hears(&[Changed::Groups]).await;
    assert_eq!(heard.forget().len(), 5);
    SERVER.sql("pushed", "INSERT INTO unknown VALUES (1)");
    heard.hears(&[Changed::All]).await;
    heard.forget();
    // What can't be told of a change does not keep it from being made.
    SERVER.sql("pushed", r#"INSERT INTO odd VALUES (1, '"\u0000"')"#);
    heard.hears(&[Changed::All]).await;
    assert_eq!(SERVER.sql("pushed", "SELECT count(*) FROM odd").trim(), "1");
    heard.forget();
    SERVER.sql(
        "pushed",
        "SET session_replication_role = replica; UPDATE account SET pwhash = 'r' WHERE uid = 8",
    );
    heard.hears(&[Changed::Id(Id::from(8))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_of_one_database_take_their_own_triggers_away() {
    if skipped("postgres") {
        return;
    }
    let config = yours("two");
    let mut other = config.clone();
    other.push.as_mut().unwrap().retain(|table, _| table == "grp");
    let mut one = config.clone();
    one.push.as_mut().unwrap().remove("grp");
    let (one, other) = (open(one).await, open(other).await);
    for store in [&one, &other] {
        store.push().unwrap().install(false).await.unwrap();
    }
    one.push().unwrap().install(true).await.unwrap();
    assert_eq!(other.push().unwrap().missing().await.unwrap(), None);
    other.push().unwrap().install(true).await.unwrap();
    assert_eq!(SERVER.sql("two", "SELECT count(*) FROM pg_proc WHERE proname LIKE 'gatepost%'").trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_about_anybody_is_not_told_and_what_is_too_much_is_told_as_anything() {
    if skipped("postgres") {
        return;
    }
    let config = yours("much");
    let (_store, heard, _listening) = followed(&config).await;
    SERVER.sql("much", "UPDATE account SET seen = now()");
    SERVER.sql("much", "UPDATE account SET pwhash = pwhash");
    SERVER.sql("much", "BEGIN; UPDATE account SET pwhash = 'no' WHERE uid = 3; ROLLBACK");
    SERVER.sql("much", "UPDATE account SET pwhash = 'y' WHERE uid = 9");
    heard.hears(&[Changed::Id(Id::from(9))]).await;
    assert_eq!(heard.forget().len(), 2);
    SERVER.sql("much", "UPDATE account SET pwhash = 'z'");
    heard.hears(&[Changed::All]).await;
    assert!(heard.forget().len() <= 501);
    SERVER.sql("much", "INSERT INTO account SELECT n, NULL, NULL, NULL FROM generate_series(6000, 26000) n");
    heard.hears(&[Changed::All]).await;
    assert_eq!(heard.forget().len(), 1);
    SERVER.sql("much", "INSERT INTO account VALUES (5000, repeat('x', 9000), 'x', now())");
    heard.hears(&[Changed::All]).await;
    heard.forget();
    SERVER.sql("much", "TRUNCATE account");
    heard.hears(&[Changed::All]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_installed_again_and_taken_away_and_old_ones_are_not_relied_on() {
    if skipped("postgres") {
        return;
    }
    let config = yours("again");
    assert!(open(config.clone()).await.feed().is_none(), "not installed");
    let store = open(config.clone()).await;
    let push = store.push().unwrap();
    push.install(false).await.unwrap();
    push.install(false).await.unwrap();
    assert!(open(config.clone()).await.feed().is_some());
    let mut changed = config.clone();
    changed.push.as_mut().unwrap().get_mut("account").unwrap().id = None;
    let other = open(changed).await;
    assert!(other.feed().is_none(), "what is installed tells something else");
    assert_eq!(other.push().unwrap().missing().await.unwrap().as_deref(), Some("account"));
    SERVER.sql("again", "ALTER TABLE account DISABLE TRIGGER gatepost_push_delete");
    assert!(open(config.clone()).await.feed().is_none(), "one is switched off");
    push.install(true).await.unwrap();
    assert_eq!(
        SERVER.sql("again", "SELECT count(*) FROM pg_proc WHERE proname LIKE 'gatepost%'").trim(),
        "0"
    );
    let mut nowhere = config.clone();
    nowhere.push.as_mut().unwrap().insert("gone".to_owned(), Default::default());
    let store = open(nowhere).await;
    let error = store.push().unwrap().install(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
    assert!(open(config).await.feed().is_none(), "nothing was installed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_managed_tables_tell_of_everything_that_is_done_to_them() {
    if skipped("postgres") {
        return;
    }
    SERVER.create("managed");
    let config = SqlConfig::new(SERVER.url("managed"));
    let (_store, heard, _listening) = followed(&config).await;
    let sql = |text: &str| SERVER.sql("managed", text);
    sql("INSERT INTO gatepost_user (login, created_at) VALUES ('calvin', 0)");
    heard.hears(&[Changed::Login("calvin".into()), Changed::Id(Id::from(1))]).await;
    heard.forget();
    sql("INSERT INTO gatepost_group (name) VALUES ('staff')");
    sql("INSERT INTO gatepost_membership VALUES (1, 1)");
    heard.hears(&[Changed::Groups, Changed::Id(Id::from(1))]).await;
    heard.forget();
    sql("INSERT INTO gatepost_domain (name) VALUES ('doc')");
    heard.hears(&[Changed::All]).await;
    heard.forget();
    sql("INSERT INTO gatepost_object (domain_id, name) VALUES (1, 'x')");
    heard.hears(&[Changed::All]).await;
    heard.forget();
    sql("INSERT INTO gatepost_right VALUES (1, 1, 'read')");
    heard.hears(&[Changed::Id(Id::from(1))]).await;
    heard.forget();
    sql("DELETE FROM gatepost_group");
    heard.hears(&[Changed::Groups, Changed::Id(Id::from(1))]).await;
    heard.forget();
    sql("DELETE FROM gatepost_user");
    heard.hears(&[Changed::Login("calvin".into())]).await;
}

#[tokio::test]
async fn only_postgresql_tells_and_what_is_asked_for_must_make_sense() {
    let refused = |text: &str| {
        let config: SqlConfig = toml::from_str(text).unwrap();
        async move {
            let info = SourceInfo::new("app", Fingerprint::default());
            let error = SqlStore::connect(info, config, ManualClock::new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            error.to_string()
        }
    };
    let query = "[query]\naccount = 'SELECT login FROM a WHERE login = :login'\n";
    let error = refused(&format!("url = 'sqlite::memory:'\n{query}[push.a]\nlogin = 'x'")).await;
    assert!(error.contains("only PostgreSQL"), "{error}");
    let near = "url = 'postgres://127.0.0.1:1/x'\n";
    let error = refused(&format!("{near}{query}[push.a]\nobject = 'doc'")).await;
    assert!(error.contains("push.a") && error.contains("key"), "{error}");
    let error = refused(&format!("{near}[push.a]\nlogin = 'x'")).await;
    assert!(error.contains("managed"), "{error}");
}

/// What came over a bus.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<Vec<u8>>>, Mutex<Vec<&'static str>>);

impl Ear for Told {
    fn heard(&self, message: &[u8]) {
        self.0.lock().unwrap().push(message.to_vec());
    }
    fn lost(&self) {
        self.1.lock().unwrap().push("lost");
    }
    fn back(&self) {
        self.1.lock().unwrap().push("back");
    }
}

impl Told {
    fn last(&self) -> Option<&'static str> {
        self.1.lock().unwrap().last().copied()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_bytes_reach_every_listener_in_order_and_not_those_of_another_prefix() {
    if skipped("postgres") {
        return;
    }
    SERVER.create("bus");
    let config = SqlConfig::new(SERVER.url("bus"));
    let bus = |prefix: &str| PostgresBus::new(&config, prefix).unwrap();
    let (one, other, foreign) = (bus("acme."), bus("acme."), bus("zeta."));
    let ears = [(); 3].map(|()| Arc::new(Told::default()));
    let _listening: Vec<Listening> = [&one, &other, &foreign]
        .into_iter()
        .zip(&ears)
        .map(|(bus, ear)| bus.listen(Arc::clone(ear) as Arc<dyn Ear>).unwrap())
        .collect();
    for ear in &ears {
        until(|| ear.last() == Some("back"), || "back".to_owned()).await;
    }
    let messages: Vec<Vec<u8>> =
        (0..200_u8).map(|n| (0..=n).chain([0, 255, n]).collect()).chain([vec![7; 5_900]]).collect();
    for message in &messages {
        one.publish(message).await.unwrap();
    }
    for ear in &ears[..2] {
        until(|| ear.0.lock().unwrap().len() >= messages.len(), || "all messages".to_owned()).await;
        assert_eq!(*ear.0.lock().unwrap(), messages);
    }
    assert!(ears[2].0.lock().unwrap().is_empty());
    assert_eq!(one.publish(&[0; 6_000]).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(PostgresBus::new(&config, &"x".repeat(61)).unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_learns_within_two_seconds_that_the_server_is_killed_or_stalls_and_hears_again_after() {
    if skipped("postgres") {
        return;
    }
    let server = Postgres::start(&PostgresOptions::default());
    server.create("bus");
    let bus = PostgresBus::new(&SqlConfig::new(server.url("bus")), "acme.").unwrap();
    let ear = Arc::new(Told::default());
    let _listening = bus.listen(Arc::clone(&ear) as Arc<dyn Ear>).unwrap();
    until(|| ear.last() == Some("back"), || "back".to_owned()).await;
    for stalls in [true, false] {
        let began = stopwatch();
        if stalls {
            server.stop_signal()
        } else {
            server.kill()
        }
        until(|| ear.last() == Some("lost"), || "lost".to_owned()).await;
        // Two seconds, and what a busy machine adds.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let error = bus.publish(b"x").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
        if stalls {
            server.cont_signal()
        } else {
            server.restart()
        }
        until(|| ear.last() == Some("back"), || "back".to_owned()).await;
        let heard = || ear.0.lock().unwrap().contains(&vec![u8::from(stalls)]);
        let began = stopwatch();
        while !heard() {
            let _sent = bus.publish(&[u8::from(stalls)]).await;
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
