//! Sessions on real servers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use auth_core::{
    Ctx, Device, End, EndReason, Ends, ErrorKind, Families, Family, FamilyId, Issued, Lookup, Millis,
    Renewal, Result, Retry, Revocations, Revoked, TokenMark,
};
use auth_store_redis::{RedisConfig, RedisFamilies};
use auth_testkit::servers::{Redis, RedisCluster, RedisOptions, Reply, Restart, skipped};
use auth_testkit::suite::{FamilyBench, HOUR, START, renewal, run_all_families};
use auth_testkit::{Proxy, Way};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rig::{PREFIX, config, refuse_listing, until};

fn ctx() -> Ctx {
    Ctx::new()
}

fn open(config: &RedisConfig) -> Arc<RedisFamilies> {
    Arc::new(RedisFamilies::new(config).unwrap())
}

fn sessions(url: &str) -> Arc<RedisFamilies> {
    open(&config(url))
}

/// A server that writes down what it is told, before it answers or about every second.
fn with_log(sync: &str) -> Redis {
    let more = vec!["appendonly yes".to_owned(), format!("appendfsync {sync}")];
    Redis::start(&RedisOptions { more, ..RedisOptions::default() })
}

fn bench(store: &Arc<RedisFamilies>) -> FamilyBench {
    FamilyBench::alone(store)
}

async fn one(store: &RedisFamilies, bench: &FamilyBench) -> Family {
    let family = bench.family("main", "calvin");
    store.begin(&ctx(), &family).await.unwrap();
    family
}

async fn renew(store: &RedisFamilies, id: FamilyId, from: u32) -> Result<bool> {
    store.renew(&ctx(), "main", id, &renewal(from)).await
}

async fn generation(store: &RedisFamilies, id: FamilyId) -> Result<Option<u32>> {
    Ok(store.family(&ctx(), "main", id).await?.found().map(|family| family.generation))
}

fn end() -> End {
    End { at: START + 5, reason: EndReason::Logout, until: START + HOUR }
}

fn token(family: Option<FamilyId>, at: Option<Millis>) -> Issued<'static> {
    Issued { mark: TokenMark::new([7; 32]), family, login: "calvin", at }
}

async fn is_revoked(store: &RedisFamilies, token: &Issued<'_>, now: Millis) -> bool {
    store.is_revoked(&ctx(), "main", token, now).await.unwrap()
}

/// Asks until it is answered.
async fn answered<T>(ask: impl AsyncFnMut() -> Result<T>) -> T {
    auth_testkit::answered(Duration::from_secs(30), ask).await
}

