//! Servers that are down, slow, full, changed or in the way: an error of the right kind, in bounded time, and back again
//! without a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use auth_core::{
    AccountSource, Change, Error, ErrorKind, GroupOracle, Id, Lock, Lookup, Member, NewUser, Result,
    StateChange,
};
use auth_store_sql::{SqlConfig, SqlStore, TlsMode};
use auth_testkit::Proxy;
use auth_testkit::servers::{Certs, DatabaseTls, stopwatch};
use auth_testkit::{hash, login, principal_at};
use futures_util::future::join_all;
use futures_util::poll;

use crate::common::{connect, ctx, is, refused};
use crate::on::{ALL, Database, Engine, On, SERVERS, Server, tests};

const TABLES: &str = "CREATE TABLE account (id INTEGER PRIMARY KEY, login TEXT, hash TEXT);\
                      CREATE TABLE grp (uid INTEGER, name TEXT);\
                      INSERT INTO account VALUES (1, 'calvin', 'h1');\
                      INSERT INTO grp VALUES (1, 'staff');";

/// Longer than any error may take here: to connect, to be answered, and both once more.
const BOUND: Duration = Duration::from_secs(5);

fn queries(mut config: SqlConfig) -> SqlConfig {
    config.query.account = Some("SELECT id, login, hash FROM account WHERE login = :login".to_owned());
    config.query.groups = Some("SELECT name FROM grp WHERE uid = :id".to_owned());
    config.query.replace_hash =
        Some("UPDATE account SET hash = :new WHERE id = :id AND hash = :old".to_owned());
    (config.statement_timeout_ms, config.pool.acquire_timeout_ms) = (1_000, 1_000);
    config
}

async fn yours(on: &On) -> (Database, SqlConfig) {
    let database = on.with(TABLES).await;
    let config = queries(database.config());
    (database, config)
}

/// The same on a server that may be killed, in a database of its own.
fn on_victim(on: &On, server: &Server) -> (String, SqlConfig) {
    let name = on.fresh_name();
    server.create(&name);
    let owned = match on.engine {
        Engine::Postgres => format!("SET ROLE app; {}", on.spelled(TABLES)),
        Engine::Sqlite | Engine::MariaDb => on.spelled(TABLES),
    };
    server.sql(&name, &owned);
    let config = queries(SqlConfig::new(server.url(&name)));
    (name, config)
}

fn calvin() -> auth_core::Principal {
    principal_at("app", "calvin", Id::from(1))
}

async fn works(store: &SqlStore) {
    let account = store.account(&ctx(), &login("calvin")).await.unwrap();
    assert!(matches!(account, Lookup::Found(_)));
    assert_eq!(store.is_member(&ctx(), &calvin(), "staff").await.unwrap(), Member::Yes);
}

async fn fails(store: &SqlStore, kind: ErrorKind) -> Error {
    let began = stopwatch();
    let error = is(kind, store.account(&ctx(), &login("calvin")).await);
    is(kind, store.groups_of(&ctx(), &calvin()).await);
    assert!(began.elapsed() < 2 * BOUND, "{:?}: {error:?}", began.elapsed());
    error
}

