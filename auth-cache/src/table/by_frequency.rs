//! The kind `ttl`, the default.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, UnitWeighter};

use super::{Bound, Table, Usage};
use crate::{Ask, Entry, Key};

const SHARDS: usize = 16;
const LEAST_PER_SHARD: usize = 64;

/// A table that admits by frequency, so that a scan does not drive out what is used: the kind `ttl`, the
/// default.
pub struct TtlTable {
    // Absent where nothing is to be kept.
    cache: Option<Cache<Key, Entry, UnitWeighter, RandomState, Watch>>,
    bound: Bound,
    evictions: AtomicU64,
}

#[derive(Debug, Clone)]
struct Watch;

/// What one `put` has driven out.
#[derive(Debug, Default)]
struct Gone {
    put: Option<Key>,
    others: u64,
}

impl Lifecycle<Key, Entry> for Watch {
    type RequestState = Gone;

    fn on_evict(&self, gone: &mut Gone, key: Key, _entry: Entry) {
        // The engine also calls this for an entry that is replaced.
        if gone.put.as_ref() != Some(&key) {
            gone.others += 1;
        }
    }
}

impl TtlTable {
    /// Makes a table for so many entries, rounded down to its shards from 1,024 on.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let (Bound::Entries(capacity) | Bound::Bytes(capacity)) = bound;
        let shards = if capacity >= SHARDS * LEAST_PER_SHARD { SHARDS } else { 1 };
        // Every shard has the same bound, which the engine rounds up.
        let capacity = capacity - capacity % shards;
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(capacity)
            .weight_capacity(u64::try_from(capacity).unwrap_or(u64::MAX))
            .build();
        let cache = match options {
            Ok(options) if capacity > 0 => {
                Some(Cache::with_options(options, UnitWeighter, RandomState::default(), Watch))
            }
            _ => None,
        };
        Self { cache, bound, evictions: AtomicU64::new(0) }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Table for TtlTable {
    fn get(&self, ask: &Ask<'_>) -> Option<Entry> {
        self.cache.as_ref()?.get(ask)
    }

    fn put(&self, key: Key, entry: Entry) {
        if let Some(cache) = &self.cache {
            let mut gone = Gone { put: Some(key.clone()), others: 0 };
            cache.insert_with_lifecycle(key, entry, &mut gone);
            self.evictions.fetch_add(gone.others, Ordering::Relaxed);
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        if let Some(cache) = &self.cache {
            drop(cache.remove(ask));
        }
    }

    fn usage(&self) -> Usage {
        let entries = self.cache.as_ref().map_or(0, Cache::len);
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        Usage { entries, bytes: 0, evictions: self.evictions.load(Ordering::Relaxed) }
    }

    fn bound(&self) -> Option<Bound> {
        Some(self.bound)
    }

    fn clear(&self) {
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }
}

impl fmt::Debug for TtlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TtlTable").field("bound", &self.bound).finish()
    }
}
