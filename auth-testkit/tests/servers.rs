//! The private servers do what tests ask of them, and end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use auth_testkit::servers::{
    Certs, ClientCerts, DatabaseTls, MariaDb, MariaDbOptions, Memcached, MemcachedOptions, Postgres,
    PostgresOptions, Redis, RedisCluster, RedisOptions, RedisSentinel, RedisTls, Reply, Restart, Slapd,
    SlapdOptions, skipped, until,
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

/// Runs a program to its end and returns all that it says.
fn said(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// Asks as an application would: over TCP, or by the socket, with the user's password.
fn psql(postgres: &Postgres, host: &str, more: &[(&str, &str)], statement: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["-XAtq", "-U", Postgres::USER, "-d", "shop", "-h", host, "-c", statement]);
    command.args(["-p", &postgres.port().to_string()]).env("PGPASSWORD", Postgres::PASSWORD);
    said(command.envs(more.iter().copied())).trim().to_owned()
}

#[test]
fn a_postgres_answers_stops_and_starts_again_with_what_was_committed() {
    if skipped("postgres") {
        return;
    }
    let postgres = Postgres::start(&PostgresOptions { tls: None, more: vec!["max_connections=33".into()] });
    postgres.create("shop");
    assert_eq!(psql(&postgres, "127.0.0.1", &[], "CREATE TABLE a (b text)"), "");
    assert_eq!(postgres.sql("shop", "INSERT INTO a VALUES ('x'); SELECT b, 7 FROM a"), "x|7");
    assert_eq!(postgres.sql("shop", "SHOW max_connections"), "33");
    assert!(postgres.try_sql("shop", "SELECT nonsense").is_err_and(|why| why.contains("does not exist")));
    let socket = postgres.socket().display().to_string();
    assert_eq!(psql(&postgres, &socket, &[], "SELECT current_user"), "app");
    let wrong = psql(&postgres, "127.0.0.1", &[("PGPASSWORD", "other")], "SELECT 1");
    assert!(wrong.contains("password authentication failed"), "{wrong}");
    assert!(postgres.url("shop").starts_with("postgres://app:tiger@127.0.0.1:"));

    // Those that serve a connection are stopped too.
    let mut waiting = Command::new("psql");
    waiting.args(["-XAtq", "-U", Postgres::USER, "-d", "shop", "-h", &socket]);
    waiting.args(["-p", &postgres.port().to_string()]).env("PGPASSWORD", Postgres::PASSWORD);
    let mut waiting = waiting.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
    let mut ask = waiting.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(waiting.stdout.take().expect("a pipe")).lines();
    writeln!(ask, "SELECT 'one';").expect("psql");
    assert_eq!(answers.next().expect("a line").expect("a text"), "one");
    postgres.stop_signal();
    writeln!(ask, "SELECT 'two';").expect("psql");
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || tell.send(answers.next()));
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "an answer of a server that is stopped");
    postgres.cont_signal();
    let two = told.recv_timeout(Duration::from_secs(30)).expect("in time").expect("a line");
    assert_eq!(two.expect("a text"), "two");
    drop(ask);
    waiting.wait().expect("a child");
    assert!(reader.join().expect("a thread").is_ok());

    let (pid, port) = (postgres.pid(), postgres.port());
    postgres.restart();
    assert!(!runs(pid) && postgres.port() == port);
    assert_eq!(postgres.sql("shop", "SELECT b FROM a"), "x");
    postgres.kill();
    assert!(postgres.try_sql("shop", "SELECT 1").is_err() && postgres.socket().exists());
    postgres.restart();
    postgres.stop_signal();
    let (pid, folder) = (postgres.pid(), postgres.socket().to_owned());
    drop(postgres);
    assert!(!runs(pid) && !folder.exists(), "a stopped one ends too, and leaves nothing");
}

