//! A server, and the store under it, killed in the middle of renewals: nobody is logged out, and nothing is taken for a theft.
//!
//! `CRASH_RENEWALS=10000` says how many renewals there are of each kind of store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test says what is wrong")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use auth_testkit::servers::{
    MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions, Restart,
};
use integration_tests::{Gatepost, Server, generation, get, no_alarm, post, skipped, stopwatch, until};
use serde_json::{Value, json};

/// hobbes
const HASH: &str = "$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6";

const CLIENTS: u64 = 20;
/// How often something is killed.
const KILLS: u64 = 8;
/// Each client asks again after so many renewals although it has the answer.
const AGAIN: u64 = 8;

fn renewals() -> u64 {
    std::env::var("CRASH_RENEWALS").map_or(2_000, |number| number.parse().unwrap())
}

/// What the clients have in common.
struct Crowd {
    /// Where the server is now.
    address: Mutex<SocketAddr>,
    renewals: u64,
    /// Renewals that were answered.
    done: AtomicU64,
    /// Questions that were not: the connection broke, or the server said that it can't tell.
    broken: AtomicU64,
    unavailable: AtomicU64,
    /// Questions that were asked again though they were answered.
    again: AtomicU64,
}

impl Crowd {
    fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    fn moved_to(&self, server: &Server) {
        *self.address.lock().unwrap() = server.address();
    }

    /// Asks until there is an answer, with the same words.
    fn ask(&self, path: &str, body: &Value) -> Value {
        let mut answer = Value::Null;
        let asked = || match post(self.address(), path, &[], body) {
            Err(_) => {
                self.broken.fetch_add(1, Ordering::SeqCst);
                false
            }
            Ok(response) if response.status == 503 => {
                self.unavailable.fetch_add(1, Ordering::SeqCst);
                false
            }
            Ok(response) => {
                assert_eq!(response.status, 200, "{path}: {}", response.body);
                answer = serde_json::from_str(&response.body).unwrap();
                true
            }
        };
        until(asked, "an answer");
        answer
    }

    fn renew(&self, token: &str) -> Value {
        self.ask("/api/security/renew", &json!({ "refresh_token": token }))
    }

    /// Renews until all have renewed often enough together; returns the last answer.
    fn client(&self) -> Value {
        let mut last = self.ask("/api/security/login", &json!({ "login": "calvin", "password": "hobbes" }));
        while self.done.fetch_add(1, Ordering::SeqCst) < self.renewals {
            let token = last["refresh_token"].as_str().unwrap().to_owned();
            let next = self.renew(&token);
            assert_eq!(next["sid"], last["sid"]);
            // A renewal whose answer was lost has counted once, however often it was asked for.
            assert_eq!(generation(&next), generation(&last) + 1);
            if generation(&next).is_multiple_of(AGAIN) {
                self.again.fetch_add(1, Ordering::SeqCst);
                assert_eq!(self.renew(&token)["refresh_token"], next["refresh_token"], "two successors");
            }
            last = next;
        }
        last
    }
}

