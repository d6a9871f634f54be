//! Two processes, what they share, and the ways in which that fails: nobody is told what is not so, nobody waits
//! for long, and what comes back is used again.
//!
//! Processes are stacks, each with a fence, caches, a bus and tasks of its own. With `--nocapture` each test prints
//! its figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod load;
mod truth;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use auth_core::{Reached, Subject};
use auth_testkit::servers::{
    Memcached, MemcachedOptions, Redis, RedisCluster, RedisOptions, RedisSentinel, Restart, skipped,
    stopwatch, until,
};
use auth_testkit::{Proxy, Way};

use load::{Figures, Load, Pair, Scene, alone, runtime};
use truth::{Asked, Told, login_of};

const BOTH: [Asked; 2] = [Asked::Changer, Asked::Other];

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// One Redis, and a proxy in front of it for each of two processes.
struct Links {
    redis: Redis,
    to: [Proxy; 2],
}

impl Links {
    fn start() -> Self {
        let redis = Redis::start(&RedisOptions::default());
        let to = [(); 2].map(|()| Proxy::start(address(redis.port())));
        Self { redis, to }
    }

    fn caches(&self) -> [String; 2] {
        [0, 1].map(|n| format!("url = \"redis://{}\"", self.to[n].address()))
    }

    /// Both kinds, 64 clients each.
    fn scene(&self, what: &'static str) -> Scene {
        Scene::start(what, Load::FULL, 2_000, &["redis", "tiered"].map(|kind| (kind, self.caches())))
    }
}

#[test]
fn what_one_process_voids_the_other_forgets_within_50_ms() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let runtime = runtime();
    // Nothing fails here, however busy the machine is.
    let caches = links.caches().map(|cache| format!("{cache}\ntimeout = \"2s\""));
    let pair = runtime.block_on(Pair::start("tiered", 500, caches));
    until("both hear", || pair.is_well());
    // In a task, as everything else is.
    let lags = runtime.block_on(runtime.spawn(async move {
        pair.processes
            .iter()
            .for_each(|process| process.front.slow.store(false, std::sync::atomic::Ordering::SeqCst));
        let mut lags = Vec::new();
        for round in 0..600 {
            let who = round % 500;
            let before = Told::Groups(round / 500);
            // It is loaded, and then known.
            for _ in 0..2 {
                assert_eq!(pair.groups(pair.other(), who).await.unwrap(), before);
            }
            let asked = pair.other().front.asked();
            assert_eq!(pair.groups(pair.other(), who).await.unwrap(), before);
            assert_eq!(pair.other().front.asked(), asked, "it is known");
            let changed = stopwatch();
            let version = pair.truth.change(who);
            pair.changer().stack.expire(&Subject::Login(&login_of(who)));
            while pair.groups(pair.other(), who).await.unwrap() == before {
                assert!(changed.elapsed() < seconds(5.0), "it never hears");
                tokio::task::yield_now().await;
            }
            lags.push(changed.elapsed());
            assert_eq!(pair.groups(pair.other(), who).await.unwrap(), Told::Groups(version));
            while pair.changer().stack.settle().await != Reached::Everything {
                assert!(changed.elapsed() < seconds(5.0), "it is never everywhere");
                tokio::task::yield_now().await;
            }
        }
        lags
    }));
    let lag = Figures::of(lags.unwrap());
    println!("revocation lag between two tiered processes: {} rounds, p50/p99/max ms {lag}", lag.count);
    assert!(lag.p99 < Duration::from_millis(50), "{lag:?}");
}

/// One process is cut off from Redis while the other changes people all the time.
fn check_link(what: &'static str, fault: impl FnOnce(&Proxy)) {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let load = Load { clients: 32, think: Duration::from_millis(4), changes_a_second: 100 };
    let mut scene = Scene::start(what, load, 300, &[("tiered", links.caches())]);
    scene.strike(&[Asked::Other], true, || fault(&links.to[1]));
    scene.suffers(seconds(4.0));
    scene.heal(|| links.to[1].heal());
}

#[test]
fn who_is_cut_off_tells_nothing_old_after_two_seconds_nor_when_it_is_back() {
    check_link("link cut", Proxy::cut);
}

