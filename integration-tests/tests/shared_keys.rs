//! What is on the servers of a shared cache, looked at from outside: for how long, and in what words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use auth_cache::{CacheKeys, SealKind, Settings, SharedCache, TokenMemory, Ttls};
use auth_core::{Access, ByteTier, Clock, Ctx, Fence, Login, TokenCache, TokenId, TokenState};
use auth_stack::SystemClock;
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, skipped};
use auth_testkit::suite::Bench;
use auth_testkit::{World, info, object, realm};

use common::{PATIENCE, Store, config, reached, ready, until};

/// The lives in seconds: a tenth apart at least, since an entry may be ended a tenth early.
const LIVES: [(&str, u64); 6] =
    [("account", 777), ("unknown", 500), ("groups", 666), ("allow", 444), ("deny", 333), ("not_found", 222)];

fn lives(url: &str) -> String {
    let each: String = LIVES.iter().map(|(kind, life)| format!("{kind} = \"{life}s\"\n")).collect();
    format!(
        "[secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n\
         [cache]\nurl = \"{url}\"\nprefix = \"acme.\"\ntimeout = \"{PATIENCE:?}\"\nconnect_timeout = \"{PATIENCE:?}\"\n\
         [cache.ttl]\n{each}"
    )
}

/// What a server keeps under a name.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kept {
    bytes: usize,
    /// Nothing for what never ends.
    left: Option<Duration>,
}

impl Kept {
    /// A generation is eight random bytes and nothing else.
    const fn is_generation(&self) -> bool {
        self.bytes == 8
    }
}

fn on_redis(redis: &Redis) -> BTreeMap<String, Kept> {
    let names = redis.command(&["KEYS", "*"]);
    let names = names.items().iter().map(|name| name.text());
    let kept = |name: String| {
        let left = u64::try_from(redis.command(&["PTTL", &name]).int()).ok().map(Duration::from_millis);
        let bytes = usize::try_from(redis.command(&["STRLEN", &name]).int()).unwrap();
        (name, Kept { bytes, left })
    };
    names.map(kept).collect()
}

fn on_memcached(memcached: &Memcached) -> BTreeMap<String, Kept> {
    // The listing takes a connection of its own: what is asked behind it is not answered.
    let mut wire = TcpStream::connect(("127.0.0.1", memcached.port())).unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    wire.write_all(b"lru_crawler metadump all\r\n").unwrap();
    let mut listed = String::new();
    let mut wire = BufReader::new(wire);
    while !listed.ends_with("END\r\n") {
        assert!(wire.read_line(&mut listed).unwrap() > 0, "{listed}");
    }
    let names = listed.lines().filter_map(|line| line.strip_prefix("key=")?.split(' ').next());
    let kept = |name: &str| {
        // `HD t776 s93`: seconds, and the length of the value.
        let told = memcached.command(format!("mg {name} t s"));
        let of = |flag: char| told.split_whitespace().find_map(|word| word.strip_prefix(flag));
        let left = of('t').unwrap().parse().ok().map(Duration::from_secs);
        (name.to_owned(), Kept { bytes: of('s').unwrap().parse().unwrap(), left })
    };
    names.map(kept).collect()
}

/// How long what entries depend on is kept at most: twice the longest life and a minute, and where it is renewed only
/// when it gets short, a quarter more.
fn kept_at_most(longest: Duration) -> Duration {
    (longest * 2 + Duration::from_secs(60)) * 5 / 4 + Duration::from_secs(5)
}

/// Asks one question of each kind, and looks what each has brought to the server.
async fn check_lives(kind: &str, url: &str, look: &(dyn Fn() -> BTreeMap<String, Kept> + Sync)) {
    let folder = tempfile::tempdir().unwrap();
    let text = config(Store::Memory, "kind = \"memory\"\n", false, &folder) + &lives(url);
    let stack = ready(&text, kind).await;
    let (ctx, realm) = (Ctx::new(), stack.realm("default").unwrap());
    let login = |text| Login::parse(realm.id(), text).unwrap();
    let mut before = look();
    assert_eq!(before, BTreeMap::new());
    let longest = Duration::from_secs(777);
    for (what, life) in LIVES {
        let susie = World::user("susie").login_in(realm.id());
        let who = || Bench::new(realm.id()).issued_by("app").principal(&info("app"), World::user("calvin"));
        match what {
            "account" => assert!(realm.account(&ctx, &susie).await.unwrap().found().is_some()),
            "unknown" => assert!(realm.account(&ctx, &login("nobody")).await.unwrap().found().is_none()),
            "groups" => assert_eq!(realm.groups(&ctx, &who()).await.unwrap().len(), 2),
            _ => {
                let (object, mode, access) = match what {
                    "allow" => (object("doc", 1), "read", Access::Allow),
                    "deny" => (object("doc", 1), "fly", Access::Deny),
                    _ => (object("doc", 3), "read", Access::NotFound),
                };
                assert_eq!(realm.access(&ctx, &who(), &object, Some(mode)).await.unwrap(), access);
            }
        }
        let mut after = BTreeMap::new();
        let fresh = |after: &BTreeMap<String, Kept>| -> Vec<Kept> {
            let fresh = after.iter().filter(|(name, _)| !before.contains_key(*name));
            fresh.map(|(_, kept)| *kept).filter(|kept| !kept.is_generation()).collect()
        };
        until("it is kept", || {
            after = look();
            !fresh(&after).is_empty()
        })
        .await;
        let fresh = fresh(&after);
        assert_eq!(fresh.len(), 1, "{what}: {fresh:?}");
        let (left, life) = (fresh[0].left.unwrap(), Duration::from_secs(life));
        // Jitter takes a tenth at most; the test some seconds.
        assert!(
            left <= life && left + Duration::from_secs(10) >= life * 9 / 10,
            "{what}: {left:?} of {life:?}"
        );
        // A listing of memcached may leave out what is moved meanwhile.
        before.extend(after);
    }
    let kept = before;
    assert_eq!(kept.values().filter(|kept| !kept.is_generation()).count(), LIVES.len());
    assert!(kept.values().filter(|kept| kept.is_generation()).count() >= 5, "{kept:?}");
    for (name, kept) in kept {
        let left = kept.left.unwrap_or_else(|| panic!("{name} never ends"));
        assert!(name.starts_with("acme."), "{name}");
        // What entries depend on outlives them all, and ends too.
        let most = kept_at_most(longest);
        assert!(!kept.is_generation() || (left > longest && left <= most), "{name}: {left:?}");
    }
}

