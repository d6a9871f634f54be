//! Changes that push themselves into the caches of two servers, whoever makes them: how long until both answer anew.
//!
//! Nothing in the caches ends by itself while a test runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic is how a test says what is wrong, and its figures are for people"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions};
use integration_tests::{Gatepost, Server, skipped, stopwatch, until};

/// hobbes
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";

const CACHE: &str = "
[cache]
ttl = { all = '1h', unknown = '1h' }
[secrets]
cache_key = '0123456789abcdef0123456789abcdef'
";

/// Waits until both servers give an answer, each asked again at once; tells how long that took.
#[track_caller]
fn lag(servers: &[&Server], path: &str, status: u16) -> Duration {
    let began = stopwatch();
    for server in servers {
        while server.login(path, "calvin", "hobbes").status != status {
            assert!(began.elapsed() < Duration::from_secs(20), "{path} never became {status}");
        }
    }
    began.elapsed()
}

/// Changes something to and fro, and tells the lags in order.
fn lags(rounds: usize, servers: &[&Server], path: &str, change: impl Fn(bool)) -> Vec<Duration> {
    let mut lags: Vec<Duration> = (0..rounds)
        .map(|round| {
            let out = round % 2 == 0;
            // From memory before, on both.
            assert!(lag(servers, path, if out { 200 } else { 403 }) < Duration::from_secs(20));
            change(out);
            lag(servers, path, if out { 403 } else { 200 })
        })
        .collect();
    lags.sort();
    lags
}

/// How long two answers take that are asked for anew, with nothing to be told: on an idle machine next to nothing.
fn baseline(gatepost: &[&Gatepost], servers: &[&Server], path: &str) -> Duration {
    let mut took: Vec<Duration> = (0..5)
        .map(|_| {
            gatepost.iter().for_each(|one| one.must(&["cache", "expire", "--user", "calvin"], b""));
            lag(servers, path, 200)
        })
        .collect();
    took.sort();
    took[2]
}

/// The bound is a second, beyond what asking anew takes here and now.
#[track_caller]
fn report(what: &str, lags: &[Duration], base: Duration) {
    let at = |share: usize| lags[(lags.len() * share / 100).min(lags.len() - 1)];
    println!(
        "{what}: {} changes, p50 {:?}, p99 {:?}; asking anew takes {base:?}",
        lags.len(),
        at(50),
        at(99)
    );
    assert!(at(50) < Duration::from_secs(1) + base, "{what}: {lags:?}");
    assert!(at(99) < Duration::from_secs(3) + 3 * base, "{what}: {lags:?}");
}

/// One at a time: each measures.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_change_made_with_psql_is_seen_by_two_servers_within_a_second() {
    if skipped("postgres") {
        return;
    }
    let _alone = alone();
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    postgres.sql(
        "app",
        &format!(
            "SET ROLE app; CREATE TABLE account (uid int PRIMARY KEY, login text UNIQUE, pwhash text); \
             CREATE TABLE member (uid int, title text); \
             INSERT INTO account VALUES (1, 'calvin', '{HASH}'); INSERT INTO member VALUES (1, 'staff');"
        ),
    );
    let config = format!(
        r#"
[source.app]
kind = "sql"
url = "{}"
[source.app.query]
account = "SELECT login, uid AS id, pwhash AS hash FROM account WHERE login = :login"
groups = "SELECT title AS name FROM member WHERE uid = :id"
[source.app.push]
account = {{ login = "login", id = "uid" }}
member = {{ id = "uid" }}
{CACHE}"#,
        postgres.url("app")
    );
    let (one, two) = (Gatepost::with_config(&config), Gatepost::with_config(&config));
    let printed = one.run(&["sql", "install-triggers", "--print"]).expect(0).stdout;
    assert!(printed.starts_with("BEGIN;") && printed.contains("gatepost_push_update"), "{printed}");
    let (first, second) = (one.serve(), two.serve());
    assert!(first.logged().contains("install-triggers"), "it says that changes are not told of");
    one.must(&["sql", "install-triggers"], b"");
    for gatepost in [&one, &two] {
        gatepost.must(&["reload"], b"");
        until(
            || gatepost.run(&["sources", "--json"]).expect(0).stdout.contains(r#""state":"heard""#),
            "changes are heard",
        );
    }
    let servers = [&first, &second];
    let path = "/auth/nginx?group=staff";
    let base = baseline(&[&one, &two], &servers, path);
    let by_psql = lags(24, &servers, path, |out| {
        postgres
            .sql("app", if out { "DELETE FROM member" } else { "INSERT INTO member VALUES (1, 'staff')" });
    });
    report("psql", &by_psql, base);

    // What is changed while nobody hears is seen when somebody hears again.
    postgres.kill();
    postgres.restart();
    postgres.sql("app", "DELETE FROM member");
    assert!(lag(&servers, path, 403) < Duration::from_secs(10));
    one.must(&["sql", "install-triggers", "--remove"], b"");
}

