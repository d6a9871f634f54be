//! What a cache has done, counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shelf::Found;

/// What a cache has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Questions answered from memory.
    pub hits: u64,
    /// Those of the hits that said that there is nobody or nothing.
    pub negative_hits: u64,
    /// Questions that memory could not answer.
    pub misses: u64,
    /// Those of the misses that shared a load which somebody else had begun.
    pub coalesced: u64,
    /// Questions put to the source.
    pub loads: u64,
    /// Those of the loads that ended with an error, a time limit or a panic.
    pub load_errors: u64,
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
    /// Entries that are kept at most.
    pub capacity: u64,
    /// The greatest age of an answer from memory.
    pub max_age: Duration,
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
}

/// Tells what a cache has done.
pub trait Reports: fmt::Debug + Send + Sync {
    /// Returns the statistics so far.
    fn report(&self) -> Report;
}

/// The counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) negative_hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) load_errors: AtomicU64,
    load_nanos: AtomicU64,
    pub(crate) voided: AtomicU64,
    pub(crate) expired: AtomicU64,
    max_age_nanos: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Counters {
    pub(crate) fn hit(&self, negative: bool, age: Duration) {
        count(&self.hits);
        if negative {
            count(&self.negative_hits);
        }
        // Most hits are no record: look before writing, which would take the line from other cores.
        let age = nanos(age);
        if age > self.max_age_nanos.load(Ordering::Relaxed) {
            self.max_age_nanos.fetch_max(age, Ordering::Relaxed);
        }
    }

    pub(crate) fn miss(&self, found: &Found) {
        count(&self.misses);
        match found {
            Found::Void => count(&self.voided),
            Found::Expired => count(&self.expired),
            Found::Good(..) | Found::Nothing => {}
        }
    }

    pub(crate) fn load(&self, took: Duration, failed: bool) {
        count(&self.loads);
        if failed {
            count(&self.load_errors);
        }
        self.load_nanos.fetch_add(nanos(took), Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            negative_hits: read(&self.negative_hits),
            misses: read(&self.misses),
            coalesced: read(&self.coalesced),
            loads: read(&self.loads),
            load_errors: read(&self.load_errors),
            load_time: Duration::from_nanos(read(&self.load_nanos)),
            voided: read(&self.voided),
            expired: read(&self.expired),
            max_age: Duration::from_nanos(read(&self.max_age_nanos)),
            ..CacheStats::default()
        }
    }
}
