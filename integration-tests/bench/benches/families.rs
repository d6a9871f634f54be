//! Renewals of sessions through us, beside the bare driver that runs the same atomic statement on the same server.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{Ctx, Device, Families, Family, FamilyId, Millis, Renewal};
use auth_store_redis::{RedisConfig, RedisFamilies};
use auth_store_sql::{PoolConfig, SqlConfig, SqlFamilies};
use auth_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions, Redis, RedisOptions};
use gatepost_bench::rivals::{PEOPLE, Race, Rival};
use gatepost_bench::{exit, login};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

const THREADS: usize = 2;
const RACE: Race = Race { what: "renewals", tasks: &[1, 16], rounds: 16 };

/// How much of what the bare driver gets done is to be done through us, at the most tasks.
const BAR: f64 = 0.8;

const OURS: &str = "Gatepost";
const START: Millis = 1_750_000_000_000;
const YEAR: Millis = 365 * 24 * 3_600_000;

/// One session of each person. The bare driver has other ones than we.
fn family(n: usize, bare: bool) -> Family {
    let mut id = [u8::from(bare); 16];
    id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Family {
        id: FamilyId::new(id),
        realm: "default".into(),
        login: login(n),
        person: format!("app:{n}"),
        client: Some("web".to_owned()),
        scope: "read write".to_owned(),
        device: Device {
            name: None,
            address: None,
            agent: Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned()),
        },
        secret: "2026".to_owned(),
        generation: 1,
        rotated_at: START,
        retries: 0,
        confirmed: false,
        created_at: START,
        last_used_at: START,
        idle: YEAR,
        idle_end: START + YEAR,
        absolute_end: START + 10 * YEAR,
        ended: None,
    }
}

/// Which generation each session has. Each is renewed by one at a time.
fn generations() -> Arc<Vec<Mutex<u32>>> {
    Arc::new((0..PEOPLE).map(|_| Mutex::new(1)).collect())
}

/// Begins the sessions of both, and makes ours.
async fn ours(store: Arc<dyn Families>) -> Rival {
    for n in 0..PEOPLE {
        for bare in [false, true] {
            store.begin(&Ctx::new(), &family(n, bare)).await.expect("a new session");
        }
    }
    let (ids, generations) = (ids(false), generations());
    Rival::new(OURS, move |n| {
        let (store, ids, generations) = (Arc::clone(&store), Arc::clone(&ids), Arc::clone(&generations));
        async move {
            let mut from = generations[n].lock().await;
            let at = START + Millis::from(*from);
            let renewal = Renewal { from: *from, at, idle_end: at + YEAR };
            *from += 1;
            store.renew(&Ctx::new(), "default", ids[n], &renewal).await.is_ok_and(|renewed| renewed)
        }
    })
}

fn ids(bare: bool) -> Arc<Vec<FamilyId>> {
    Arc::new((0..PEOPLE).map(|n| family(n, bare).id).collect())
}

fn race(runtime: &Runtime, title: &str, mut rivals: Vec<Rival>) -> Vec<bool> {
    RACE.run(runtime, &mut rivals);
    let name = rivals[1].name().to_owned();
    RACE.print(title, &rivals, &[(OURS, &name)]);
    RACE.judge(title, &rivals, &[(OURS, &name, BAR)])
}

/// The statement, in whichever way parameters are written.
macro_rules! renew {
    ($next:literal, $at:literal, $at2:literal, $idle_end:literal, $realm:literal, $id:literal, $from:literal, $at3:literal,
     $at4:literal) => {
        concat!(
            "UPDATE gatepost_family SET generation = ",
            $next,
            ", rotated_at = ",
            $at,
            ", last_used_at = ",
            $at2,
            ", idle_end = ",
            $idle_end,
            ", retries = 0, confirmed = 0 WHERE realm = ",
            $realm,
            " AND id = ",
            $id,
            " AND generation = ",
            $from,
            " AND ended_at IS NULL AND idle_end > ",
            $at3,
            " AND absolute_end > ",
            $at4
        )
    };
}