/// Changes what the managed store of a source has through one server, and tells how long the other takes.
fn through_us(what: &str, source: &str, bus: &str) {
    let config =
        format!("[source.app]\n{source}\n{CACHE}").replace("[cache]", &format!("[cache]\nbus = '{bus}'"));
    let (one, two) = (Gatepost::with_config(&config), Gatepost::with_config(&config));
    one.must(&["user", "add", "calvin", "--group", "staff", "--hash", HASH], b"");
    let (first, second) = (one.serve(), two.serve());
    let servers = [&first, &second];
    until(
        || servers.iter().all(|server| server.logged().contains("hears of invalidations")),
        "both hear of each other",
    );
    let path = "/auth/nginx?group=staff";
    let base = baseline(&[&one, &two], &servers, path);
    let by_us = lags(12, &servers, path, |out| {
        one.must(&["group", if out { "remove" } else { "add" }, "calvin", "staff"], b"");
    });
    report(&format!("through us, {what}"), &by_us, base);
}

#[test]
fn a_change_made_through_one_server_is_seen_by_the_other_with_postgresql_as_the_bus() {
    if skipped("postgres") {
        return;
    }
    let _alone = alone();
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    let url = postgres.url("app");
    through_us("PostgreSQL", &format!("kind = 'sql'\nurl = '{url}'"), &url);
}

#[test]
fn a_change_made_through_one_server_is_seen_by_the_other_in_every_store_that_it_writes_to() {
    if skipped("redis") {
        return;
    }
    let _alone = alone();
    let bus = Redis::start(&RedisOptions::default());
    let shared = Gatepost::new();
    let file = shared.path("people.db").display().to_string();
    through_us("SQLite", &format!("kind = 'sql'\nurl = 'sqlite:{file}'"), &bus.url());
    through_us("Redis", &format!("kind = 'redis'\nurl = '{}'", bus.url()), &bus.url());
    if !skipped("mariadb") {
        let mariadb = MariaDb::start(&MariaDbOptions::default());
        mariadb.create("app");
        through_us("MariaDB", &format!("kind = 'sql'\nurl = '{}'", mariadb.url("app")), &bus.url());
    }
}

#[test]
fn a_file_that_is_saved_with_an_editor_is_seen_by_two_servers_within_a_second() {
    let _alone = alone();
    let config = format!(
        "[source.app]\nkind = 'file'\npath = '{}/users.htpasswd'\ngroups = '{0}/groups'\n{CACHE}",
        "SHARED"
    );
    let shared = Gatepost::new();
    let folder = shared.path("").display().to_string();
    let config = config.replace("SHARED/", &folder);
    shared.write("users.htpasswd", &format!("calvin:{HASH}\n"));
    shared.write("groups", "staff: calvin\n");
    let (one, two) = (Gatepost::with_config(&config), Gatepost::with_config(&config));
    let (first, second) = (one.serve(), two.serve());
    let (servers, path) = ([&first, &second], "/auth/nginx?group=staff");
    let base = baseline(&[&one, &two], &servers, path);
    // As most editors save: a new file beside it takes its place.
    let by_editor = lags(12, &servers, path, |out| {
        let fresh = shared.write("groups.new", if out { "staff: moe\n" } else { "staff: calvin moe\n" });
        std::fs::rename(fresh, shared.path("groups")).unwrap();
    });
    report("an editor", &by_editor, base);
}
