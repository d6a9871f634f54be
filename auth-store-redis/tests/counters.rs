//! The counters of the guard on real servers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod rig;

use std::sync::Arc;
use std::time::Duration;

use auth_core::{Attempt, Begun, Count, Counters, ErrorKind, Settled};
use auth_store_redis::RedisCounters;
use auth_testkit::servers::{Redis, RedisCluster, RedisOptions, Reply, Restart, skipped, stopwatch};
use auth_testkit::suite::{self, CounterBench};
use auth_testkit::{Proxy, Way};
use rig::{PREFIX, config, refuse_listing, until};

const HOUR: Duration = Duration::from_secs(3600);

fn bench() -> CounterBench {
    CounterBench::new(|by| Box::pin(tokio::time::sleep(by)))
}

fn counters(url: &str) -> RedisCounters {
    RedisCounters::new(&config(url)).unwrap()
}

async fn begin(counters: &RedisCounters, attempt: &Attempt, count: &Count) -> auth_core::Result<Begun> {
    counters.begin(attempt, std::slice::from_ref(count)).await.map(|begun| begun[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_on_one_server_do_what_all_counters_do() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    suite::run_all_counters(&counters(&redis.url()), &bench()).await;
    let keys = redis.command(&["KEYS", "*"]);
    assert!(keys.items().len() > 5);
    for key in keys.items().iter().map(Reply::text) {
        assert!(key.starts_with(&format!("{PREFIX}n:")), "{key}");
        let left = redis.command(&["PTTL", &key]).int();
        assert!(left > 0 && left <= 30 * 24 * 3600 * 1000, "each ends by itself: {left}");
        assert!(redis.command(&["STRLEN", &key]).int() <= 29 + 256, "each is bounded");
    }
    refuse_listing(&Reply::Bulk(
        redis.command(&["INFO", "commandstats"]).text().replace("cmdstat_keys", "").into_bytes(),
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_in_a_cluster_do_what_all_counters_do() {
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(3);
    suite::run_all_counters(&counters(&cluster.url()), &bench()).await;
    for node in cluster.masters() {
        assert!(node.command(&["DBSIZE"]).int() > 0, "every node has some");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_let_no_more_in_than_one_would() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let (bench, processes) = (Arc::new(bench()), 4);
    let count = bench.count(10, HOUR, HOUR);
    let tasks: Vec<_> = (0..processes)
        .map(|_| {
            let (bench, counters) = (Arc::clone(&bench), counters(&redis.url()));
            tokio::spawn(async move {
                let mut gone = 0;
                for _ in 0..50 {
                    match begin(&counters, &bench.attempt(), &count).await.unwrap() {
                        Begun::Go => gone += 1,
                        Begun::Wait(_) => {}
                    }
                }
                gone
            })
        })
        .collect();
    let mut gone = 0;
    for task in tasks {
        gone += task.await.unwrap();
    }
    assert_eq!(gone, 11, "ten are free, and one above, in all of them together");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_reply_was_lost_is_told_again_and_counts_once() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port()).into());
    let mut config = config(&format!("redis://{}", proxy.address()));
    config.timeout = Duration::from_millis(100);
    let counters = RedisCounters::new(&config).unwrap();
    let (bench, direct) = (bench(), self::counters(&redis.url()));
    let count = bench.count(1, HOUR, HOUR);
    // So that the scripts are known, and there is a connection.
    let other = bench.count(1, HOUR, HOUR);
    until("it counts", async || begin(&counters, &bench.attempt(), &other).await.is_ok()).await;
    counters.settle(&bench.attempt(), &[(other, Settled::Undone)]).await.unwrap();
    let again = async |attempt: &Attempt| {
        proxy.hold(Way::ToClient);
        let error = begin(&counters, attempt, &count).await.unwrap_err();
        assert!(error.kind().is_temporary(), "{error:?}");
        proxy.reset();
        proxy.heal();
        let began = stopwatch();
        loop {
            match begin(&counters, attempt, &count).await {
                Ok(begun) => return begun,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (first, second) = (bench.attempt(), bench.attempt());
    assert_eq!(again(&first).await, Begun::Go);
    assert_eq!(again(&second).await, Begun::Go, "it has begun the pause that it finds");
    assert!(matches!(again(&bench.attempt()).await, Begun::Wait(_)));
    // Counted twice in all: after both are taken back, nothing is left.
    proxy.hold(Way::ToClient);
    let ends = [(count, Settled::Undone)];
    assert!(counters.settle(&second, &ends).await.unwrap_err().kind().is_temporary());
    proxy.reset();
    proxy.heal();
    until("it is settled", async || counters.settle(&second, &ends).await.is_ok()).await;
    assert_eq!(begin(&direct, &bench.attempt(), &count).await.unwrap(), Begun::Go);
    assert!(matches!(begin(&direct, &bench.attempt(), &count).await.unwrap(), Begun::Wait(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_costs_the_limit_and_comes_back() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let mut config = config(&redis.url());
    config.timeout = Duration::from_millis(50);
    let (counters, bench) = (RedisCounters::new(&config).unwrap(), bench());
    let count = bench.count(1_000, HOUR, HOUR);
    let asked = async || begin(&counters, &bench.attempt(), &count).await;
    until("it counts", async || asked().await.is_ok()).await;
    redis.stop_signal();
    let began = stopwatch();
    let error = asked().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    redis.cont_signal();
    until("it counts again", async || asked().await.is_ok()).await;
    redis.kill();
    until("the loss is known", async || {
        asked().await.is_err_and(|error| error.kind() == ErrorKind::Unavailable)
    })
    .await;
    redis.restart(Restart::Empty);
    until("it counts again", async || asked().await.is_ok()).await;
    // What is no count of ours is not taken for one.
    let keys = redis.command(&["KEYS", "*"]);
    let key = keys.items()[0].text();
    redis.command(&["SET", &key, "something else"]);
    assert_eq!(asked().await.unwrap_err().kind(), ErrorKind::Corrupt);
    redis.command(&["DEL", &key]);
    redis.command(&["SADD", &key, "something else"]);
    assert_eq!(asked().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_makes_no_pause_longer() {
    if skipped("redis") {
        return;
    }
    let redis = Redis::start(&RedisOptions::default());
    let (counters, bench) = (counters(&redis.url()), bench());
    let count = bench.count(1, HOUR, Duration::from_secs(2));
    begin(&counters, &bench.attempt(), &count).await.unwrap();
    let key = redis.command(&["KEYS", "*"]).items()[0].text();
    // As if it had been written a day later: filled then, and with a pause until then.
    let later = "local v=redis.call('GET',KEYS[1]) local day=86400000 \
                 local l,s=struct.unpack('>I4I8',v,2) \
                 redis.call('SET',KEYS[1],'1'..struct.pack('>I4I8I8',l,s+day,s+day)..string.sub(v,22),'PX',999999)";
    redis.command(&["EVAL", later, "1", &key]);
    match begin(&counters, &bench.attempt(), &count).await.unwrap() {
        Begun::Wait(left) => assert!(left <= Duration::from_secs(2), "{left:?}"),
        Begun::Go => panic!("there is a pause"),
    }
}
