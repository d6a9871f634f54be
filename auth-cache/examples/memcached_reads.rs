//! How fast a tier of memcached reads, by either of its transports: `cargo run --release -p auth-cache --example
//! memcached_reads [SECONDS]`. Starts a memcached of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a program that measures")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use auth_cache::{MemcachedConfig, MemcachedTier, MemcachedTransport};
use auth_core::{
    BoxFuture, ByteTier as _, Clock, Generation, Moment, TierAsk, TierTime, TierWrite, WireName,
};
use auth_testkit::servers::{Memcached, MemcachedOptions, stopwatch};

const ENTRIES: u128 = 1_000;
/// What a sealed account takes, about.
const BYTES: [u8; 200] = [b'x'; 200];
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct RealClock(Instant);

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

fn name(number: u128) -> WireName {
    WireName::new((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let server = Memcached::start(&MemcachedOptions::default());
    let clock = Arc::new(RealClock(stopwatch()));
    let tier = |transport| {
        let mut config = MemcachedConfig::new(server.url(), "bench:");
        (config.transport, config.timeout) = (transport, Duration::from_secs(5));
        let clock = Arc::<RealClock>::clone(&clock);
        Arc::new(MemcachedTier::new(config, clock).expect("a possible configuration"))
    };
    let tiers =
        [MemcachedTransport::Multiplexed, MemcachedTransport::Memcache].map(|kind| (kind, tier(kind)));
    let (_, first) = tiers.first().expect("two of them");
    // Three generations: those of the person, the realm, and everything.
    let generations = [1, 2, 3].map(|number| name(number + ENTRIES));
    let made = first.make(0, &generations, HOUR).await.expect("a server");
    let pairs: Vec<(WireName, Generation)> = generations.into_iter().zip(made).collect();
    let until = {
        let read =
            first.read(&[TierAsk { entry: name(0), generations: &[] }]).await.remove(0).expect("a server");
        TierTime::from_millis(read.now.as_millis() + 3_600_000)
    };
    for number in 0..ENTRIES {
        let entry = name(number);
        let write = TierWrite { entry, bytes: &BYTES, until, generations: &pairs, keep_generations: HOUR };
        first.write(&[write]).await.remove(0).expect("a server");
    }
    println!("{:<12} {:>8} {:>10} {:>9} {:>9}", "transport", "callers", "reads/s", "p50 us", "p99 us");
    for _ in 0..3 {
        for callers in [1, 16, 256] {
            for (kind, tier) in &tiers {
                let (rate, half, most) =
                    measure(tier, generations, callers, Duration::from_secs(seconds)).await;
                println!("{:<12} {callers:>8} {rate:>10} {half:>9} {most:>9}", format!("{kind:?}"));
            }
        }
    }
}

/// Reads per second, and how long a read takes in microseconds: half of them at most, and all but one of a hundred.
async fn measure(
    tier: &Arc<MemcachedTier>,
    generations: [WireName; 3],
    callers: u128,
    time: Duration,
) -> (u128, u128, u128) {
    let began = stopwatch();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let tier = Arc::clone(tier);
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut number = caller * 7;
                while began.elapsed() < time {
                    number = (number + 1) % ENTRIES;
                    let asked = stopwatch();
                    let ask = TierAsk { entry: name(number), generations: &generations };
                    let read = tier.read(&[ask]).await.remove(0).expect("a server");
                    assert!(read.entry.is_some_and(|entry| entry == BYTES));
                    assert!(read.generations.iter().all(Option::is_some));
                    took.push(asked.elapsed().as_micros());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("reads"));
    }
    let rate = u128::try_from(took.len()).unwrap() * 1000 / began.elapsed().as_millis();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    (rate, at(50), at(99))
}
