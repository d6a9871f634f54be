//! The suite of auth-testkit through stacks that share a cache, on every kind of server: what one has asked the
//! other need not, and both answer as a stack without a cache does. Then the suite of tokens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use auth_cache::{
    CacheKeys, Carrier, MemcachedConfig, MemcachedTier, NoTable, Report, Reports, SealKind, Settings,
    SharedCache, SharedStats, TokenMemory,
};
use auth_core::{
    ByteTier, Clock, Ctx, Fence, Generation, Lookup, Moment, Result, TierAsk, TierRead, TierTime, TierWrite,
    TokenCache, TokenId, TokenState, WireName, Written,
};
use auth_stack::{Stack, SystemClock};
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::servers::{
    Certs, ClientCerts, Memcached, MemcachedOptions, Redis, RedisCluster, RedisOptions, RedisSentinel,
    RedisTls, skipped,
};
use auth_testkit::suite::{self, Bench, TokenBench};
use auth_testkit::{ManualClock, World, info, realm};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use common::{
    PATIENCE, STORES, Store, answers, block_on, compose, config, fill, reached, ready, run_suite, until,
};

/// Where the shared cache is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Redis,
    Socket,
    Tls,
    User,
    Sentinel,
    Cluster,
    Memcached,
    ThreeMemcached,
}

const PLACES: [(&str, Place); 8] = [
    ("redis", Place::Redis),
    ("unix_socket", Place::Socket),
    ("tls", Place::Tls),
    ("user", Place::User),
    ("sentinel", Place::Sentinel),
    ("cluster", Place::Cluster),
    ("memcached", Place::Memcached),
    ("three_memcached", Place::ThreeMemcached),
];

impl Place {
    const fn server(self) -> &'static str {
        match self {
            Self::Memcached | Self::ThreeMemcached => "memcached",
            _ => "redis",
        }
    }
}

/// The servers, each started when a case first needs it, for all cases.
struct Servers {
    redis: LazyLock<Redis>,
    tls: LazyLock<(TempDir, Arc<Certs>, Redis)>,
    sentinel: LazyLock<RedisSentinel>,
    cluster: LazyLock<RedisCluster>,
    memcached: LazyLock<[Memcached; 3]>,
}

/// The database of the user who may little.
const DATABASE: u32 = 3;

impl Servers {
    fn new() -> Self {
        Self {
            redis: LazyLock::new(|| {
                // As auth-store-redis says what a user needs.
                let user = "gatepost on >tiger ~user.* &user.* -@all +select +info +time +mget +get +set +pttl \
                            +pexpire +pexpireat +unlink +eval +evalsha +subscribe +publish";
                Redis::start(&RedisOptions { users: vec![user.to_owned()], ..RedisOptions::default() })
            }),
            tls: LazyLock::new(|| {
                let folder = tempfile::tempdir().unwrap();
                let certs = Arc::new(Certs::make(folder.path()));
                let clients = ClientCerts::Required;
                let tls = RedisTls { certs: Arc::clone(&certs), clients, wrong_name: false };
                let redis = Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() });
                (folder, certs, redis)
            }),
            sentinel: LazyLock::new(RedisSentinel::start),
            cluster: LazyLock::new(|| RedisCluster::start(3)),
            memcached: LazyLock::new(|| [(); 3].map(|()| Memcached::start(&MemcachedOptions::default()))),
        }
    }

    fn url(&self, place: Place) -> String {
        match place {
            Place::Redis => self.redis.url(),
            Place::Socket => format!("redis+unix://{}", self.redis.socket().display()),
            Place::Tls => self.tls.2.url(),
            Place::User => format!("redis://gatepost:tiger@127.0.0.1:{}/{DATABASE}", self.redis.port()),
            Place::Sentinel => self.sentinel.url(),
            Place::Cluster => self.cluster.url(),
            Place::Memcached => self.memcached[0].url(),
            Place::ThreeMemcached => {
                let all: Vec<_> =
                    self.memcached.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
                format!("memcached://{}", all.join(","))
            }
        }
    }

    /// What is configured but for the kind. Whatever is kept is kept for longer than a test lasts.
    fn settings(&self, place: Place, kind: &str, prefix: &str) -> String {
        let local = if kind == "tiered" { "local_ttl = \"1h\"\n" } else { "" };
        let mut text = format!(
            "[secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n\
             [cache]\nurl = \"{}\"\nprefix = \"{prefix}.\"\ntimeout = \"{PATIENCE:?}\"\nconnect_timeout = \"{PATIENCE:?}\"\n{local}\
             [cache.ttl]\nall = \"1h\"\naccount = \"1h\"\ngroups = \"1h\"\nallow = \"1h\"\ndeny = \"1h\"\n\
             unknown = \"1h\"\nnot_found = \"1h\"\n",
            self.url(place)
        );
        if place == Place::Tls {
            let (_, certs, _) = &*self.tls;
            let (ca, client) = (certs.ca(), certs.client());
            for (what, file) in [("ca", ca), ("cert", client.certificate), ("key", client.key)] {
                text += &format!("[cache.tls.{what}]\nfile = \"{}\"\n", file.display());
            }
        }
        text
    }
}