/// Asks until it is answered, for as long as anything may take.
async fn works_again(store: &SqlStore) {
    let began = stopwatch();
    while let Err(error) = store.account(&ctx(), &login("calvin")).await {
        assert!(began.elapsed() < 2 * BOUND, "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    works(store).await;
}

fn shown(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

async fn a_server_that_is_killed_is_missed_and_found_again(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    works(&store).await;
    server.kill();
    let error = fails(&store, ErrorKind::Unavailable).await;
    assert!(shown(&error).contains("refused"), "the reason is told: {}", shown(&error));
    is(ErrorKind::Unavailable, store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await);
    server.restart();
    works(&store).await;
    // Nobody asked meanwhile: the first question meets a dead connection, and is asked again on a fresh one.
    server.restart();
    works(&store).await;
    server.restart();
    assert!(store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await.unwrap());
}

async fn many_questions_at_once_survive_a_restart(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    let ask = || join_all((0..8).map(|_| works(&store)));
    ask().await;
    server.restart();
    ask().await;
}

async fn a_server_that_is_stopped_is_given_up_in_time(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    works(&store).await;
    server.stop();
    let error = fails(&store, ErrorKind::Unavailable).await;
    assert!(shown(&error).contains("does not answer"), "{}", shown(&error));
    // Also those whom nobody waits for any more.
    for _ in 0..6 {
        let (context, asked) = (ctx(), login("calvin"));
        let mut dropped = store.account(&context, &asked);
        let _ = poll!(&mut dropped);
    }
    fails(&store, ErrorKind::Unavailable).await;
    server.cont();
    works_again(&store).await;
}

async fn a_changed_password_is_a_fault_of_configuration(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    let change = |password: &str| {
        let sql = match on.engine {
            Engine::MariaDb => format!("SET PASSWORD FOR app@'%' = PASSWORD('{password}')"),
            Engine::Postgres | Engine::Sqlite => format!("ALTER ROLE app PASSWORD '{password}'"),
        };
        server.sql(on.choose("", "postgres", "mysql"), &sql);
        server.restart();
    };
    change("another");
    let error = fails(&store, ErrorKind::Misconfigured).await;
    assert!(error.message().contains("refuses the login") && !shown(&error).contains("tiger"), "{error}");
    change("tiger");
    works(&store).await;
}

async fn a_read_only_server_says_so_to_writes_alone(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    let read_only = |yes: bool| match on.engine {
        Engine::MariaDb => drop(server.sql("mysql", &format!("SET GLOBAL read_only = {}", u8::from(yes)))),
        Engine::Postgres | Engine::Sqlite => {
            server.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {yes}"));
            server.sql("postgres", "SELECT pg_reload_conf()");
        }
    };
    let write = async || store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await;
    assert!(write().await.unwrap());
    read_only(true);
    let began = stopwatch();
    let error = loop {
        // PostgreSQL tells its processes when it comes to it.
        match write().await {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < BOUND),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("read-only"), "{error}");
    works(&store).await;
    read_only(false);
    let began = stopwatch();
    while write().await.is_err() {
        assert!(began.elapsed() < BOUND);
    }
}

async fn a_server_with_too_many_connections_is_overloaded(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = connect(config).await.unwrap();
    let allow = |most: i32| server.sql("postgres", &format!("ALTER ROLE app CONNECTION LIMIT {most}"));
    allow(0);
    server.sql(on.choose("", "postgres", "mysql"), on.choose("", "SELECT 1", "SELECT 1"));
    if on.engine == Engine::Postgres {
        server
            .sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
        fails(&store, ErrorKind::Overloaded).await;
    }
    allow(-1);
    works(&store).await;
}

async fn connections_that_an_administrator_ends_are_replaced_unnoticed(on: On) {
    let (database, config) = yours(&on).await;
    let store = connect(config).await.unwrap();
    for _ in 0..3 {
        join_all((0..4).map(|_| works(&store))).await;
        let end = match on.engine {
            Engine::MariaDb => {
                let ids = on.sql(
                    "mysql",
                    &format!("SELECT id FROM information_schema.processlist WHERE db = '{}'", database.name),
                );
                ids.lines().map(|id| format!("KILL {id};")).collect()
            }
            Engine::Postgres | Engine::Sqlite => format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
                database.name
            ),
        };
        on.sql(on.choose("", "postgres", "mysql"), &end);
        works(&store).await;
        assert!(store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await.unwrap());
    }
}

async fn tables_that_change_meanwhile_are_noticed(on: On) {
    let (database, config) = yours(&on).await;
    let store = connect(config).await.unwrap();
    works(&store).await;
    // A statement that was prepared before must not go on with what it knew.
    let widen = on.choose(
        "",
        "ALTER TABLE account ALTER COLUMN id TYPE integer; ALTER TABLE account ADD COLUMN extra text",
        "ALTER TABLE account MODIFY id INT; ALTER TABLE account ADD COLUMN extra TEXT",
    );
    database.run(widen).await;
    works(&store).await;
    database.run("ALTER TABLE account RENAME COLUMN hash TO pwhash").await;
    let error = is(ErrorKind::Misconfigured, store.account(&ctx(), &login("calvin")).await);
    assert!(shown(&error).contains("hash"), "{}", shown(&error));
    database.run("ALTER TABLE account RENAME COLUMN pwhash TO hash").await;
    works(&store).await;
    database.run("ALTER TABLE account RENAME TO accounts").await;
    let error = is(ErrorKind::Misconfigured, store.account(&ctx(), &login("calvin")).await);
    assert!(error.message().contains("no such table"), "{error}");
    database.run("ALTER TABLE accounts RENAME TO account").await;
    works(&store).await;
}

async fn a_missing_permission_is_a_fault_of_configuration(on: On) {
    let server = on.victim().await;
    let (name, config) = on_victim(&on, &server);
    let user = match on.engine {
        Engine::MariaDb => format!(
            "CREATE USER weak@'%' IDENTIFIED BY 'tiger'; GRANT SELECT ON {name}.account TO weak@'%';\
             GRANT SELECT ON {name}.grp TO weak@'%'"
        ),
        Engine::Postgres | Engine::Sqlite => {
            "CREATE ROLE weak LOGIN PASSWORD 'tiger'; GRANT SELECT ON account, grp TO weak".to_owned()
        }
    };
    server.sql(&name, &user);
    let mut config = config;
    config.url = config.url.replace("//app:", "//weak:");
    if on.engine == Engine::MariaDb {
        let error = refused(config.clone()).await;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "an UPDATE that it may not prepare: {error}");
        config.query.replace_hash = None;
    }
    let store = connect(config).await.unwrap();
    works(&store).await;
    if on.engine == Engine::Postgres {
        is(ErrorKind::Misconfigured, store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await);
    }
    let weak = on.choose("", "weak", "weak@'%'");
    server.sql(&name, &format!("REVOKE SELECT ON account FROM {weak}"));
    let error = is(ErrorKind::Misconfigured, store.account(&ctx(), &login("calvin")).await);
    assert!(error.message().contains("may not do this"), "{error}");
    server.sql(&name, &format!("GRANT SELECT ON account TO {weak}"));
    works(&store).await;
    server.sql(&name, on.choose("", "DROP OWNED BY weak; DROP ROLE weak", "DROP USER weak@'%'"));
}

/// Takes this many seconds, and says `staff`.
fn slow(on: &On, seconds: u32) -> String {
    match on.engine {
        Engine::MariaDb => {
            format!("SELECT 'staff' AS name FROM grp WHERE uid = :id AND SLEEP({seconds}) = 0")
        }
        Engine::Postgres => {
            format!("SELECT name FROM grp, pg_sleep({seconds}) WHERE uid = :id")
        }
        // Counting this far takes SQLite much longer than anybody here waits.
        Engine::Sqlite => {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000) \
                           SELECT 'staff' AS name FROM n WHERE i = 4000000 AND :id > 0"
                .to_owned()
        }
    }
}

