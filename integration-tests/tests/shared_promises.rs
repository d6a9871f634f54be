//! What a shared cache must not get wrong, each over Redis and over memcached: two processes, one store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use std::sync::Arc;
use std::time::Duration;

use auth_core::{Ctx, Id, Login, Reached, Subject, Verdict};
use auth_stack::{Opening, Provides, Stack};
use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, skipped, stopwatch};
use auth_testkit::{CountingSource, MemoryStore, World};

type Store = Arc<CountingSource<MemoryStore>>;

struct Handed(Store);

#[async_trait::async_trait]
impl auth_stack::SourceKind for Handed {
    async fn open(&self, _: Opening<'_>) -> auth_core::Result<Provides> {
        Ok(Provides::all_of(Arc::clone(&self.0)))
    }
}

async fn stack(store: &Store, kind: &str, url: &str) -> Stack {
    let text = format!(
        "[source.app]\nkind = \"handed\"\n[realm.default]\npassword = [\"app\"]\ngroups = [\"app\"]\n\
         [password]\nupgrade = false\npreferred = \"bcrypt\"\nbcrypt_cost = 4\n\
         [secrets]\ncache_key = \"0123456789abcdef0123456789abcdef\"\n\
         [cache]\nkind = \"{kind}\"\nurl = \"{url}\"\nprefix = \"acme.\"\ntimeout = \"2s\"\n"
    );
    let builder = Stack::builder().register_source("handed", Handed(Arc::clone(store)));
    let stack = builder.config(&text).build().await.unwrap();
    wait(|| async { stack.probe_shared().await.is_ok() }).await;
    stack
}

async fn wait<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let began = stopwatch();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(10), "never");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn stored(stack: &Stack, count: u64) {
    let so_far =
        || stack.caches().iter().filter_map(|(_, report)| report.shared).map(|shared| shared.stored).sum();
    wait(|| std::future::ready(count <= so_far())).await;
}

async fn knows(stack: &Stack, login: &str) -> bool {
    let realm = stack.realm("default").unwrap();
    let login = Login::parse(realm.id(), login).unwrap();
    realm.account(&Ctx::new(), &login).await.unwrap().found().is_some()
}

async fn check(kind: &str, url: &str, kill: &(dyn Fn() + Sync)) {
    // FlaskSimpleAuth asks about nobody each time with memcached, and fails for logins of some 150 characters.
    let store = Arc::new(CountingSource::new(Arc::new(MemoryStore::named("app"))));
    let long = "x".repeat(255);
    store.inner().add_user(&long, Id::from(4711), None);
    let (first, second) = (stack(&store, kind, url).await, stack(&store, kind, url).await);
    assert!(!knows(&first, "nobody").await && knows(&first, &long).await && knows(&first, "calvin").await);
    stored(&first, 3).await;
    assert!(!knows(&second, "nobody").await && knows(&second, &long).await && knows(&second, "calvin").await);
    assert_eq!(store.asked(), 3, "{kind}: the second asks nothing, of nobody neither");

    // It clears nothing under a prefix, or everybody's, or raises.
    first.flush(&Subject::All);
    assert_eq!(first.settle().await, Reached::Everything);
    assert!(knows(&second, "calvin").await);
    assert_eq!(store.asked(), 4, "{kind}: what was cleared is asked again");

    // It answers 500 or 401 without its cache.
    kill();
    let password = World::user("calvin").password.unwrap().to_vec();
    for _ in 0..5 {
        let verdict = second.realm("default").unwrap().attempt(&Ctx::new(), "calvin", password.clone()).await;
        assert!(matches!(verdict.unwrap(), Verdict::Accepted(_)), "{kind}");
    }
    assert!(store.asked() >= 9, "{kind}: the store is asked");
}

#[tokio::test]
async fn redis_keeps_nobody_and_long_logins_clears_under_its_prefix_and_is_no_outage_when_down() {
    if !skipped("redis") {
        let redis = Redis::start(&RedisOptions::default());
        check("redis", &redis.url(), &|| redis.kill()).await;
    }
}

#[tokio::test]
async fn memcached_keeps_nobody_and_long_logins_clears_under_its_prefix_and_is_no_outage_when_down() {
    if !skipped("memcached") {
        let memcached = Memcached::start(&MemcachedOptions::default());
        check("memcached", &memcached.url(), &|| memcached.kill()).await;
    }
}
