//! Sessions: what all their stores do, and what a database can do to them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use auth_core::{
    Ctx, Device, End, EndReason, Ends, Error, ErrorKind, Families, Family, Issued, Lookup, Result, Retry,
    Revocations, Revoked, TokenMark,
};
use auth_store_sql::{SqlConfig, SqlFamilies};
use auth_testkit::Proxy;
use auth_testkit::Way;
use auth_testkit::servers::stopwatch;
use auth_testkit::suite::{FamilyBench, HOUR, START, renewal, run_all_families};
use futures_util::future::join_all;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::common::{connect, ctx};
use crate::on::{ALL, Database, Engine, On, SERVERS, Server, tests};

/// Longer than any error may take here.
const BOUND: Duration = Duration::from_secs(5);

/// Says to this program that it is a process that renews a session until it is killed; the value is the url.
pub(crate) const RENEWER: &str = "GATEPOST_TEST_RENEWER";

/// Patient enough for a busy machine.
fn patient(mut config: SqlConfig) -> SqlConfig {
    (config.pool.acquire_timeout_ms, config.busy_timeout_ms) = (30_000, 30_000);
    config.statement_timeout_ms = 30_000;
    config
}

async fn open(config: &SqlConfig) -> Arc<SqlFamilies> {
    Arc::new(SqlFamilies::open(config).await.unwrap())
}

async fn bench(config: &SqlConfig) -> FamilyBench {
    FamilyBench::new(open(config).await, open(config).await)
}

async fn one(store: &Arc<SqlFamilies>) -> (FamilyBench, Family) {
    let bench = FamilyBench::alone(store);
    let mut family = bench.family("main", "calvin");
    // Nobody else's in this database either.
    let mut id = [0; 16];
    id.copy_from_slice(&rand().to_be_bytes());
    family.id = auth_core::FamilyId::new(id);
    store.begin(&ctx(), &family).await.unwrap();
    (bench, family)
}

fn rand() -> u128 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let half = || u128::from(std::hash::RandomState::new().build_hasher().finish());
    half() << 64 | half()
}

async fn renew(store: &SqlFamilies, family: &Family, from: u32) -> Result<bool> {
    store.renew(&ctx(), &family.realm, family.id, &renewal(from)).await
}

async fn generation(store: &SqlFamilies, family: &Family) -> Result<u32> {
    Ok(store.family(&ctx(), &family.realm, family.id).await?.found().unwrap().generation)
}

/// Asks until it is answered, for as long as anything may take.
async fn answered<T>(ask: impl AsyncFnMut() -> Result<T>) -> T {
    auth_testkit::answered(2 * BOUND, ask).await
}

