//! News between listeners, over real servers and over links that fail.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auth_core::{Bus, Ear, ErrorKind};
use auth_store_redis::{RedisBus, RedisConfig};
use auth_testkit::Proxy;
use auth_testkit::servers::{
    Certs, ClientCerts, Redis, RedisCluster, RedisOptions, RedisSentinel, RedisTls, Restart, skipped,
    stopwatch,
};
use rig::{PREFIX, config, until};

/// What an ear has heard, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    News(Vec<u8>),
    Lost,
    Back,
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Heard, Option<Instant>)>>);

impl Notes {
    fn note(&self, heard: Heard) {
        self.0.lock().unwrap().push((heard, Some(stopwatch())));
    }

    fn all(&self) -> Vec<Heard> {
        self.0.lock().unwrap().iter().map(|(heard, _)| heard.clone()).collect()
    }

    fn news(&self) -> Vec<Vec<u8>> {
        let news = |heard| if let Heard::News(news) = heard { Some(news) } else { None };
        self.all().into_iter().filter_map(news).collect()
    }

    /// Whether it may have missed something, or will.
    fn is_deaf(&self) -> bool {
        let all = self.all();
        let last = all.iter().rev().find(|heard| !matches!(heard, Heard::News(_)));
        last != Some(&Heard::Back)
    }

    fn at(&self, wanted: &Heard) -> Option<Instant> {
        self.0.lock().unwrap().iter().find(|(heard, _)| heard == wanted).and_then(|(_, at)| *at)
    }

    async fn hears(&self) -> Duration {
        until("it hears", || async { !self.is_deaf() }).await
    }

    async fn is_lost(&self) -> Duration {
        until("it is deaf", || async { self.is_deaf() }).await
    }
}

impl Ear for Notes {
    fn heard(&self, message: &[u8]) {
        self.note(Heard::News(message.to_vec()));
    }

    fn lost(&self) {
        self.note(Heard::Lost);
    }

    fn back(&self) {
        self.note(Heard::Back);
    }
}

fn bus(url: &str) -> RedisBus {
    RedisBus::new(&config(url)).unwrap()
}