async fn a_statement_that_takes_too_long_is_ended_by_the_server(on: On) {
    let (_database, mut config) = yours(&on).await;
    config.query.groups = Some(slow(&on, 20));
    config.statement_timeout_ms = 300;
    config.pool.max_connections = 1;
    let store = connect(config).await.unwrap();
    for _ in 0..2 {
        let began = stopwatch();
        is(ErrorKind::Timeout, store.groups_of(&ctx(), &calvin()).await);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    assert!(matches!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::Found(_)));
}

async fn a_full_pool_is_overloaded(on: On) {
    let (_database, mut config) = yours(&on).await;
    config.query.groups = Some(slow(&on, 1));
    (config.pool.max_connections, config.pool.acquire_timeout_ms) = (1, 300);
    config.statement_timeout_ms = 10_000;
    let store = connect(config).await.unwrap();
    assert!(matches!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::Found(_)));
    let (context, who, asked) = (ctx(), calvin(), login("calvin"));
    let (slow, other) =
        tokio::join!(store.is_member(&context, &who, "staff"), store.account(&context, &asked));
    is(ErrorKind::Overloaded, other);
    assert_eq!(slow.unwrap(), Member::Yes);
}

async fn a_question_that_is_dropped_leaves_the_store_usable(on: On) {
    let (_database, mut config) = yours(&on).await;
    config.query.groups = Some(slow(&on, 1));
    (config.pool.max_connections, config.pool.acquire_timeout_ms) = (1, 60_000);
    config.statement_timeout_ms = 10_000;
    let store = connect(config).await.unwrap();
    for polls in 0..8 {
        let (context, who) = (ctx(), calvin());
        let mut slow = store.groups_of(&context, &who);
        for _ in 0..polls {
            assert!(poll!(&mut slow).is_pending());
            tokio::task::yield_now().await;
        }
        drop(slow);
    }
    assert!(matches!(store.account(&ctx(), &login("calvin")).await.unwrap(), Lookup::Found(_)));
}

