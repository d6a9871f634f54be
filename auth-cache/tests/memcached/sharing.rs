//! Which server has what.

use auth_cache::{MemcachedConfig, MemcachedTier};
use auth_core::{ByteTier as _, ErrorKind};

use crate::helpers::{clock, name, tier};

const NAMES: u64 = 10_000;

fn of(servers: &str) -> MemcachedTier {
    tier(MemcachedConfig::new(format!("memcached://{servers}"), "p:"))
}

/// The servers of all names, by the place in a list.
fn shares(tier: &MemcachedTier) -> Vec<usize> {
    (0..NAMES).map(|number| tier.lane(&name(number))).collect()
}

#[test]
fn each_server_has_its_share() {
    let tier = of("a,b,c,d:11212,d");
    let mut counts = [0_u32; 5];
    shares(&tier).into_iter().for_each(|lane| counts[lane] += 1);
    assert!(counts.iter().all(|count| (1_850..2_150).contains(count)), "{counts:?}");
}

#[test]
fn a_server_more_or_less_moves_its_own_share_alone() {
    let (three, four) = (shares(&of("a,b,c")), shares(&of("a,b,c,d")));
    let moved: Vec<_> = three.iter().zip(&four).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(_, after)| **after == 3), "only to the one that has come");
    assert!((2_350..2_650).contains(&moved.len()), "{}", moved.len());
    // The first of them gone: the others keep their own.
    let without = shares(&of("b,c,d"));
    assert!(four.iter().zip(&without).all(|(before, after)| *before == 0 || *before == after + 1));
}

#[test]
fn the_order_of_the_list_and_how_a_name_is_written_change_nothing() {
    let (one, other) = (shares(&of("a,b,c")), shares(&of("C:11211,A,b:11211")));
    assert!(one.iter().zip(&other).all(|(lane, of)| [1, 2, 0][*lane] == *of));
}

#[test]
fn every_version_shares_alike() {
    let lanes: Vec<_> = shares(&of("10.0.0.1,10.0.0.2,[fe80::1]:11300")).into_iter().take(24).collect();
    assert_eq!(lanes, [0, 1, 2, 1, 2, 0, 1, 2, 2, 1, 0, 0, 2, 1, 1, 2, 2, 2, 1, 0, 1, 0, 2, 1]);
}

#[test]
fn what_cant_be_is_refused_and_never_shown() {
    let config = |url: &str, prefix: &str| MemcachedTier::new(MemcachedConfig::new(url, prefix), clock());
    let long = "x".repeat(101);
    for prefix in ["", "a b", "a\r\nset evil 0 0 1\r\n", "a\tb", "a\0", "ü", "a\u{7f}", long.as_str()] {
        let error = config("memcached://a", prefix).expect_err(prefix);
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(prefix.is_empty() || !error.to_string().contains(prefix), "{error}");
    }
    assert!(config("memcached://a", &"x".repeat(100)).is_ok());
    let urls = [
        "",
        "redis://a",
        "memcached://",
        "memcached://a,",
        "memcached://a,,b",
        "memcached://a:0",
        "memcached://a:65536",
        "memcached://a:x",
        "memcached://a b",
        "memcached://a/1",
        "memcached://a?x=y",
        "memcached://a,a:11211",
        "memcached://user:secret@a",
        "memcached://[::1",
        "memcached://[::1]x",
        "memcached://:11211",
        "memcached+unix://a",
    ];
    for url in urls {
        let error = config(url, "p").expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    for url in [
        "memcached://a",
        "memcached://[::1]:1,[::1]",
        "memcached+unix:///run/m.sock",
        "memcached://a.b-c_d:9",
    ] {
        assert!(config(url, "p").is_ok(), "{url}");
    }
}