/// Two processes, in effect: two buses, each with a listener, hear each other.
async fn check(config: &RedisConfig) {
    let (one, other) = (RedisBus::new(config).unwrap(), RedisBus::new(config).unwrap());
    let (ear, another) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
    let _listening = one.listen(Arc::clone(&ear) as _).unwrap();
    let _also = other.listen(Arc::clone(&another) as _).unwrap();
    assert!(ear.is_deaf(), "before it is back");
    ear.hears().await;
    another.hears().await;
    let sent: Vec<_> = (0..100_u8).map(|n| vec![n, 0, b'\r', b'\n', 0xff]).collect();
    for (n, news) in sent.iter().enumerate() {
        if n % 2 == 0 { &one } else { &other }.publish(news).await.unwrap();
    }
    one.publish(b"").await.unwrap();
    for ear in [&ear, &another] {
        until("all is heard", || async { ear.news().len() == 101 }).await;
        let news = ear.news();
        let of = |first: usize| news[..100].iter().filter(move |news| usize::from(news[0]) % 2 == first);
        assert!(of(0).eq(sent.iter().step_by(2)) && of(1).eq(sent.iter().skip(1).step_by(2)), "{news:?}");
        assert_eq!(news[100], b"");
        assert_eq!(ear.all()[0], Heard::Back);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_each_other_on_every_shape() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    check(&config(&redis.url())).await;
    check(&config(&format!("redis+unix://{}?db=3", redis.socket().display()))).await;
    let user = format!(
        "gatepost on >tiger resetkeys ~{PREFIX}* resetchannels &{PREFIX}* -@all +select +info +subscribe +publish"
    );
    let redis = Redis::start(&RedisOptions { users: vec![user], ..RedisOptions::default() });
    check(&config(&format!("redis://gatepost:tiger@127.0.0.1:{}/2", redis.port()))).await;
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    let tls = RedisTls { certs: Arc::clone(&certs), clients: ClientCerts::Optional, wrong_name: false };
    let redis = Redis::start(&RedisOptions { tls: Some(tls), ..RedisOptions::default() });
    let mut over_tls = config(&redis.url());
    over_tls.tls.ca = Some(fs::read(certs.ca()).unwrap());
    check(&over_tls).await;
    check(&config(&RedisCluster::start(3).url())).await;
    check(&config(&RedisSentinel::start().url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_hear_each_other_and_nobody_hears_what_is_no_news() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let bus = bus(&redis.url());
    let ear = Arc::new(Notes::default());
    let listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    let other = RedisBus::new(&RedisConfig::new(redis.url(), "another:")).unwrap();
    other.publish(b"theirs").await.unwrap();
    for junk in ["", "b", "bxxxxxxxxxxxxxxxx", "x"] {
        redis.command(&["PUBLISH", &format!("{PREFIX}bus"), junk]);
    }
    bus.publish(b"ours").await.unwrap();
    until("ours is heard", || async { !ear.news().is_empty() }).await;
    assert_eq!(ear.all(), [Heard::Back, Heard::News(b"ours".to_vec())]);
    // Who does not listen any more holds nothing up, and is not there.
    drop(listening);
    let subscribers = || redis.command(&["PUBSUB", "NUMSUB", &format!("{PREFIX}bus")]).items()[1].int();
    until("it has left", || async { subscribers() == 0 }).await;
    bus.publish(b"nobody").await.unwrap();
    assert_eq!(ear.news().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn news_take_milliseconds() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let (here, there) = (bus(&redis.url()), bus(&redis.url()));
    let ear = Arc::new(Notes::default());
    let _listening = there.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    let mut lags = Vec::new();
    for n in 0..500_u32 {
        let began = stopwatch();
        let news = n.to_be_bytes().to_vec();
        here.publish(&news).await.unwrap();
        let news = Heard::News(news);
        until("it is heard", || async { ear.at(&news).is_some() }).await;
        lags.push(ear.at(&news).unwrap().duration_since(began));
    }
    lags.sort_unstable();
    println!("lag p50 {:?}, p99 {:?}", lags[250], lags[495]);
    assert!(lags[495] < Duration::from_millis(50), "{:?}", lags[495]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_or_stalls_is_noticed_within_two_seconds_and_comes_back() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let mut config = config(&format!("redis://{}", proxy.address()));
    config.connect_timeout = Duration::from_millis(300);
    let bus = RedisBus::new(&config).unwrap();
    let direct = RedisBus::new(&rig::config(&redis.url())).unwrap();
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    let faults: [(&str, &dyn Fn()); 4] = [
        ("cut", &|| proxy.cut()),
        ("stall", &|| proxy.stall()),
        ("nothing comes", &|| proxy.lose(auth_testkit::Way::ToClient)),
        ("nothing goes", &|| proxy.lose(auth_testkit::Way::ToServer)),
    ];
    for (fault, make) in faults {
        make();
        let took = ear.is_lost().await;
        assert!(took < Duration::from_secs(2), "{fault}: {took:?}");
        direct.publish(b"missed").await.unwrap();
        proxy.heal();
        let back = ear.hears().await;
        println!("{fault}: deaf after {took:?}, back after {back:?}");
        assert!(back < Duration::from_secs(4), "{fault}: {back:?}");
        let count = ear.news().len();
        direct.publish(b"heard").await.unwrap();
        until("it is heard", || async { ear.news().len() > count }).await;
        assert_eq!(ear.news().last().unwrap(), b"heard", "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_is_noticed_at_once() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let bus = bus(&format!("redis://{}", proxy.address()));
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    for _ in 0..6 {
        ear.hears().await;
        let losses = || ear.all().iter().filter(|heard| **heard == Heard::Lost).count();
        let before = losses();
        proxy.reset();
        let took = until("it is deaf", || async { losses() > before }).await;
        // Sooner than the next beat, mostly.
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_or_dies_is_noticed_and_publishing_says_so() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let mut config = config(&redis.url());
    config.timeout = Duration::from_millis(100);
    let bus = RedisBus::new(&config).unwrap();
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    bus.publish(b"first").await.unwrap();
    redis.stop_signal();
    let began = stopwatch();
    assert_eq!(bus.publish(b"stopped").await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let took = ear.is_lost().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    redis.cont_signal();
    ear.hears().await;
    redis.kill();
    let took = ear.is_lost().await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    until("publishing fails", || async { bus.publish(b"dead").await.is_err() }).await;
    redis.restart(Restart::Empty);
    ear.hears().await;
    until("publishing works", || async { bus.publish(b"alive").await.is_ok() }).await;
    until("it is heard", || async { ear.news().last().is_some_and(|news| news == b"alive") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_leaves_a_server_that_is_no_master_any_more() {
    if skipped("redis") {
        return;
    }
    let (redis, other) = (Redis::start(&RedisOptions::default()), Redis::start(&RedisOptions::default()));
    let bus = bus(&redis.url());
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    redis.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let took = ear.is_lost().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    ear.hears().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_follows_a_failover_and_leaves_a_node_that_is_lost() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let cluster = RedisCluster::start(2);
    for (url, first) in [(set.url(), set.master()), (cluster.url(), &cluster.masters()[0])] {
        let bus = bus(&url);
        let ear = Arc::new(Notes::default());
        let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
        ear.hears().await;
        first.kill();
        ear.is_lost().await;
        let back = ear.hears().await;
        println!("elsewhere after {back:?}");
        until("it is published there", || async { bus.publish(b"news").await.is_ok() }).await;
        until("it is heard", || async { !ear.news().is_empty() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_carries_news_also_where_only_a_replica_is_known() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start_with(2, 1, &RedisOptions::default());
    let known = bus(&format!("redis-cluster://127.0.0.1:{}", cluster.replicas()[0].port()));
    let other = bus(&cluster.url());
    let ear = Arc::new(Notes::default());
    let _listening = known.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    other.publish(b"from a master").await.unwrap();
    known.publish(b"from a replica").await.unwrap();
    until("both are heard", || async { ear.news().len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_leaves_a_master_that_the_sentinels_have_left_and_a_cluster_that_is_not_whole() {
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let other = Redis::start(&RedisOptions::default());
    let bus = bus(&set.url());
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    let before = ear.all().len();
    for sentinel in set.sentinels() {
        sentinel.command(&["SENTINEL", "REMOVE", RedisSentinel::NAME]);
        let port = other.port().to_string();
        sentinel.command(&["SENTINEL", "MONITOR", RedisSentinel::NAME, "127.0.0.1", &port, "2"]);
    }
    let told = stopwatch();
    // It may be lost and hear elsewhere before the last sentinel is told, or be sent back once by one that was not.
    until("it was deaf", || async { ear.all()[before..].contains(&Heard::Lost) }).await;
    let at = ear.0.lock().unwrap()[before..]
        .iter()
        .find(|(heard, _)| *heard == Heard::Lost)
        .and_then(|(_, at)| *at);
    let took = at.unwrap().saturating_duration_since(told);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let there = || other.command(&["PUBSUB", "NUMSUB", &format!("{PREFIX}bus")]).items()[1].int();
    until("it hears there", || async { there() == 1 && !ear.is_deaf() }).await;

    let cluster = RedisCluster::start(2);
    let bus = RedisBus::new(&config(&cluster.url())).unwrap();
    let ear = Arc::new(Notes::default());
    let _listening = bus.listen(Arc::clone(&ear) as _).unwrap();
    ear.hears().await;
    for node in cluster.masters() {
        node.command(&["CONFIG", "SET", "cluster-require-full-coverage", "yes"]);
    }
    cluster.masters()[1].kill();
    ear.is_lost().await;
    cluster.masters()[1].restart(Restart::FromFiles);
    ear.hears().await;
}

#[test]
fn a_bus_needs_a_runtime_to_listen() {
    let bus = bus("redis://127.0.0.1:1");
    let error = bus.listen(Arc::new(Notes::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}