/// Half a question that was left on a connection must not be taken for the next one's answer.
async fn a_question_that_is_dropped_answers_nobody_else(on: On) {
    let (database, mut config) = yours(&on).await;
    let people: Vec<String> = (10..30).map(|n| format!("({n}, 'user{n}', 'hash{n}')")).collect();
    let groups: Vec<String> = (10..30).map(|n| format!("({n}, 'group{n}')")).collect();
    let (people, groups) = (people.join(","), groups.join(","));
    database.run(&format!("INSERT INTO account VALUES {people}; INSERT INTO grp VALUES {groups}")).await;
    config.pool.max_connections = 2;
    let store = connect(config).await.unwrap();
    for round in 0..150_usize {
        let (dropped, asked) = (10 + round % 20, 10 + (round * 7 + 3) % 20);
        let (context, other) = (ctx(), login(&format!("user{dropped}")));
        let who = principal_at("app", &format!("user{dropped}"), Id::from(i64::try_from(dropped).unwrap()));
        // So long that some are dropped while they connect, some while they prepare, and some while they are answered.
        let patience = Duration::from_micros(u64::try_from(round % 50 * 60).unwrap());
        let both =
            futures_util::future::join(store.account(&context, &other), store.groups_of(&context, &who));
        let _dropped = tokio::time::timeout(patience, both).await;
        let account = store.account(&ctx(), &login(&format!("user{asked}"))).await.unwrap().found().unwrap();
        assert_eq!(account.hash(), Some(&hash(&format!("hash{asked}"))), "{round}");
        let groups = store.groups_of(&ctx(), account.principal()).await.unwrap().found().unwrap();
        assert!(groups.len() == 1 && groups.contains(&format!("group{asked}")), "{round}: {groups:?}");
    }
}