fn is<T: std::fmt::Debug>(kind: ErrorKind, answer: Result<T>) -> Error {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// A database of its own on a server that may be killed.
fn on_victim(on: &On, server: &Server) -> (String, SqlConfig) {
    let name = on.fresh_name();
    server.create(&name);
    let mut config = SqlConfig::new(server.url(&name));
    (config.statement_timeout_ms, config.pool.acquire_timeout_ms) = (1_000, 1_000);
    (name, config)
}

async fn sessions_are_kept_as_all_stores_keep_them(on: On) {
    let database = on.empty();
    run_all_families(&bench(&patient(database.config())).await).await;
}

async fn sessions_in_memory_are_kept_as_all_stores_keep_them(_on: On) {
    let store = open(&SqlConfig::new("sqlite::memory:")).await;
    run_all_families(&FamilyBench::alone(&store).with_rounds(100)).await;
}

async fn the_tables_stand_beside_any_others(on: On) {
    // Alone, in the managed database, whichever was first, and beside an application's.
    for order in 0..3 {
        let database = if order == 2 {
            on.with("CREATE TABLE session (id INTEGER PRIMARY KEY)").await
        } else {
            on.empty()
        };
        let config = database.config();
        if order == 0 {
            connect(config.clone()).await.unwrap();
        }
        let store = open(&config).await;
        let (_, family) = one(&store).await;
        if order == 1 {
            connect(config.clone()).await.unwrap();
        }
        // Opened once more, nothing is made anew.
        let again = open(&config).await;
        assert_eq!(generation(&again, &family).await.unwrap(), 1);
        if order < 2 {
            assert!(connect(config).await.unwrap().directory().is_some());
            assert_eq!(database.count("gatepost_user").await, 0);
        }
        assert_eq!(database.count("gatepost_session_migration").await, 1);
    }
}

async fn many_that_open_at_once_make_the_tables_once(on: On) {
    let database = on.empty();
    let config = patient(database.config());
    let opened = join_all((0..6).map(|_| SqlFamilies::open(&config))).await;
    let stores: Vec<_> = opened.into_iter().map(|opened| Arc::new(opened.unwrap())).collect();
    for store in &stores {
        one(store).await;
    }
    assert_eq!(database.count("gatepost_family").await, 6);
}

async fn what_does_not_fit_is_refused_at_the_start(on: On) {
    let database = on.empty();
    let mut config = database.config();
    config.query.account = Some("SELECT login FROM account WHERE login = :login".to_owned());
    is(ErrorKind::Misconfigured, SqlFamilies::open(&config).await);
    config = database.config();
    config.managed = Some(true);
    is(ErrorKind::Misconfigured, SqlFamilies::open(&config).await);
    config = database.config();
    config.pool.max_connections = 0;
    is(ErrorKind::Misconfigured, SqlFamilies::open(&config).await);
    is(ErrorKind::Misconfigured, SqlFamilies::open(&SqlConfig::new("memcached://a")).await);
    open(&database.config()).await;
    let version = match on.engine {
        Engine::Sqlite => {
            "INSERT INTO gatepost_session_migration VALUES (99, 'more', CURRENT_TIMESTAMP, TRUE, x'00', 1)"
        }
        Engine::Postgres => {
            "INSERT INTO gatepost_session_migration VALUES (99, 'more', CURRENT_TIMESTAMP, TRUE, '\\x00', 1)"
        }
        Engine::MariaDb => {
            "INSERT INTO gatepost_session_migration VALUES (99, 'more', CURRENT_TIMESTAMP, TRUE, x'00', 1)"
        }
    };
    database.run(version).await;
    let error = is(ErrorKind::Misconfigured, SqlFamilies::open(&database.config()).await);
    assert!(error.message().contains("newer version"), "{error}");
}

async fn tables_that_are_gone_or_others_are_an_error(on: On) {
    let database = on.empty();
    let store = open(&database.config()).await;
    let (_, family) = one(&store).await;
    database.run("ALTER TABLE gatepost_family RENAME TO elsewhere").await;
    is(ErrorKind::Misconfigured, renew(&store, &family, 1).await);
    is(ErrorKind::Misconfigured, generation(&store, &family).await);
    let end = End { at: START, reason: EndReason::Logout, until: START + HOUR };
    is(ErrorKind::Misconfigured, store.end(&ctx(), "main", &Ends::Realm, &end).await);
    let token = Issued { mark: TokenMark::new([7; 32]), family: None, login: "calvin", at: None };
    assert!(
        !store.is_revoked(&ctx(), "main", &token, START).await.unwrap(),
        "what did not end revokes nothing"
    );
    database.run("ALTER TABLE elsewhere RENAME TO gatepost_family").await;
    assert!(answered(async || renew(&store, &family, 1).await).await);
    // The other half of an end: without it nothing ends.
    database.run("ALTER TABLE gatepost_revocation RENAME TO elsewhere").await;
    is(ErrorKind::Misconfigured, store.end(&ctx(), "main", &Ends::Realm, &end).await);
    is(ErrorKind::Misconfigured, store.is_revoked(&ctx(), "main", &token, START).await);
    let now = store.family(&ctx(), "main", family.id).await.unwrap().found().unwrap();
    assert_eq!(now.ended, None);
    assert!(renew(&store, &family, 2).await.unwrap());
    database.run("ALTER TABLE elsewhere RENAME TO gatepost_revocation").await;
    // What somebody has written there by hand is not guessed at.
    database.run("UPDATE gatepost_family SET ended_at = 5, end_reason = 'boredom'").await;
    is(ErrorKind::Corrupt, generation(&store, &family).await);
    assert!(!renew(&store, &family, 3).await.unwrap());
}

async fn a_lock_of_somebody_else_is_waited_for_in_bounds(on: On) {
    let database = on.empty();
    let mut config = database.config();
    config.busy_timeout_ms = 300;
    let store = open(&config).await;
    let (_, family) = one(&store).await;
    let release = Arc::new(AtomicBool::new(false));
    let (holding, held) = tokio::sync::oneshot::channel();
    let (released, url) = (Arc::clone(&release), config.url.clone());
    let engine = on.engine;
    let holder = tokio::spawn(async move {
        use sqlx::Connection as _;
        let lock = "SELECT 1 FROM gatepost_family FOR UPDATE";
        let wait = async || {
            while !released.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match engine {
            Engine::Sqlite => {
                let mut connection = sqlx::sqlite::SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
                holding.send(()).unwrap();
                wait().await;
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
            }
            Engine::Postgres => {
                let mut connection = sqlx::postgres::PgConnection::connect(&url).await.unwrap();
                sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                holding.send(()).unwrap();
                wait().await;
            }
            Engine::MariaDb => {
                let mut connection = sqlx::mysql::MySqlConnection::connect(&url).await.unwrap();
                sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                holding.send(()).unwrap();
                wait().await;
            }
        }
    });
    held.await.unwrap();
    let began = stopwatch();
    is(ErrorKind::Timeout, renew(&store, &family, 1).await);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(generation(&store, &family).await.unwrap(), 1, "who reads does not wait");
    release.store(true, Ordering::Release);
    holder.await.unwrap();
    assert!(answered(async || renew(&store, &family, 1).await).await);
    assert_eq!(generation(&store, &family).await.unwrap(), 2);
}

async fn an_end_that_loses_against_another_transaction_is_done_anew(on: On) {
    let database = on.empty();
    let store = open(&patient(database.config())).await;
    let (bench, mut both) = (FamilyBench::alone(&store), Vec::new());
    for n in 0..2 {
        let family = Family { created_at: START + n, ..bench.family("main", "calvin") };
        store.begin(&ctx(), &family).await.unwrap();
        both.push(family.id.to_string());
    }
    let engine = on.engine;
    let url = database.config().url;
    // It has the last row, and then wants the first, while the end has the first and wants the last.
    let (take_last, take_first) = (
        format!("UPDATE gatepost_family SET scope = 'x' WHERE id = '{}'", both[1]),
        format!("UPDATE gatepost_family SET scope = 'y' WHERE id = '{}'", both[0]),
    );
    let (holding, held) = tokio::sync::oneshot::channel();
    let other = tokio::spawn(async move {
        use sqlx::{AssertSqlSafe, Connection as _};
        macro_rules! race {
            ($connection:ty) => {{
                let mut connection = <$connection>::connect(&url).await.unwrap();
                sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
                // It has done more, so that it is spared.
                for n in 0..20 {
                    let more = format!("INSERT INTO gatepost_revocation VALUES ('x', 'person', '{n}', 1, 1)");
                    sqlx::raw_sql(AssertSqlSafe(more)).execute(&mut connection).await.unwrap();
                }
                sqlx::raw_sql(AssertSqlSafe(take_last)).execute(&mut connection).await.unwrap();
                holding.send(()).unwrap();
                // Until the end waits for us.
                tokio::time::sleep(Duration::from_millis(200)).await;
                sqlx::raw_sql(AssertSqlSafe(take_first))
                    .execute(&mut connection)
                    .await
                    .expect("it is spared");
                sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
                connection.close().await.ok();
            }};
        }
        match engine {
            Engine::MariaDb => race!(sqlx::mysql::MySqlConnection),
            Engine::Postgres | Engine::Sqlite => race!(sqlx::postgres::PgConnection),
        }
    });
    held.await.unwrap();
    let end = End { at: START, reason: EndReason::LogoutAll, until: START + HOUR };
    assert_eq!(store.end(&ctx(), "main", &Ends::Person("calvin"), &end).await.unwrap(), 2);
    other.await.unwrap();
}

async fn a_server_that_was_restarted_knows_what_it_knew(on: On) {
    let server = on.victim().await;
    let (_, config) = on_victim(&on, &server);
    let store = open(&config).await;
    let (bench, family) = one(&store).await;
    let ended = Family { id: bench.id(), ..family.clone() };
    store.begin(&ctx(), &ended).await.unwrap();
    let end = End { at: START, reason: EndReason::Logout, until: START + HOUR };
    store.end(&ctx(), "main", &Ends::Family(ended.id), &end).await.unwrap();
    let mut from = 1;
    for _ in 0..3 {
        assert!(answered(async || renew(&store, &family, from).await).await);
        from += 1;
        server.restart();
        let token = Issued {
            mark: TokenMark::new([7; 32]),
            family: Some(ended.id),
            login: "calvin",
            at: Some(START),
        };
        assert!(answered(async || store.is_revoked(&ctx(), "main", &token, START).await).await);
        let known = answered(async || generation(&store, &family).await).await;
        assert_eq!(known, from);
        assert!(!answered(async || renew(&store, &ended, 1).await).await);
        // A retry that was counted stays counted.
        let retry = Retry { from: from - 1, at: START + 1, grace: 10, most: 1 };
        assert!(answered(async || store.retry(&ctx(), "main", family.id, &retry).await).await);
        assert!(!store.retry(&ctx(), "main", family.id, &retry).await.unwrap());
    }
    // One that nobody has used for a while is looked at before it is taken.
    server.restart();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(renew(&store, &family, from).await.unwrap(), "not told of a loss that concerns it not");
}

async fn a_server_that_is_not_there_yet_is_opened_when_it_is(on: On) {
    let server = on.victim().await;
    let (_, mut config) = on_victim(&on, &server);
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    config.url =
        config.url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.address().port()));
    proxy.stall();
    let store = Arc::new(SqlFamilies::new(&config).unwrap());
    let token = Issued { mark: TokenMark::new([7; 32]), family: None, login: "calvin", at: None };
    let ask = async || store.is_revoked(&ctx(), "main", &token, START).await;
    // Each by itself would wait for a second, one after the other.
    let began = stopwatch();
    for asked in join_all((0..50).map(|_| ask())).await {
        let error = asked.unwrap_err();
        assert!(error.kind().is_temporary(), "{error:?}");
    }
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(store.ready().await.is_err());
    proxy.heal();
    assert!(!answered(ask).await);
    let (_, family) = one(&store).await;
    assert!(renew(&store, &family, 1).await.unwrap());
}

