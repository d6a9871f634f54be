//! The kind `lru`.

use super::{Bound, Sharded, Table, Usage};
use crate::key::Asked;
use crate::{Ask, Entry, Key};

/// A table that lets the least recently used entry go: the kind `lru`.
///
/// Up to 1,023 entries it is exactly that; above, it is in 16 shards, each of them is.
#[derive(Debug)]
pub struct LruTable {
    entries: Sharded<Key, Entry>,
    bound: Bound,
}

impl LruTable {
    /// Makes a table for so many entries.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        let (Bound::Entries(capacity) | Bound::Bytes(capacity)) = bound;
        Self { entries: Sharded::new(capacity), bound }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Table for LruTable {
    fn get(&self, ask: &Ask<'_>) -> Option<Entry> {
        self.entries.get(ask as &dyn Asked)
    }

    fn put(&self, key: Key, entry: Entry) {
        self.entries.put::<dyn Asked>(key, entry);
    }

    fn remove(&self, ask: &Ask<'_>) {
        self.entries.remove(ask as &dyn Asked);
    }

    fn usage(&self) -> Usage {
        let entries = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Usage { entries, bytes: 0, evictions: self.entries.evictions() }
    }

    fn bound(&self) -> Option<Bound> {
        Some(self.bound)
    }

    fn clear(&self) {
        self.entries.retain(|_, _| false);
    }
}