async fn a_write_that_is_dropped_is_done_wholly_or_not_at_all(on: On) {
    let database = on.empty();
    let store = connect(database.config()).await.unwrap();
    let directory = store.directory().unwrap();
    for polls in 0..40 {
        let user = NewUser {
            login: login(&format!("user{polls}")),
            hash: None,
            groups: vec!["staff".to_owned(), format!("group{polls}")],
        };
        let context = ctx();
        let mut write = directory.add_user(&context, &user);
        for _ in 0..polls {
            if poll!(&mut write).is_ready() {
                break;
            }
            // The database works elsewhere: let it get a step further.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        drop(write);
    }
    let last = NewUser { login: login("last"), hash: None, groups: vec!["staff".to_owned()] };
    assert_eq!(directory.add_user(&ctx(), &last).await.unwrap(), Change::Done);
    for entry in directory.users(&ctx(), &auth_testkit::realm(), None, 100).await.unwrap() {
        let groups = store.groups_of(&ctx(), &entry.principal).await.unwrap().found().unwrap();
        let due = if entry.principal.shown() == "last" { 1 } else { 2 };
        assert_eq!(groups.len(), due, "{:?}", entry.principal);
    }
}

async fn sixteen_tasks_write_and_read_at_once(on: On) {
    let database = on.empty();
    let mut config = database.config();
    (config.pool.acquire_timeout_ms, config.busy_timeout_ms) = (60_000, 60_000);
    config.statement_timeout_ms = 60_000;
    // Two stores on one database, as two processes would be.
    let stores = [connect(config.clone()).await.unwrap(), connect(config).await.unwrap()];
    let tasks = (0..16_usize).map(|task| {
        let store = Arc::clone(&stores[task % 2]);
        tokio::spawn(async move {
            let directory = store.directory().unwrap();
            for n in 0..6 {
                let (user, shared) = (login(&format!("u{task}-{n}")), login(&format!("shared{n}")));
                let new = |login: &auth_core::Login| NewUser {
                    login: login.clone(),
                    hash: Some(hash("h")),
                    groups: vec!["all".to_owned(), format!("g{n}")],
                };
                assert_eq!(directory.add_user(&ctx(), &new(&user)).await.unwrap(), Change::Done);
                let who = store.account(&ctx(), &user).await.unwrap().found().unwrap();
                let groups = store.groups_of(&ctx(), who.principal()).await.unwrap().found().unwrap();
                assert_eq!(groups.len(), 2, "a write is seen by the next question");
                // All add the same ones too: each is added once.
                directory.add_user(&ctx(), &new(&shared)).await.unwrap();
                assert_eq!(directory.join(&ctx(), &user, "late").await.unwrap(), Change::Done);
                if n % 3 == 0 {
                    assert_eq!(directory.delete_user(&ctx(), &user).await.unwrap(), Change::Done);
                    assert_eq!(store.account(&ctx(), &user).await.unwrap(), Lookup::NotFound);
                }
            }
        })
    });
    for done in join_all(tasks).await {
        done.unwrap();
    }
    assert_eq!(database.count("gatepost_user").await, 16 * 4 + 6);
    assert_eq!(database.count("gatepost_membership").await, 16 * 4 * 3 + 6 * 2);
    assert_eq!(database.count("gatepost_group").await, 8);
    if on.engine == Engine::Sqlite {
        assert_eq!(database.count("pragma_integrity_check WHERE integrity_check = 'ok'").await, 1);
    }
}

async fn of_many_that_replace_one_hash_one_does(on: On) {
    let (_database, config) = yours(&on).await;
    let stores = [connect(config.clone()).await.unwrap(), connect(config).await.unwrap()];
    let (context, who, old) = (ctx(), calvin(), hash("h1"));
    let new: Vec<_> = (0..8).map(|n| hash(&format!("new{n}"))).collect();
    let writes = new.iter().enumerate().map(|(n, new)| stores[n % 2].replace_hash(&context, &who, &old, new));
    let done: Vec<bool> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    let account = stores[0].account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
    let winner = done.iter().position(|done| *done).unwrap();
    assert_eq!(account.hash(), Some(&new[winner]));
}

async fn changes_of_one_account_do_not_undo_each_other(on: On) {
    let database = on.empty();
    let stores = [connect(database.config()).await.unwrap(), connect(database.config()).await.unwrap()];
    let [one, other] = [0, 1].map(|n: usize| stores[n].directory().unwrap());
    let (context, who) = (ctx(), login("calvin"));
    one.add_user(&context, &NewUser { login: who.clone(), hash: None, groups: Vec::new() }).await.unwrap();
    for disabled in (0..20).map(|n| n % 2 == 0) {
        let lock = if disabled { Lock::Locked } else { Lock::Open };
        let (first, second) = (
            StateChange { disabled: Some(disabled), ..StateChange::default() },
            StateChange { lock: Some(lock), ..StateChange::default() },
        );
        let (first, second) =
            tokio::join!(one.set_state(&context, &who, &first), other.set_state(&context, &who, &second));
        assert_eq!((first.unwrap(), second.unwrap()), (Change::Done, Change::Done));
        let state = one.user(&context, &who).await.unwrap().found().unwrap().state;
        assert_eq!((state.disabled, state.lock), (disabled, lock));
    }
}

async fn many_that_make_one_new_database_agree_on_it(on: On) {
    for _ in 0..3 {
        let database = on.empty();
        let starts = (0..6).map(|_| {
            let mut config = database.config();
            (config.pool.acquire_timeout_ms, config.busy_timeout_ms) = (20_000, 20_000);
            tokio::spawn(connect(config))
        });
        for started in join_all(starts).await {
            started.unwrap().unwrap();
        }
        assert_eq!(database.count("gatepost_migration").await, 2);
        assert_eq!(database.count("gatepost_store").await, 1);
    }
}

/// MariaDB keeps what was made before a migration was broken off.
async fn a_migration_that_was_broken_off_is_finished(on: On) {
    let database = on.empty();
    connect(database.config()).await.unwrap();
    database.run("DROP TABLE gatepost_right; DELETE FROM gatepost_migration WHERE version = 2").await;
    database.run("UPDATE gatepost_migration SET success = FALSE WHERE version = 1").await;
    let store = connect(database.config()).await.unwrap();
    assert_eq!(database.count("gatepost_right").await, 0);
    assert_eq!(database.count("gatepost_store").await, 1);
    assert!(
        store.directory().unwrap().users(&ctx(), &auth_testkit::realm(), None, 1).await.unwrap().is_empty()
    );
}

async fn the_managed_tables_are_put_among_others_only_if_that_is_said(on: On) {
    let database = on.with(TABLES).await;
    let error = refused(database.config()).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.message().contains("give queries for them, or say `managed = true`"), "{error}");
    let mut config = database.config();
    config.managed = Some(true);
    connect(config).await.unwrap();
    connect(database.config()).await.unwrap_err();
    database.run("DROP TABLE account; DROP TABLE grp").await;
    connect(database.config()).await.unwrap();
    database
        .run(
            "INSERT INTO gatepost_migration (version, description, success, checksum, execution_time) \
                  VALUES (99, 'later', true, 'x', 0)",
        )
        .await;
    assert!(refused(database.config()).await.message().contains("a newer version has migrated"));
}

