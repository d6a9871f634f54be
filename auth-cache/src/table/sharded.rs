//! A bounded map in shards, each an LRU list under its own lock.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use lru::LruCache;

// Small maps have one shard, so that they are exactly LRU and nothing goes before they are full.
const SHARDS: usize = 16;
const LEAST_PER_SHARD: usize = 64;

type Lru<K, V> = LruCache<K, V, RandomState>;

pub(crate) struct Sharded<K, V> {
    // Keyed per process: logins are chosen by strangers.
    hasher: RandomState,
    shards: Box<[Shard<K, V>]>,
    capacity: usize,
}

struct Shard<K, V> {
    capacity: usize,
    // A std mutex: nothing awaits while it is held.
    entries: Mutex<Lru<K, V>>,
}

impl<K: Hash + Eq, V: Clone> Sharded<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let count = if capacity >= SHARDS * LEAST_PER_SHARD { SHARDS } else { 1 };
        let shards = (0..count)
            .map(|n| Shard {
                capacity: capacity / count + usize::from(n < capacity % count),
                // Unbounded, since a bounded one takes all its memory at once; `put` keeps the bound.
                entries: Mutex::new(LruCache::unbounded_with_hasher(RandomState::default())),
            })
            .collect();
        Self { hasher: RandomState::default(), shards, capacity }
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.shard(key)?.lock().get(key).cloned()
    }

    pub(crate) fn put<Q: Hash + Eq + ?Sized>(&self, key: K, value: V)
    where
        K: Borrow<Q>,
    {
        let Some(shard) = self.shard(key.borrow()) else { return };
        if shard.capacity == 0 {
            return;
        }
        let mut entries = shard.lock();
        entries.put(key, value);
        let gone = if entries.len() > shard.capacity { entries.pop_lru() } else { None };
        // What goes is dropped without the lock.
        drop(entries);
        drop(gone);
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(shard) = self.shard(key) {
            let gone = shard.lock().pop(key);
            drop(gone);
        }
    }

    pub(crate) fn retain(&self, keep: impl Fn(&K, &V) -> bool) {
        for shard in &self.shards {
            shard.lock().retain(|key, value| keep(key, value));
        }
    }

    /// Goes through all entries, a shard at a time.
    pub(crate) fn each(&self, mut see: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.lock().iter().for_each(|(key, value)| see(key, value));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> Option<&Shard<K, V>> {
        let count = u64::try_from(self.shards.len()).ok().filter(|count| *count > 1);
        let at = count.map_or(0, |count| self.hasher.hash_one(key) % count);
        self.shards.get(usize::try_from(at).ok()?)
    }
}

impl<K, V> Shard<K, V> {
    fn lock(&self) -> MutexGuard<'_, Lru<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> fmt::Debug for Sharded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