fn main() -> ExitCode {
    let servers = Arc::new(Servers::new());
    let mut trials = Vec::new();
    let mut add = |server: &'static str, name: String, run: Box<dyn FnOnce() -> Outcome + Send>| {
        trials.push(Trial::test(name, move || if skipped(server) { Ok(()) } else { run() }));
    };
    for (place_name, place) in PLACES {
        for kind in [place.server(), "tiered"] {
            // Tiers of one sort differ in nothing but their round trips.
            if kind == "tiered" && !matches!(place, Place::Redis | Place::Cluster | Place::ThreeMemcached) {
                continue;
            }
            // Nor does a server know of which store an answer is.
            let every_store = matches!(place, Place::Redis | Place::ThreeMemcached);
            for (store_name, store) in STORES {
                if !every_store && store != Store::Managed {
                    continue;
                }
                let prefix = if place == Place::User { "user".to_owned() } else { place_name.to_owned() };
                let prefix = format!("{prefix}.{kind}.{store_name}");
                let servers = Arc::clone(&servers);
                let run = move || block_on(share(&servers, place, kind, store, &prefix));
                let how = if kind == "tiered" { "tiered_over_" } else { "" };
                add(place.server(), format!("{how}{place_name}::{store_name}"), Box::new(run));
            }
        }
        if !matches!(place, Place::Redis | Place::Cluster | Place::Memcached | Place::ThreeMemcached) {
            continue;
        }
        let servers = Arc::clone(&servers);
        let run = move || block_on(tokens(&servers, place, place_name));
        add(place.server(), format!("{place_name}::tokens"), Box::new(run));
    }
    drop(servers);
    let mut arguments = Arguments::from_args();
    // They wait for servers more than they work.
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Outcome = std::result::Result<(), Failed>;

async fn share(servers: &Servers, place: Place, kind: &'static str, store: Store, prefix: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let source = fill(store, &folder).await;
    let config = config(store, &source, false, &folder);
    let has_objects = store != Store::HtFiles;
    let expected = answers(&compose(&config, "none").await.unwrap(), has_objects).await;
    assert!(expected.len() > 40, "{} answers", expected.len());
    let config = format!("{config}{}", servers.settings(place, kind, prefix));

    let first = ready(&config, kind).await;
    assert_eq!(answers(&first, has_objects).await, expected, "the first");
    until("all is stored", || {
        let (loads, stored) =
            (sum(&first, |report| report.stats.loads), shared(&first, |stats| stats.stored));
        loads > 0 && loads == stored
    })
    .await;
    let second = ready(&config, kind).await;
    assert_eq!(answers(&second, has_objects).await, expected, "the second");
    assert_eq!(sum(&second, |report| report.stats.loads), 0, "the second had to ask nothing");
    for (_, report) in second.caches() {
        let shared = report.shared.unwrap();
        let looked = report.kind != "access" || has_objects;
        assert!(shared.misses == 0 && (shared.hits > 0) == looked, "{report:?}");
    }

    let kept = sum(&second, |report| report.stats.entries);
    assert_eq!(kept > 0, kind == "tiered", "{kept} entries of before the second was started, in itself");

    run_suite(&first, store).await.done()?;
    run_suite(&second, store).await.done()?;
    for stack in [&first, &second] {
        let odd = shared(stack, |stats| {
            let SharedStats { voided, expired, forged, foreign, errors, skipped, .. } = *stats;
            let SharedStats { outdated, too_large, store_errors, .. } = *stats;
            voided + expired + forged + foreign + errors + skipped + outdated + too_large + store_errors
        });
        assert_eq!(odd, 0, "{:?}", stack.caches());
    }
    Ok(())
}

fn sum(stack: &Stack, of: impl Fn(&Report) -> u64) -> u64 {
    stack.caches().iter().map(|(_, report)| of(report)).sum()
}

fn shared(stack: &Stack, of: impl Fn(&SharedStats) -> u64) -> u64 {
    sum(stack, |report| of(report.shared.as_ref().unwrap()))
}

/// A tier whose time goes by the test's clock: what is kept there ends by that, and on the server an hour later.
#[derive(Debug)]
struct Later {
    tier: Arc<dyn ByteTier>,
    clock: Arc<ManualClock>,
    since: Moment,
}

impl Later {
    const LATER: Duration = Duration::from_secs(3_600);

    fn new(tier: Arc<dyn ByteTier>, clock: &Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self { tier, clock: Arc::clone(clock), since: clock.now() })
    }
}