/// The database takes one transaction back that has done nothing wrong.
async fn a_write_that_stands_in_another_s_way_is_done_again(on: On) {
    let (database, config) = yours(&on).await;
    let trigger = on.choose(
        "",
        "CREATE SEQUENCE times; CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('times') = 1 THEN RAISE 'conflict' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER conflict BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION conflict()",
        "CREATE TABLE times (n INT) ENGINE = MyISAM; \
         CREATE TRIGGER conflict BEFORE UPDATE ON account FOR EACH ROW BEGIN INSERT INTO times VALUES (1); \
         IF (SELECT count(*) FROM times) = 1 THEN \
         SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF; END",
    );
    database.run(trigger).await;
    let store = connect(config).await.unwrap();
    assert!(store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h2")).await.unwrap());
    let account = store.account(&ctx(), &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(account.hash(), Some(&hash("h2")));
}

async fn a_row_that_somebody_else_holds_times_out(on: On) {
    let (database, mut config) = yours(&on).await;
    config.busy_timeout_ms = 500;
    config.statement_timeout_ms = 4_000;
    let store = connect(config).await.unwrap();
    let held = Arc::new(tokio::sync::Notify::new());
    let (told, name, servers) = (Arc::clone(&held), database.name.clone(), on.clone());
    let holder = tokio::task::spawn_blocking(move || {
        let sleep = servers.choose("", "SELECT pg_sleep(3)", "SELECT SLEEP(3)");
        told.notify_one();
        servers.sql(&name, &format!("BEGIN; UPDATE account SET hash = hash; {sleep}; COMMIT"));
    });
    held.notified().await;
    let began = stopwatch();
    let error = loop {
        match store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < BOUND),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    works(&store).await;
    holder.await.unwrap();
    assert!(store.replace_hash(&ctx(), &calvin(), &hash("h1"), &hash("h1")).await.unwrap());
}

async fn a_slow_or_silent_network_is_bounded(on: On) {
    let server = on.victim().await;
    let (_, mut config) = on_victim(&on, &server);
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    config.url =
        config.url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.address().port()));
    let store = connect(config).await.unwrap();
    proxy.delay(Duration::from_millis(50));
    works(&store).await;
    proxy.stall();
    fails(&store, ErrorKind::Unavailable).await;
    proxy.heal();
    works_again(&store).await;
    proxy.cut();
    fails(&store, ErrorKind::Unavailable).await;
    proxy.heal();
    works_again(&store).await;
    proxy.reset();
    works_again(&store).await;
}

