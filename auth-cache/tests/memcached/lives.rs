//! How long what is written stays on the server, and how large it may be.

use std::time::Duration;

use auth_core::{ByteTier as _, ErrorKind, TierTime, TierWrite, Written};
use auth_testkit::servers::{Memcached, MemcachedOptions, skipped};
use auth_testkit::{Proxy, Way};

use crate::helpers::{
    BOTH, MINUTE, config, keep, key, later, left, name, patient, read, seconds, server, tier, write,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn a_life_ends_on_the_server_when_it_should_also_if_it_is_longer_than_thirty_days() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    for transport in BOTH {
        let mut config = patient(&[server.port()]);
        config.transport = transport;
        let tier = tier(config);
        for (number, life) in
            [Duration::from_secs(5), MINUTE, DAY * 29, DAY * 31, DAY * 400].into_iter().enumerate()
        {
            let entry = name(u64::try_from(number).unwrap());
            let now = read(&tier, entry, &[]).await.unwrap().now;
            write(&tier, entry, b"bytes", later(now, life), &[]).await.unwrap();
            let left = left(&server, &entry).expect("it is there");
            // Never longer than it should, and no more than the seconds of two clocks shorter.
            assert!(left <= life.as_secs() && left + 3 >= life.as_secs(), "{left} of {life:?}");
            let told = read(&tier, entry, &[]).await.unwrap().left.unwrap();
            assert!(told < life && told + Duration::from_secs(4) >= life, "{told:?} of {life:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_is_not_read_at_its_end_or_after_it() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let tier = tier(patient(&[server.port()]));
    let now = read(&tier, name(1), &[]).await.unwrap().now;
    let until = later(now, Duration::from_millis(2500));
    write(&tier, name(1), b"bytes", until, &[]).await.unwrap();
    let mut reads = 0;
    loop {
        let found = read(&tier, name(1), &[]).await.unwrap();
        let Some(_) = found.entry else { break };
        assert!(found.now < until);
        assert!(later(found.now, found.left.unwrap()) <= until, "{found:?}");
        reads += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(reads > 0);
    assert!(seconds(&server) * 1000 <= until.as_millis() + 1000, "nor much earlier");
}

#[tokio::test]
async fn what_is_past_when_it_is_written_is_not_there() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    for transport in BOTH {
        let mut config = patient(&[server.port()]);
        config.transport = transport;
        let tier = tier(config);
        let now = read(&tier, name(1), &[]).await.unwrap().now;
        let past = TierTime::from_millis(now.as_millis() - 1500);
        // Small numbers would be times from now on.
        for until in [past, TierTime::from_millis(0), TierTime::from_millis(60_000)] {
            keep(&tier, name(1), b"before").await;
            write(&tier, name(1), b"late", until, &[]).await.unwrap();
            assert_eq!(left(&server, &name(1)), None, "{until:?}");
        }
    }
}

#[tokio::test]
async fn a_write_that_arrives_late_does_not_live_longer() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let mut config = patient(&[proxy.address().port()]);
    config.timeout = Duration::from_secs(20);
    let tier = tier(config);
    let now = read(&tier, name(1), &[]).await.unwrap().now;
    let until = later(now, Duration::from_secs(3));
    proxy.hold(Way::ToServer);
    let writing = write(&tier, name(1), b"late", until, &[]);
    let wait = async {
        while seconds(&server) * 1000 < until.as_millis() - 1000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(left(&server, &name(1)), None, "it is under way");
        proxy.heal();
    };
    let (written, ()) = tokio::join!(writing, wait);
    assert_eq!(written.unwrap(), Written::Stored);
    // It has come when its life was almost over, and lives no longer than that.
    let left = left(&server, &name(1));
    assert!(left.is_none_or(|left| left <= 2), "{left:?}");
}

#[tokio::test]
async fn generations_are_kept_as_long_as_asked_and_never_shortened() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    for (transport, first) in BOTH.into_iter().zip([0, 100]) {
        let mut config = patient(&[server.port()]);
        config.transport = transport;
        let tier = tier(config);
        let (short, long) = (name(first), name(first + 1));
        let generations = tier.make(0, &[short, long], MINUTE).await.unwrap();
        let kept = left(&server, &short).unwrap();
        assert!((60..=80).contains(&kept), "{kept}");
        // Another one needs it for longer, from making it or from writing.
        tier.make(0, &[long], DAY * 40).await.unwrap();
        assert!(left(&server, &long).unwrap() >= (DAY * 40).as_secs());
        let now = read(&tier, short, &[]).await.unwrap().now;
        let pairs = [(short, generations[0]), (long, generations[1])];
        for (entry, keep_generations) in [(name(first + 2), MINUTE * 60), (name(first + 3), MINUTE)] {
            let until = later(now, MINUTE);
            let write = TierWrite { entry, bytes: b"bytes", until, generations: &pairs, keep_generations };
            assert!(matches!(tier.write(&[write]).await[..], [Ok(Written::Stored)]));
            assert!(left(&server, &short).unwrap() >= 3600, "{keep_generations:?}");
            assert!(left(&server, &long).unwrap() >= (DAY * 40).as_secs(), "{keep_generations:?}");
        }
        // And one that is gone is not made by a write.
        tier.void(0, &[short]).await.unwrap();
        write(&tier, name(first + 2), b"bytes", later(now, MINUTE), &pairs).await.unwrap();
        assert_eq!(left(&server, &short), None);
        assert_eq!(read(&tier, name(first + 2), &[long]).await.unwrap().generations, [Some(generations[1])]);
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_not_kept_where_the_server_refuses_it() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let received = || {
        let stats = server.command("stats");
        let line = stats.lines().find_map(|line| line.strip_prefix("STAT bytes_read ")).expect("a count");
        line.trim().parse::<usize>().expect("a number")
    };
    for transport in BOTH {
        let mut config = patient(&[server.port()]);
        (config.transport, config.most_bytes) = (transport, 4 << 20);
        let tier = tier(config);
        let now = read(&tier, name(1), &[]).await.unwrap().now;
        let until = later(now, MINUTE);
        let (huge, large, small) = (vec![b'x'; 5 << 20], vec![b'x'; 2 << 20], vec![b'x'; 10]);
        let before = received();
        assert_eq!(write(&tier, name(1), &huge, until, &[]).await.unwrap(), Written::TooLarge);
        assert!(received() - before < 5 << 20, "it is not sent");
        assert_eq!(write(&tier, name(2), &large, until, &[]).await.unwrap(), Written::TooLarge);
        assert_eq!(write(&tier, name(3), &small, until, &[]).await.unwrap(), Written::Stored);
        assert_eq!(read(&tier, name(2), &[]).await.unwrap().entry, None);
        // Those beside it are kept.
        let written =
            |bytes| TierWrite { entry: name(4), bytes, until, generations: &[], keep_generations: MINUTE };
        let other = |bytes| TierWrite { entry: name(5), ..written(bytes) };
        let done = tier.write(&[written(&huge), other(&small)]).await;
        assert!(matches!(done[..], [Ok(Written::TooLarge), Ok(Written::Stored)]), "{done:?}");
        assert_eq!(read(&tier, name(5), &[]).await.unwrap().entry.as_deref(), Some(&small[..]));
    }
    let mut config = patient(&[server.port()]);
    config.most_bytes = 4 << 20;
    let tier = tier(config);
    let now = read(&tier, name(1), &[]).await.unwrap().now;
    let (large, small) = (vec![b'x'; 2 << 20], vec![b'x'; 10]);
    let generations = tier.make(0, &[name(9)], MINUTE).await.unwrap();
    let pairs = [(name(9), generations[0])];
    let write = |number, bytes| TierWrite {
        entry: name(number),
        bytes,
        until: later(now, MINUTE),
        generations: &pairs,
        keep_generations: MINUTE,
    };
    let done = tier.write(&[write(6, &small), write(7, &large), write(8, &small)]).await;
    assert!(
        matches!(done[..], [Ok(Written::Stored), Ok(Written::TooLarge), Ok(Written::Stored)]),
        "{done:?}"
    );
    assert_eq!(read(&tier, name(8), &[name(9)]).await.unwrap().generations, [Some(generations[0])]);
}

#[tokio::test]
async fn the_largest_entry_that_is_sent_fits_in_a_usual_server() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let mut config = patient(&[server.port()]);
    config.prefix = "p".repeat(100);
    let bytes = vec![0; config.most_bytes];
    let tier = tier(config);
    let now = read(&tier, name(1), &[]).await.unwrap().now;
    assert_eq!(write(&tier, name(1), &bytes, later(now, MINUTE), &[]).await.unwrap(), Written::Stored);
    assert_eq!(read(&tier, name(1), &[]).await.unwrap().entry, Some(bytes));
}

#[tokio::test]
async fn a_server_without_memory_is_overloaded() {
    if skipped("memcached") {
        return;
    }
    // -M: what has no room is refused, and pushes nothing out.
    let options =
        MemcachedOptions { memory: Some(2), more: vec!["-M".into()], ..MemcachedOptions::default() };
    let server = Memcached::start(&options);
    let tier = tier(patient(&[server.port()]));
    let now = read(&tier, name(1), &[]).await.unwrap().now;
    let bytes = vec![b'x'; 200 << 10];
    let mut refused = None;
    for number in 0..100 {
        if let Err(error) = write(&tier, name(number), &bytes, later(now, MINUTE), &[]).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("more than it has room for");
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert!(read(&tier, name(0), &[]).await.unwrap().entry.is_some(), "the connection goes on");
}

#[tokio::test]
async fn keys_hold_a_hash_under_the_prefix_and_nothing_else() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let tier = tier(config(&[server.port()]));
    keep(&tier, name(1), b"bytes").await;
    assert_eq!(server.command(format!("mg {} v", key(&name(1)))), "VA 5\r\nbytes\r\n");
    assert!(server.command("stats").contains("STAT curr_items 1\r\n"));
}
