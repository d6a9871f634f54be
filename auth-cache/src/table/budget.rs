//! What every table of ours needs: a bound that all shards share, and the choice of a shard.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Bound, Usage};
use crate::{Ask, Entry};

// Below this, a table has one shard, so that it does exactly what its kind says.
const ONE_SHARD: usize = 1024;
// What an entry is taken for where only bytes are given.
const TYPICAL_BYTES: usize = 256;
const MOST_SHARDS: usize = 90;
const LEAST_BUCKETS: usize = 128;

/// Counts what a table holds, for all of its shards, and says when something has to go.
///
/// Who adds looks afterwards whether the bound is passed, and then takes something out or takes back what was
/// added: so many threads at once never keep more than the bound, and when they are done the count is exact.
#[derive(Debug)]
pub(super) struct Budget {
    bound: Option<Bound>,
    // The most that one entry may cost.
    largest: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
}

impl Budget {
    /// Makes the budget of a table with so many shards.
    pub(super) fn new(bound: Option<Bound>, shards: usize) -> Self {
        let largest = match bound {
            None => u64::MAX,
            Some(Bound::Entries(0)) => 0,
            Some(Bound::Entries(_)) => u64::MAX,
            Some(Bound::Bytes(most)) => wide(most / shards.max(1)),
        };
        Self {
            bound,
            largest,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    pub(super) const fn bound(&self) -> Option<Bound> {
        self.bound
    }

    /// Reports whether an entry of this cost may be kept at all.
    pub(super) fn admits(&self, cost: u32) -> bool {
        u64::from(cost) <= self.largest
    }

    /// Reports whether something has to go.
    pub(super) fn over(&self) -> bool {
        match self.bound {
            None => false,
            Some(Bound::Entries(most)) => self.entries.load(Ordering::Relaxed) > wide(most),
            Some(Bound::Bytes(most)) => self.bytes.load(Ordering::Relaxed) > wide(most),
        }
    }

    /// Counts one in.
    pub(super) fn add(&self, cost: u32) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(cost), Ordering::Relaxed);
    }

    /// Counts one out.
    pub(super) fn take(&self, cost: u32) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(u64::from(cost), Ordering::Relaxed);
    }

    /// Counts one out that had to go for others.
    pub(super) fn evict(&self, cost: u32) {
        self.take(cost);
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one in the place of another.
    pub(super) fn replace(&self, old: u32, new: u32) {
        // The larger sum first would pass the bound for a moment without need.
        self.bytes.fetch_sub(u64::from(old), Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(new), Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

/// One part of a table, on cache lines of its own, since each part has its own lock.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// Makes the shards of a table.
///
/// From 1,024 entries on so many that a full one leaves a quarter of its hash table free: that is little waste,
/// and no growth when entries come and go.
pub(super) fn shards<T: Default>(bound: Option<Bound>) -> Box<[Apart<T>]> {
    let entries = match bound {
        None => usize::MAX,
        Some(Bound::Entries(most)) => most,
        Some(Bound::Bytes(most)) => most / TYPICAL_BYTES,
    };
    let count = if entries < ONE_SHARD { 1 } else { shard_count(entries) };
    (0..count).map(|_| Apart::default()).collect()
}

fn shard_count(entries: usize) -> usize {
    let mut buckets = LEAST_BUCKETS;
    loop {
        let count = entries.div_ceil(buckets / 4 * 3);
        if count <= MOST_SHARDS {
            return count;
        }
        let Some(more) = buckets.checked_mul(2) else { return MOST_SHARDS };
        buckets = more;
    }
}

/// Picks the shard of a hash by its upper half.
#[inline]
pub(super) fn pick<T>(shards: &[Apart<T>], hash: u64) -> Option<&T> {
    let at = ((hash >> 32).wrapping_mul(wide(shards.len()))) >> 32;
    shards.get(usize::try_from(at).ok()?).map(|shard| &shard.0)
}

/// Returns the lower half of a hash, which is all that is used within a shard.
pub(super) fn low(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

/// Spreads the lower half of a hash for a hash table, which looks at both ends of a word.
pub(super) fn spread(low: u32) -> u64 {
    u64::from(low).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns what keeping an entry costs. One of 4 GiB fits no bound that matters.
pub(super) fn cost(ask: &Ask<'_>, entry: &Entry) -> u32 {
    u32::try_from(entry.bytes(ask)).unwrap_or(u32::MAX)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_have_one_shard_and_large_ones_are_cut_to_fit() {
        let count = |bound| shards::<u8>(Some(bound)).len();
        for small in [0, 1, 1023] {
            assert_eq!((count(Bound::Entries(small)), count(Bound::Bytes(small * 256))), (1, 1));
        }
        for large in [1024, 10_000, 100_000, 262_144, 1_000_000, 123_456_789] {
            let count = count(Bound::Entries(large));
            assert!((8..=MOST_SHARDS).contains(&count), "{large}: {count}");
            let buckets = (large / count).next_power_of_two();
            assert!(large / count <= buckets / 4 * 3 && large / count >= buckets / 2, "{large}: {count}");
        }
        assert_eq!(shards::<u8>(None).len(), shard_count(usize::MAX));
    }

    #[test]
    fn hashes_are_spread_over_all_shards() {
        let shards = shards::<std::cell::Cell<u32>>(Some(Bound::Entries(100_000)));
        for n in 0..100_000_u64 {
            let cell = pick(&shards, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
            cell.set(cell.get() + 1);
        }
        let mean = 100_000 / u32::try_from(shards.len()).unwrap();
        assert!(shards.iter().all(|shard| shard.0.get() > mean / 2 && shard.0.get() < mean * 2));
    }
}