async fn what_is_wrong_at_the_start_is_told_at_once(on: On) {
    let (database, config) = yours(&on).await;
    let check = async |from: &str, to: &str, kind: ErrorKind, says: &str| {
        let mut config = config.clone();
        config.url = config.url.replace(from, to);
        let began = stopwatch();
        let error = refused(config).await;
        assert_eq!(error.kind(), kind, "{to}: {error:?}");
        assert!(shown(&error).contains(says) && !format!("{error:?}").contains("tiger"), "{}", shown(&error));
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    };
    check(":tiger@", ":wrong@", ErrorKind::Misconfigured, "refuses the login").await;
    check("//app:", "//nobody:", ErrorKind::Misconfigured, "refuses the login").await;
    let elsewhere = on.choose("", "no such database", "may not do this");
    check(&format!("/{}", database.name), "/nowhere", ErrorKind::Misconfigured, elsewhere).await;
    let port = config.url.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    check(&format!(":{port}/"), ":1/", ErrorKind::Unavailable, "refused").await;
    check("@127.0.0.1:", "@no-such-host.invalid:", ErrorKind::Unavailable, "no connection").await;
}

async fn a_unix_socket_is_a_way_in(on: On) {
    let (database, mut config) = yours(&on).await;
    config.url = match on.engine {
        Engine::MariaDb => {
            let socket = on.servers.mariadb().socket();
            format!("mariadb://app:tiger@localhost/{}?socket={}", database.name, socket.display())
        }
        Engine::Postgres | Engine::Sqlite => {
            let server = on.servers.postgres();
            let socket = server.socket().display();
            format!("postgres://app:tiger@localhost:{}/{}?host={socket}", server.port(), database.name)
        }
    };
    works(&connect(config.clone()).await.unwrap()).await;
    config.tls.mode = Some(TlsMode::VerifyFull);
    assert!(refused(config).await.message().contains("a unix socket has no TLS"));
}