#[test]
fn who_is_stalled_tells_nothing_old_after_two_seconds_nor_when_it_is_back() {
    check_link("link stalled", Proxy::stall);
}

#[test]
fn a_redis_that_is_killed_and_comes_back_empty_is_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let mut scene = links.scene("redis killed, back empty");
    scene.strike(&BOTH, true, || links.redis.kill());
    scene.suffers(seconds(3.5));
    scene.heal(|| links.redis.restart(Restart::Empty));
}

#[test]
fn a_redis_that_is_stopped_for_three_seconds_is_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let mut scene = links.scene("redis stopped");
    scene.strike(&BOTH, true, || links.redis.stop_signal());
    scene.suffers(seconds(3.0));
    scene.heal(|| links.redis.cont_signal());
}

#[test]
fn a_redis_that_takes_half_a_second_is_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let mut scene = links.scene("redis slow");
    scene.strike(&BOTH, false, || links.to.iter().for_each(|link| link.delay(seconds(0.25))));
    scene.suffers(seconds(3.5));
    scene.heal(|| links.to.iter().for_each(Proxy::heal));
}

#[test]
fn a_link_that_carries_only_one_way_is_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let mut scene = links.scene("link half open");
    // What the process sends arrives, and it hears nothing.
    scene.strike(&[Asked::Other], true, || links.to[1].lose(Way::ToClient));
    scene.suffers(seconds(3.5));
    scene.heal(|| {
        links.to[1].heal();
        // What was lost does not come back.
        links.to[1].reset();
    });
}

#[test]
fn a_redis_that_was_emptied_floods_no_source() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let links = Links::start();
    let mut scene = links.scene("redis emptied");
    scene.strike(&[], false, || drop(links.redis.command(&["FLUSHALL"])));
    scene.suffers(seconds(1.0));
    scene.heal(|| drop(links.redis.command(&["FLUSHALL"])));
}

#[test]
fn sentinels_that_make_another_master_are_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let set = RedisSentinel::start();
    let cache = format!("url = \"{}\"", set.url());
    let caches = ["redis", "tiered"].map(|kind| (kind, [cache.clone(), cache.clone()]));
    let mut scene = Scene::start("master killed, failover", Load::FULL, 2_000, &caches);
    scene.strike(&BOTH, false, || set.master().kill());
    scene.suffers(seconds(3.0));
    // By now another is master, or will be soon.
    scene.heal(|| ());
}

#[test]
fn a_cluster_that_loses_a_node_is_no_outage() {
    let _alone = alone();
    if skipped("redis") {
        return;
    }
    let cluster = RedisCluster::start(3);
    let cache = format!("url = \"{}\"", cluster.url());
    let caches = ["redis", "tiered"].map(|kind| (kind, [cache.clone(), cache.clone()]));
    // A change is 64 requests here, one for each lane.
    let load = Load { think: seconds(0.04), changes_a_second: 10, ..Load::FULL };
    let mut scene = Scene::start("cluster node killed and back", load, 2_000, &caches);
    scene.strike(&BOTH, false, || cluster.masters()[1].kill());
    scene.suffers(seconds(3.5));
    scene.heal(|| cluster.masters()[1].restart(Restart::FromFiles));
}

#[test]
fn memcached_that_loses_one_of_three_is_no_outage() {
    let _alone = alone();
    if skipped("memcached") || skipped("redis") {
        return;
    }
    let servers = [(); 3].map(|()| Memcached::start(&MemcachedOptions::default()));
    let bus = Redis::start(&RedisOptions::default());
    let hosts = servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port())).join(",");
    let url = format!("url = \"memcached://{hosts}\"");
    let tiered = format!("{url}\nbus = \"{}\"", bus.url());
    let caches = [("memcached", url), ("tiered", tiered)].map(|(kind, text)| (kind, [text.clone(), text]));
    let mut scene = Scene::start("memcached killed and back", Load::FULL, 2_000, &caches);
    scene.strike(&BOTH, false, || servers[1].kill());
    scene.suffers(seconds(3.5));
    scene.heal(|| servers[1].restart());
}
