//! The kind `lru`.

use super::{Sharded, Table};
use crate::key::Asked;
use crate::{Ask, Entry, Key};

/// A table that lets the least recently used entry go: the kind `lru`.
///
/// Up to 1,023 entries it is exactly that; above, it is in 16 shards, each of them is.
#[derive(Debug)]
pub struct LruTable(Sharded<Key, Entry>);

impl LruTable {
    /// Makes a table for so many entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Sharded::new(capacity))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Table for LruTable {
    fn get(&self, ask: &Ask<'_>) -> Option<Entry> {
        self.0.get(ask as &dyn Asked)
    }

    fn put(&self, key: Key, entry: Entry) {
        self.0.put::<dyn Asked>(key, entry);
    }

    fn remove(&self, ask: &Ask<'_>) {
        self.0.remove(ask as &dyn Asked);
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn evictions(&self) -> u64 {
        self.0.evictions()
    }

    fn clear(&self) {
        self.0.retain(|_, _| false);
    }
}
