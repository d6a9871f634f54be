//! The contract of a tier, on every shape that Redis comes in.
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

use auth_core::{ByteTier, ErrorKind, Generation, TierAsk, TierWrite, WireName, Written};
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::servers::{
    Certs, ClientCerts, Redis, RedisCluster, RedisOptions, RedisSentinel, RedisTls, Reply, skipped,
};
use rig::{PREFIX, config, key, later, name, read, refuse_listing, tier, write};

const FOREIGN: &str = "another:tenant";

/// Asks a server.
type Asks<'a> = dyn Fn(&[&str]) -> Reply + Sync + 'a;

/// Runs the whole contract. `ask` asks whichever server has the key that is the second word.
async fn check(tier: &RedisTier, servers: &[&Asks<'_>]) {
    let ask = |words: &[&str]| {
        let moved = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with("MOVED"));
        servers.iter().map(|server| server(words)).find(|reply| !moved(reply)).unwrap()
    };
    ask(&["SET", FOREIGN, "theirs"]);
    let (entry, first, second) = (name(9, 1), name(9, 2), name(9, 3));
    let lane = tier.lane(&entry);
    let both = [first, second];
    let left = |name: &WireName| ask(&["PTTL", &key(tier, lane, name)]).int();

    // Nothing is there.
    let empty = read(tier, entry, &both).await.unwrap();
    assert_eq!((&empty.entry, empty.generations.as_slice()), (&None, &[None, None][..]));
    let seconds: u64 = servers[0](&["TIME"]).items()[0].text().parse().unwrap();
    assert!(empty.now.as_millis().abs_diff(seconds * 1000) < 5000, "{empty:?} at {seconds}");

    // Generations are made once, and kept for as long as anybody asked.
    let made = tier.make(lane, &both, Duration::from_secs(60)).await.unwrap();
    assert_ne!(made[0], made[1]);
    assert!((50_000..=60_000).contains(&left(&first)), "{}", left(&first));
    assert_eq!(tier.make(lane, &both, Duration::from_secs(120)).await.unwrap(), made);
    assert!((110_000..=120_000).contains(&left(&second)), "{}", left(&second));
    assert_eq!(tier.make(lane, &[first], Duration::from_secs(1)).await.unwrap(), made[..1]);
    assert!(left(&first) > 100_000, "shortened to {}", left(&first));

    // An entry is there until its end, and makes its generations last.
    let under = [(first, made[0]), (second, made[1])];
    let bytes = b"\0\r\n\xff sealed";
    let until = later(empty.now, 30_000);
    assert_eq!(write(tier, entry, bytes, until, &under).await.unwrap(), Written::Stored);
    let there = read(tier, entry, &both).await.unwrap();
    assert_eq!(there.entry.as_deref(), Some(&bytes[..]));
    assert_eq!(there.generations, [Some(made[0]), Some(made[1])]);
    assert_eq!(there.incarnation, empty.incarnation);
    assert!(there.now >= empty.now);
    assert!((1..=30_000).contains(&left(&entry)), "{}", left(&entry));
    assert!((290_000..=300_000).contains(&left(&first)), "{}", left(&first));

    // One that arrives late ends when it would have, and leaves nothing of what was there.
    let late = write(tier, entry, b"late", later(there.now, -1), &under).await.unwrap();
    assert_eq!((late, read(tier, entry, &[]).await.unwrap().entry), (Written::Stored, None));

    // What is void stays void.
    tier.void(lane, &[first, name(9, 99)]).await.unwrap();
    let void = read(tier, entry, &both).await.unwrap();
    assert_eq!(void.generations, [None, Some(made[1])]);
    assert_eq!(write(tier, entry, b"old", until, &under).await.unwrap(), Written::Outdated);
    assert_eq!(read(tier, entry, &both).await.unwrap().entry, None);
    let anew = tier.make(lane, &both, Duration::from_secs(60)).await.unwrap();
    assert!(anew[0] != made[0] && anew[1] == made[1]);
    assert_eq!(write(tier, entry, b"old", until, &under).await.unwrap(), Written::Outdated);
    let wrong = [(first, Generation::new([7; 8]))];
    assert_eq!(write(tier, entry, b"old", until, &wrong).await.unwrap(), Written::Outdated);

    // Many at once, on all lanes, each in its place.
    let names: Vec<_> = (0..300_u32).map(|n| name(u8::try_from(n % 256).unwrap(), 1000 + n)).collect();
    let texts: Vec<_> = (0..names.len()).map(|n| n.to_string()).collect();
    let large = vec![0; 2 << 20];
    let mut writes: Vec<_> = names
        .iter()
        .zip(&texts)
        .map(|(entry, text)| TierWrite {
            entry: *entry,
            bytes: text.as_bytes(),
            until,
            generations: &[],
            keep_generations: Duration::ZERO,
        })
        .collect();
    writes[7].bytes = &large;
    for (n, written) in tier.write(&writes).await.into_iter().enumerate() {
        assert_eq!(written.unwrap(), if n == 7 { Written::TooLarge } else { Written::Stored }, "{n}");
    }
    let asks: Vec<_> = names.iter().map(|entry| TierAsk { entry: *entry, generations: &[] }).collect();
    for (n, found) in tier.read(&asks).await.into_iter().enumerate() {
        let found = found.unwrap().entry;
        assert_eq!(found.as_deref(), (n != 7).then(|| texts[n].as_bytes()), "{n}");
    }
    assert!(tier.read(&[]).await.is_empty() && tier.write(&[]).await.is_empty());
    assert!(tier.make(lane, &[], Duration::from_secs(1)).await.unwrap().is_empty());
    tier.void(lane, &[]).await.unwrap();

    // Asking whether all is well changes nothing. So far nobody has listed anything: from here on the test does.
    let size = || servers.iter().map(|server| server(&["DBSIZE"]).int()).sum::<i64>();
    let before = size();
    tier.probe().await.unwrap();
    assert_eq!(size(), before);
    for server in servers {
        refuse_listing(&server(&["INFO", "commandstats"]));
    }
    let mut ours = 0;
    for server in servers {
        for found in server(&["KEYS", "*"]).items() {
            let found = found.text();
            if found != FOREIGN {
                assert!(found.starts_with(PREFIX), "{found}");
                assert!(server(&["PTTL", &found]).int() > 0, "{found} does not end");
                ours += 1;
            }
        }
    }
    assert!(ours > 299, "{ours}");
    assert_eq!(ask(&["GET", FOREIGN]).text(), "theirs");
}

