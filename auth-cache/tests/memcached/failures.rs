//! Servers that stall, are lost and come back: never a wrong answer, never a long wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use auth_cache::MemcachedTransport;
use auth_core::{ByteTier as _, ErrorKind, TierAsk};
use auth_testkit::servers::{skipped, stopwatch};
use auth_testkit::{Proxy, Way};

use crate::helpers::{
    BOTH, MINUTE, config, failure, keep, key, later, name, patient, read, recovery, server, tier, write,
};

/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_millis(250);
/// Soon enough to be no wait at all, most of the time.
const AT_ONCE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_times_out_no_answer_is_ever_that_of_another_key() {
    if skipped("memcached") {
        return;
    }
    for transport in BOTH {
        let server = server();
        let direct = tier(patient(&[server.port()]));
        for number in 0..500 {
            keep(&direct, name(number), &number.to_be_bytes().repeat(usize::try_from(number).unwrap() + 1))
                .await;
        }
        let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
        let mut config = config(&[proxy.address().port()]);
        (config.timeout, config.transport) = (Duration::from_millis(10), transport);
        let tier = Arc::new(tier(config));
        recovery(&tier, name(0)).await;
        let (right, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..64)
            .map(|reader| {
                let (tier, over) = (Arc::clone(&tier), Arc::clone(&over));
                let (right, failed) = (Arc::clone(&right), Arc::clone(&failed));
                tokio::spawn(async move {
                    let mut number: u64 = reader;
                    while !over.load(Ordering::Relaxed) {
                        number = (number * 7 + reader + 1) % 500;
                        let entries = [name(number), name((number + 1) % 500), name(1000 + number)];
                        let asks = entries.map(|entry| TierAsk { entry, generations: &[] });
                        // One that leaves in the middle harms nobody.
                        let limit =
                            if number.is_multiple_of(10) { Duration::from_micros(50) } else { MINUTE };
                        let Ok(reads) = tokio::time::timeout(limit, tier.read(&asks)).await else { continue };
                        for (at, found) in reads.into_iter().enumerate() {
                            let Ok(found) = found else {
                                failed.fetch_add(1, Ordering::Relaxed);
                                tokio::time::sleep(Duration::from_millis(1)).await;
                                continue;
                            };
                            let expected = [Some(number), Some((number + 1) % 500), None][at].map(|number| {
                                number.to_be_bytes().repeat(usize::try_from(number).unwrap() + 1)
                            });
                            assert!(found.entry == expected, "another's answer to {number}.{at}");
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for round in 0..20 {
            let before = right.load(Ordering::Relaxed);
            match round % 5 {
                0 => proxy.stall(),
                1 => proxy.hold(Way::ToClient),
                2 => proxy.delay(Duration::from_millis(12)),
                3 => proxy.lose(Way::ToClient),
                _ => proxy.reset(),
            }
            let failures = failed.load(Ordering::Relaxed);
            let began = stopwatch();
            while failed.load(Ordering::Relaxed) < failures + 20 && round % 5 != 4 {
                assert!(began.elapsed() < MINUTE, "it never fails");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.heal();
            while right.load(Ordering::Relaxed) < before + 300 {
                assert!(began.elapsed() < MINUTE, "it never comes back");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("no wrong answer");
        }
        assert!(right.load(Ordering::Relaxed) >= 6000 && failed.load(Ordering::Relaxed) >= 300);
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_costs_the_limit_once_and_then_nothing_until_it_goes_on() {
    if skipped("memcached") {
        return;
    }
    for transport in BOTH {
        let server = server();
        let mut config = config(&[server.port()]);
        config.transport = transport;
        let tier = tier(config);
        recovery(&tier, name(1)).await;
        keep(&tier, name(1), b"bytes").await;
        let before = read(&tier, name(1), &[]).await.unwrap();
        server.stop_signal();
        let began = stopwatch();
        let error = read(&tier, name(1), &[]).await.unwrap_err();
        let took = began.elapsed();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
        assert!(took < Duration::from_millis(50) + SLACK, "{took:?}");
        if transport == MemcachedTransport::Memcache {
            // Each of its connections is given up by itself; the watch beside them learns of it by its own question.
            let began = stopwatch();
            while failure(&tier, name(1)).await.kind() == ErrorKind::Timeout {
                assert!(began.elapsed() < MINUTE, "the watch never learns of it");
            }
        }
        let mut took = Vec::new();
        for _ in 0..50 {
            let began = stopwatch();
            let error = tier.void(0, &[name(2)]).await.unwrap_err();
            took.push(began.elapsed());
            assert!(matches!(error.kind(), ErrorKind::Unavailable), "{error}");
        }
        took.sort_unstable();
        assert!(took[25] < AT_ONCE, "{took:?}");
        server.cont_signal();
        let took = recovery(&tier, name(1)).await;
        assert!(took < Duration::from_millis(1400) + SLACK, "{took:?}");
        let after = read(&tier, name(1), &[]).await.unwrap();
        assert_eq!(
            (after.entry, after.incarnation),
            (before.entry, before.incarnation),
            "it has lost nothing"
        );
        assert!(after.now >= before.now);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_empty_has_another_incarnation() {
    if skipped("memcached") {
        return;
    }
    for transport in BOTH {
        let server = server();
        let mut config = config(&[server.port()]);
        config.transport = transport;
        let tier = tier(config);
        recovery(&tier, name(1)).await;
        keep(&tier, name(1), b"bytes").await;
        let before = read(&tier, name(1), &[]).await.unwrap();
        server.kill();
        let error = failure(&tier, name(1)).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let began = stopwatch();
        for _ in 0..50 {
            assert_eq!(read(&tier, name(1), &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
            assert!(tier.make(0, &[name(2)], MINUTE).await.is_err() && tier.probe().await.is_err());
        }
        assert!(began.elapsed() < AT_ONCE * 50, "{:?}", began.elapsed());
        server.restart();
        let took = recovery(&tier, name(1)).await;
        assert!(took < Duration::from_millis(1200) + SLACK, "{took:?}");
        let after = read(&tier, name(1), &[]).await.unwrap();
        assert_eq!(after.entry, None);
        assert_ne!(after.incarnation, before.incarnation);
        let mut config = patient(&[server.port()]);
        config.transport = transport;
        let other = crate::helpers::tier(config);
        assert_eq!(
            read(&other, name(1), &[]).await.unwrap().incarnation,
            after.incarnation,
            "the same for all"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_found_when_it_comes() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    server.kill();
    let tier = tier(config(&[server.port()]));
    assert_eq!(tier.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    recovery(&tier, name(1)).await;
}

#[tokio::test]
async fn of_three_servers_a_lost_one_fails_its_own_lane_and_nothing_is_moved() {
    if skipped("memcached") {
        return;
    }
    for transport in BOTH {
        let servers = [server(), server(), server()];
        let mut config = patient(&servers.each_ref().map(auth_testkit::servers::Memcached::port));
        config.transport = transport;
        let tier = tier(config);
        tier.probe().await.unwrap();
        let names: Vec<_> = (0..60).map(name).collect();
        for entry in &names {
            keep(&tier, *entry, b"bytes").await;
        }
        let lost = tier.lane(&names[0]);
        servers[lost].kill();
        failure(&tier, names[0]).await;
        let asks: Vec<_> = names.iter().map(|entry| TierAsk { entry: *entry, generations: &[] }).collect();
        for (entry, found) in names.iter().zip(tier.read(&asks).await) {
            match found {
                Ok(found) => assert!(tier.lane(entry) != lost && found.entry.is_some()),
                Err(error) => assert!(tier.lane(entry) == lost && error.kind() == ErrorKind::Unavailable),
            }
        }
        let now = read(&tier, *names.iter().find(|entry| tier.lane(entry) != lost).unwrap(), &[])
            .await
            .unwrap()
            .now;
        assert!(write(&tier, names[0], b"moved", later(now, MINUTE), &[]).await.is_err());
        let moved = |server: &auth_testkit::servers::Memcached| {
            server.try_command(format!("mg {}", key(&names[0]))).is_ok_and(|found| found != "EN\r\n")
        };
        assert!(!servers.iter().any(moved));
        assert!(tier.probe().await.is_err() && tier.void(lost, &names[..1]).await.is_err());
        for lane in (0..3).filter(|lane| *lane != lost) {
            tier.void(lane, &names[..1]).await.unwrap();
        }
        servers[lost].restart();
        recovery(&tier, names[0]).await;
        assert_eq!(read(&tier, names[0], &[]).await.unwrap().entry, None);
        tier.probe().await.unwrap();
    }
}

#[tokio::test]
async fn no_more_calls_wait_than_are_allowed() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    for transport in BOTH {
        let mut config = patient(&[proxy.address().port()]);
        (config.in_flight, config.transport) = (8, transport);
        let tier = Arc::new(tier(config));
        tier.probe().await.unwrap();
        proxy.stall();
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let tier = Arc::clone(&tier);
                tokio::spawn(async move { read(&tier, name(number), &[]).await })
            })
            .collect();
        let waits = || calls.iter().filter(|call| !call.is_finished()).count();
        let began = stopwatch();
        while waits() > 8 {
            assert!(began.elapsed() < Duration::from_secs(4), "{} wait", waits());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(waits(), 8);
        assert_eq!(read(&tier, name(1), &[]).await.unwrap_err().kind(), ErrorKind::Overloaded);
        proxy.heal();
        let mut refused = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(found) => assert_eq!(found.entry, None),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 12);
        tier.probe().await.unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_cut_or_half_open_heals_by_itself() {
    if skipped("memcached") {
        return;
    }
    for transport in BOTH {
        let server = server();
        let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
        let mut config = config(&[proxy.address().port()]);
        config.transport = transport;
        let tier = tier(config);
        recovery(&tier, name(1)).await;
        keep(&tier, name(1), b"bytes").await;
        for fault in [Proxy::cut, Proxy::stall, Proxy::reset] {
            fault(&proxy);
            // A reset alone may be over before anybody asks.
            let began = stopwatch();
            while proxy.open() > 0 && began.elapsed() < Duration::from_millis(100) {
                let _ = read(&tier, name(1), &[]).await;
            }
            proxy.heal();
            recovery(&tier, name(1)).await;
            assert_eq!(read(&tier, name(1), &[]).await.unwrap().entry.as_deref(), Some(&b"bytes"[..]));
        }
    }
}

#[tokio::test]
async fn a_tier_that_is_dropped_leaves_no_connection() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    for transport in BOTH {
        let mut config = patient(&[proxy.address().port()]);
        config.transport = transport;
        let tier = tier(config);
        keep(&tier, name(1), b"bytes").await;
        assert!(proxy.open() > 0);
        drop(tier);
        let began = stopwatch();
        while proxy.open() > 0 {
            assert!(began.elapsed() < MINUTE, "{} are open", proxy.open());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
