//! What a cache has done, counted.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::settings::nanos;
use crate::shared::SharedStats;
use crate::shelf::Missed;
use crate::table::Bound;

/// What a cache has done so far. Holds no name and no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Questions answered from memory within the lifetime of the answer.
    pub hits: u64,
    /// Those of the hits that said that there is nobody or nothing.
    pub negative_hits: u64,
    /// Questions answered from memory past the lifetime, since the source failed.
    pub stale: u64,
    /// Questions that memory could not answer, the stale ones among them.
    pub misses: u64,
    /// Those of the misses that shared a load which was under way.
    pub coalesced: u64,
    /// Those of the misses that were not put to the source, since it is left alone after failures: answered by
    /// an error or by an old answer.
    pub backed_off: u64,
    /// Those of the misses that were refused, since too many questions wait for the source, or got no turn in
    /// time.
    pub overloaded: u64,
    /// Questions put to the source.
    pub loads: u64,
    /// Those of the loads that nobody waited for: to have a new answer before the old one ends.
    pub refreshes: u64,
    /// Those of the loads that ended with an error, a time limit or a panic.
    pub load_errors: u64,
    /// Loads that are under way now.
    pub under_way: u64,
    /// Those of the load errors that were a load's own time limit.
    pub timeouts: u64,
    /// How long all loads took together.
    pub load_time: Duration,
    /// Entries that were found and loads that came back after an invalidation had voided them.
    pub voided: u64,
    /// Entries that were found past their lifetime.
    pub expired: u64,
    /// Entries that had to go for others.
    pub evictions: u64,
    /// Entries that are kept now.
    pub entries: u64,
    /// Their bytes, texts included, estimated.
    pub bytes: u64,
    /// How much is kept at most, answers that there is nobody or nothing included. Nothing where there is
    /// no bound.
    pub bound: Option<Bound>,
    /// How old the answers of the hits were. Its maximum shows that none outlived its lifetime.
    pub ages: AgeHistogram,
    /// The greatest age of an answer that stood in for a source that had failed.
    pub max_stale_age: Duration,
}

/// How old answers from memory were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AgeHistogram {
    counts: [u64; Self::BUCKETS],
    max: Duration,
}

impl AgeHistogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = 32;

    /// Returns the buckets, each with its upper bound and the number of answers that were at most so old and
    /// older than the bound before: at most 1 ms, 2 ms, 4 ms and so on to 12 days; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        (0_u32..).zip(&self.counts).map(|(n, count)| {
            let bound = (u64::from(n) + 1 < Self::BUCKETS as u64).then(|| Duration::from_millis(1 << n));
            (bound, *count)
        })
    }

    /// Returns how many answers were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns about how old they were all together: each counts as the middle of its bucket, since an exact
    /// sum would be a second counter for each hit.
    #[must_use]
    pub fn sum(&self) -> Duration {
        let mut sum = Duration::ZERO;
        let mut from = Duration::ZERO;
        for (bound, count) in self.buckets() {
            let to = bound.unwrap_or(self.max).max(from);
            let middle = nanos((from + to) / 2);
            sum = sum.saturating_add(Duration::from_nanos(middle.saturating_mul(count)));
            from = to;
        }
        sum
    }

    /// Returns an age that this part of the answers did not pass, 0.5 for one half: the bound of its bucket, or
    /// the greatest age if that is less.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a rank among so many may be off by some")]
        let rank = self.count() as f64 * part;
        let mut below = 0;
        for (bound, count) in self.buckets() {
            below += count;
            #[expect(clippy::cast_precision_loss, reason = "a rank among so many may be off by some")]
            if below as f64 >= rank {
                return bound.map_or(self.max, |bound| bound.min(self.max));
            }
        }
        self.max
    }

    /// Returns the greatest age, exactly.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }
}

impl Default for AgeHistogram {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS], max: Duration::ZERO }
    }
}

impl fmt::Debug for AgeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.buckets().filter(|(_, count)| *count > 0);
        f.debug_map().entries(used).entry(&"max", &self.max).finish()
    }
}