async fn check_one(config: &RedisConfig, redis: &Redis, database: u32) {
    check(&RedisTier::new(config).unwrap(), &[&|words| redis.command_in(database, words)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_its_own_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    check_one(&config(&redis.url()), &redis, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_and_a_database_keep_the_contract() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let url = format!("redis+unix://{}?db=3", redis.socket().display());
    check_one(&config(&url), &redis, 3).await;
    assert_eq!(redis.command(&["DBSIZE"]).int(), 0);
    let numbered =
        Redis::start(&RedisOptions { password: Some("ti:g@er/".into()), ..RedisOptions::default() });
    let url = format!("redis://:ti%3ag%40er%2f@127.0.0.1:{}/5", numbered.port());
    check_one(&config(&url), &numbered, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_what_is_needed_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let user = format!("gatepost on >tiger resetkeys ~{PREFIX}* resetchannels &{PREFIX}* -@all {COMMANDS}");
    let redis = Redis::start(&RedisOptions { users: vec![user], ..RedisOptions::default() });
    let url = format!("redis://gatepost:tiger@127.0.0.1:{}/2", redis.port());
    check_one(&config(&url), &redis, 2).await;
}

/// What the README says that a user needs.
const COMMANDS: &str = "+select +info +time +mget +get +set +pttl +pexpire +unlink +eval +evalsha \
                        +subscribe +publish";

#[test]
fn the_readme_lists_what_a_user_needs() {
    let page = include_str!("../README.md");
    for command in COMMANDS.split_whitespace() {
        assert!(page.contains(command), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_own_ca_and_a_client_certificate_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Required, wrong_name: false };
    let redis = Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() });
    let mut config = config(&redis.url());
    assert!(config.url.starts_with("rediss://"), "{}", config.url);
    config.tls.ca = Some(fs::read(certs.ca()).unwrap());
    config.tls.cert = Some(fs::read(certs.client().certificate).unwrap());
    config.tls.key = Some(fs::read(certs.client().key).unwrap());
    check_one(&config, &redis, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentinels_watch_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    check_one(&config(&set.url()), set.master(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(3);
    let tier = tier(&cluster.url());
    assert_eq!(tier.lanes(), 64);
    let asks: Vec<_> =
        cluster.masters().iter().map(|node| move |words: &[&str]| node.command(words)).collect();
    let servers: Vec<&Asks<'_>> = asks.iter().map(|ask| ask as _).collect();
    check(&tier, &servers).await;
    let sizes: Vec<_> = cluster.masters().iter().map(|node| node.command(&["DBSIZE"]).int()).collect();
    assert!(sizes.iter().all(|size| *size > 10), "spread: {sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_over_tls_and_for_a_user_who_may_little_keeps_the_contract() {
    if skipped("redis") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Optional, wrong_name: false };
    let user = format!(
        "gatepost on >tiger resetkeys ~{PREFIX}* resetchannels -@all {COMMANDS} +cluster|info +cluster|slots"
    );
    let options = RedisOptions { tls: Some(tls), users: vec![user], ..RedisOptions::default() };
    let cluster = RedisCluster::start_with(3, 0, &options);
    let (_, hosts) = cluster.url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut config = config(&format!("rediss-cluster://gatepost:tiger@{hosts}"));
    config.tls.ca = Some(fs::read(certs.ca()).unwrap());
    let asks: Vec<_> =
        cluster.masters().iter().map(|node| move |words: &[&str]| node.command(words)).collect();
    let servers: Vec<&Asks<'_>> = asks.iter().map(|ask| ask as _).collect();
    check(&RedisTier::new(&config).unwrap(), &servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_with_a_password_are_asked_with_that_of_the_servers() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let user = ["ACL", "SETUSER", "gatepost", "on", ">tiger", "~*", "&*", "+@all"];
    set.master().command(&user);
    for sentinel in set.sentinels() {
        sentinel.command(&user);
        sentinel.command(&["ACL", "SETUSER", "default", "off"]);
    }
    let url = set.url();
    assert!(read(&tier(&url), name(1, 1), &[]).await.is_err());
    let tier = tier(&url.replace("redis-sentinel://", "redis-sentinel://gatepost:tiger@"));
    read(&tier, name(1, 1), &[]).await.unwrap();
    let wrong = rig::tier(&url.replace("redis-sentinel://", "redis-sentinel://gatepost:lion@"));
    assert_eq!(read(&wrong, name(1, 1), &[]).await.unwrap_err().kind(), ErrorKind::Misconfigured);
}

/// Entries that differ in everything are read by many at once, of whom some go away meanwhile.
async fn check_many(tier: RedisTier) {
    let tier = Arc::new(tier);
    let now = read(&tier, name(1, 1), &[]).await.unwrap().now;
    let mut readers = Vec::new();
    for n in 0..128_u8 {
        let (entry, lane) = (name(n, 1), tier.lane(&name(n, 1)));
        let names: Vec<_> = (0..u32::from(n % 4)).map(|other| name(n, 10 + other)).collect();
        let made = tier.make(lane, &names, Duration::from_secs(60)).await.unwrap();
        let under: Vec<_> = names.iter().copied().zip(made.iter().copied()).collect();
        if n % 5 != 0 {
            write(&tier, entry, &[n; 40], later(now, 60_000), &under).await.unwrap();
        }
        let tier = Arc::clone(&tier);
        readers.push(tokio::spawn(async move {
            let made: Vec<_> = made.into_iter().map(Some).collect();
            for round in 0..100_u8 {
                let asking = read(&tier, entry, &names);
                if (round ^ n) % 3 == 0 {
                    // Asks, and does not wait for the answer.
                    tokio::select! {
                        biased;
                        _ = asking => {}
                        () = std::future::ready(()) => {}
                    }
                    continue;
                }
                let found = asking.await.unwrap();
                assert_eq!(found.entry, (n % 5 != 0).then(|| vec![n; 40]));
                assert_eq!(found.generations, made);
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_read_at_once_share_requests_and_get_each_their_own() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    check_many(tier(&redis.url())).await;
    let stats = redis.command(&["INFO", "commandstats"]).text();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_time:")).unwrap();
    let requests: u32 = line.split(['=', ',']).nth(1).unwrap().parse().unwrap();
    println!("{requests} requests for 12,800 reads");
    assert!(requests < 12_800 / 4, "{requests}");
    check_many(tier(&RedisCluster::start(3).url())).await;
}
