//! `NoTable`: keeps nothing.

use super::{Bound, Table, Usage};
use crate::{Ask, Entry, Key};

/// Keeps nothing: where all that is kept is kept in a shared cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTable;

#[deny(clippy::missing_trait_methods)]
impl Table for NoTable {
    fn see(&self, _ask: &Ask<'_>, _see: &mut dyn FnMut(&Entry)) {}

    fn put(&self, _key: Key, _entry: Entry) {}

    fn remove(&self, _ask: &Ask<'_>) {}

    fn get(&self, _ask: &Ask<'_>) -> Option<Entry> {
        None
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn bound(&self) -> Option<Bound> {
        Some(Bound::Entries(0))
    }

    fn clear(&self) {}
}