/// The bare driver: a pool of as many connections as ours, none of them asked whether it lives.
macro_rules! bare {
    ($pool:ident, $most:expr, $options:expr, $sql:expr) => {{
        let options = $options.disable_statement_logging();
        let pool = $pool::new().max_connections($most).min_connections($most).test_before_acquire(false);
        let pool = pool.connect_with(options).await.expect("a database");
        let ids: Arc<Vec<String>> = Arc::new(ids(true).iter().map(ToString::to_string).collect());
        let generations = generations();
        Rival::new("sqlx", move |n| {
            let (pool, ids, generations) = (pool.clone(), Arc::clone(&ids), Arc::clone(&generations));
            async move {
                let mut from = generations[n].lock().await;
                let at = i64::try_from(START).expect("a moment") + i64::from(*from);
                let idle_end = at + i64::try_from(YEAR).expect("a year");
                let mut query = sqlx::query($sql).bind(i64::from(*from) + 1).bind(at);
                if $sql.contains('?') && !$sql.contains("?1") {
                    query = query.bind(at);
                }
                query = query.bind(idle_end).bind("default").bind(ids[n].as_str()).bind(i64::from(*from));
                if $sql.contains('?') && !$sql.contains("?1") {
                    query = query.bind(at).bind(at);
                }
                *from += 1;
                query.execute(&pool).await.expect("an answer").rows_affected() == 1
            }
        })
    }};
}

const NUMBERED: &str = renew!("?1", "?2", "?2", "?3", "?4", "?5", "?6", "?2", "?2");
const DOLLARS: &str = renew!("$1", "$2", "$2", "$3", "$4", "$5", "$6", "$2", "$2");
const PLACES: &str = renew!("?", "?", "?", "?", "?", "?", "?", "?", "?");

async fn sql(url: &str) -> Rival {
    ours(Arc::new(SqlFamilies::open(&SqlConfig::new(url)).await.expect("a store"))).await
}

fn most() -> u32 {
    PoolConfig::default().max_connections
}

fn sqlite(runtime: &Runtime) -> Vec<bool> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app.db");
    let rivals = runtime.block_on(async {
        let ours = sql(&format!("sqlite:{}", file.display())).await;
        // One writes at a time, whoever it is.
        let options = SqliteConnectOptions::new().filename(&file).journal_mode(SqliteJournalMode::Wal);
        let options = options.synchronous(SqliteSynchronous::Full).busy_timeout(Duration::from_secs(5));
        vec![ours, bare!(SqlitePoolOptions, 1, options, NUMBERED)]
    });
    race(runtime, "SQLite, a file, each commit on the disk", rivals)
}

fn postgres(runtime: &Runtime) -> Vec<bool> {
    let postgres = Postgres::start(&PostgresOptions::default());
    postgres.create("app");
    let url = postgres.url("app");
    let rivals = runtime.block_on(async {
        let options: PgConnectOptions = url.parse().expect("an address");
        let ours = sql(&url).await;
        vec![ours, bare!(PgPoolOptions, most(), options.ssl_mode(PgSslMode::Disable), DOLLARS)]
    });
    race(runtime, "PostgreSQL, in memory", rivals)
}

fn mariadb(runtime: &Runtime) -> Vec<bool> {
    let mariadb = MariaDb::start(&MariaDbOptions::default());
    mariadb.create("app");
    let url = mariadb.url("app");
    let rivals = runtime.block_on(async {
        let options: MySqlConnectOptions = url.parse().expect("an address");
        let ours = sql(&url).await;
        vec![ours, bare!(MySqlPoolOptions, most(), options.ssl_mode(MySqlSslMode::Disabled), PLACES)]
    });
    race(runtime, "MariaDB, in memory", rivals)
}