#[test]
fn a_postgres_speaks_tls_with_its_own_authority() {
    if skipped("postgres") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let certs = std::sync::Arc::new(Certs::make(folder.path()));
    let (ca, unknown) = (certs.ca().display().to_string(), certs.unknown_ca().display().to_string());
    let start = |wrong_name| {
        let tls = Some(DatabaseTls { certs: std::sync::Arc::clone(&certs), wrong_name });
        let postgres = Postgres::start(&PostgresOptions { tls, more: Vec::new() });
        postgres.create("shop");
        postgres
    };
    let ask = |postgres: &Postgres, ca: &str| {
        let full = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", ca)];
        psql(postgres, "localhost", &full, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    };
    let postgres = start(false);
    assert_eq!(ask(&postgres, &ca), "t");
    let refused = ask(&postgres, &unknown);
    assert!(refused.contains("certificate verify failed"), "{refused}");
    let refused = ask(&start(true), &ca);
    assert!(refused.contains("does not match host name"), "{refused}");
}

/// Asks as an application would: over TCP, or by the socket, with the user's password.
fn mariadb(server: &MariaDb, how: &[&str], statement: &str) -> String {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-N", "-B", "-u", MariaDb::USER]);
    command.args(how).args(["-P", &server.port().to_string(), "-D", "shop", "-e", statement]);
    said(&mut command).trim().to_owned()
}

#[test]
fn a_mariadb_answers_stops_and_starts_again_with_what_was_committed() {
    if skipped("mariadb") {
        return;
    }
    let server = MariaDb::start(&MariaDbOptions { tls: None, more: vec!["--max-connections=33".into()] });
    server.create("shop");
    let (tcp, password) = ("-h127.0.0.1", format!("-p{}", MariaDb::PASSWORD));
    assert_eq!(mariadb(&server, &[tcp, &password], "CREATE TABLE a (b TEXT)"), "");
    assert_eq!(server.sql("shop", "INSERT INTO a VALUES ('x'); SELECT b, 7 FROM a"), "x\t7");
    assert_eq!(
        server.sql("shop", "SELECT @@max_connections, @@collation_database"),
        "33\tutf8mb4_unicode_ci"
    );
    assert!(server.try_sql("shop", "SELECT nonsense").is_err_and(|why| why.contains("Unknown column")));
    let socket = format!("-S{}", server.socket().display());
    assert_eq!(mariadb(&server, &[&socket, &password], "SELECT current_user()"), "app@%");
    let wrong = mariadb(&server, &[tcp, "-pother"], "SELECT 1");
    assert!(wrong.contains("Access denied"), "{wrong}");
    assert!(mariadb(&server, &[tcp, &password], "SELECT * FROM mysql.user").contains("denied"));
    assert!(server.url("shop").starts_with("mariadb://app:tiger@127.0.0.1:"));

    server.stop_signal();
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_ok());
    server.cont_signal();
    let (pid, port) = (server.pid(), server.port());
    server.restart();
    assert!(!runs(pid) && server.port() == port);
    assert_eq!(server.sql("shop", "SELECT b FROM a"), "x");
    server.kill();
    assert!(server.try_sql("shop", "SELECT 1").is_err());
}

#[test]
fn a_mariadb_speaks_tls_with_its_own_authority() {
    if skipped("mariadb") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let certs = std::sync::Arc::new(Certs::make(folder.path()));
    let start = |wrong_name| {
        let tls = Some(DatabaseTls { certs: std::sync::Arc::clone(&certs), wrong_name });
        let server = MariaDb::start(&MariaDbOptions { tls, more: Vec::new() });
        server.create("shop");
        server
    };
    let ask = |server: &MariaDb, ca: std::path::PathBuf| {
        let (ca, password) = (format!("--ssl-ca={}", ca.display()), format!("-p{}", MariaDb::PASSWORD));
        let how = ["-hlocalhost", "--protocol=tcp", &ca, "--ssl-verify-server-cert", &password];
        mariadb(server, &how, "SHOW STATUS LIKE 'Ssl_version'")
    };
    let server = start(false);
    let version = ask(&server, certs.ca());
    assert!(version.contains("TLSv1."), "{version}");
    for (server, ca) in [(server, certs.unknown_ca()), (start(true), certs.ca())] {
        let refused = ask(&server, ca);
        assert!(refused.contains("ERROR 2026"), "{refused}");
    }
}

#[test]
fn what_a_killed_test_has_left_in_memory_is_cleared_up() {
    let memory = Path::new("/dev/shm");
    // No process has this number: <https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html>.
    let left = memory.join("mariadb-4194999-0");
    if skipped("mariadb") || std::fs::create_dir_all(left.join("data")).is_err() {
        return;
    }
    let other = memory.join("mariadb-4194999-mine");
    std::fs::create_dir_all(&other).expect("a folder");
    drop(MariaDb::start(&MariaDbOptions::default()));
    let (gone, kept) = (!left.exists(), other.exists());
    std::fs::remove_dir_all(&other).expect("a folder of ours");
    assert!(gone && kept);
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

#[test]
fn a_slapd_answers_stops_and_starts_again_with_what_it_had() {
    if skipped("slapd") {
        return;
    }
    let slapd = Slapd::start(&SlapdOptions::default());
    let base = Slapd::BASE;
    slapd.add(&format!("dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: E\n"));
    let read = |slapd: &Slapd| slapd.must("ldapsearch", &["-LLL", "-b", base, "(dc=example)", "o"], "");
    assert!(read(&slapd).contains("o: E"));
    assert!(slapd.log().contains("filter=\"(dc=example)\""), "{}", slapd.log());
    slapd.modify(&format!("dn: {base}\nchangetype: modify\nreplace: o\no: F\n"));
    slapd.stop_signal();
    slapd.cont_signal();
    slapd.restart();
    assert!(read(&slapd).contains("o: F"));
    let folder = slapd.folder();
    drop(slapd);
    assert!(!folder.exists());
}
