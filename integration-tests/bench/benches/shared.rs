//! Hits in a shared cache: ours beside the bare clients that fetch the same bytes, and a tiered hit beside a local one.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auth_cache::{
    Ask, CacheKeys, Cached, Hearing, Lab, MemcachedConfig, MemcachedTier, NoTable, Reports, SealKind,
    Settings, SharedCache,
};
use auth_core::{
    Bus, ByteTier, Clock, Ctx, Fence, Fingerprint, GroupOracle, GroupSet, Listening, Lookup, Member,
    Principal, Result, SourceInfo, Subject, WireName,
};
use auth_stack::SystemClock;
use auth_store_redis::{RedisBus, RedisConfig, RedisTier};
use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, Reply};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatepost_bench::rivals::{PEOPLE, Race, Rival};
use gatepost_bench::{Contender, LONG, bar, compare, exit, people, settings};
use hitbox_fn::prelude::*;
use memcache::exp::{Get, Memcache, Meta};
use redis::aio::MultiplexedConnection;
use tokio::runtime::{Builder, Runtime};

const THREADS: usize = 2;

/// How many ask at once.
const TASKS: [usize; 3] = [1, 16, 256];
const RACE: Race = Race { what: "hits", tasks: &TASKS, rounds: 24 };

/// How long a call may take: each is to be a hit, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(5);

/// The bars, at the most tasks: how much of what the bare client fetches.
const SEALED: f64 = 0.8;
const OPEN: f64 = 0.9;
/// How many times a local hit a tiered one may take.
const TIERED: f64 = 1.3;

const PREFIX: &str = "gatepost.bench:";

/// Eight groups each.
fn eight(n: usize) -> Vec<String> {
    (0..8).map(|more| format!("group-{:03}", (n * 7 + more * 31) % 200)).collect()
}

/// A store that counts how often it is asked.
#[derive(Debug)]
struct Store {
    info: SourceInfo,
    asked: AtomicUsize,
}