/// What a bare script would do: the same conditions and the same fields. That the server has lost nothing since, and that
/// the realm has not ended, is in a hash of its own.
const SCRIPT: &str = "\
local s=redis.call('HMGET',KEYS[2],'life','n:'..ARGV[6]) \
if s[1]~=ARGV[5] then return 0 end \
local f=redis.call('HMGET',KEYS[1],'gen','epoch','idle_end','end') \
local at=tonumber(ARGV[3]) \
if f[1]~=ARGV[1] or f[2]~=(s[2] or '0') or at>=tonumber(f[3]) or at>=tonumber(f[4]) then return 0 end \
redis.call('HSET',KEYS[1],'gen',ARGV[2],'last',ARGV[3],'idle_end',ARGV[4]) \
return 1";

/// The least that it could be: it would trust a server that was set back.
const LEAST: &str = "\
local f=redis.call('HMGET',KEYS[1],'gen','epoch','idle_end','end') \
local at=tonumber(ARGV[3]) \
if f[1]~=ARGV[1] or f[2]~='0' or at>=tonumber(f[3]) or at>=tonumber(f[4]) then return 0 end \
redis.call('HSET',KEYS[1],'gen',ARGV[2],'last',ARGV[3],'idle_end',ARGV[4]) \
return 1";

fn redis(runtime: &Runtime) -> Vec<bool> {
    let redis = Redis::start(&RedisOptions::default());
    let url = redis.url();
    let rivals = runtime.block_on(async {
        let mut config = RedisConfig::new(&url, "gatepost:");
        config.timeout = Duration::from_secs(1);
        let ours = ours(Arc::new(RedisFamilies::new(&config).expect("a store"))).await;
        let client = redis::Client::open(url.as_str()).expect("an address");
        let connection = client.get_multiplexed_async_connection().await.expect("a server");
        let life = redis::cmd("HGET").arg(STORE).arg("life").query_async(&mut connection.clone()).await;
        let life: Arc<str> = life.map(|life: String| life.into()).expect("a life");
        // Both have the same sessions, so the same generations.
        let generations = generations();
        let same = bare("redis-rs", SCRIPT, &connection, Some(life), &generations).await;
        let least = bare("redis-rs, of one hash alone", LEAST, &connection, None, &generations).await;
        vec![ours, same, least]
    });
    race(runtime, "Redis", rivals)
}

/// Where our store keeps what it knows of the server.
const STORE: &str = "gatepost:s:store";

/// The bare client. With `life` the script also looks there.
async fn bare(
    name: &str,
    script: &str,
    connection: &redis::aio::MultiplexedConnection,
    life: Option<Arc<str>>,
    generations: &Arc<Vec<Mutex<u32>>>,
) -> Rival {
    let loaded = redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(&mut connection.clone()).await;
    let script: Arc<str> = loaded.map(|hash: String| hash.into()).expect("a script");
    let key = |id: &FamilyId| format!("gatepost:s:default:f:{id}");
    let keys: Arc<Vec<String>> = Arc::new(ids(true).iter().map(key).collect());
    let (connection, generations) = (connection.clone(), Arc::clone(generations));
    Rival::new(name, move |n| {
        let (mut connection, script, life) = (connection.clone(), Arc::clone(&script), life.clone());
        let (keys, generations) = (Arc::clone(&keys), Arc::clone(&generations));
        async move {
            let mut from = generations[n].lock().await;
            let at = START + Millis::from(*from);
            let mut run = redis::cmd("EVALSHA");
            run.arg(&*script).arg(1 + usize::from(life.is_some())).arg(&keys[n]);
            if life.is_some() {
                run.arg(STORE);
            }
            run.arg(*from).arg(*from + 1).arg(at).arg(at + YEAR);
            if let Some(life) = &life {
                run.arg(&**life).arg("default");
            }
            *from += 1;
            let done: i64 = run.query_async(&mut connection).await.expect("an answer");
            done == 1
        }
    })
}

fn main() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let all: [(&str, fn(&Runtime) -> Vec<bool>); 4] =
        [("sqlite", sqlite), ("postgres", postgres), ("mariadb", mariadb), ("redis", redis)];
    // Cargo hands over a `--bench` of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut held = Vec::new();
    for (name, bench) in all {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            held.extend(bench(&runtime));
        }
    }
    exit(&held)
}
