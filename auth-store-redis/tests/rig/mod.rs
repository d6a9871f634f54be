//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use auth_core::{ByteTier, Generation, Result, TierAsk, TierRead, TierTime, TierWrite, WireName, Written};
use auth_store_redis::{RedisConfig, RedisTier};
use auth_testkit::servers::{Reply, stopwatch};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) const PREFIX: &str = "gp:test:";

/// A configuration whose limits fit a busy machine.
pub(crate) fn config(url: &str) -> RedisConfig {
    let mut config = RedisConfig::new(url, PREFIX);
    config.timeout = Duration::from_secs(2);
    config.connect_timeout = Duration::from_secs(2);
    config
}

pub(crate) fn tier(url: &str) -> RedisTier {
    RedisTier::new(&config(url)).unwrap()
}

/// A name that begins with this byte, on which its lane depends.
pub(crate) fn name(first: u8, rest: u32) -> WireName {
    let mut bytes = [first; 16];
    bytes[12..].copy_from_slice(&rest.to_be_bytes());
    WireName::new(bytes)
}

/// What a name is called on the wire.
pub(crate) fn key(tier: &RedisTier, lane: usize, name: &WireName) -> String {
    let tag = if tier.lanes() == 1 { String::new() } else { format!("{{{lane}}}") };
    format!("{PREFIX}{tag}{}", URL_SAFE_NO_PAD.encode(name.as_bytes()))
}

pub(crate) async fn read(tier: &RedisTier, entry: WireName, generations: &[WireName]) -> Result<TierRead> {
    let mut read = tier.read(&[TierAsk { entry, generations }]).await;
    assert_eq!(read.len(), 1);
    read.remove(0)
}

pub(crate) async fn write(
    tier: &RedisTier,
    entry: WireName,
    bytes: &[u8],
    until: TierTime,
    generations: &[(WireName, Generation)],
) -> Result<Written> {
    let keep_generations = Duration::from_secs(300);
    let mut written = tier.write(&[TierWrite { entry, bytes, until, generations, keep_generations }]).await;
    assert_eq!(written.len(), 1);
    written.remove(0)
}

pub(crate) fn later(time: TierTime, by: i64) -> TierTime {
    TierTime::from_millis(time.as_millis().saturating_add_signed(by))
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) -> Duration {
    let began = stopwatch();
    while !so().await {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    began.elapsed()
}

/// Returns the commands that a server was ever sent.
pub(crate) fn commands(info: &Reply) -> Vec<String> {
    let info = info.text();
    let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    names.map(|(name, _)| name.to_lowercase()).collect()
}

/// Fails if any command lists keys or removes what is not ours.
pub(crate) fn refuse_listing(info: &Reply) {
    for command in commands(info) {
        let listing = ["keys", "scan", "flushall", "flushdb", "randomkey", "swapdb"];
        assert!(!listing.contains(&command.as_str()), "{command} was sent");
    }
}