async fn a_renewal_whose_answer_is_lost_is_an_error_and_done_once_at_most(on: On) {
    let server = on.victim().await;
    let (_, mut config) = on_victim(&on, &server);
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let direct = open(&config).await;
    config.url =
        config.url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.address().port()));
    config.pool.max_connections = 1;
    let store = open(&config).await;
    let (_, family) = one(&direct).await;
    let mut from = 1;
    let mut done = [0, 0];
    for round in 0..30 {
        // There is a connection, which lives and knows the statement.
        assert!(answered(async || renew(&store, &family, from).await).await);
        from += 1;
        let lost = if round % 3 == 0 { Way::ToServer } else { Way::ToClient };
        proxy.hold(lost);
        let (renewed, ()) = tokio::join!(renew(&store, &family, from), async {
            // So that it arrives, if it may.
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.reset();
            // Whoever sent it again now would be answered.
            proxy.heal();
        });
        let error = is(ErrorKind::Unavailable, renewed);
        // A held reply says nothing; nor may the renewal come again by itself.
        let now = answered(async || generation(&direct, &family).await).await;
        assert!(now == from || now == from + 1, "round {round}: {from} became {now}: {error:?}");
        done[usize::from(now > from)] += 1;
        from = now;
    }
    assert!(done[0] > 0 && done[1] > 0, "both have happened: {done:?}");
    assert!(answered(async || renew(&store, &family, from).await).await);
}

