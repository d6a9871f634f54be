//! What every tier of bytes promises, point by point, on one server and on three.

use std::collections::BTreeSet;

use auth_cache::MemcachedTransport;
use auth_core::{ByteTier, Generation, TierAsk, TierWrite, Written};
use auth_testkit::servers::skipped;

use crate::helpers::{BOTH, MINUTE, key, later, name, patient, read, seconds, server, tier, write};

async fn everywhere(
    check: impl AsyncFn(&dyn Fn() -> auth_cache::MemcachedTier, &[auth_testkit::servers::Memcached]),
) {
    if skipped("memcached") {
        return;
    }
    for count in [1, 3] {
        for transport in BOTH {
            let servers: Vec<_> = (0..count).map(|_| server()).collect();
            let ports: Vec<_> = servers.iter().map(auth_testkit::servers::Memcached::port).collect();
            let make = || {
                let mut config = patient(&ports);
                config.transport = transport;
                tier(config)
            };
            check(&make, &servers).await;
        }
    }
}

#[tokio::test]
async fn what_is_written_is_read_by_everybody_with_its_generations() {
    everywhere(async |make, servers| {
        let (ours, theirs) = (make(), make());
        assert_eq!((ours.kind(), ours.lanes()), ("memcached", servers.len()));
        let every_byte: Vec<u8> = (0..=255).chain(*b"\r\nEN\r\nmn\r\n").collect();
        for number in 0..20 {
            let (entry, generations) = (name(number), [name(number + 100), name(number + 200)]);
            let lane = ours.lane(&entry);
            assert_eq!(theirs.lane(&entry), lane);
            let before = read(&ours, entry, &generations).await.unwrap();
            assert_eq!((before.entry, before.generations, before.left), (None, vec![None, None], None));

            let made = ours.make(lane, &generations, MINUTE).await.unwrap();
            assert_eq!(theirs.make(lane, &generations, MINUTE).await.unwrap(), made, "what is there stays");
            assert_ne!(made[0], made[1]);
            let pairs = [(generations[0], made[0]), (generations[1], made[1])];
            let until = later(before.now, MINUTE);
            assert_eq!(write(&ours, entry, &every_byte, until, &pairs).await.unwrap(), Written::Stored);

            let after = read(&theirs, entry, &generations).await.unwrap();
            assert_eq!(after.entry.as_deref(), Some(&every_byte[..]));
            assert_eq!(after.generations, [Some(made[0]), Some(made[1])]);
            let left = after.left.expect("memcached says it");
            assert!(left < MINUTE && left > MINUTE / 2, "{left:?}");
            assert_eq!(after.incarnation, before.incarnation, "the same life of the same server");
            // It is on its lane, and nowhere else.
            let found =
                servers.iter().filter(|server| server.command(format!("mg {}", key(&entry))) == "HD\r\n");
            assert_eq!(found.count(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_voided_generation_is_gone_and_never_what_it_was_again() {
    everywhere(async |make, servers| {
        let tier = make();
        let names = [name(1), name(2), name(3)];
        for lane in 0..servers.len() {
            let mut seen = BTreeSet::new();
            for _ in 0..10 {
                let made = tier.make(lane, &names, MINUTE).await.unwrap();
                assert!(made.iter().all(|generation| seen.insert(*generation.as_bytes())), "{made:?}");
                tier.void(lane, &names[..2]).await.unwrap();
                let again = tier.make(lane, &names, MINUTE).await.unwrap();
                assert!(again[0] != made[0] && again[1] != made[1] && again[2] == made[2]);
                tier.void(lane, &names).await.unwrap();
                tier.void(lane, &names).await.unwrap();
            }
            // Each lane has its own.
            assert!(
                servers.iter().all(|server| server.command(format!("mg {}", key(&names[0]))) == "EN\r\n")
            );
        }
        assert!(tier.void(servers.len(), &names).await.is_err(), "no such lane");
    })
    .await;
}

#[tokio::test]
async fn many_entries_come_in_the_order_of_the_questions_from_every_lane() {
    everywhere(async |make, servers| {
        let tier = make();
        let subject = name(1_000_000);
        let mut generations = Vec::new();
        for lane in 0..servers.len() {
            generations.push(tier.make(lane, &[subject], MINUTE).await.unwrap()[0]);
        }
        let now = read(&tier, subject, &[]).await.unwrap().now;
        let names: Vec<_> = (0..300).map(name).collect();
        let bytes: Vec<_> = (0..300).map(|n: u32| n.to_be_bytes().repeat(20)).collect();
        let pairs: Vec<_> = names.iter().map(|name| [(subject, generations[tier.lane(name)])]).collect();
        let writes: Vec<_> = (0..300)
            .filter(|n| n % 3 != 0)
            .map(|n| TierWrite {
                entry: names[n],
                bytes: &bytes[n],
                until: later(now, MINUTE),
                generations: &pairs[n],
                keep_generations: MINUTE,
            })
            .collect();
        let written = tier.write(&writes).await;
        assert!(written.len() == 200 && written.iter().all(|done| matches!(done, Ok(Written::Stored))));

        let subjects = [subject];
        let asks: Vec<_> =
            names.iter().map(|entry| TierAsk { entry: *entry, generations: &subjects }).collect();
        for (n, found) in tier.read(&asks).await.into_iter().enumerate() {
            let found = found.unwrap();
            assert_eq!(found.entry.as_deref(), (n % 3 != 0).then_some(&bytes[n][..]), "{n}");
            assert_eq!(found.generations, [Some(generations[tier.lane(&names[n])])]);
        }
        assert!(tier.read(&[]).await.is_empty() && tier.write(&[]).await.is_empty());
        tier.probe().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_read_is_one_round_trip_and_asks_for_nothing_twice() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let tier = tier(patient(&[server.port()]));
    let count = || {
        let stats = server.command("stats");
        let line = stats.lines().find_map(|line| line.strip_prefix("STAT cmd_get ")).expect("a count");
        line.trim().parse::<u64>().expect("a number")
    };
    tier.probe().await.unwrap();
    let before = count();
    let subjects = [name(1), name(2), name(3)];
    let entries: Vec<_> = (10..60).map(name).collect();
    let asks: Vec<_> =
        entries.iter().map(|entry| TierAsk { entry: *entry, generations: &subjects }).collect();
    assert!(tier.read(&asks).await.iter().all(Result::is_ok));
    assert_eq!(count() - before, 53);
}

#[tokio::test]
async fn the_clock_is_the_servers_never_ahead_and_never_back() {
    everywhere(async |make, servers| {
        let tier = make();
        let mut last = vec![0; servers.len()];
        for number in 0..200 {
            let lane = tier.lane(&name(number));
            let now = read(&tier, name(number), &[]).await.unwrap().now.as_millis();
            assert!(now >= last[lane], "{now} after {}", last[lane]);
            last[lane] = now;
        }
        for (server, last) in servers.iter().zip(last) {
            let seconds = seconds(server);
            // Another second may have begun since.
            assert!(last < (seconds + 1) * 1000 && last + 3000 > seconds * 1000, "{last} at {seconds}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_tier_works_on_while_runtimes_come_and_go() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    for transport in BOTH {
        let mut config = patient(&[server.port()]);
        config.transport = transport;
        let tier = std::sync::Arc::new(tier(config));
        for _ in 0..3 {
            let tier = std::sync::Arc::clone(&tier);
            let own = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { tier.probe().await })
            });
            own.join().unwrap().unwrap();
        }
        tier.probe().await.unwrap();
    }
}

#[tokio::test]
async fn two_prefixes_share_nothing() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let ours = tier(patient(&[server.port()]));
    let mut config = patient(&[server.port()]);
    config.prefix = "test:other:".into();
    config.transport = MemcachedTransport::Memcache;
    let theirs = tier(config);
    let made = ours.make(0, &[name(1)], MINUTE).await.unwrap();
    assert_eq!(read(&theirs, name(2), &[name(1)]).await.unwrap().generations, [None::<Generation>]);
    assert_ne!(theirs.make(0, &[name(1)], MINUTE).await.unwrap(), made);
    theirs.void(0, &[name(1)]).await.unwrap();
    assert_eq!(ours.make(0, &[name(1)], MINUTE).await.unwrap(), made);
}
