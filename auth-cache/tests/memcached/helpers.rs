//! A tier, its servers, and short words.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use auth_cache::{MemcachedConfig, MemcachedTier, MemcachedTransport};
use auth_core::{
    BoxFuture, ByteTier as _, Clock, Error, Generation, Moment, Result, TierAsk, TierRead, TierTime,
    TierWrite, WireName, Written,
};
use auth_testkit::servers::{Memcached, MemcachedOptions, stopwatch};

pub(crate) const PREFIX: &str = "test:";
pub(crate) const BOTH: [MemcachedTransport; 2] =
    [MemcachedTransport::Multiplexed, MemcachedTransport::Memcache];
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// The real time: these are real servers.
#[derive(Debug)]
pub(crate) struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Moment {
        Moment::ZERO + self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "it is the clock")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, when: Moment) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(when.since(self.now())))
    }
}

pub(crate) fn clock() -> Arc<RealClock> {
    Arc::new(RealClock(stopwatch()))
}

pub(crate) fn server() -> Memcached {
    Memcached::start(&MemcachedOptions::default())
}

pub(crate) fn url(ports: &[u16]) -> String {
    let servers: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("memcached://{}", servers.join(","))
}

pub(crate) fn config(ports: &[u16]) -> MemcachedConfig {
    MemcachedConfig::new(url(ports), PREFIX)
}

/// Patient, for a busy machine: what the limits do has tests of its own.
pub(crate) fn patient(ports: &[u16]) -> MemcachedConfig {
    let mut config = config(ports);
    config.timeout = Duration::from_secs(5);
    config.connect_timeout = Duration::from_secs(5);
    config
}

pub(crate) fn tier(config: MemcachedConfig) -> MemcachedTier {
    MemcachedTier::new(config, clock()).expect("a possible configuration")
}

/// A name that looks as a keyed hash does.
pub(crate) fn name(number: u64) -> WireName {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let (high, low) = (word(), word());
    WireName::new(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
}

/// The key of a name, computed another way than the tier does.
pub(crate) fn key(name: &WireName) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(*name.as_bytes());
    let digit = |at: u32| {
        let six = if at == 21 { (number << 4) & 63 } else { (number >> (122 - 6 * at)) & 63 };
        char::from(DIGITS[usize::try_from(six).unwrap()])
    };
    PREFIX.to_owned() + &(0..22).map(digit).collect::<String>()
}

pub(crate) fn later(time: TierTime, by: Duration) -> TierTime {
    TierTime::from_millis(time.as_millis() + u64::try_from(by.as_millis()).unwrap())
}

/// The server's clock by the second, seen from outside.
pub(crate) fn seconds(server: &Memcached) -> u64 {
    let stats = server.command("stats");
    let line = stats.lines().find_map(|line| line.strip_prefix("STAT time ")).expect("a time");
    line.trim().parse().expect("a number")
}

/// What the server says of how long a key is left, in seconds; `None` if it is not there.
pub(crate) fn left(server: &Memcached, name: &WireName) -> Option<u64> {
    let answer = server.command(format!("mg {} t", key(name)));
    let answer = answer.trim();
    (answer != "EN").then(|| answer.strip_prefix("HD t").expect(answer).parse().expect("it ends"))
}

pub(crate) async fn read(
    tier: &MemcachedTier,
    entry: WireName,
    generations: &[WireName],
) -> Result<TierRead> {
    let mut reads = tier.read(&[TierAsk { entry, generations }]).await;
    assert_eq!(reads.len(), 1);
    reads.remove(0)
}

pub(crate) async fn write(
    tier: &MemcachedTier,
    entry: WireName,
    bytes: &[u8],
    until: TierTime,
    generations: &[(WireName, Generation)],
) -> Result<Written> {
    let mut written =
        tier.write(&[TierWrite { entry, bytes, until, generations, keep_generations: MINUTE }]).await;
    assert_eq!(written.len(), 1);
    written.remove(0)
}

/// Writes for a minute.
pub(crate) async fn keep(tier: &MemcachedTier, entry: WireName, bytes: &[u8]) {
    let now = read(tier, entry, &[]).await.expect("a server").now;
    assert_eq!(write(tier, entry, bytes, later(now, MINUTE), &[]).await.expect("a server"), Written::Stored);
}

/// Waits until a lane answers again, and returns how long it took.
pub(crate) async fn recovery(tier: &MemcachedTier, entry: WireName) -> Duration {
    let began = stopwatch();
    loop {
        match read(tier, entry, &[]).await {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "never: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the lane of an entry fails, and returns how.
pub(crate) async fn failure(tier: &MemcachedTier, entry: WireName) -> Error {
    let began = stopwatch();
    loop {
        if let Err(error) = read(tier, entry, &[]).await {
            return error;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it never fails");
        tokio::task::yield_now().await;
    }
}
