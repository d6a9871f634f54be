//! Shared caches by configuration: `CACHE=redis` is all that it takes, and every mistake is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod common;

use std::sync::Arc;

use auth_core::{Ctx, Directory as _, ErrorKind, Reached, Result, Subject, Verdict};
use auth_stack::{Builder, Stack};
use auth_testkit::servers::{Memcached, MemcachedOptions, Redis, RedisOptions, skipped};
use auth_testkit::{CountingSource, MemoryStore, User, World, login};

use common::{all, builder};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A stack over one store in memory, with a key.
fn stack(text: &str, environment: &[(&str, &str)]) -> Builder {
    let text = format!("[secrets]\ncache_key = \"{KEY}\"\n{text}");
    let builder = builder(&[("app", all(&Arc::new(MemoryStore::named("app"))))], &text);
    environment.iter().fold(builder, |builder, (name, value)| builder.var(name, value))
}

async fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    let error = stack(text, environment).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    error.to_string()
}

#[tokio::test]
async fn every_shared_kind_is_one_word_away() {
    for (kind, url) in [
        ("redis", "redis://127.0.0.1:6379/0"),
        ("memcached", "memcached://127.0.0.1:11211"),
        ("tiered", "redis://127.0.0.1:6379/0"),
    ] {
        let stack = stack("", &[("CACHE", kind)]).build().await.unwrap();
        let shown = stack.show();
        assert!(shown.contains(&format!("url = \"{url}\"")), "{shown}");
        assert!(
            shown.contains("prefix = \"gatepost.\"") && shown.contains("seal = \"aes-256-gcm-siv\""),
            "{shown}"
        );
        assert_eq!(shown.contains("bus = \"redis://127.0.0.1:6379/0\""), kind != "memcached", "{shown}");
        assert!(!shown.contains(KEY), "{shown}");
        assert_eq!(stack.warnings(), [""; 0], "{kind}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_its_place() {
    for (text, environment, told) in [
        ("", vec![("CACHE", "redis"), ("CACHE_PREFIX", "")], "cache.prefix: a shared cache needs a prefix"),
        (
            "",
            vec![("CACHE", "redis"), ("CACHE_URL", "memcached://h")],
            "takes a url that begins with redis://",
        ),
        (
            "",
            vec![("CACHE", "memcached"), ("CACHE_URL", "redis://h")],
            "takes a url that begins with memcached://",
        ),
        ("", vec![("CACHE", "tiered"), ("CACHE_URL", "http://h")], "or memcached://"),
        ("", vec![("CACHE", "rediss")], "did you mean `redis`?"),
        ("[cache]\nkind = \"redis\"\nstale_if_error = \"60s\"", vec![], "choose tiered"),
        ("[cache]\nkind = \"tiered\"\nlocal = \"tlt\"", vec![], "did you mean `ttl`?"),
        ("[cache]\nkind = \"tiered\"\nlocal = \"redis\"", vec![], "there is no kind of table `redis`"),
        ("[cache]\nkind = \"tiered\"\nbus = \"memcached://h\"", vec![], "is no bus"),
        ("[cache]\nkind = \"redis\"\nseal = \"aes\"", vec![], "unknown value `aes`"),
        ("[cache]\nkind = \"redis\"\ntimeout = \"0s\"", vec![], "cache.timeout"),
        ("[cache]\nkind = \"redis\"\nurl = \"redis://u:hush@h:1:2\"", vec![], "cache.url"),
    ] {
        let refused = refusal(text, &environment).await;
        assert!(refused.contains(told), "{text} {environment:?}: {refused}");
        assert!(!refused.contains("hush"), "{refused}");
    }
    for (key, told) in [("short", "32 characters"), ("", "32 characters")] {
        let text = format!("[cache]\nkind = \"redis\"\n[secrets]\ncache_key = \"{key}\"");
        let error =
            builder(&[("app", all(&Arc::new(MemoryStore::named("app"))))], &text).build().await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn what_may_not_be_meant_is_told_at_start() {
    for (text, told) in [
        ("kind = \"tiered\"\nurl = \"memcached://127.0.0.1:1\"", "there is no bus"),
        ("kind = \"tiered\"\nbus = \"none\"", "may answer from memory for another 10s"),
        ("kind = \"tiered\"\nbus = \"none\"\nlocal_ttl = \"2s\"", "may answer from memory for another 2s"),
        ("kind = \"redis\"\nseal = \"off\"", "whoever can write to it decides"),
        ("kind = \"redis\"\nsize = 10", "cache.size is for nothing"),
        ("kind = \"redis\"\nlocal_ttl = \"1s\"", "cache.local_ttl is for nothing"),
        ("kind = \"ttl\"\nlocal = \"lru\"", "cache.local is for nothing"),
    ] {
        let stack = stack(&format!("[cache]\n{text}"), &[]).build().await.unwrap();
        let warnings = stack.warnings().join("\n");
        assert!(stack.warnings().len() == 1 && warnings.contains(told), "{text}: {warnings}");
    }
}

#[tokio::test]
async fn a_key_is_made_once_for_who_has_none_and_nobody_else_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let build = || {
        builder(&[("app", all(&Arc::new(MemoryStore::named("app"))))], "[cache]\nkind = \"redis\"")
            .data(&data)
            .build()
    };
    let stack = build().await.unwrap();
    assert!(stack.warnings()[0].contains("a copy of"), "{:?}", stack.warnings());
    let file = data.join("cache.key");
    let made = std::fs::read_to_string(&file).unwrap();
    assert_eq!(made.len(), 64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    build().await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing is left beside it");
    std::fs::write(&file, "too short").unwrap();
    assert!(build().await.unwrap_err().to_string().contains("32 characters"));
}

/// Two stacks over one store that counts, with what else is configured.
struct Two {
    store: Arc<CountingSource<MemoryStore>>,
    a: Stack,
    b: Stack,
}

impl Two {
    async fn new(cache: &str) -> Result<Self> {
        let inner = Arc::new(MemoryStore::named("app"));
        let store = Arc::new(CountingSource::new(inner));
        let text = format!("[secrets]\ncache_key = \"{KEY}\"\n[cache]\n{cache}");
        let build = || builder(&[("app", all(&store))], &text).build();
        let (a, b) = (build().await?, build().await?);
        Ok(Self { store, a, b })
    }

    async fn log_in(&self, stack: &Stack) {
        let user = World::user("calvin");
        let password = user.password();
        let realm = stack.realm("default").unwrap();
        let verdict = realm.login(&Ctx::new(), &login("calvin"), &password).await.unwrap();
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    }
}

/// Waits for what another task does.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("this does not come about: {what}");
}

/// Waits until a stack with a bus hears: who begins to hear voids what is being loaded.
async fn hears(stack: &Stack) {
    until("it hears", || stack.shared().unwrap().hearing.is_none_or(|hearing| !hearing.deaf)).await;
}

fn stored(stack: &Stack) -> u64 {
    stack.caches().iter().filter_map(|(_, report)| report.shared).map(|shared| shared.stored).sum()
}

async fn check_shares(cache: &str) {
    let two = Two::new(cache).await.unwrap();
    for stack in [&two.a, &two.b] {
        hears(stack).await;
    }
    two.log_in(&two.a).await;
    until("it is stored", || stored(&two.a) == 1).await;
    two.log_in(&two.b).await;
    assert_eq!(two.store.asked(), 1, "{cache}");
    two.a.flush(&Subject::Login(&login("calvin")));
    assert_eq!(two.a.settle().await, Reached::Everything, "{cache}");
    if cache.contains("tiered") && cache.contains("redis") {
        until("the other hears of it", || two.b.shared().unwrap().hearing.unwrap().heard == 1).await;
    }
    two.log_in(&two.a).await;
    assert_eq!(two.store.asked(), 2, "{cache}");
}

#[tokio::test]
async fn two_processes_share_over_redis() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    for kind in ["redis", "tiered"] {
        check_shares(&format!(
            "kind = \"{kind}\"\nurl = \"{}\"\nprefix = \"{kind}.\"\ntimeout = \"2s\"",
            redis.url()
        ))
        .await;
    }
}

#[tokio::test]
async fn two_processes_share_over_memcached() {
    if skipped("memcached") {
        return;
    }
    let memcached = Memcached::start(&MemcachedOptions::default());
    for kind in ["memcached", "tiered"] {
        let url = memcached.url();
        check_shares(&format!("kind = \"{kind}\"\nurl = \"{url}\"\nprefix = \"{kind}.\"\ntimeout = \"2s\""))
            .await;
    }
}

#[tokio::test]
async fn a_write_through_one_process_is_the_next_answer_of_the_other() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let store = common::Slow::new("app");
    let text = format!(
        "[secrets]\ncache_key = \"{KEY}\"\n[cache]\nkind = \"redis\"\nurl = \"{}\"\ntimeout = \"2s\"",
        redis.url()
    );
    let build = || builder(&[("app", store.provides())], &text).build();
    let (a, b) = (build().await.unwrap(), build().await.unwrap());
    let (ctx, calvin) = (Ctx::new(), login("calvin"));
    let group = |stack: &Stack| {
        let realm = Arc::clone(stack.realm("default").unwrap());
        let (ctx, calvin) = (ctx.clone(), calvin.clone());
        async move {
            let who = realm.principal(&ctx, &calvin).await.unwrap().found().unwrap();
            realm.is_member(&ctx, &who, "newcomers").await.unwrap()
        }
    };
    assert_eq!(group(&a).await, auth_core::Member::No);
    until("it is stored", || stored(&a) == 2).await;
    assert_eq!(group(&b).await, auth_core::Member::No);
    a.directory("default").unwrap().join(&ctx, &calvin, "newcomers").await.unwrap();
    assert_eq!(group(&b).await, auth_core::Member::Yes);
}

#[tokio::test]
async fn a_shared_cache_that_is_down_is_told_and_is_no_outage() {
    let two = Two::new("kind = \"tiered\"\nurl = \"redis://127.0.0.1:1\"").await.unwrap();
    for _ in 0..5 {
        two.log_in(&two.a).await;
    }
    two.a.expire(&Subject::Login(&login("calvin")));
    assert_eq!(two.a.settle().await, Reached::Partial { shared: false, bus: false });
    assert!(two.a.shared().unwrap().hearing.unwrap().deaf);
    assert_eq!(two.a.probe_shared().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(two.store.asked(), 5, "deaf, it keeps nothing");
}

#[tokio::test]
async fn who_keeps_nothing_itself_tells_those_who_do() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let store = common::Slow::new("app");
    let build = |kind: &str| {
        let text = format!(
            "[secrets]\ncache_key = \"{KEY}\"\n[cache]\nkind = \"{kind}\"\nurl = \"{}\"\ntimeout = \"2s\"",
            redis.url()
        );
        builder(&[("app", store.provides())], &text).build()
    };
    let (tiered, bare) = (build("tiered").await.unwrap(), build("redis").await.unwrap());
    until("it hears", || !tiered.shared().unwrap().hearing.unwrap().deaf).await;
    let (ctx, realm) = (Ctx::new(), tiered.realm("default").unwrap());
    let who = realm.principal(&ctx, &login("calvin")).await.unwrap().found().unwrap();
    assert_eq!(realm.is_member(&ctx, &who, "newcomers").await.unwrap(), auth_core::Member::No);
    bare.directory("default").unwrap().join(&ctx, &login("calvin"), "newcomers").await.unwrap();
    until("the other hears of it", || tiered.shared().unwrap().hearing.unwrap().heard > 0).await;
    assert_eq!(realm.is_member(&ctx, &who, "newcomers").await.unwrap(), auth_core::Member::Yes);
}

#[tokio::test]
async fn a_password_that_was_changed_in_the_store_alone_works_at_once() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    for kind in ["redis", "tiered"] {
        let store = common::Slow::new("app");
        let text = format!(
            "[secrets]\ncache_key = \"{KEY}\"\n[cache]\nkind = \"{kind}\"\nprefix = \"{kind}.\"\nurl = \"{}\"\n\
             timeout = \"2s\"",
            redis.url()
        );
        let build = || builder(&[("app", store.provides())], &text).build();
        let (a, b) = (build().await.unwrap(), build().await.unwrap());
        let user = World::user("calvin");
        let other =
            World::users().iter().find(|other| other.login != "calvin" && other.password.is_some()).unwrap();
        let ctx = Ctx::new();
        let attempt = async |stack: &Stack, user: &User| {
            let realm = Arc::clone(stack.realm("default").unwrap());
            realm.login(&ctx, &login("calvin"), &user.password()).await.unwrap()
        };
        for stack in [&a, &b] {
            hears(stack).await;
        }
        assert!(matches!(attempt(&a, user).await, Verdict::Accepted(_)), "{kind}");
        until("it is stored", || stored(&a) == 1).await;
        store.store.set_hash("calvin", other.stored_hash());
        // The second process finds the old account in the shared cache, the first has it in memory or there.
        assert!(matches!(attempt(&b, other).await, Verdict::Accepted(_)), "{kind}");
        // What it was told anew is what all find from then on, in servers or in memory.
        until("it is stored anew", || stored(&b) == 1).await;
        for _ in 0..3 {
            assert!(matches!(attempt(&b, other).await, Verdict::Accepted(_)), "{kind}");
            assert!(matches!(attempt(&a, other).await, Verdict::Accepted(_)), "{kind}");
        }
    }
}
