//! Guessers of passwords before a server that knows from which network they come.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use auth_testkit::servers::{Redis, RedisOptions};
use integration_tests::{Gatepost, Server, basic, get, skipped, until};

/// calvin with the password hobbes.
const CALVIN: &str = "calvin:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n";

const CONFIG: &str = "
[source.one]
kind = 'file'
path = 'FOLDER/one.htpasswd'
[server]
trusted_proxies = ['127.0.0.1']
";

#[test]
fn guesses_from_one_network_wait_and_everybody_else_does_not() {
    let gatepost = Gatepost::with_config(CONFIG);
    gatepost.write("one.htpasswd", CALVIN);
    let server = gatepost.serve();
    let ask = |path: &str, from: &str, password: &str| {
        let header = basic("calvin", password.as_bytes());
        get(server.address(), path, &[("Authorization", &header), ("X-Forwarded-For", from)])
    };
    let guesser = "203.0.113.5";
    for n in 0..11 {
        assert_eq!(ask("/auth/forward", guesser, &format!("guess {n}")).status, 401);
    }
    // The pause after the first above the free ones is a second, which is waited for; then three.
    assert_eq!(ask("/auth/forward", guesser, "guess 11").status, 401);
    assert_eq!(ask("/auth/forward", guesser, "guess 12").status, 401);
    let told = ask("/auth/forward", guesser, "hobbes");
    assert_eq!(told.status, 429);
    let seconds: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!((4..=5).contains(&seconds), "{seconds}");
    assert_eq!(ask("/auth/nginx", guesser, "hobbes").status, 403, "nginx knows no 429");
    assert_eq!(ask("/auth/forward", "198.51.100.7", "hobbes").status, 200);
    assert_eq!(gatepost.json(&["check", "password", "calvin"], b"hobbes", 0)["decision"], "accepted");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("gatepost_guard_attempts_total{what=\"wrong\"} 13\n"), "{metrics}");
}

#[test]
fn two_servers_with_one_redis_count_together_and_alone_when_it_is_gone() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let shared =
        "[secrets]\ncache_key = '0123456789abcdef0123456789abcdef'\n[guard]\nfree = 4\npatience = '0s'\n";
    let config = format!("{CONFIG}{shared}url = '{}'\n", redis.url());
    let servers = [(); 2].map(|()| {
        let gatepost = Gatepost::with_config(&config);
        gatepost.write("one.htpasswd", CALVIN);
        let server = gatepost.serve();
        (gatepost, server)
    });
    let ask = |server: &Server, from: &str, password: &str| {
        let header = basic("calvin", password.as_bytes());
        get(server.address(), "/auth/forward", &[("Authorization", &header), ("X-Forwarded-For", from)])
            .status
    };
    let [(_, one), (_, other)] = &servers;
    // Connections are made meanwhile: until they are there, each counts alone.
    for (n, server) in [one, other].into_iter().enumerate() {
        let keys = || redis.command(&["DBSIZE"]).int();
        let before = keys();
        until(
            || {
                assert_eq!(ask(server, &format!("192.0.2.{n}"), &format!("wrong {n}")), 401);
                keys() > before
            },
            "the guard counts in Redis",
        );
    }
    let guesser = "203.0.113.5";
    for n in 0..5 {
        let server = if n % 2 == 0 { one } else { other };
        assert_eq!(ask(server, guesser, &format!("guess {n}")), 401, "{n}");
    }
    assert_eq!((ask(one, guesser, "hobbes"), ask(other, guesser, "hobbes")), (429, 429));
    assert_eq!(ask(other, "198.51.100.7", "hobbes"), 200);
    redis.kill();
    for n in 0..5 {
        assert_eq!(ask(one, "203.0.113.77", &format!("alone {n}")), 401, "{n}");
    }
    assert_eq!(ask(one, "203.0.113.77", "hobbes"), 429);
    assert_eq!(ask(other, "203.0.113.77", "hobbes"), 200, "the other knows nothing of it");
}
