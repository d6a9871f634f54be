//! The kind `lfu`: moka's TinyLFU.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::budget::{Apart, cost, pick, shards};
use super::by_recency::Ready;
use super::{Bound, Table, Usage};
use crate::key::Asked;
use crate::{Ask, Entry, Key};

/// A table that keeps what is used most often, by moka's TinyLFU: the kind `lfu`.
///
/// The engine does its upkeep behind the callers: what is new is kept at first and judged a little later, and
/// then it may be the new one that goes. Until then the table may pass its bound, by what some hundreds of
/// `put`s bring. [`usage`](Table::usage) does the upkeep first, and goes over all entries to tell their bytes
/// where the bound is a number of entries.
pub struct LfuTable {
    // Absent where nothing is to be kept.
    cache: Option<Cache<Key, Kept, Ready>>,
    // Held while a key of the shard is written; see `put`.
    writing: Box<[Apart<Mutex<()>>]>,
    bound: Bound,
    evictions: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Kept {
    entry: Entry,
    cost: u32,
}

impl LfuTable {
    /// Makes a table of this bound.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let (Bound::Entries(most) | Bound::Bytes(most)) = bound;
        let cache = (most > 0).then(|| {
            let gone = Arc::clone(&evictions);
            let builder = Cache::builder()
                .max_capacity(u64::try_from(most).unwrap_or(u64::MAX))
                .eviction_listener(move |_, _, cause| {
                    if cause == RemovalCause::Size {
                        gone.fetch_add(1, Ordering::Relaxed);
                    }
                });
            match bound {
                Bound::Entries(_) => builder.build_with_hasher(Ready),
                Bound::Bytes(_) => builder.weigher(|_, kept: &Kept| kept.cost).build_with_hasher(Ready),
            }
        });
        Self { cache, writing: shards(Some(bound)), bound, evictions }
    }
}

impl LfuTable {
    fn lock(&self, ask: &Ask<'_>) -> Option<MutexGuard<'_, ()>> {
        Some(pick(&self.writing, ask.hash64())?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Table for LfuTable {
    // What it shows is a copy: the engine gives no other.
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        if let Some(kept) = self.cache.as_ref().and_then(|cache| cache.get(ask as &dyn Asked)) {
            see(&kept.entry);
        }
    }

    fn put(&self, key: Key, entry: Entry) {
        let Some(cache) = &self.cache else { return };
        let cost = cost(&key.ask(), &entry);
        let _writing = self.lock(&key.ask());
        if matches!(self.bound, Bound::Bytes(most) if usize::try_from(cost).is_ok_and(|cost| cost > most)) {
            cache.invalidate(&key.ask() as &dyn Asked);
            return;
        }
        // Out and in again, never in place: the engine loses count of sizes when it lets an entry go while it
        // is replaced. In between, others find nothing.
        if cache.contains_key(&key.ask() as &dyn Asked) {
            cache.invalidate(&key.ask() as &dyn Asked);
        }
        cache.insert(key, Kept { entry, cost });
    }

    fn remove(&self, ask: &Ask<'_>) {
        if let Some(cache) = &self.cache {
            let _writing = self.lock(ask);
            cache.invalidate(ask as &dyn Asked);
        }
    }

    fn usage(&self) -> Usage {
        let Some(cache) = &self.cache else { return Usage::default() };
        cache.run_pending_tasks();
        let bytes = match self.bound {
            Bound::Bytes(_) => cache.weighted_size(),
            // The engine counts what it is bounded by, and its notices are not exact when threads race.
            Bound::Entries(_) => cache.iter().map(|(_, kept)| u64::from(kept.cost)).sum(),
        };
        Usage { entries: cache.entry_count(), bytes, evictions: self.evictions.load(Ordering::Relaxed) }
    }

    fn bound(&self) -> Option<Bound> {
        Some(self.bound)
    }

    fn clear(&self) {
        if let Some(cache) = &self.cache {
            // Not `invalidate_all`, which only hides what is kept until the upkeep finds it.
            for (key, _) in cache {
                let _writing = self.lock(&key.ask());
                cache.invalidate(&*key);
            }
        }
    }
}

impl fmt::Debug for LfuTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LfuTable").field("bound", &self.bound).finish_non_exhaustive()
    }
}