/// The statistics of one cache, with what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The source that is cached; for tokens the realm's name.
    pub source: Arc<str>,
    /// What is cached: `accounts`, `groups`, `access` or `tokens`.
    pub kind: &'static str,
    /// What it has done.
    pub stats: CacheStats,
    /// What its part of the shared cache has done, if there is one.
    pub shared: Option<SharedStats>,
}

/// Tells what a cache has done.
pub trait Reports: fmt::Debug + Send + Sync {
    /// Returns the statistics so far.
    fn report(&self) -> Report;
}

// A power of two. Two threads that count on one stripe are right, only slower.
const STRIPES: usize = 16;

/// What one group of threads has counted, on cache lines of its own: 128 bytes, since processors fetch two
/// neighbours at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    // A hit is one of these: their sum is the number of hits.
    ages: [AtomicU64; AgeHistogram::BUCKETS],
    max_age: AtomicU64,
    negative_hits: AtomicU64,
    stale: AtomicU64,
    max_stale_age: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
    backed_off: AtomicU64,
    overloaded: AtomicU64,
    loads: AtomicU64,
    refreshes: AtomicU64,
    load_errors: AtomicU64,
    timeouts: AtomicU64,
    load_nanos: AtomicU64,
    voided: AtomicU64,
    expired: AtomicU64,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered,
    Failed,
    TimedOut,
}

/// The counters behind [`CacheStats`].
#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[Stripe; STRIPES]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { stripes: Box::new(std::array::from_fn(|_| Stripe::default())) }
    }
}

