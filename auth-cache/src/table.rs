//! Tables: bounded maps from questions to entries, and the list of their kinds.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::{Ask, Entry, Key};

mod budget;
mod by_frequency;
mod by_order;
mod by_recency;
mod by_tiny_lfu;
mod name;
mod none;
mod sharded;
#[cfg(test)]
mod tests;

pub use by_frequency::TtlTable;
pub use by_order::{Order, OrderTable};
pub use by_recency::LruTable;
pub use by_tiny_lfu::LfuTable;
pub use none::NoTable;
pub(crate) use sharded::Sharded;

/// How much a table may keep. Exhaustive, since every table must keep to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many entries.
    Entries(usize),
    /// So many bytes, counted by [`Entry::bytes`].
    Bytes(usize),
}

/// What a table holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Entries that are kept.
    pub entries: u64,
    /// Their bytes, counted by [`Entry::bytes`].
    pub bytes: u64,
    /// Entries that had to go for others so far. One that is replaced or removed is none of them.
    pub evictions: u64,
}

impl Usage {
    /// Tells what a table holds, and how many had to go so far.
    #[must_use]
    pub const fn new(entries: u64, bytes: u64, evictions: u64) -> Self {
        Self { entries, bytes, evictions }
    }
}

/// Keeps entries, at most as many as its bound says.
///
/// # Contract
/// - Lossy: an entry may go at any time. What is shown is what was last put under an equal question,
///   compared in full, never by a hash alone.
/// - It neither looks at the clock nor at the fence: whether an entry is still good is decided by who asks.
/// - [`see`](Self::see) does not wait long: no I/O. It does not allocate, but that the engine of `lfu` does its
///   upkeep in at most one of ten.
/// - A bound of zero keeps nothing and is not an error. An entry too large for the bound is not kept and
///   makes no other go; the one it would have replaced goes.
/// - A large bound costs little until it is used.
///
/// ```
/// use auth_cache::{Ask, Bound, Cached, Entry, Key, Settings, Table, Usage};
/// use std::sync::{Arc, Mutex, PoisonError};
///
/// /// Keeps the last entry of each slot.
/// #[derive(Debug)]
/// struct Slots(Mutex<Vec<Option<(Key, Entry)>>>);
///
/// impl Slots {
///     fn at<T>(&self, ask: &Ask<'_>, run: impl FnOnce(&mut Option<(Key, Entry)>) -> T) -> Option<T> {
///         let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         let place = ask.hash64().checked_rem(slots.len() as u64)?;
///         slots.get_mut(usize::try_from(place).ok()?).map(run)
///     }
/// }
///
/// impl Table for Slots {
///     fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry)) {
///         self.at(ask, |slot| match slot {
///             // The hash alone tells nobody from another.
///             Some((key, entry)) if key.ask() == *ask => see(entry),
///             _ => {}
///         });
///     }
///     fn put(&self, key: Key, entry: Entry) {
///         self.at(&key.clone().ask(), |slot| *slot = Some((key, entry)));
///     }
///     fn remove(&self, ask: &Ask<'_>) {
///         self.at(ask, |slot| slot.take_if(|(key, _)| key.ask() == *ask));
///     }
///     fn usage(&self) -> Usage {
///         let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         let bytes = slots.iter().flatten().map(|(key, entry)| entry.bytes(&key.ask()) as u64);
///         Usage::new(slots.iter().flatten().count() as u64, bytes.sum(), 0)
///     }
///     fn bound(&self) -> Option<Bound> {
///         Some(Bound::Entries(self.0.lock().unwrap_or_else(PoisonError::into_inner).len()))
///     }
///     fn clear(&self) {
///         self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(None);
///     }
/// }
///
/// let settings = Settings::new(Arc::new(|bound| {
///     // This one counts entries only.
///     let (Bound::Entries(size) | Bound::Bytes(size)) = bound;
///     Arc::new(Slots(Mutex::new(vec![None; size.min(4_096)])))
/// }));
/// # let cached = Cached::<dyn auth_core::GroupOracle>::new(
/// #     Arc::new(auth_testkit::MemoryStore::new()), Arc::default(), auth_testkit::ManualClock::new(), &settings);
/// # let (ctx, who) = (auth_core::Ctx::new(), auth_testkit::principal("calvin"));
/// # use auth_core::GroupOracle;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(cached.groups_of(&ctx, &who))?;
/// # assert!(cached.peek_groups(&ctx, &who).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Table: Any + fmt::Debug + Send + Sync {
    /// Shows the entry of a question, and nothing where there is none. Entries stay where they are, so `see`
    /// may be called under a lock: it is short and uses no table.
    fn see(&self, ask: &Ask<'_>, see: &mut dyn FnMut(&Entry));
    /// Keeps an entry, in place of the one before.
    fn put(&self, key: Key, entry: Entry);
    /// Removes the entry of a question.
    fn remove(&self, ask: &Ask<'_>);
    /// Returns a copy of the entry of a question.
    fn get(&self, ask: &Ask<'_>) -> Option<Entry> {
        let mut found = None;
        self.see(ask, &mut |entry| found = Some(entry.clone()));
        found
    }
    /// Returns how much is kept.
    fn usage(&self) -> Usage;
    /// Returns how much is kept at most. Nothing where there is no bound.
    fn bound(&self) -> Option<Bound>;
    /// Removes every entry.
    fn clear(&self);
}

/// Makes a table of a given bound.
pub type TableFactory = Arc<dyn Fn(Bound) -> Arc<dyn Table> + Send + Sync>;

/// What this build can do for a kind of cache.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Build {
    /// No cache: sources are not wrapped.
    Off,
    /// A table in this process.
    Table(fn(Bound) -> Arc<dyn Table>),
    /// A cache that processes share, on servers. They keep nothing themselves: [`NoTable`].
    Shared,
    /// The same, and a table in each process before it.
    Tiered,
}