impl Store {
    fn new() -> Arc<Self> {
        // As the people of the benches are told apart: by source and number.
        Arc::new(Self { info: SourceInfo::new("flat", Fingerprint::default()), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl GroupOracle for Store {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let auth_core::Id::Int(n) = who.id() else { return Ok(Lookup::NotFound) };
        Ok(Lookup::Found(eight(usize::try_from(*n).unwrap_or_default()).iter().map(String::as_str).collect()))
    }
}

fn keys() -> CacheKeys {
    CacheKeys::new(PREFIX, [("bench".to_owned(), vec![7; 32])]).expect("a good key")
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn shared(tier: Arc<dyn ByteTier>, seal: SealKind) -> Arc<SharedCache> {
    Arc::new(SharedCache::new(tier, &keys(), seal, clock()).expect("a good seal"))
}

/// Groups of everybody, kept in a shared cache; and here, if the settings say so.
async fn groups(
    settings: &Settings,
    tier: Arc<dyn ByteTier>,
    seal: SealKind,
) -> Arc<Cached<dyn GroupOracle>> {
    let settings = settings.for_source().with_shared(shared(tier, seal));
    let store = Store::new();
    let source: Arc<dyn GroupOracle> = Arc::clone(&store) as _;
    let cached = Cached::<dyn GroupOracle>::new(source, Arc::new(Fence::new()), clock(), &settings);
    let ctx = Ctx::new();
    for who in &people(PEOPLE) {
        cached.groups_of(&ctx, who).await.expect("the groups of everybody");
    }
    assert_eq!(store.asked.load(Ordering::Relaxed), PEOPLE, "nothing was there before");
    // What is kept there is kept by tasks of the loads' own.
    let until = Instant::now() + Duration::from_secs(10);
    while cached.report().shared.is_none_or(|stats| stats.stored < PEOPLE as u64) {
        assert!(Instant::now() < until, "not everything is stored: {:?}", cached.report());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Arc::new(cached)
}

fn nothing_here() -> Settings {
    let settings = settings("ttl", 1);
    Settings::new(Arc::new(|_| Arc::new(NoTable))).with_ttls(settings.lifetimes.get())
}

/// The keys of everybody's entry, and of what it depends on.
fn wire_keys(seal: SealKind) -> Arc<Vec<Vec<String>>> {
    let lab = Lab::new(seal, &keys()).expect("a good seal");
    let source = SourceInfo::new("flat", Fingerprint::default());
    let text = |name: WireName| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(name.as_bytes()));
    let of = |who: &Principal| {
        let subjects = [
            Subject::All,
            Subject::Groups(who.realm()),
            Subject::Login(who.login()),
            Subject::Id { realm: who.realm(), source: who.source(), id: who.id() },
        ];
        let entry = lab.entry(&source, &Ask::Groups(who));
        let generations = subjects.iter().map(|subject| lab.generation(subject));
        std::iter::once(entry).chain(generations).map(text).collect()
    };
    Arc::new(people(PEOPLE).iter().map(of).collect())
}

fn ask_ours(name: &'static str, cached: &Arc<Cached<dyn GroupOracle>>) -> Rival {
    let (cached, all, ctx) = (Arc::clone(cached), Arc::new(people(PEOPLE)), Ctx::new());
    Rival::new(name, move |n| {
        let (cached, all, ctx) = (Arc::clone(&cached), Arc::clone(&all), ctx.clone());
        async move {
            matches!(cached.groups_of(&ctx, &all[n]).await, Ok(Lookup::Found(groups)) if groups.len() == 8)
        }
    })
}

/// What redis-rs takes to fetch the same bytes: an entry with its generations, and the server's time.
fn ask_bare(name: &'static str, connection: &MultiplexedConnection, seal: SealKind) -> Rival {
    let (connection, keys) = (connection.clone(), wire_keys(seal));
    Rival::new(name, move |n| {
        let (mut connection, keys) = (connection.clone(), Arc::clone(&keys));
        async move {
            let mut pipeline = redis::pipe();
            pipeline.cmd("TIME").cmd("MGET").arg(&keys[n]);
            let got: redis::RedisResult<((u64, u64), Vec<Option<Vec<u8>>>)> =
                pipeline.query_async(&mut connection).await;
            got.is_ok_and(|(_, values)| values.len() == 5 && values.iter().all(Option::is_some))
        }
    })
}

fn ask_bare_get(name: &'static str, connection: &MultiplexedConnection, seal: SealKind) -> Rival {
    let (connection, keys) = (connection.clone(), wire_keys(seal));
    Rival::new(name, move |n| {
        let (mut connection, keys) = (connection.clone(), Arc::clone(&keys));
        async move {
            let got: redis::RedisResult<Option<Vec<u8>>> =
                redis::cmd("GET").arg(&keys[n][0]).query_async(&mut connection).await;
            matches!(got, Ok(Some(_)))
        }
    })
}

/// What hitbox's function is asked.
#[derive(Clone, Debug)]
struct User(usize);

impl KeyExtract for User {
    fn extract(&self) -> Vec<hitbox::KeyPart> {
        vec![hitbox::KeyPart::new("user", Some(gatepost_bench::login(self.0)))]
    }
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, CacheableResponse)]
struct Told {
    groups: Vec<String>,
}

static HITBOX_ASKED: AtomicU64 = AtomicU64::new(0);

#[cached]
async fn told(user: User) -> std::result::Result<Told, std::io::Error> {
    HITBOX_ASKED.fetch_add(1, Ordering::Relaxed);
    Ok(Told { groups: eight(user.0) })
}

async fn ask_hitbox(name: &'static str, url: &str) -> Rival {
    let backend = hitbox_redis::RedisBackend::builder()
        .connection(hitbox_redis::ConnectionMode::single(url))
        .response_timeout(LIMIT)
        .build()
        .expect("a backend");
    let policy = PolicyConfig::builder().ttl(LONG).build();
    let cache = Arc::new(Cache::builder().backend(backend).policy(policy).build());
    for n in 0..PEOPLE {
        told(User(n)).cache(&cache).await.expect("an answer");
    }
    Rival::new(name, move |n| {
        let cache = Arc::clone(&cache);
        async move { told(User(n)).cache(&cache).await.is_ok_and(|told| told.groups.len() == 8) }
    })
}

/// The same from memcached, each key by itself: it has no other way.
fn ask_bare_memcached(name: &'static str, client: &memcache::exp::AsyncMemcache, seal: SealKind) -> Rival {
    let (client, keys) = (client.clone(), wire_keys(seal));
    Rival::new(name, move |n| {
        let (client, keys) = (client.clone(), Arc::clone(&keys));
        async move {
            let gets = keys[n].iter().map(|key| Get::new(key).meta(Meta::NONE.ttl()));
            let got = client.meta().run_many(gets).await;
            got.is_ok_and(|items| {
                items.iter().filter(|item| matches!(item, Ok(got) if got.value.is_some())).count() == 5
            })
        }
    })
}

fn length(redis: &Redis, key: &str) -> i64 {
    match redis.command(&["STRLEN", key]) {
        Reply::Int(length) => length,
        other => panic!("no length: {other:?}"),
    }
}

/// Runs another program, and shows a line of what it says.
fn run(program: &Path, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

fn redis_benchmark(port: u16, size: i64) {
    println!("\nBeside it, each by itself:\n");
    for tasks in TASKS {
        let (port, tasks, size) = (port.to_string(), tasks.to_string(), size.to_string());
        let number = if tasks == "1" { "20000" } else { "100000" };
        let arguments = ["-p", &port, "-t", "set,get", "-d", &size, "-c", &tasks, "-n", number, "--csv"];
        let said = run(Path::new("redis-benchmark"), &arguments);
        let figure = said.as_deref().and_then(|said| {
            let line = said.lines().find(|line| line.starts_with("\"GET\""))?;
            line.split(',').nth(1)?.trim_matches('"').parse::<f64>().ok()
        });
        let text = figure.map_or_else(|| "not here".to_owned(), |figure| format!("{figure:.0} a second"));
        println!("redis-benchmark, GET of {size} bytes, {tasks} connections: {text}");
    }
}

/// FlaskSimpleAuth with its redis cache, where `peers` has installed it.
fn flask(port: u16) {
    let mut places = std::env::current_exe().ok().into_iter().flat_map(|program| {
        let places: Vec<PathBuf> = program.ancestors().map(Path::to_owned).collect();
        places
    });
    let python = places.find_map(|place| {
        let inside = ["flask-simple-auth-36/bin/python", "bench/flask-simple-auth-36/bin/python"];
        inside.iter().map(|python| place.join(python)).find(|python| python.exists())
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/user_in_group.py");
    let cache = format!("redis:{port}");
    let said = python.as_deref().and_then(|python| run(python, &[script, &cache, &PEOPLE.to_string()]));
    let figure = said.and_then(|said| said.trim().parse::<f64>().ok());
    let text = figure.map_or_else(
        || "not here: run integration-tests/bench/peers first".to_owned(),
        |figure| format!("{:.0} a second", 1e9 / figure),
    );
    println!("FlaskSimpleAuth 36, a group of a person from its redis cache, one thread: {text}");
}

fn redis_hits(runtime: &Runtime) -> Vec<bool> {
    const OURS: &str = "Gatepost, sealed (aes-256-gcm-siv)";
    const OURS_OPEN: &str = "Gatepost, seal off";
    const BARE: &str = "redis-rs, the same keys, sealed bytes";
    const BARE_OPEN: &str = "redis-rs, the same keys, bytes without seal";
    const GET: &str = "redis-rs, GET of the entry alone";
    const HITBOX: &str = "hitbox-redis 0.2, #[cached]";

    // One for each seal: their entries have the same names.
    let servers = [Redis::start(&RedisOptions::default()), Redis::start(&RedisOptions::default())];
    let [sealed, open] = &servers;
    let tier = |redis: &Redis| -> Arc<dyn ByteTier> {
        let mut config = RedisConfig::new(redis.url(), PREFIX);
        config.timeout = LIMIT;
        Arc::new(RedisTier::new(&config).expect("a good address"))
    };
    let connect = async |redis: &Redis| {
        let client = redis::Client::open(redis.url()).expect("a good address");
        let limits = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
        client.get_multiplexed_async_connection_with_config(&limits).await.expect("a server")
    };
    let settings = nothing_here();
    let (gcm, off) = (SealKind::Aes256GcmSiv, SealKind::Off);
    let (ours, mut rivals) = runtime.block_on(async {
        let ours = groups(&settings, tier(sealed), gcm).await;
        let ours_open = groups(&settings, tier(open), off).await;
        let (to_sealed, to_open) = (connect(sealed).await, connect(open).await);
        let rivals = vec![
            ask_ours(OURS, &ours),
            ask_bare(BARE, &to_sealed, gcm),
            ask_ours(OURS_OPEN, &ours_open),
            ask_bare(BARE_OPEN, &to_open, off),
            ask_bare_get(GET, &to_sealed, gcm),
            ask_hitbox(HITBOX, &sealed.url()).await,
        ];
        ([ours, ours_open], rivals)
    });
    let sizes = [(sealed, gcm), (open, off)].map(|(redis, seal)| length(redis, &wire_keys(seal)[0][0]));
    RACE.run(runtime, &mut rivals);
    for cached in ours {
        assert_eq!(cached.report().stats.loads, PEOPLE as u64, "every hit was one");
    }
    assert_eq!(HITBOX_ASKED.load(Ordering::Relaxed), PEOPLE as u64, "every hit was one");
    let [with, without] = sizes;
    RACE.print(
        &format!("Redis: the groups of a person, 8 of them: {with} bytes sealed, {without} without"),
        &rivals,
        &[(OURS, BARE), (OURS_OPEN, BARE_OPEN), (HITBOX, GET)],
    );
    let held = RACE.judge("Redis", &rivals, &[(OURS, BARE, SEALED), (OURS_OPEN, BARE_OPEN, OPEN)]);
    redis_benchmark(sealed.port(), with);
    flask(sealed.port());
    held
}

fn memcached_hits(runtime: &Runtime) -> Vec<bool> {
    const OURS: &str = "Gatepost, sealed (aes-256-gcm-siv)";
    const OURS_OPEN: &str = "Gatepost, seal off";
    const BARE: &str = "memcache 0.21 async, sealed bytes";
    const BARE_OPEN: &str = "memcache 0.21 async, bytes without seal";

    let servers =
        [Memcached::start(&MemcachedOptions::default()), Memcached::start(&MemcachedOptions::default())];
    let [sealed, open] = &servers;
    let tier = |server: &Memcached| -> Arc<dyn ByteTier> {
        let mut config = MemcachedConfig::new(server.url(), PREFIX);
        config.timeout = LIMIT;
        Arc::new(MemcachedTier::new(config, clock()).expect("a good address"))
    };
    let connect = async |server: &Memcached| {
        let address = format!("127.0.0.1:{}", server.port());
        // Not a connection for each of 256: it gets less done with them.
        let builder = Memcache::builder().timeout(LIMIT).max_idle(16).max_connections(16);
        builder.connect_async([address]).await.expect("a server")
    };
    let settings = nothing_here();
    let (gcm, off) = (SealKind::Aes256GcmSiv, SealKind::Off);
    let (ours, mut rivals) = runtime.block_on(async {
        let ours = groups(&settings, tier(sealed), gcm).await;
        let ours_open = groups(&settings, tier(open), off).await;
        let (to_sealed, to_open) = (connect(sealed).await, connect(open).await);
        let rivals = vec![
            ask_ours(OURS, &ours),
            ask_bare_memcached(BARE, &to_sealed, gcm),
            ask_ours(OURS_OPEN, &ours_open),
            ask_bare_memcached(BARE_OPEN, &to_open, off),
        ];
        ([ours, ours_open], rivals)
    });
    RACE.run(runtime, &mut rivals);
    for cached in ours {
        assert_eq!(cached.report().stats.loads, PEOPLE as u64, "every hit was one");
    }
    RACE.print("memcached: the same", &rivals, &[(OURS, BARE), (OURS_OPEN, BARE_OPEN)]);
    RACE.judge("memcached", &rivals, &[(OURS, BARE, SEALED), (OURS_OPEN, BARE_OPEN, OPEN)])
}

/// A hit in this process: where a shared cache stands behind it, and where none does.
fn tiered_hits(runtime: &Runtime) -> bool {
    let redis = Redis::start(&RedisOptions::default());
    let config = RedisConfig::new(redis.url(), PREFIX);
    let tier: Arc<dyn ByteTier> = Arc::new(RedisTier::new(&config).expect("a good address"));
    let fence = Arc::new(Fence::new());
    let seal = SealKind::Aes256GcmSiv;
    let hearing = Arc::new(Hearing::new(Arc::clone(&fence), &keys(), seal).expect("a good seal"));
    let bus = RedisBus::new(&config).expect("a good address");
    let all = people(PEOPLE);
    let here = settings("ttl", 2 * PEOPLE);
    let (tiered, local, listening): (Arc<dyn GroupOracle>, Arc<dyn GroupOracle>, Listening) = runtime
        .block_on(async {
            let listening = bus.listen(Arc::clone(&hearing) as Arc<_>).expect("a runtime");
            let until = Instant::now() + Duration::from_secs(5);
            while hearing.is_deaf() {
                assert!(Instant::now() < until, "it hears nothing");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let tiered = groups(&here.for_source().with_hearing(Arc::clone(&hearing)), tier, seal).await;
            let store: Arc<dyn GroupOracle> = Store::new();
            let local = Cached::<dyn GroupOracle>::new(store, fence, clock(), &here);
            for who in &all {
                local.groups_of(&Ctx::new(), who).await.expect("the groups of everybody");
            }
            (tiered as Arc<dyn GroupOracle>, Arc::new(local) as Arc<dyn GroupOracle>, listening)
        });
    let first: Vec<String> = (0..PEOPLE).map(|n| eight(n).swap_remove(0)).collect();
    let ask = |name: &str, cached: Arc<dyn GroupOracle>| {
        let (ctx, all, first) = (Ctx::new(), &all, &first);
        Contender::new(name, move |n| cached.peek_member(&ctx, &all[n], &first[n]) == Some(Member::Yes))
    };
    let mut contenders = [ask("local", local), ask("tiered", tiered)];
    let medians = compare(&mut contenders, PEOPLE, 1, 8);
    drop(listening);
    let ratio = medians[1] / medians[0];
    println!("\nA hit in the process itself: nanoseconds, median of chunks of 1,024\n");
    println!("{:44}{:>10.1}", "local alone (ttl)", medians[0]);
    println!("{:44}{:>10.1} ({ratio:.2})", "tiered: ttl, Redis behind it, a bus that hears", medians[1]);
    println!();
    bar(format_args!("tiered: {ratio:.2} times local, the bar is at most {TIERED}"), ratio <= TIERED)
}

fn main() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut held = redis_hits(&runtime);
    held.extend(memcached_hits(&runtime));
    held.push(tiered_hits(&runtime));
    exit(&held)
}
