//! The private servers do what tests ask of them, and end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use auth_testkit::servers::{
    Certs, ClientCerts, Memcached, MemcachedOptions, Redis, RedisCluster, RedisOptions, RedisSentinel,
    RedisTls, Reply, Restart, skipped, until,
};

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn refused(reply: &Reply, how: &str) {
    assert!(matches!(reply, Reply::Error(text) if text.starts_with(how)), "{reply:?}");
}

/// Asks as a user would, with redis-cli.
fn cli(redis: &Redis, args: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["--no-auth-warning", "-p", &redis.port().to_string()]).args(args);
    let output = command.output().expect("redis-cli, of the package redis-tools");
    [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
        .trim()
        .into()
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_redis_answers_stops_and_starts_again_with_or_without_what_it_had() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    assert_eq!(redis.command(&["SET", "kept", "1"]), ok());
    assert_eq!(redis.command(&["SAVE"]), ok());
    assert_eq!(redis.command(&["SET", "lost", "1"]), ok());
    assert_eq!(redis.command_in(3, &["GET", "kept"]), Reply::Nil);
    assert_eq!(redis.command(&["KEYS", "*"]).items().len(), 2);

    let (pid, port) = (redis.pid(), redis.port());
    redis.restart(Restart::FromFiles);
    assert!(!runs(pid) && redis.port() == port);
    assert_eq!(redis.command(&["KEYS", "*"]).items(), [Reply::Bulk(b"kept".into())]);
    assert_eq!(cli(&redis, &["PING"]), "PONG");

    redis.restart(Restart::Empty);
    assert_eq!(redis.command(&["DBSIZE"]).int(), 0);
    redis.kill();
    assert!(redis.try_command(&["PING"]).is_err() && redis.socket().parent().is_some_and(Path::exists));
}

#[test]
fn a_redis_that_is_stopped_holds_its_connections_until_it_goes_on() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    redis.stop_signal();
    let before = std::net::TcpStream::connect(("127.0.0.1", redis.port()));
    assert!(before.is_ok() && runs(redis.pid()));
    redis.cont_signal();
    assert_eq!(redis.command(&["PING"]).text(), "PONG");
    redis.stop_signal();
    let pid = redis.pid();
    drop(redis);
    assert!(!runs(pid), "a stopped one ends too");
}

#[test]
fn users_passwords_memory_and_databases_are_as_asked_for() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions {
        password: Some("tiger".into()),
        users: vec!["app on >burning ~auth:* +get +set".into()],
        max_memory: Some(4 << 20),
        databases: Some(2),
        more: vec!["maxmemory-policy noeviction".into()],
        tls: None,
    });
    assert_eq!(cli(&redis, &["PING"]), "NOAUTH Authentication required.");
    assert_eq!(cli(&redis, &["-a", "tiger", "PING"]), "PONG");
    let app = ["--user", "app", "-a", "burning"];
    assert_eq!(cli(&redis, &[&app[..], &["SET", "auth:x", "1"]].concat()), "OK");
    assert!(cli(&redis, &[&app[..], &["SET", "x", "1"]].concat()).starts_with("NOPERM"));
    refused(&redis.command(&["SELECT", "2"]), "ERR DB index");
    let filled =
        (0..64).map(|n| redis.command(&[b"SET".to_vec(), vec![n], vec![0; 100 << 10]])).collect::<Vec<_>>();
    assert_eq!(filled.first(), Some(&ok()));
    refused(filled.last().expect("64 of them"), "OOM");
    // Not where everybody can read it.
    let seen = std::fs::read(format!("/proc/{}/cmdline", redis.pid())).expect("a process");
    assert!(!String::from_utf8_lossy(&seen).contains("tiger"));
    assert_eq!(redis.url(), format!("redis://:tiger@127.0.0.1:{}", redis.port()));
}

#[test]
fn a_redis_speaks_tls_with_its_own_authority_and_may_demand_a_certificate() {
    if skipped("redis") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let certs = std::sync::Arc::new(Certs::make(folder.path()));
    let start = |clients, wrong_name| {
        let tls = Some(RedisTls { certs: std::sync::Arc::clone(&certs), clients, wrong_name });
        Redis::start(&RedisOptions { tls, ..RedisOptions::default() })
    };
    let text = |path: std::path::PathBuf| path.display().to_string();
    let ca = text(certs.ca());
    let trusting = ["--tls", "--cacert", &ca, "PING"];

    let redis = start(ClientCerts::Optional, false);
    assert_eq!(redis.command(&["PING"]).text(), "PONG");
    assert_eq!(cli(&redis, &trusting), "PONG");
    let unknown = text(certs.unknown_ca());
    assert!(cli(&redis, &["--tls", "--cacert", &unknown, "PING"]).contains("certificate verify failed"));
    assert_ne!(cli(&redis, &["PING"]), "PONG", "without TLS");
    assert!(redis.url().starts_with("rediss://"));

    let redis = start(ClientCerts::Required, false);
    assert_ne!(cli(&redis, &trusting), "PONG");
    for (pair, expected) in [(certs.client(), true), (certs.stranger(), false)] {
        let (certificate, key) = (text(pair.certificate), text(pair.key));
        let answer = cli(&redis, &[&["--cert", &certificate, "--key", &key], &trusting[..]].concat());
        assert_eq!(answer == "PONG", expected, "{answer}");
    }
    // redis-cli compares no names: what is shown is looked at itself.
    let redis = start(ClientCerts::Unasked, true);
    let script = format!("openssl s_client -connect 127.0.0.1:{} </dev/null 2>/dev/null", redis.port());
    let shown = Command::new("sh").args(["-c", &script]).output().expect("a shell").stdout;
    assert!(String::from_utf8_lossy(&shown).contains("CN = wrong.example"));
}