// Which stripe a thread counts on. Not state of the product: it only spreads threads over cache lines.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[cold]
fn take_place() -> usize {
    let place = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    PLACE.set(place);
    place
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn raise(greatest: &AtomicU64, n: u64) {
    // Most are no record: look before writing, which would take the line from other cores.
    if n > greatest.load(Ordering::Relaxed) {
        greatest.fetch_max(n, Ordering::Relaxed);
    }
}

/// Returns the place of an age among the buckets: how many bits the milliseconds begun before it have.
#[inline]
fn bucket(age: u64) -> usize {
    let begun = age.saturating_sub(1) / 1_000_000;
    let bits = (u64::BITS - begun.leading_zeros()) as usize;
    bits.min(AgeHistogram::BUCKETS - 1)
}

impl Counters {
    #[inline]
    fn mine(&self) -> &Stripe {
        let place = PLACE.get();
        let place = if place == usize::MAX { take_place() } else { place };
        let [first, ..] = &*self.stripes;
        // The mask keeps it in range; the compiler sees that and drops the other way.
        self.stripes.get(place & (STRIPES - 1)).unwrap_or(first)
    }

    /// Counts an answer from memory of this age, in nanoseconds.
    #[inline]
    pub(crate) fn hit(&self, negative: bool, age: u64) {
        let mine = self.mine();
        if let Some(counter) = mine.ages.get(bucket(age)) {
            add(counter, 1);
        }
        raise(&mine.max_age, age);
        if negative {
            add(&mine.negative_hits, 1);
        }
    }

    pub(crate) fn stale(&self, age: u64) {
        let mine = self.mine();
        add(&mine.stale, 1);
        raise(&mine.max_stale_age, age);
    }

    pub(crate) fn miss(&self, missed: Missed) {
        let mine = self.mine();
        add(&mine.misses, 1);
        match missed {
            Missed::Void => add(&mine.voided, 1),
            Missed::Expired => add(&mine.expired, 1),
            Missed::Nothing => {}
        }
    }

    pub(crate) fn coalesced(&self) {
        add(&self.mine().coalesced, 1);
    }

    pub(crate) fn backed_off(&self, questions: u64) {
        add(&self.mine().backed_off, questions);
    }

    pub(crate) fn overloaded(&self, questions: u64) {
        add(&self.mine().overloaded, questions);
    }

    pub(crate) fn refresh(&self) {
        add(&self.mine().refreshes, 1);
    }

    pub(crate) fn voided(&self) {
        add(&self.mine().voided, 1);
    }

    pub(crate) fn load(&self, took: Duration, ended: Ended) {
        let mine = self.mine();
        add(&mine.loads, 1);
        add(&mine.load_nanos, nanos(took));
        if ended != Ended::Answered {
            add(&mine.load_errors, 1);
        }
        if ended == Ended::TimedOut {
            add(&mine.timeouts, 1);
        }
    }

    pub(crate) fn snapshot(&self) -> CacheStats {
        let all =
            |of: fn(&Stripe) -> &AtomicU64| self.stripes.iter().map(move |s| of(s).load(Ordering::Relaxed));
        let sum = |of: fn(&Stripe) -> &AtomicU64| all(of).fold(0, u64::wrapping_add);
        let greatest = |of| Duration::from_nanos(all(of).max().unwrap_or_default());
        let mut ages = AgeHistogram { max: greatest(|s| &s.max_age), ..AgeHistogram::default() };
        for stripe in self.stripes.iter() {
            for (sum, count) in ages.counts.iter_mut().zip(&stripe.ages) {
                *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        CacheStats {
            hits: ages.count(),
            negative_hits: sum(|s| &s.negative_hits),
            stale: sum(|s| &s.stale),
            misses: sum(|s| &s.misses),
            coalesced: sum(|s| &s.coalesced),
            backed_off: sum(|s| &s.backed_off),
            overloaded: sum(|s| &s.overloaded),
            loads: sum(|s| &s.loads),
            refreshes: sum(|s| &s.refreshes),
            load_errors: sum(|s| &s.load_errors),
            timeouts: sum(|s| &s.timeouts),
            load_time: Duration::from_nanos(sum(|s| &s.load_nanos)),
            voided: sum(|s| &s.voided),
            expired: sum(|s| &s.expired),
            ages,
            max_stale_age: greatest(|s| &s.max_stale_age),
            ..CacheStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_age_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        for (nth, (bound, _)) in AgeHistogram::default().buckets().enumerate() {
            let Some(bound) = bound.map(nanos) else {
                assert_eq!((nth, bucket(u64::MAX)), (AgeHistogram::BUCKETS - 1, nth));
                continue;
            };
            assert_eq!((bucket(bound), bucket(bound + 1)), (nth, nth + 1));
        }
        assert_eq!((bucket(0), bucket(1), bucket(999_999)), (0, 0, 0));
        let (last, _) = AgeHistogram::default().buckets().nth(AgeHistogram::BUCKETS - 2).unwrap();
        assert!(last.unwrap() > Duration::from_secs(12 * 24 * 3600));
    }

    #[test]
    fn what_many_threads_count_adds_up() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for thread in 0..40_u64 {
                let counters = &counters;
                scope.spawn(move || {
                    for n in 0..100 {
                        counters.hit(n % 2 == 0, thread * 1_000_000);
                        counters.miss(Missed::Void);
                    }
                    counters.stale(thread);
                    counters.load(Duration::from_nanos(3), Ended::TimedOut);
                });
            }
        });
        let stats = counters.snapshot();
        assert_eq!((stats.hits, stats.negative_hits, stats.ages.count()), (4000, 2000, 4000));
        assert_eq!((stats.misses, stats.voided, stats.expired), (4000, 4000, 0));
        assert_eq!((stats.stale, stats.max_stale_age), (40, Duration::from_nanos(39)));
        assert_eq!((stats.loads, stats.load_errors, stats.timeouts), (40, 40, 40));
        assert_eq!(stats.load_time, Duration::from_nanos(120));
        assert_eq!(stats.ages.max(), Duration::from_millis(39));
        // The true sum is 78 s.
        assert_eq!(
            stats.ages.sum(),
            Duration::from_millis(100 + 150 + 600 + 2_400 + 9_600 + 38_400 + 33_600)
        );
        let quantile = |part| stats.ages.quantile(part).as_millis();
        assert_eq!([0.0, 0.05, 0.5, 0.8, 0.99, 1.0].map(quantile), [1, 1, 32, 32, 39, 39]);
        assert_eq!(AgeHistogram::default().quantile(0.5), Duration::ZERO);
        let filled: Vec<u64> = stats.ages.buckets().map(|(_, count)| count).take(7).collect();
        assert_eq!(filled, [200, 100, 200, 400, 800, 1600, 700]);
    }
}