// FlaskSimpleAuth 36 keeps everything in Redis for 600 s, whatever is configured, and in memcached for ever.

#[tokio::test]
async fn each_kind_of_answer_lives_in_redis_for_as_long_as_is_configured_for_it() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    check_lives("redis", &redis.url(), &|| on_redis(&redis)).await;
}

#[tokio::test]
async fn each_kind_of_answer_lives_in_memcached_for_as_long_as_is_configured_for_it() {
    if skipped("memcached") {
        return;
    }
    let memcached = Memcached::start(&MemcachedOptions::default());
    check_lives("memcached", &memcached.url(), &|| on_memcached(&memcached)).await;
}

#[tokio::test]
async fn a_life_of_more_than_thirty_days_is_no_date_to_memcached() {
    if skipped("memcached") {
        return;
    }
    let memcached = Memcached::start(&MemcachedOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let text = config(Store::Memory, "kind = \"memory\"\n", false, &folder)
        + &lives(&memcached.url()).replace("account = \"777s\"", "account = \"40d\"");
    let stack = ready(&text, "memcached").await;
    let realm = stack.realm("default").unwrap();
    let calvin = World::user("calvin").login_in(realm.id());
    realm.account(&Ctx::new(), &calvin).await.unwrap();
    until("it is kept", || on_memcached(&memcached).values().any(|kept| !kept.is_generation())).await;
    let day = Duration::from_secs(24 * 3600);
    for (name, kept) in on_memcached(&memcached) {
        let left = kept.left.unwrap();
        let (least, most) = if kept.is_generation() {
            (day * 80, kept_at_most(day * 40))
        } else {
            (day * 36 - day / 2, day * 40)
        };
        assert!(left > least && left <= most, "{name}: {left:?}");
    }
}

#[tokio::test]
async fn a_token_lives_in_redis_for_as_long_as_is_configured_and_never_past_its_own_end() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut config = RedisConfig::new(redis.url(), "acme.");
    config.timeout = PATIENCE;
    let tier = Arc::new(RedisTier::new(&config).unwrap());
    reached(|| tier.probe()).await;
    let keys = CacheKeys::new("acme.", [("a".to_owned(), vec![7; 32])]).unwrap();
    let shared = SharedCache::new(tier, &keys, SealKind::default(), Arc::clone(&clock)).unwrap();
    let ttls = Ttls { token: Duration::from_secs(111), ..Ttls::default() };
    let settings = Settings::default().with_ttls(ttls).with_shared(Arc::new(shared));
    let fence = Arc::new(Fence::new());
    let memory = TokenMemory::new("default", Arc::clone(&fence), Arc::clone(&clock), &settings);
    let principal = Bench::new(&realm()).principal(&info("tokens"), World::user("calvin"));
    let ctx = Ctx::new();
    let mut seen = 0;
    // When the token ends, what its caller says, and the least of them and of what is configured.
    for (n, ends, said, life) in [(1, 600, 600, 111), (2, 600, 77, 77), (3, 44, 600, 44)] {
        let seconds = Duration::from_secs;
        let (id, expires_at) = (TokenId::new([n; 32]), clock.wall() + seconds(ends));
        let state =
            TokenState { principal: principal.clone(), scopes: ["read"].into_iter().collect(), expires_at };
        memory.get(&ctx, &id).await.unwrap();
        let watch = fence.watch(clock.now());
        memory.put(&ctx, &id, &state, seconds(said), watch).await.unwrap();
        let kept = on_redis(&redis);
        assert!(kept.iter().all(|(name, kept)| name.starts_with("acme.") && kept.left.is_some()), "{kept:?}");
        let entries: Vec<_> = kept.values().filter(|kept| !kept.is_generation()).collect();
        seen += 1;
        assert_eq!(entries.len(), seen, "{kept:?}");
        let is_it = |kept: &&Kept| {
            let left = kept.left.unwrap();
            left <= seconds(life) && left + seconds(10) >= seconds(life)
        };
        assert_eq!(entries.into_iter().filter(|kept| is_it(kept)).count(), 1, "{life} s: {kept:?}");
    }
}