#[test]
fn a_cluster_shares_its_slots_and_does_with_one_master_less() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start_with(3, 1, &RedisOptions::default());
    let [one, two, three] = cluster.masters() else { panic!("three masters") };
    let cut = cluster.url();
    assert_eq!(cut.matches(',').count(), 2);
    // The slot of "foo" is 12182, of the last third.
    assert_eq!(three.command(&["SET", "foo", "1"]), ok());
    refused(&one.command(&["GET", "foo"]), &format!("MOVED 12182 127.0.0.1:{}", three.port()));
    let replica = &cluster.replicas()[0];
    assert!(replica.command(&["INFO", "replication"]).text().contains("role:slave"));

    one.kill();
    until("the replica is master", || replica.command(&["ROLE"]).items()[0].text() == "master");
    two.kill();
    until("two is known to be lost", || {
        three.command(&["CLUSTER", "NODES"]).text().contains(" master,fail ")
    });
    assert_eq!(three.command(&["GET", "foo"]).text(), "1");
}

#[test]
fn sentinels_make_the_replica_master_when_the_master_is_killed() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    assert_eq!(set.master_port(), set.master().port());
    assert!(set.url().ends_with("/mymaster") && set.sentinels().len() == 3);
    assert_eq!(set.master().command(&["SET", "key", "1"]), ok());
    refused(&set.replica().command(&["SET", "key", "2"]), "READONLY");
    assert_eq!(set.master().command(&["WAIT", "1", "5000"]).int(), 1);
    set.master().kill();
    until("the sentinels name the replica", || set.master_port() == set.replica().port());
    until("it takes writes", || set.replica().command(&["SET", "key", "2"]) == ok());
}

#[test]
fn a_memcached_answers_stops_and_starts_again_empty() {
    if skipped("memcached") {
        return;
    }
    let memcached =
        Memcached::start(&MemcachedOptions { item_size: Some(2 << 20), ..MemcachedOptions::default() });
    assert_eq!(memcached.command("ms key 2 T60\r\nhi"), "HD\r\n");
    assert_eq!(memcached.command("mg key v t"), "VA 2 t60\r\nhi\r\n");
    let big = [b"ms big 1500000 T60\r\n".to_vec(), vec![b'x'; 1_500_000]].concat();
    assert_eq!(memcached.command(big), "HD\r\n");

    memcached.stop_signal();
    assert!(std::net::TcpStream::connect(("127.0.0.1", memcached.port())).is_ok());
    memcached.cont_signal();
    assert_eq!(memcached.command("mg key v"), "VA 2\r\nhi\r\n");

    let (pid, url) = (memcached.pid(), memcached.url());
    memcached.restart();
    assert!(!runs(pid) && memcached.url() == url);
    assert_eq!(memcached.command("mg key v"), "EN\r\n");
    memcached.kill();
    assert!(memcached.try_command("mn").is_err());
}

#[test]
fn a_server_ends_with_its_test_also_when_that_panics_but_not_with_a_thread() {
    if skipped("memcached") {
        return;
    }
    let start = || Memcached::start(&MemcachedOptions::default());
    let mut pid = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let memcached = start();
        pid = memcached.pid();
        assert!(!runs(pid), "a planted panic");
    }));
    assert!(panicked.is_err() && pid > 0 && !runs(pid));
    // The system would end it with the thread that has started it.
    let memcached = std::thread::spawn(start).join().expect("a server");
    assert_eq!(memcached.command("mg nothing"), "EN\r\n");
}

/// Run by the test below, in a process of its own that is killed.
#[test]
fn a_server_that_waits_to_be_killed() {
    let Ok(file) = std::env::var("TELL_PID") else { return };
    let memcached = Memcached::start(&MemcachedOptions::default());
    std::fs::write(file, memcached.pid().to_string()).expect("a file");
    std::thread::park();
}

#[test]
fn a_server_ends_when_its_test_is_killed() {
    if skipped("memcached") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let mut test = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_server_that_waits_to_be_killed"])
        .env("TELL_PID", &file)
        .env("TMPDIR", folder.path())
        .spawn()
        .expect("this program again");
    let told = || std::fs::read_to_string(&file).ok().and_then(|text| text.parse::<u32>().ok());
    until("the other test has a server", || told().is_some());
    let pid = told().expect("a number");
    assert!(runs(pid));
    test.kill().expect("a child");
    test.wait().expect("a child");
    let gone =
        |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    until("its server has ended", || gone(pid));
}

#[test]
fn a_server_that_cant_start_says_why() {
    if skipped("memcached") || skipped("redis") {
        return;
    }
    let why = |start: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(start)).expect_err("it can't start");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let odd = RedisOptions { more: vec!["no-such-setting 1".into()], ..RedisOptions::default() };
    let said = why(&|| drop(Redis::start(&odd)));
    assert!(said.contains("redis-server ended") && said.contains("no-such-setting"), "{said}");
    let odd = MemcachedOptions { more: vec!["--no-such-setting".into()], ..MemcachedOptions::default() };
    let said = why(&|| drop(Memcached::start(&odd)));
    assert!(said.contains("memcached ended") && said.contains("no-such-setting"), "{said}");
}

#[test]
fn servers_started_at_the_same_time_do_not_meet() {
    if skipped("memcached") {
        return;
    }
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| (0..2).map(|_| Memcached::start(&MemcachedOptions::default())).collect())
        })
        .collect();
    let servers: Vec<Vec<Memcached>> =
        threads.into_iter().map(|thread| thread.join().expect("servers")).collect();
    let mut ports: Vec<_> = servers.iter().flatten().map(Memcached::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 16);
}