/// Has clients renew while `crash` ends the server, or something under it; it is told how often it was called before.
fn survives(store: &str, url: &str, crash: impl Fn(&Gatepost, Server, u64) -> Server) {
    let gatepost = Gatepost::with_config(&format!(
        "[password]\nupgrade = false\nargon2 = {{ memory_kib = 64, passes = 1 }}\n\
         [token]\nstore = '{url}'\nrefresh = {{ grace = '300s', retries = 1000 }}\n"
    ));
    gatepost.must(&["user", "add", "calvin", "--hash", HASH], b"");
    let first = gatepost.serve();
    let crowd = Crowd {
        address: Mutex::new(first.address()),
        renewals: renewals(),
        done: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        unavailable: AtomicU64::new(0),
        again: AtomicU64::new(0),
    };
    let began = stopwatch();
    let (server, last): (_, Vec<Value>) = std::thread::scope(|scope| {
        let mut server = first;
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| crowd.client())).collect();
        for kill in 0..KILLS {
            let mark = crowd.renewals * (kill + 1) / (KILLS + 1);
            // One that ends before is one that has failed.
            let due = || {
                crowd.done.load(Ordering::SeqCst) >= mark || clients.iter().any(ScopedJoinHandle::is_finished)
            };
            until(due, "renewals go on");
            server = crash(&gatepost, server, kill);
            crowd.moved_to(&server);
        }
        (server, clients.into_iter().map(|client| client.join().unwrap()).collect())
    });
    let took = began.elapsed();
    for answer in &last {
        let renewed = crowd.renew(answer["refresh_token"].as_str().unwrap());
        let bearer = format!("Bearer {}", renewed["access_token"].as_str().unwrap());
        let front = get(server.address(), "/auth/forward", &[("Authorization", &bearer)]);
        assert_eq!((front.status, front.header("remote-user")), (200, Some("calvin")));
    }
    let sessions = gatepost.run(&["--json", "token", "list", "--login", "calvin"]).expect(0).rows();
    assert_eq!(sessions.len(), last.len());

    no_alarm(&server);
    let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
    // What was renewed though nobody heard of it.
    let retried = u64::try_from(server.logged().matches("retry_in_grace").count()).unwrap();
    let lost = retried.saturating_sub(of(&crowd.again));
    assert!(of(&crowd.broken) + of(&crowd.unavailable) > 0, "nothing was killed in the middle");
    let _ = writeln!(
        std::io::stderr(),
        "{store}: {} renewals by {CLIENTS} clients in {:.1} s, {KILLS} kills: {} broken connections, {} times 503, \
         {lost} answers lost after the renewal; nobody logged out, no alarm",
        crowd.renewals,
        Duration::as_secs_f64(&took),
        of(&crowd.broken),
        of(&crowd.unavailable),
    );
}

/// Kills the server, and starts another.
fn kill_server(gatepost: &Gatepost, server: Server) -> Server {
    server.kill();
    gatepost.serve()
}

#[test]
fn nobody_is_logged_out_when_a_server_with_sqlite_is_killed_in_the_middle_of_renewals() {
    survives("sqlite", "sqlite:FOLDER/sessions.db", |gatepost, server, _| kill_server(gatepost, server));
}

/// The same by turns: the server, its store, and both.
fn kill_either(gatepost: &Gatepost, server: Server, kill: u64, restart: impl Fn()) -> Server {
    match kill % 3 {
        0 => kill_server(gatepost, server),
        1 => {
            restart();
            server
        }
        _ => {
            server.kill();
            restart();
            gatepost.serve()
        }
    }
}

#[test]
fn nobody_is_logged_out_when_a_server_or_its_postgres_is_killed_in_the_middle_of_renewals() {
    if skipped("postgres") {
        return;
    }
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    survives("postgres", &postgres.url("app"), |gatepost, server, kill| {
        kill_either(gatepost, server, kill, || postgres.restart())
    });
}

#[test]
fn nobody_is_logged_out_when_a_server_or_its_mariadb_is_killed_in_the_middle_of_renewals() {
    if skipped("mariadb") {
        return;
    }
    // What is committed is written, though the disk need not have it.
    let more = vec!["--innodb-flush-log-at-trx-commit=2".to_owned()];
    let mariadb = MariaDb::start(&MariaDbOptions { more, ..MariaDbOptions::default() });
    mariadb.create("app");
    survives("mariadb", &mariadb.url("app"), |gatepost, server, kill| {
        kill_either(gatepost, server, kill, || mariadb.restart())
    });
}

#[test]
fn nobody_is_logged_out_when_a_server_or_its_redis_is_killed_in_the_middle_of_renewals() {
    if skipped("redis") {
        return;
    }
    let more = ["appendonly yes", "appendfsync always"].map(str::to_owned).to_vec();
    let redis = Redis::start(&RedisOptions { more, ..RedisOptions::default() });
    survives("redis", &redis.url(), |gatepost, server, kill| {
        kill_either(gatepost, server, kill, || redis.restart(Restart::FromFiles))
    });
}
