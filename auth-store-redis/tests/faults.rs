//! What goes wrong with a real server, and how that looks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use auth_core::{ByteTier, Error, ErrorKind, Written};
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::Proxy;
use auth_testkit::servers::{
    Certs, ClientCerts, Redis, RedisCluster, RedisOptions, RedisSentinel, RedisTls, Restart, skipped,
    stopwatch,
};
use rig::{PREFIX, config, key, later, name, read, tier, until, write};

const SHORT: Duration = Duration::from_millis(100);

/// A configuration with short limits.
fn short(url: &str) -> RedisConfig {
    let mut config = config(url);
    config.timeout = SHORT;
    config
}

fn plain() -> Redis {
    Redis::start(&RedisOptions::default())
}

/// Reads until it works, and returns how long that took and in which life of the server.
async fn recovered(tier: &RedisTier) -> (Duration, u64) {
    let mut incarnation = 0;
    let began = stopwatch();
    loop {
        if let Ok(read) = read(tier, name(1, 1), &[]).await {
            incarnation = incarnation.max(read.incarnation);
            return (began.elapsed(), incarnation);
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no way back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks a tier that can't answer everything it can be asked.
async fn refused(tier: &RedisTier, kind: ErrorKind) -> Error {
    let entry = name(1, 1);
    let error = read(tier, entry, &[]).await.unwrap_err();
    let written = write(tier, entry, b"x", later(auth_core::TierTime::from_millis(0), 1), &[]).await;
    let made = tier.make(tier.lane(&entry), &[entry], SHORT).await;
    let voided = tier.void(tier.lane(&entry), &[entry]).await;
    for error in [
        &error,
        &written.unwrap_err(),
        &made.unwrap_err(),
        &voided.unwrap_err(),
        &tier.probe().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), kind, "{error:?}");
        let text = format!("{error:?} {error} {tier:?}");
        assert!(!text.contains("tiger") && !text.contains(&key(tier, 0, &entry)), "{text}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_writes_and_voids_all_the_same() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = tier(&redis.url());
    let (entry, generation) = (name(1, 1), name(1, 2));
    let made = tier.make(0, &[generation], Duration::from_secs(60)).await.unwrap();
    let now = read(&tier, entry, &[]).await.unwrap().now;
    let under = [(generation, made[0])];
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..2 {
        let full = write(&tier, entry, b"x", later(now, 60_000), &under).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Overloaded, "{full:?}");
        let full = tier.make(0, &[name(1, 3)], Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Overloaded, "{full:?}");
    }
    assert_eq!(read(&tier, entry, &[generation]).await.unwrap().generations, [Some(made[0])]);
    assert_eq!(tier.make(0, &[generation], Duration::from_secs(60)).await.unwrap(), made);
    tier.void(0, &[generation]).await.unwrap();
    assert_eq!(read(&tier, entry, &[generation]).await.unwrap().generations, [None]);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(write(&tier, entry, b"x", later(now, 60_000), &[]).await.unwrap(), Written::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = tier(&redis.url());
    let now = read(&tier, name(1, 1), &[]).await.unwrap().now;
    for n in 0..3 {
        redis.command(&["SCRIPT", "FLUSH"]);
        let written = write(&tier, name(1, n), b"x", later(now, 60_000), &[]).await.unwrap();
        assert_eq!(written, Written::Stored);
        redis.command(&["SCRIPT", "FLUSH"]);
        tier.make(0, &[name(2, n)], Duration::from_secs(60)).await.unwrap();
    }
    // From then on only their names are sent.
    let evals = || {
        let stats = redis.command(&["INFO", "commandstats"]).text();
        stats
            .lines()
            .find(|line| line.starts_with("cmdstat_eval:"))
            .unwrap()
            .split(['=', ','])
            .nth(1)
            .unwrap()
            .to_owned()
    };
    write(&tier, name(1, 8), b"x", later(now, 60_000), &[]).await.unwrap();
    tier.make(0, &[name(2, 8)], Duration::from_secs(60)).await.unwrap();
    let before = evals();
    write(&tier, name(1, 9), b"x", later(now, 60_000), &[]).await.unwrap();
    tier.make(0, &[name(2, 9)], Duration::from_secs(60)).await.unwrap();
    assert_eq!(evals(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_in_learns_that_it_is_the_configuration() {
    if skipped("redis") {
        return;
    }
    let users = vec![
        format!("blind on >tiger ~{PREFIX}* &* -@all +select +info"),
        "elsewhere on >tiger ~other:* &* +@all".to_owned(),
    ];
    let redis =
        Redis::start(&RedisOptions { password: Some("secret".into()), users, ..RedisOptions::default() });
    let port = redis.port();
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:tiger@127.0.0.1:{port}"),
        format!("redis://nobody:tiger@127.0.0.1:{port}"),
        format!("redis://blind:tiger@127.0.0.1:{port}"),
        format!("redis://elsewhere:tiger@127.0.0.1:{port}"),
        format!("redis://:secret@127.0.0.1:{port}/99"),
    ] {
        let error = refused(&tier(&url), ErrorKind::Misconfigured).await;
        println!("{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_nobody_else() {
    if skipped("redis") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let serve = |wrong_name| {
        let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Required, wrong_name };
        Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() })
    };
    let redis = serve(false);
    let good = |url: &str| {
        let mut config = config(url);
        config.tls.ca = Some(fs::read(certs.ca()).unwrap());
        config.tls.cert = Some(fs::read(certs.client().certificate).unwrap());
        config.tls.key = Some(fs::read(certs.client().key).unwrap());
        config
    };
    read(&RedisTier::new(&good(&redis.url())).unwrap(), name(1, 1), &[]).await.unwrap();
    let fails = async |config: RedisConfig| {
        let error = refused(&RedisTier::new(&config).unwrap(), ErrorKind::Unavailable).await;
        println!("{error:?}");
    };
    let mut unknown = good(&redis.url());
    unknown.tls.ca = Some(fs::read(certs.unknown_ca()).unwrap());
    fails(unknown).await;
    let mut system = good(&redis.url());
    system.tls.ca = None;
    if let Ok(tier) = RedisTier::new(&system) {
        refused(&tier, ErrorKind::Unavailable).await;
    }
    let mut nobody = good(&redis.url());
    (nobody.tls.cert, nobody.tls.key) = (None, None);
    fails(nobody).await;
    let mut stranger = good(&redis.url());
    stranger.tls.cert = Some(fs::read(certs.stranger().certificate).unwrap());
    stranger.tls.key = Some(fs::read(certs.stranger().key).unwrap());
    fails(stranger).await;
    fails(good(&serve(true).url())).await;
    // A server without TLS waits for more, and learns nothing.
    let redis = plain();
    let mut waits = good(&redis.url().replace("redis://", "rediss://"));
    waits.connect_timeout = SHORT;
    refused(&RedisTier::new(&waits).unwrap(), ErrorKind::Timeout).await;
    // Keys and certificates that are none.
    for broken in [0, 1, 2] {
        let mut config = good(&redis.url());
        let part =
            [&mut config.tls.ca, &mut config.tls.cert, &mut config.tls.key].into_iter().nth(broken).unwrap();
        *part = Some(b"-----BEGIN PRIVATE KEY-----\ntiger\n-----END PRIVATE KEY-----".to_vec());
        let error = RedisTier::new(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains("tiger"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_another_life() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = tier(&redis.url());
    let (entry, generation) = (name(1, 1), name(1, 2));
    let made = tier.make(0, &[generation], Duration::from_secs(600)).await.unwrap();
    let first = read(&tier, entry, &[]).await.unwrap();
    write(&tier, entry, b"x", later(first.now, 600_000), &[(generation, made[0])]).await.unwrap();
    redis.command(&["SAVE"]);
    tier.void(0, &[generation]).await.unwrap();
    redis.kill();
    until("the loss is known", || async { read(&tier, entry, &[]).await.is_err() }).await;
    redis.restart(Restart::FromFiles);
    let (took, _) = recovered(&tier).await;
    println!("back after {took:?}");
    // The void generation is there again. Only the incarnation tells.
    let second = read(&tier, entry, &[generation]).await.unwrap();
    assert_eq!(second.generations, [Some(made[0])]);
    assert_ne!(second.incarnation, first.incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_fails_calls_at_once_and_is_back_soon() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = RedisTier::new(&short(&redis.url())).unwrap();
    recovered(&tier).await;
    redis.kill();
    until("the loss is known", || async { read(&tier, name(1, 1), &[]).await.is_err() }).await;
    let began = stopwatch();
    for _ in 0..1000 {
        let error = read(&tier, name(1, 1), &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    println!("1000 calls without a server: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    redis.restart(Restart::Empty);
    let (took, _) = recovered(&tier).await;
    println!("back after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_idle_connection_is_known_before_the_next_call() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let tier = tier(&format!("redis://{}", proxy.address()));
    recovered(&tier).await;
    let before = proxy.connections();
    proxy.reset();
    // Nobody asks anything meanwhile.
    let again = || async { proxy.connections() > before && proxy.open() > 0 };
    let took = until("it has connected again", again).await;
    // Sooner than looking after it every second would have found out.
    assert!(took < Duration::from_millis(500), "{took:?}");
    until("it can be asked", || async { read(&tier, name(1, 1), &[]).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_costs_no_call_more_than_its_limit() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = Arc::new(RedisTier::new(&short(&redis.url())).unwrap());
    recovered(&tier).await;
    redis.stop_signal();
    let calls = (0..64).map(|_| {
        let tier = Arc::clone(&tier);
        tokio::spawn(async move {
            let (mut longest, mut calls) = (Duration::ZERO, 0);
            let began = stopwatch();
            while began.elapsed() < Duration::from_secs(2) {
                let call = stopwatch();
                read(&tier, name(1, 1), &[]).await.unwrap_err();
                longest = longest.max(call.elapsed());
                calls += 1;
                tokio::task::yield_now().await;
            }
            (longest, calls)
        })
    });
    let mut longest = Duration::ZERO;
    let mut count = 0;
    for call in calls.collect::<Vec<_>>() {
        let (took, calls) = call.await.unwrap();
        longest = longest.max(took);
        count += calls;
    }
    println!("{count} calls of a stopped server, the longest {longest:?}");
    // Hundreds of times shorter than it was stopped; a busy machine may be late with a timer.
    assert!(longest < SHORT + Duration::from_millis(500), "{longest:?}");
    // After a few limits they fail without waiting.
    assert!(count > 64 * 40, "{count}");
    redis.cont_signal();
    let (took, _) = recovered(&tier).await;
    println!("back after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_goes_silent_one_way_is_given_up() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let tier = RedisTier::new(&short(&format!("redis://{}", proxy.address()))).unwrap();
    recovered(&tier).await;
    // Half-open: what is open stays so and answers nothing; what is new is served.
    proxy.lose(auth_testkit::Way::ToClient);
    assert_eq!(read(&tier, name(1, 1), &[]).await.unwrap_err().kind(), ErrorKind::Timeout);
    until("calls fail at once", || async {
        let began = stopwatch();
        read(&tier, name(1, 1), &[]).await.is_err() && began.elapsed() < SHORT / 2
    })
    .await;
    proxy.heal();
    let (took, _) = recovered(&tier).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_requests_are_on_their_way() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let mut config = config(&redis.url());
    config.in_flight = 8;
    config.timeout = Duration::from_millis(500);
    let tier = Arc::new(RedisTier::new(&config).unwrap());
    recovered(&tier).await;
    redis.stop_signal();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move { read(&tier, name(1, 1), &[]).await.unwrap_err().kind() })
        })
        .collect();
    let mut kinds = Vec::new();
    for call in calls {
        kinds.push(call.await.unwrap());
    }
    redis.cont_signal();
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    // The link's own look at the server may be one of the eight.
    assert!((7..=8).contains(&count(ErrorKind::Timeout)), "{kinds:?}");
    assert_eq!(count(ErrorKind::Overloaded) + count(ErrorKind::Timeout), 100, "{kinds:?}");
    recovered(&tier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_becomes_a_replica_is_left_and_taken_back() {
    if skipped("redis") {
        return;
    }
    let (redis, other) = (plain(), plain());
    let tier = tier(&redis.url());
    let first = recovered(&tier).await.1;
    redis.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let error = tier.make(0, &[name(1, 2)], Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    // Also what could be read there is not asked for any more.
    until("it is left", || async { read(&tier, name(1, 1), &[]).await.is_err() }).await;
    let mut times = 0;
    until("it is not asked again", || {
        times += 1;
        let asked = read(&tier, name(1, 1), &[]);
        async move { asked.await.unwrap_err().kind() == ErrorKind::Unavailable && times > 200 }
    })
    .await;
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    let (took, second) = recovered(&tier).await;
    println!("back after {took:?}");
    // What it holds now it has from the other, which may not know of all that was voided here.
    assert_ne!(first, second);
    // Who only reads finds out too.
    redis.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let took = until("it is left", || async { read(&tier, name(1, 1), &[]).await.is_err() }).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sentinels_lead_to_the_new_master() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let tier = RedisTier::new(&short(&set.url())).unwrap();
    let (_, first) = recovered(&tier).await;
    set.master().kill();
    until("the loss is known", || async { read(&tier, name(1, 1), &[]).await.is_err() }).await;
    let (took, second) = recovered(&tier).await;
    println!("a new master after {took:?}");
    assert_ne!(first, second);
    assert_eq!(set.master_port(), set.replica().port());
    tier.make(0, &[name(1, 2)], Duration::from_secs(60)).await.unwrap();
    assert_eq!(set.replica().command(&["DBSIZE"]).int(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_master_serves_the_other_lanes() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start_with(3, 1, &RedisOptions::default());
    let mut config = short(&cluster.url());
    config.timeout = Duration::from_millis(500);
    let tier = RedisTier::new(&config).unwrap();
    let works = async || {
        let mut works = Vec::new();
        for lane in 0..64 {
            let read = read(&tier, name(lane, 1), &[]).await;
            works.push(read.ok().map(|read| read.incarnation));
        }
        works
    };
    let before = works().await;
    let mut lives: Vec<_> = before.iter().map(|life| life.unwrap()).collect();
    lives.sort_unstable();
    lives.dedup();
    assert_eq!(lives.len(), 3, "each node has a life of its own");
    // One without a replica: its lanes fail, and only they.
    cluster.masters()[1].kill();
    until("the loss is known", || async { works().await.contains(&None) }).await;
    let gone = before[works().await.iter().position(Option::is_none).unwrap()];
    for _ in 0..20 {
        for (before, now) in before.iter().zip(works().await) {
            assert_eq!(now, before.filter(|_| *before != gone));
        }
    }
    cluster.masters()[1].restart(Restart::FromFiles);
    until("it is back", || async { !works().await.contains(&None) }).await;
    // One with a replica: that takes its place, in another life.
    cluster.masters()[0].kill();
    until("the loss is known", || async { works().await.contains(&None) }).await;
    let took = until("the replica serves", || async { !works().await.contains(&None) }).await;
    println!("the replica serves after {took:?}");
    let moved = before.iter().zip(works().await).filter(|(before, now)| *before != now).count();
    // A third of the slots, and the third of which the master has started anew.
    assert!((30..=55).contains(&moved), "{moved}");
    let lane = (0..64).find(|lane| before[*lane] != gone).unwrap();
    tier.make(lane, &[name(u8::try_from(lane).unwrap(), 2)], Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(2);
    let tier = tier(&cluster.url());
    let at = |lane: u8| tier_slot(&cluster, lane);
    let lane = (0..64).find(|lane| at(*lane) < 8192).unwrap();
    let mut before = read(&tier, name(lane, 1), &[]).await.unwrap();
    for to in [1, 0, 1, 0, 1] {
        let id = cluster.masters()[to].command(&["CLUSTER", "MYID"]).text();
        for node in cluster.masters().iter().rev() {
            node.command(&["CLUSTER", "SETSLOT", &at(lane).to_string(), "NODE", &id]);
        }
        let moved = || async {
            read(&tier, name(lane, 1), &[]).await.is_ok_and(|read| read.incarnation != before.incarnation)
        };
        let took = until("it is found where it is now", moved).await;
        // Sooner than asking every second would have found out.
        assert!(took < Duration::from_millis(500), "{took:?}");
        before = read(&tier, name(lane, 1), &[]).await.unwrap();
    }
    tier.make(usize::from(lane), &[name(lane, 2)], Duration::from_secs(60)).await.unwrap();
}

fn tier_slot(cluster: &RedisCluster, lane: u8) -> i64 {
    cluster.masters()[0].command(&["CLUSTER", "KEYSLOT", &format!("{{{lane}}}")]).int()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cluster_and_what_is_no_master_says_so() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let url = redis.url().replace("redis://", "redis-cluster://");
    refused(&tier(&url), ErrorKind::Misconfigured).await;
    let set = RedisSentinel::start();
    let url = set.url().replace(RedisSentinel::NAME, "nobody");
    refused(&tier(&url), ErrorKind::Misconfigured).await;
    let nowhere = RedisTier::new(&short("redis://127.0.0.1:1")).unwrap();
    refused(&nowhere, ErrorKind::Unavailable).await;
    let unknown = tier("redis://nobody.invalid");
    refused(&unknown, ErrorKind::Unavailable).await;
}

#[test]
fn outside_of_a_runtime_and_after_it_has_ended() {
    if skipped("redis") {
        return;
    }
    let redis = plain();
    let tier = tier(&redis.url());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            until("another runtime can ask it", || async { read(&tier, name(1, 1), &[]).await.is_ok() })
                .await;
        });
        // Many ask at once, on a runtime that ends before any of them has an answer.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            until("it can be asked here", || async { read(&tier, name(1, 1), &[]).await.is_ok() }).await;
            let many: Vec<_> = (0..50).map(|_| Box::pin(read(&tier, name(1, 1), &[]))).collect();
            tokio::select! {
                biased;
                _ = futures_util::future::join_all(many) => panic!("answered at once"),
                () = std::future::ready(()) => {}
            }
        });
        drop(runtime);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let many = || (0..50).map(|_| Box::pin(read(&tier, name(1, 1), &[]))).collect::<Vec<_>>();
            until("many can ask at once", || async {
                futures_util::future::join_all(many()).await.iter().all(Result::is_ok)
            })
            .await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_found_out_also_while_nobody_asks() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start_with(3, 1, &RedisOptions::default());
    let tier = tier(&cluster.url());
    let lane = (0..64).find(|lane| tier_slot(&cluster, *lane) < 5000).unwrap();
    let before = read(&tier, name(lane, 1), &[]).await.unwrap();
    cluster.masters()[0].kill();
    let (other, heir) = (&cluster.masters()[2], cluster.replicas()[0].port());
    let heir = format!("127.0.0.1:{heir}@");
    auth_testkit::servers::until("the replica has taken its place", || {
        let nodes = other.command(&["CLUSTER", "NODES"]).text();
        nodes.lines().any(|line| line.contains(&heir) && line.contains(" connected 0-"))
    });
    let asked = || {
        let stats = other.command(&["INFO", "commandstats"]).text();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_cluster|slots:"));
        let line = line.unwrap_or_else(|| panic!("{stats}"));
        line.split(['=', ',']).nth(1).unwrap().parse::<u32>().unwrap()
    };
    let first = asked();
    auth_testkit::servers::until("the tier has asked twice since", || asked() >= first + 2);
    let after = read(&tier, name(lane, 1), &[]).await.unwrap();
    assert_ne!(before.incarnation, after.incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_the_sentinels_have_left_is_left_although_it_lives() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let other = plain();
    let tier = tier(&set.url());
    let (_, first) = recovered(&tier).await;
    for sentinel in set.sentinels() {
        sentinel.command(&["SENTINEL", "REMOVE", RedisSentinel::NAME]);
        let port = other.port().to_string();
        sentinel.command(&["SENTINEL", "MONITOR", RedisSentinel::NAME, "127.0.0.1", &port, "2"]);
    }
    let moved = || async { read(&tier, name(1, 1), &[]).await.is_ok_and(|read| read.incarnation != first) };
    let took = until("it is with the other", moved).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    tier.make(0, &[name(1, 2)], Duration::from_secs(60)).await.unwrap();
    assert_eq!(other.command(&["DBSIZE"]).int(), 1);
}