async fn a_server_is_verified_in_full(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let start = |wrong_name| {
        let server = Server::start(on.engine, Some(DatabaseTls { certs: Arc::clone(&certs), wrong_name }));
        let (name, config) = on_victim(&on, &server);
        (server, name, config)
    };
    let (server, name, config) = start(false);
    // Who must come by TLS shows that it is spoken.
    match on.engine {
        Engine::MariaDb => drop(server.sql(&name, "ALTER USER app@'%' REQUIRE SSL")),
        Engine::Postgres | Engine::Sqlite => {}
    }
    let with = |change: &dyn Fn(&mut SqlConfig)| {
        let mut config = config.clone();
        change(&mut config);
        config
    };
    let full = with(&|config| config.tls.ca = Some(certs.ca()));
    let store = connect(full).await.unwrap();
    works(&store).await;
    if on.engine == Engine::Postgres {
        let spoken = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl s \
                      JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'app'";
        assert_eq!(server.sql(&name, spoken), "t");
    }
    for mode in [TlsMode::VerifyCa, TlsMode::Require] {
        let store = connect(with(&|config| {
            config.tls.mode = Some(mode);
            config.tls.ca = Some(certs.ca());
        }));
        works(&store.await.unwrap()).await;
    }
    let unknown = refused(with(&|config| config.tls.ca = Some(certs.unknown_ca()))).await;
    assert_eq!(unknown.kind(), ErrorKind::Unavailable);
    assert!(shown(&unknown).contains("certificate"), "{}", shown(&unknown));
    let none = refused(with(&|config| config.tls.mode = Some(TlsMode::VerifyFull))).await;
    assert_eq!(none.kind(), ErrorKind::Unavailable, "Mozilla's list has not this authority");
    let paired = connect(with(&|config| {
        config.tls.ca = Some(certs.ca());
        config.tls.cert = Some(certs.client().certificate);
        config.tls.key = Some(certs.client().key);
    }));
    works(&paired.await.unwrap()).await;
    drop(server);

    let (_server, _, config) = start(true);
    let mut full = config.clone();
    full.tls.ca = Some(certs.ca());
    let wrong = refused(full.clone()).await;
    assert_eq!(wrong.kind(), ErrorKind::Unavailable);
    assert!(shown(&wrong).contains("certificate"), "{}", shown(&wrong));
    full.tls.mode = Some(TlsMode::VerifyCa);
    works(&connect(full).await.unwrap()).await;
}

async fn a_server_without_tls_is_not_spoken_to_in_clear(on: On) {
    let (_database, mut config) = yours(&on).await;
    if on.engine == Engine::MariaDb && on.sql("mysql", "SELECT @@have_ssl") == "YES" {
        return;
    }
    config.tls.mode = Some(TlsMode::Require);
    let error = refused(config).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(shown(&error).contains("TLS"), "{}", shown(&error));
}

tests! {
    ALL => {
        a_full_pool_is_overloaded,
        a_question_that_is_dropped_leaves_the_store_usable,
        a_question_that_is_dropped_answers_nobody_else,
        a_write_that_is_dropped_is_done_wholly_or_not_at_all,
        sixteen_tasks_write_and_read_at_once,
        of_many_that_replace_one_hash_one_does,
        many_that_make_one_new_database_agree_on_it,
        changes_of_one_account_do_not_undo_each_other,
        the_managed_tables_are_put_among_others_only_if_that_is_said,
    }
    SERVERS => {
        a_server_that_is_killed_is_missed_and_found_again,
        many_questions_at_once_survive_a_restart,
        a_server_that_is_stopped_is_given_up_in_time,
        a_changed_password_is_a_fault_of_configuration,
        a_read_only_server_says_so_to_writes_alone,
        connections_that_an_administrator_ends_are_replaced_unnoticed,
        tables_that_change_meanwhile_are_noticed,
        a_missing_permission_is_a_fault_of_configuration,
        a_statement_that_takes_too_long_is_ended_by_the_server,
        a_write_that_stands_in_another_s_way_is_done_again,
        a_row_that_somebody_else_holds_times_out,
        a_slow_or_silent_network_is_bounded,
        what_is_wrong_at_the_start_is_told_at_once,
        a_unix_socket_is_a_way_in,
        a_server_is_verified_in_full,
        a_server_without_tls_is_not_spoken_to_in_clear,
    }
    &[Engine::Postgres] => { a_server_with_too_many_connections_is_overloaded }
    &[Engine::MariaDb] => { a_migration_that_was_broken_off_is_finished }
}