/// Says that the server is to be believed from the beginning of time: the suite's times are its own.
async fn believe(store: &RedisFamilies) {
    answered(async || store.clean(&ctx(), 0, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_on_one_server_are_kept_as_all_stores_keep_them() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let (store, other) = (sessions(&redis.url()), sessions(&redis.url()));
    believe(&store).await;
    run_all_families(&FamilyBench::new(Arc::<RedisFamilies>::clone(&store), other)).await;
    let keys = redis.command(&["KEYS", "*"]);
    assert!(keys.items().len() > 1_000);
    for key in keys.items().iter().map(Reply::text) {
        assert!(key.starts_with(&format!("{PREFIX}s:")), "{key}");
        let ends = redis.command(&["PTTL", &key]).int() > 0;
        assert!(ends || [format!("{PREFIX}s:store"), format!("{PREFIX}s:due")].contains(&key), "{key}");
    }
    refuse_listing(&Reply::Bulk(
        redis.command(&["INFO", "commandstats"]).text().replace("cmdstat_keys", "").into_bytes(),
    ));
    // What may go is gone with all that leads to it.
    while store.clean(&ctx(), Family::MAX_TIME, 10_000).await.unwrap() > 0 {}
    for key in redis.command(&["KEYS", "*"]).items().iter().map(Reply::text) {
        assert!(key.contains(":r:") || key.contains("s:done:") || key == format!("{PREFIX}s:store"), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_a_cluster_are_kept_as_all_stores_keep_them() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(3);
    let (store, other) = (sessions(&cluster.url()), sessions(&cluster.url()));
    believe(&store).await;
    run_all_families(&FamilyBench::new(store, other).with_rounds(200)).await;
    for node in cluster.masters() {
        assert!(node.command(&["DBSIZE"]).int() > 30, "every node has some");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_sent_again_and_done_once() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let mut config = config(&format!("redis://{}", proxy.address()));
    config.timeout = Duration::from_secs(1);
    let (store, direct) = (open(&config), sessions(&redis.url()));
    let bench = bench(&direct);
    let family = one(&direct, &bench).await;
    assert!(answered(async || renew(&store, family.id, 1).await).await);
    let mut from = 2;
    let lost = async || {
        // So that it arrives, and its answer does not.
        proxy.hold(Way::ToClient);
        tokio::time::sleep(Duration::from_millis(30)).await;
        proxy.reset();
        proxy.heal();
    };
    for _ in 0..10 {
        answered(async || generation(&store, family.id).await).await;
        let (renewed, ()) = tokio::join!(renew(&store, family.id, from), lost());
        assert!(renewed.unwrap(), "it was done, and that is told");
        from += 1;
        assert_eq!(generation(&direct, family.id).await.unwrap(), Some(from));
    }
    // A client's retry is counted once at most, and its answer is not known.
    let retry = Retry { from: from - 1, at: START + 1, grace: 10, most: 100 };
    for n in 1..4 {
        answered(async || generation(&store, family.id).await).await;
        let context = ctx();
        let (counted, ()) = tokio::join!(store.retry(&context, "main", family.id, &retry), lost());
        assert!(counted.unwrap_err().kind().is_temporary());
        assert!(direct.family(&ctx(), "main", family.id).await.unwrap().found().unwrap().retries <= n);
    }
    for n in 0..5 {
        let family = Family { login: format!("moe{n}"), ..bench.family("main", "moe") };
        answered(async || generation(&store, family.id).await).await;
        let context = ctx();
        let (begun, ()) = tokio::join!(store.begin(&context, &family), lost());
        begun.unwrap();
        answered(async || generation(&store, family.id).await).await;
        let (what, end) = (Ends::Person(&family.login), end());
        let (ended, ()) = tokio::join!(store.end(&context, "main", &what, &end), lost());
        assert_eq!(ended.unwrap(), 1, "it was ended, and that is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_can_not_be_told_from_another_s_is_an_error() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let mut config = config(&format!("redis://{}", proxy.address()));
    config.timeout = Duration::from_secs(1);
    let (store, direct) = (open(&config), sessions(&redis.url()));
    let family = one(&direct, &bench(&direct)).await;
    assert!(answered(async || renew(&store, family.id, 1).await).await);
    proxy.hold(Way::ToClient);
    let (renewed, ()) = tokio::join!(renew(&store, family.id, 2), async {
        until("it is renewed", async || generation(&direct, family.id).await.unwrap() == Some(3)).await;
        // Its successor is used by the time that it is sent again.
        assert!(renew(&direct, family.id, 3).await.unwrap());
        proxy.reset();
        proxy.heal();
    });
    assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(generation(&direct, family.id).await.unwrap(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_has_done_what_it_has_told_and_one_more_at_most() {
    if skipped("redis") {
        return;
    }
    let redis = with_log("always");
    let mut config = config(&redis.url());
    config.timeout = Duration::from_millis(200);
    let store = open(&config);
    let bench = bench(&store);
    for round in 0..3 {
        let mut running = Vec::new();
        for _ in 0..8 {
            let family = answered(async || {
                let family = bench.family("main", "calvin");
                store.begin(&ctx(), &family).await.map(|()| family)
            })
            .await;
            let told = Arc::new(AtomicU32::new(1));
            let (store, telling) = (Arc::clone(&store), Arc::clone(&told));
            let task = tokio::spawn(async move {
                loop {
                    let from = telling.load(Ordering::Acquire);
                    match renew(&store, family.id, from).await {
                        Ok(renewed) => assert!(renewed),
                        Err(error) => return error,
                    }
                    telling.store(from + 1, Ordering::Release);
                }
            });
            running.push((family.id, told, task));
        }
        until("all are renewed", async || {
            running.iter().all(|(_, told, _)| told.load(Ordering::Acquire) > 50)
        })
        .await;
        redis.kill();
        for (_, _, task) in &mut running {
            assert!(task.await.unwrap().kind().is_temporary());
        }
        redis.restart(Restart::FromFiles);
        for (id, told, _) in &running {
            let told = told.load(Ordering::Acquire);
            let kept = answered(async || generation(&store, *id).await).await.unwrap();
            assert!(kept == told || kept == told + 1, "round {round}: told {told}, kept {kept}");
            assert!(answered(async || renew(&store, *id, kept).await).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_everything_revokes_what_was_issued_before() {
    if skipped("redis") {
        return;
    }
    for how in ["flushed", "empty", "another process"] {
        let redis = Redis::start(&RedisOptions::default());
        let mut store = sessions(&redis.url());
        let family = one(&store, &bench(&store)).await;
        let issued = token(Some(family.id), Some(START));
        assert!(!is_revoked(&store, &issued, START + 1).await, "{how}");
        store.end(&ctx(), "main", &Ends::Family(family.id), &end()).await.unwrap();
        assert!(is_revoked(&store, &issued, START + 9).await);
        match how {
            "empty" => redis.restart(Restart::Empty),
            "flushed" => drop(redis.command(&["FLUSHALL"])),
            _ => {
                redis.command(&["FLUSHALL"]);
                store = sessions(&redis.url());
            }
        }
        let noticed = START + 60_000;
        assert!(
            answered(async || store.is_revoked(&ctx(), "main", &issued, noticed).await).await,
            "{how}: what it knew is lost"
        );
        assert!(is_revoked(&store, &token(None, Some(noticed - 1)), noticed).await, "{how}");
        assert!(!is_revoked(&store, &token(None, Some(noticed)), noticed).await, "{how}: issued since");
        assert_eq!(generation(&store, family.id).await.unwrap(), None);
        assert!(!renew(&store, family.id, 1).await.unwrap(), "unknown, and nothing worse");
        let again = one(&store, &bench(&store)).await;
        assert!(renew(&store, again.id, 1).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_set_back_revokes_what_was_issued_before() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let store = sessions(&redis.url());
    let bench = bench(&store);
    let (family, ended) = (one(&store, &bench).await, one(&store, &bench).await);
    assert!(renew(&store, family.id, 1).await.unwrap());
    redis.command(&["SAVE"]);
    assert!(renew(&store, family.id, 2).await.unwrap());
    store.end(&ctx(), "main", &Ends::Family(ended.id), &end()).await.unwrap();
    redis.restart(Restart::FromFiles);
    let (now, issued) = (START + 60_000, token(Some(ended.id), Some(START + 10)));
    assert!(
        answered(async || store.is_revoked(&ctx(), "main", &issued, now).await).await,
        "forgotten, so refused"
    );
    assert!(!is_revoked(&store, &token(None, Some(now)), now).await);
    assert_eq!(generation(&store, family.id).await.unwrap(), Some(2), "set back: what is shown is newer");
    assert!(!renew(&store, family.id, 3).await.unwrap());
    // A renewal notes the new life too.
    redis.restart(Restart::FromFiles);
    let later = Renewal { from: 2, at: START + 120_000, idle_end: START + HOUR };
    assert!(answered(async || store.renew(&ctx(), "main", family.id, &later).await).await);
    assert!(is_revoked(&store, &token(None, Some(now)), START + 120_000).await);
    assert!(!is_revoked(&store, &token(None, Some(START + 120_000)), START + 120_000).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_writes_down_what_it_is_told_knows_it_after_a_restart() {
    if skipped("redis") {
        return;
    }
    for sync in ["always", "everysec"] {
        let redis = with_log(sync);
        let store = sessions(&redis.url());
        knows_it_all(&redis, &store, sync == "everysec").await;
    }
}

/// `doubted`: it may have lost what came last, so that nothing issued before is taken.
async fn knows_it_all(redis: &Redis, store: &Arc<RedisFamilies>, doubted: bool) {
    let bench = bench(store);
    let (family, ended) = (one(store, &bench).await, one(store, &bench).await);
    assert!(renew(store, family.id, 1).await.unwrap());
    store.end(&ctx(), "main", &Ends::Family(ended.id), &end()).await.unwrap();
    for round in 0..2 {
        if doubted {
            // All that is known to be written.
            let _gone = redis.try_command(&["SHUTDOWN", "NOSAVE"]);
        }
        redis.kill();
        redis.restart(Restart::FromFiles);
        let (now, revoked) = (START + 60_000, token(Some(ended.id), Some(START + 10)));
        assert!(answered(async || store.is_revoked(&ctx(), "main", &revoked, now).await).await);
        let other = token(Some(family.id), Some(START));
        assert_eq!(is_revoked(store, &other, now).await, doubted, "{round}");
        assert_eq!(generation(store, family.id).await.unwrap(), Some(round + 2));
        assert!(renew(store, family.id, round + 2).await.unwrap());
        assert!(!renew(store, ended.id, 1).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_not_keep_sessions_is_refused_or_says_so() {
    if skipped("redis") {
        return;
    }
    let evicting = RedisOptions {
        max_memory: Some(50_000_000),
        more: vec!["maxmemory-policy allkeys-lru".to_owned()],
        ..RedisOptions::default()
    };
    let redis = Redis::start(&evicting);
    let store = sessions(&redis.url());
    let bench = bench(&store);
    let family = bench.family("main", "calvin");
    let error = store.begin(&ctx(), &family).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
    assert!(error.message().contains("noeviction"), "{error}");
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    store.begin(&ctx(), &family).await.unwrap();
    // Full: nothing more is begun, and an end is done wholly or not at all.
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let other = bench.family("main", "susie");
    assert_eq!(store.begin(&ctx(), &other).await.unwrap_err().kind(), ErrorKind::Overloaded);
    for what in [Ends::Family(family.id), Ends::Person("calvin"), Ends::Realm] {
        let error = store.end(&ctx(), "main", &what, &end()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error:?}");
    }
    assert_eq!(renew(&store, family.id, 1).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(store.family(&ctx(), "main", family.id).await.unwrap(), Lookup::Found(family.clone()));
    assert!(!is_revoked(&store, &token(Some(family.id), Some(START)), START + 9).await);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(renew(&store, family.id, 1).await.unwrap());
    assert_eq!(store.end(&ctx(), "main", &Ends::Realm, &end()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_an_error_and_changes_nothing() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let store = sessions(&redis.url());
    let bench = bench(&store);
    let family = one(&store, &bench).await;
    let key = format!("{PREFIX}s:main:f:{}", family.id);
    let corrupt = |answer: ErrorKind| assert_eq!(answer, ErrorKind::Corrupt);
    // A field is gone, or is no number.
    for field in ["idle_end", "last"] {
        let kept = redis.command(&["HGET", &key, field]);
        redis.command(&["HDEL", &key, field]);
        for text in [None, Some("soon")] {
            if let Some(text) = text {
                redis.command(&["HSET", &key, field, text]);
            }
            if field == "idle_end" {
                corrupt(renew(&store, family.id, 1).await.unwrap_err().kind());
            }
            let retry = Retry { from: 0, at: START, grace: 1_000, most: 3 };
            let retried = store.retry(&ctx(), "main", family.id, &retry).await;
            corrupt(retried.unwrap_err().kind());
            corrupt(generation(&store, family.id).await.unwrap_err().kind());
        }
        redis.command(&["HSET", &key, field, std::str::from_utf8(kept.bytes().unwrap()).unwrap()]);
    }
    // A key is of another kind.
    let hers = format!("{PREFIX}s:main:p:0:calvin");
    for key in [&key, &hers, &format!("{PREFIX}s:main:l:0"), &format!("{PREFIX}s:main:r:person:calvin")] {
        redis.command(&["RENAME", key, "elsewhere"]);
        redis.command(&["SET", key, "something else"]);
        let context = ctx();
        let failed = store.end(&context, "main", &Ends::Person("calvin"), &end()).await;
        assert!(failed.is_err(), "{key} is no store's");
        corrupt(failed.unwrap_err().kind());
        redis.command(&["DEL", key]);
        redis.command(&["RENAME", "elsewhere", key]);
    }
    assert_eq!(store.family(&ctx(), "main", family.id).await.unwrap(), Lookup::Found(family));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_what_the_page_lists_may_do_everything() {
    if skipped("redis") {
        return;
    }
    let readme = include_str!("../README.md");
    let listed = readme.split("# The sessions").nth(1).unwrap().split("```text\n").nth(1).unwrap();
    let rights = listed.split("```").next().unwrap().replace('\n', " ");
    let rights = rights.replace("gatepost:", PREFIX).replace(">secret", ">tiger");
    let rights = rights.trim().trim_start_matches("user ").split_whitespace().collect::<Vec<_>>().join(" ");
    let redis = Redis::start(&RedisOptions { users: vec![rights], ..RedisOptions::default() });
    let url = redis.url();
    let store = sessions(&url.replace("redis://", "redis://gatepost:tiger@"));
    believe(&store).await;
    run_all_families(&bench(&store).with_rounds(20)).await;
}

/// What breaks out of strings, names, keys and scripts.
fn hostile() -> impl Strategy<Value = String> {
    let nasty = [
        "{",
        "}",
        "{}",
        ":",
        "::",
        "*",
        "?",
        "[a]",
        "\\",
        "\"",
        "'",
        "\r\n",
        "$1",
        "%",
        "%3A",
        "]]",
        "--",
        "return 1",
        "' redis.call('FLUSHALL') '",
        "\u{e9}",
        "\u{1f42f}",
        " ",
    ];
    let pieces =
        prop_oneof![proptest::sample::select(nasty.to_vec()).prop_map(str::to_owned), any::<String>()];
    proptest::collection::vec(pieces, 1..4).prop_map(|pieces| {
        let text: String = pieces.concat().replace('\0', "0").chars().take(30).collect();
        if text.is_empty() { "x".to_owned() } else { text }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_kept_and_never_run() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    redis.command(&["SET", "somebody else's", "untouched"]);
    let store = sessions(&redis.url());
    believe(&store).await;
    let bench = bench(&store);
    let mut runner = TestRunner::deterministic();
    let mut text = || hostile().new_tree(&mut runner).unwrap().current();
    for _ in 0..300 {
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
        assert!(store.sessions(&ctx(), &realm, &login, START, 100).await.unwrap().contains(&family));
        assert!(store.end(&ctx(), &realm, &Ends::Person(&login), &end()).await.unwrap() >= 1);
        let issued = Issued { login: &login, ..token(None, Some(START)) };
        assert!(store.is_revoked(&ctx(), &realm, &issued, START + 9).await.unwrap());
    }
    assert_eq!(redis.command(&["GET", "somebody else's"]).text(), "untouched");
    for key in redis.command(&["KEYS", "*"]).items().iter().map(Reply::text) {
        assert!(key.starts_with(&format!("{PREFIX}s:")) || key == "somebody else's", "{key}");
    }
    for name in ["", "a\0b", &"a".repeat(256)] {
        assert!(store.sessions(&ctx(), "main", name, START, 10).await.unwrap().is_empty());
        assert!(store.sessions(&ctx(), name, "calvin", START, 10).await.unwrap().is_empty());
        for (realm, what) in [("main", Revoked::Person(name)), (name, Revoked::Realm)] {
            let error = store.revoke(&ctx(), realm, &what, START, START).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_large_realm_keeps_nobody_waiting() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let store = sessions(&redis.url());
    believe(&store).await;
    let bench = bench(&store);
    let (mut all, mut last) = (Vec::new(), None);
    for n in 0..20_000 {
        let family = bench.family("main", &format!("user{}", n % 2_000));
        last = Some(family.id);
        let store = Arc::clone(&store);
        all.push(async move { store.begin(&ctx(), &family).await });
        if all.len() == 500 {
            for begun in futures_util::future::join_all(std::mem::take(&mut all)).await {
                begun.unwrap();
            }
        }
    }
    redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "20000"]);
    redis.command(&["SLOWLOG", "RESET"]);
    assert_eq!(store.end(&ctx(), "main", &Ends::Realm, &end()).await.unwrap(), 20_000);
    assert_eq!(redis.command(&["SLOWLOG", "LEN"]).int(), 0, "it takes 20 ms at most, whatever there is");
    let ended = store.family(&ctx(), "main", last.unwrap()).await.unwrap().found().unwrap().ended;
    assert_eq!(ended, Some((START + 5, EndReason::Logout)));
}