async fn a_server_that_is_killed_has_done_what_it_has_told_and_one_more_at_most(on: On) {
    let server = on.victim().await;
    let (_, mut config) = on_victim(&on, &server);
    config.pool.max_connections = 4;
    if on.engine == Engine::MariaDb {
        // What its own default is: what is told is written.
        server.sql("mysql", "SET GLOBAL innodb_flush_log_at_trx_commit = 1");
    }
    for round in 0..3 {
        let store = open(&config).await;
        let told: Vec<Arc<AtomicU32>> = (0..8).map(|_| Arc::new(AtomicU32::new(1))).collect();
        let mut families = Vec::new();
        let mut tasks = Vec::new();
        for told in &told {
            let (_, family) = one(&store).await;
            families.push(family.clone());
            let (store, told) = (Arc::clone(&store), Arc::clone(told));
            tasks.push(tokio::spawn(async move {
                loop {
                    let from = told.load(Ordering::Acquire);
                    match renew(&store, &family, from).await {
                        Ok(renewed) => assert!(renewed),
                        Err(error) => return error,
                    }
                    told.store(from + 1, Ordering::Release);
                }
            }));
        }
        let began = stopwatch();
        while told.iter().any(|told| told.load(Ordering::Acquire) < 30) {
            assert!(began.elapsed() < 6 * BOUND);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        for task in tasks {
            let error = task.await.unwrap();
            assert!(error.kind().is_temporary(), "{error:?}");
        }
        server.restart();
        if on.engine == Engine::MariaDb {
            server.sql("mysql", "SET GLOBAL innodb_flush_log_at_trx_commit = 1");
        }
        for (family, told) in families.iter().zip(&told) {
            let (told, kept) =
                (told.load(Ordering::Acquire), answered(async || generation(&store, family).await).await);
            assert!(kept == told || kept == told + 1, "round {round}: told {told}, kept {kept}");
            assert!(answered(async || renew(&store, family, kept).await).await);
        }
    }
}

/// What the other process does.
pub(crate) async fn renew_until_killed(url: &str) {
    let store = open(&patient(SqlConfig::new(url))).await;
    let (_, family) = one(&store).await;
    let mut told = std::io::stdout();
    writeln!(told, "{}", family.id).unwrap();
    for from in 1.. {
        assert!(renew(&store, &family, from).await.unwrap());
        writeln!(told, "{}", from + 1).unwrap();
    }
}

async fn a_process_that_is_killed_leaves_what_it_has_told_and_one_more_at_most(on: On) {
    let database = on.empty();
    let config = patient(database.config());
    let store = open(&config).await;
    for _ in 0..3 {
        // Several at once on one file, and this one too.
        let (_, own) = one(&store).await;
        let mut others: Vec<_> = (0..2)
            .map(|_| {
                let mut other = Command::new(std::env::current_exe().unwrap())
                    .env(RENEWER, &config.url)
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let lines = BufReader::new(other.stdout.take().unwrap()).lines();
                (other, lines)
            })
            .collect();
        let mut told = Vec::new();
        for (_, lines) in &mut others {
            let id = lines.next().unwrap().unwrap().parse().unwrap();
            let mut last = 1_u32;
            while last < 25 {
                last = lines.next().unwrap().unwrap().parse().unwrap();
            }
            told.push((id, last));
        }
        for from in 1..10 {
            assert!(renew(&store, &own, from).await.unwrap());
        }
        for (other, _) in &mut others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        for ((_, lines), (id, last)) in others.iter_mut().zip(told) {
            // What it has said until its end.
            let last = lines.map_while(|line| line.ok()?.parse().ok()).last().unwrap_or(last);
            let family = Family { id, ..own.clone() };
            let kept = generation(&store, &family).await.unwrap();
            assert!(kept == last || kept == last + 1, "told {last}, kept {kept}");
            assert!(renew(&store, &family, kept).await.unwrap());
        }
    }
    assert_eq!(database.count("pragma_integrity_check WHERE integrity_check = 'ok'").await, 1);
}

async fn a_server_that_does_not_write_says_so(on: On) {
    let server = on.victim().await;
    let (name, config) = on_victim(&on, &server);
    let store = open(&config).await;
    let (_, family) = one(&store).await;
    let read_only = |yes: bool| match on.engine {
        Engine::MariaDb => drop(server.sql("mysql", &format!("SET GLOBAL read_only = {}", u8::from(yes)))),
        Engine::Postgres | Engine::Sqlite => {
            server
                .sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = {yes}"));
            let end =
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
            server.sql("postgres", &end);
        }
    };
    read_only(true);
    let began = stopwatch();
    let error = loop {
        match renew(&store, &family, 1).await {
            Err(error) if error.message().contains("read-only") => break error,
            // The end of the connection.
            Err(_) => {}
            Ok(_) => panic!("it was renewed"),
        }
        assert!(began.elapsed() < 2 * BOUND);
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let end = End { at: START, reason: EndReason::Logout, until: START + HOUR };
    is(ErrorKind::Unavailable, store.end(&ctx(), "main", &Ends::Realm, &end).await);
    assert_eq!(answered(async || generation(&store, &family).await).await, 1);
    read_only(false);
    assert!(answered(async || renew(&store, &family, 1).await).await);
}

async fn a_file_that_is_gone_or_another_is_no_store_of_sessions(on: On) {
    let database = on.empty();
    let store = open(&database.config()).await;
    let (_, family) = one(&store).await;
    let path = std::path::PathBuf::from(database.config().url.trim_start_matches("sqlite:"));
    let older = path.with_extension("older");
    database.run(&format!("VACUUM INTO '{}'", older.display())).await;
    let end = End { at: START, reason: EndReason::Logout, until: START + HOUR };
    store.end(&ctx(), "main", &Ends::Family(family.id), &end).await.unwrap();
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    for put_another in [false, true] {
        if put_another {
            std::fs::rename(&older, &path).unwrap();
        }
        is(ErrorKind::Unavailable, renew(&store, &family, 1).await);
        is(ErrorKind::Unavailable, generation(&store, &family).await);
        is(ErrorKind::Unavailable, store.begin(&ctx(), &family).await);
        is(ErrorKind::Unavailable, store.clean(&ctx(), START, 10).await);
        let what = Revoked::Person("calvin");
        is(ErrorKind::Unavailable, store.revoke(&ctx(), "main", &what, START, START + HOUR).await);
        is(ErrorKind::Unavailable, store.end(&ctx(), "main", &Ends::Realm, &end).await);
        let token =
            Issued { mark: TokenMark::new([7; 32]), family: Some(family.id), login: "calvin", at: None };
        is(ErrorKind::Unavailable, store.is_revoked(&ctx(), "main", &token, START).await);
    }
    std::fs::rename(&away, &path).unwrap();
    assert!(!renew(&store, &family, 1).await.unwrap());
}

/// What breaks out of strings, names, comments and escapes.
fn hostile() -> impl proptest::strategy::Strategy<Value = String> {
    let nasty = [
        "'",
        "''",
        "\"",
        "`",
        "\\",
        "\\'",
        "';DROP TABLE gatepost_family;--",
        "' OR '1'='1",
        "') OR 1=1 -- ",
        "$$",
        "$1",
        "?",
        ":login",
        "%",
        "_",
        "/*",
        "*/",
        "/*!50000 DROP TABLE gatepost_family */",
        "E'\\\\'",
        "\u{bf}'",
        "#",
        "--",
        ";",
        "NULL",
        "' AND SLEEP(1) AND '1",
        "{{7*7}}",
        "\u{2019} OR 1=1",
        "\t",
        "\n",
    ];
    let pieces = proptest::prop_oneof![
        proptest::sample::select(nasty.to_vec()).prop_map(str::to_owned),
        proptest::prelude::any::<String>(),
    ];
    proptest::collection::vec(pieces, 1..4).prop_map(|pieces| {
        let text = pieces.concat().replace('\0', "0");
        let text: String = text.chars().take(30).collect();
        if text.is_empty() { "x".to_owned() } else { text }
    })
}

/// What is there, but for rows.
async fn tables(database: &Database) -> i64 {
    match database.on.engine {
        Engine::Sqlite => database.count("sqlite_schema").await,
        Engine::Postgres => database.count("pg_class").await,
        Engine::MariaDb => database.count("information_schema.tables WHERE table_schema = DATABASE()").await,
    }
}

async fn whatever_is_sent_is_kept_and_never_run(on: On) {
    let database = on.empty();
    let store = open(&patient(database.config())).await;
    let (bench, calvin) = one(&store).await;
    let before = tables(&database).await;
    let mut runner = TestRunner::deterministic();
    let mut text = || hostile().new_tree(&mut runner).unwrap().current();
    for n in 0..120 {
        let (realm, login) = (text(), text());
        let family = Family {
            person: text(),
            client: Some(text()),
            scope: text(),
            device: Device { name: Some(text()), address: None, agent: Some(text()) },
            secret: text().chars().take(10).collect(),
            ..bench.family(&realm, &login)
        };
        store.begin(&ctx(), &family).await.unwrap();
        assert_eq!(store.family(&ctx(), &realm, family.id).await.unwrap(), Lookup::Found(family.clone()));
        let listed = store.sessions(&ctx(), &realm, &login, START, 10).await.unwrap();
        assert!(listed.contains(&family), "{family:?}");
        assert!(renew(&store, &family, 1).await.unwrap());
        let token = Issued { mark: TokenMark::new([7; 32]), family: None, login: &login, at: Some(START) };
        assert!(!store.is_revoked(&ctx(), &realm, &token, START).await.unwrap() || n > 0);
        let end = End { at: START, reason: EndReason::Account, until: START + HOUR };
        assert!(store.end(&ctx(), &realm, &Ends::Person(&login), &end).await.unwrap() >= 1);
        assert!(store.is_revoked(&ctx(), &realm, &token, START).await.unwrap());
    }
    assert_eq!(tables(&database).await, before);
    assert_eq!(database.count("gatepost_family").await, 121);
    assert_eq!(store.family(&ctx(), "main", calvin.id).await.unwrap(), Lookup::Found(calvin));
    // A name that no column can hold is nobody's.
    for name in ["", "a\0b", &"a".repeat(256)] {
        assert!(store.sessions(&ctx(), "main", name, START, 10).await.unwrap().is_empty());
        assert!(store.sessions(&ctx(), name, "calvin", START, 10).await.unwrap().is_empty());
        is(ErrorKind::Invalid, store.revoke(&ctx(), "main", &Revoked::Person(name), START, START).await);
        is(ErrorKind::Invalid, store.revoke(&ctx(), name, &Revoked::Realm, START, START).await);
    }
}

async fn what_is_dropped_is_done_wholly_or_not_at_all(on: On) {
    let database = on.empty();
    let mut config = patient(database.config());
    config.pool.max_connections = 2;
    let store = open(&config).await;
    let (_, family) = one(&store).await;
    for round in 0..60_u32 {
        let from = generation(&store, &family).await.unwrap();
        let patience = Duration::from_micros(u64::from(round % 20) * 50);
        let _dropped = tokio::time::timeout(patience, renew(&store, &family, from)).await;
        let now = generation(&store, &family).await.unwrap();
        assert!(now == from || now == from + 1, "{from} became {now}");
        let one = one(&store).await.1;
        let end = End { at: START, reason: EndReason::Logout, until: START + HOUR };
        let (context, what) = (Ctx::new(), Ends::Family(one.id));
        let ending = store.end(&context, "main", &what, &end);
        let _dropped = tokio::time::timeout(patience, ending).await;
        let token = Issued { mark: TokenMark::new([7; 32]), family: Some(one.id), login: "calvin", at: None };
        let revoked = store.is_revoked(&ctx(), "main", &token, START).await.unwrap();
        let ended = store.family(&ctx(), "main", one.id).await.unwrap().found().unwrap().ended.is_some();
        assert!(ended || !revoked, "half an end");
    }
}

tests! {
    ALL => {
        sessions_are_kept_as_all_stores_keep_them,
        the_tables_stand_beside_any_others,
        many_that_open_at_once_make_the_tables_once,
        what_does_not_fit_is_refused_at_the_start,
        tables_that_are_gone_or_others_are_an_error,
        a_lock_of_somebody_else_is_waited_for_in_bounds,
        whatever_is_sent_is_kept_and_never_run,
        what_is_dropped_is_done_wholly_or_not_at_all,
    }
    SERVERS => {
        an_end_that_loses_against_another_transaction_is_done_anew,
        a_server_that_was_restarted_knows_what_it_knew,
        a_server_that_is_not_there_yet_is_opened_when_it_is,
        a_renewal_whose_answer_is_lost_is_an_error_and_done_once_at_most,
        a_server_that_is_killed_has_done_what_it_has_told_and_one_more_at_most,
        a_server_that_does_not_write_says_so,
    }
    &[Engine::Sqlite] => {
        sessions_in_memory_are_kept_as_all_stores_keep_them,
        a_process_that_is_killed_leaves_what_it_has_told_and_one_more_at_most,
        a_file_that_is_gone_or_another_is_no_store_of_sessions,
    }
}
