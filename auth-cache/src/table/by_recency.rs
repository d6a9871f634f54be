//! The kind `lru`.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::budget::{Apart, Budget, cost, low, pick, shards, spread};
use super::{Bound, Table, Usage};
use crate::key::Asked;
use crate::{Ask, Entry, Key};

/// A table that lets the least recently used entry go: the kind `lru`.
///
/// Up to 1,023 entries it is exactly that; above, it is in shards of one common bound, and the least
/// recently used entry of a shard goes.
pub struct LruTable {
    shards: Box<[Apart<Mutex<Shard>>]>,
    budget: Budget,
}

struct Shard(LruCache<Key, Entry, Ready>);

/// Takes the hash that a question carries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready;

#[derive(Debug, Default)]
pub(super) struct Taken(u64);

impl BuildHasher for Ready {
    type Hasher = Taken;

    fn build_hasher(&self) -> Taken {
        Taken::default()
    }
}

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        // The upper half has chosen the shard.
        spread(low(self.0))
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used by our keys; right all the same.
        for byte in bytes {
            self.0 = spread(low(self.0 ^ u64::from(*byte))) >> 16;
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Default for Shard {
    fn default() -> Self {
        // Unbounded, since a bounded one takes all its memory at once; the budget keeps the bound.
        Self(LruCache::unbounded_with_hasher(Ready))
    }
}

impl LruTable {
    /// Makes a table of this bound.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let shards = shards(Some(bound));
        let budget = Budget::new(Some(bound), shards.len());
        Self { shards, budget }
    }
}

impl Table for LruTable {
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
        let Some(shard) = pick(&self.shards, ask.hash64()) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = shard.0.get(ask as &dyn Asked) {
            see(entry);
        }
    }

    fn put(&self, key: Key, entry: Entry) {
        let cost = cost(&key.ask(), &entry);
        if !self.budget.admits(cost) {
            self.remove(&key.ask());
            return;
        }
        if let Some(shard) = pick(&self.shards, key.ask().hash64()) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.put(key, entry, cost, &self.budget);
            // What goes is dropped without the lock.
            drop(shard);
            drop(gone);
        }
    }

    fn remove(&self, ask: &Ask<'_>) {
        if let Some(shard) = pick(&self.shards, ask.hash64()) {
            let gone = shard.lock().unwrap_or_else(PoisonError::into_inner).0.pop_entry(ask as &dyn Asked);
            if let Some((key, entry)) = gone {
                self.budget.take(cost(&key.ask(), &entry));
            }
        }
    }

    fn usage(&self) -> Usage {
        self.budget.usage()
    }

    fn bound(&self) -> Option<Bound> {
        self.budget.bound()
    }

    fn clear(&self) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *shard.0.lock().unwrap_or_else(PoisonError::into_inner));
            for (key, entry) in gone.0.iter() {
                self.budget.take(cost(&key.ask(), entry));
            }
        }
    }
}

impl Shard {
    fn put(&mut self, key: Key, entry: Entry, cost: u32, budget: &Budget) -> Vec<(Option<Key>, Entry)> {
        let mut gone = Vec::new();
        if let Some(place) = self.0.get_mut(&key.ask() as &dyn Asked) {
            budget.replace(self::cost(&key.ask(), place), cost);
            gone.push((None, std::mem::replace(place, entry)));
            self.shrink(budget, &mut gone);
        } else {
            budget.add(cost);
            if self.shrink(budget, &mut gone) {
                self.0.put(key, entry);
            } else {
                // The other shards hold all of it.
                budget.take(cost);
            }
        }
        gone
    }

    /// Lets entries go until the budget is kept. Reports false if none is left and it is not.
    fn shrink(&mut self, budget: &Budget, gone: &mut Vec<(Option<Key>, Entry)>) -> bool {
        while budget.over() {
            let Some((key, entry)) = self.0.pop_lru() else { return false };
            budget.evict(cost(&key.ask(), &entry));
            gone.push((Some(key), entry));
        }
        true
    }
}

impl fmt::Debug for LruTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LruTable").field("budget", &self.budget).finish_non_exhaustive()
    }
}