/// A kind of cache.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Kind {
    /// Its name in configuration.
    pub name: &'static str,
    /// What this build can do for it.
    pub build: Build,
    /// Whether its tables keep to their bound. Only `dict` does not: it grows with the number of questions.
    pub bounded: bool,
}

impl Kind {
    /// Returns what makes its tables, if it is one of tables alone.
    #[must_use]
    pub fn factory(&self) -> Option<TableFactory> {
        match self.build {
            Build::Table(make) => Some(Arc::new(make)),
            Build::Off | Build::Shared | Build::Tiered => None,
        }
    }
}

const fn table(name: &'static str, make: fn(Bound) -> Arc<dyn Table>) -> Kind {
    Kind { name, build: Build::Table(make), bounded: true }
}

const fn other(name: &'static str, build: Build) -> Kind {
    Kind { name, build, bounded: true }
}

// The one list of kinds.
const KINDS: [Kind; 11] = [
    other("none", Build::Off),
    table("ttl", |bound| Arc::new(TtlTable::new(bound))),
    table("lru", |bound| Arc::new(LruTable::new(bound))),
    table("lfu", |bound| Arc::new(LfuTable::new(bound))),
    table("fifo", |bound| Arc::new(OrderTable::new(bound, Order::First))),
    table("rr", |bound| Arc::new(OrderTable::new(bound, Order::Random))),
    table("mru", |bound| Arc::new(OrderTable::new(bound, Order::Last))),
    Kind { bounded: false, ..table("dict", |bound| Arc::new(OrderTable::new(bound, Order::Nobody))) },
    other("redis", Build::Shared),
    other("memcached", Build::Shared),
    other("tiered", Build::Tiered),
];

/// Returns every kind of cache that configuration may name, built in or not.
///
/// ```
/// use auth_cache::{Build, kinds};
/// let ttl = kinds().iter().find(|kind| kind.name == "ttl").and_then(|kind| kind.factory());
/// assert!(ttl.is_some());
/// assert!(kinds().iter().any(|kind| kind.name == "redis" && matches!(kind.build, Build::Shared)));
/// ```
#[must_use]
pub fn kinds() -> &'static [Kind] {
    &KINDS
}