fn after(time: TierTime, by: Duration) -> TierTime {
    TierTime::from_millis(time.as_millis() + u64::try_from(by.as_millis()).unwrap())
}

#[async_trait]
impl ByteTier for Later {
    fn kind(&self) -> &'static str {
        self.tier.kind()
    }

    fn lanes(&self) -> usize {
        self.tier.lanes()
    }

    fn lane(&self, entry: &WireName) -> usize {
        self.tier.lane(entry)
    }

    async fn read(&self, asks: &[TierAsk<'_>]) -> Vec<Result<TierRead>> {
        let passed = self.clock.now().since(self.since);
        let mut reads = self.tier.read(asks).await;
        for read in reads.iter_mut().flatten() {
            read.now = after(read.now, passed);
            read.left = read.left.map(|left| left.saturating_sub(Self::LATER + passed));
            if read.left == Some(Duration::ZERO) {
                (read.entry, read.left) = (None, None);
            }
        }
        reads
    }

    async fn make(&self, lane: usize, names: &[WireName], keep: Duration) -> Result<Vec<Generation>> {
        self.tier.make(lane, names, keep).await
    }

    async fn write(&self, writes: &[TierWrite<'_>]) -> Vec<Result<Written>> {
        let mut writes = writes.to_vec();
        for write in &mut writes {
            write.until = after(write.until, Self::LATER);
        }
        self.tier.write(&writes).await
    }

    async fn void(&self, lane: usize, names: &[WireName]) -> Result<()> {
        self.tier.void(lane, names).await
    }

    async fn probe(&self) -> Result<()> {
        self.tier.probe().await
    }
}

/// What remembers tokens in one process.
struct Tokens {
    memory: TokenMemory,
    fence: Arc<Fence>,
    clock: Arc<ManualClock>,
}

impl Tokens {
    async fn connect(servers: &Servers, place: Place, prefix: &str, local: bool) -> Self {
        let url = servers.url(place);
        let tier: Arc<dyn ByteTier> = if place.server() == "memcached" {
            let mut config = MemcachedConfig::new(&url, prefix);
            config.timeout = PATIENCE;
            Arc::new(MemcachedTier::new(config, Arc::new(SystemClock::new())).unwrap())
        } else {
            let mut config = RedisConfig::new(&url, prefix);
            config.timeout = PATIENCE;
            Arc::new(RedisTier::new(&config).unwrap())
        };
        reached(|| tier.probe()).await;
        let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
        let tier = Later::new(tier, &clock);
        let keys = CacheKeys::new(prefix, [("a".to_owned(), vec![7; 32])]).unwrap();
        let dynamic = || Arc::clone(&clock) as Arc<dyn Clock>;
        let shared = Arc::new(SharedCache::new(tier, &keys, SealKind::default(), dynamic()).unwrap());
        let carrier = Carrier::start(Some(Arc::clone(&shared)), None, dynamic(), || PATIENCE);
        fence.carry_on(Arc::new(carrier.unwrap()));
        let settings = match local {
            true => Settings::default(),
            false => Settings::new(Arc::new(|_| Arc::new(NoTable))),
        };
        let settings = settings.with_shared(shared);
        let memory = TokenMemory::new("default", Arc::clone(&fence), dynamic(), &settings);
        Self { memory, fence, clock }
    }
}

async fn tokens(servers: &Servers, place: Place, name: &str) -> Outcome {
    for local in [false, true] {
        let prefix = format!("{name}.tokens.{local}.");
        let first = Tokens::connect(servers, place, &prefix, local).await;
        let second = Tokens::connect(servers, place, &prefix, local).await;

        let (ctx, id) = (Ctx::new(), TokenId::new([0xa5; 32]));
        let principal = Bench::new(&realm()).principal(&info("tokens"), World::user("susie"));
        let expires_at = first.clock.wall() + Duration::from_secs(600);
        let state = Arc::new(TokenState {
            principal,
            scopes: ["read"].into_iter().collect(),
            expires_at,
            claims: None,
        });
        assert_eq!(first.memory.get(&ctx, &id).await.unwrap(), Lookup::NotFound);
        let watch = first.fence.watch(first.clock.now());
        first.memory.put(&ctx, &id, &state, Duration::from_secs(60), watch).await.unwrap();
        let found = second.memory.get(&ctx, &id).await.unwrap();
        assert_eq!(found, Lookup::Found(state), "what the first has put");

        for Tokens { memory, fence, clock } in [&first, &second] {
            suite::run_all_tokens(memory, &TokenBench::manual(&realm(), clock, fence)).await;
            let shared = memory.report().shared.unwrap();
            assert!(shared.stored > 0 && (local || shared.hits > 0), "{shared:?}");
            assert_eq!(shared.errors + shared.store_errors + shared.forged + shared.foreign, 0, "{shared:?}");
        }
    }
    Ok(())
}
