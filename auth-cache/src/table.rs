//! Tables: bounded maps from questions to entries, and the list of their kinds.

use std::fmt;
use std::sync::Arc;

use crate::{Ask, Entry, Key};

mod by_frequency;
mod by_recency;
mod sharded;

pub use by_frequency::TtlTable;
pub use by_recency::LruTable;
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

/// Keeps entries, at most as many as its bound says.
///
/// # Contract
/// - Lossy: an entry may go at any time. What is returned is what was last put under an equal question,
///   compared in full, never by a hash alone.
/// - It neither looks at the clock nor at the fence: whether an entry is still good is decided by who asks.
/// - [`get`](Self::get) does not allocate and does not wait long: no I/O.
/// - A bound of zero keeps nothing and is not an error. An entry too large for the bound is not kept and
///   makes no other go; the one it would have replaced goes.
/// - A large bound costs little until it is used.
pub trait Table: fmt::Debug + Send + Sync {
    /// Returns the entry of a question.
    fn get(&self, ask: &Ask<'_>) -> Option<Entry>;
    /// Keeps an entry, in place of the one before.
    fn put(&self, key: Key, entry: Entry);
    /// Removes the entry of a question.
    fn remove(&self, ask: &Ask<'_>);
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
    /// The name is known, the kind is not built in yet.
    NotYet,
}

/// A kind of cache.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Kind {
    /// Its name in configuration.
    pub name: &'static str,
    /// What this build can do for it.
    pub build: Build,
}

impl Kind {
    /// Returns what makes its tables, if it has any here.
    #[must_use]
    pub fn factory(&self) -> Option<TableFactory> {
        match self.build {
            Build::Table(make) => Some(Arc::new(make)),
            Build::Off | Build::NotYet => None,
        }
    }
}

// The one list of kinds.
const KINDS: [Kind; 11] = [
    Kind { name: "none", build: Build::Off },
    Kind { name: "ttl", build: Build::Table(|bound| Arc::new(TtlTable::new(bound))) },
    Kind { name: "lru", build: Build::Table(|bound| Arc::new(LruTable::new(bound))) },
    Kind { name: "lfu", build: Build::NotYet },
    Kind { name: "fifo", build: Build::NotYet },
    Kind { name: "rr", build: Build::NotYet },
    Kind { name: "mru", build: Build::NotYet },
    Kind { name: "dict", build: Build::NotYet },
    Kind { name: "redis", build: Build::NotYet },
    Kind { name: "memcached", build: Build::NotYet },
    Kind { name: "tiered", build: Build::NotYet },
];

/// Returns every kind of cache that configuration may name, built in or not.
///
/// ```
/// use auth_cache::{Build, kinds};
/// let ttl = kinds().iter().find(|kind| kind.name == "ttl").and_then(|kind| kind.factory());
/// assert!(ttl.is_some());
/// assert!(kinds().iter().any(|kind| kind.name == "redis" && matches!(kind.build, Build::NotYet)));
/// ```
#[must_use]
pub fn kinds() -> &'static [Kind] {
    &KINDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answer;
    use std::sync::LazyLock;

    use auth_core::{Access, Fence, Id, Login, LoginRule, Moment, RealmId, TokenId};

    fn token(n: u32) -> TokenId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        TokenId::new(bytes)
    }

    fn entry(nanos: u64) -> Entry {
        static FENCE: LazyLock<Fence> = LazyLock::new(Fence::new);
        let realm = RealmId::new("r", LoginRule::Exact).unwrap();
        let stamp = FENCE.login(&Login::parse(&realm, "x").unwrap());
        let loaded = Moment::from_nanos(nanos);
        Entry {
            answer: Answer::Access(Access::Allow),
            stamp,
            loaded,
            end_ms: Entry::NO_END,
            ahead: 0,
            jitter: 0,
        }
    }

    fn len(table: &Arc<dyn Table>) -> usize {
        usize::try_from(table.usage().entries).unwrap()
    }

    fn each(check: impl Fn(&str, TableFactory)) {
        for kind in kinds() {
            if let Some(factory) = kind.factory() {
                check(kind.name, factory);
            }
        }
    }

    #[test]
    fn all_names_are_known_once_and_built_in_kinds_make_tables() {
        let names: Vec<_> = kinds().iter().map(|kind| kind.name).collect();
        let known = "none ttl lru lfu fifo rr mru dict redis memcached tiered";
        assert_eq!(names, known.split(' ').collect::<Vec<_>>());
        each(|name, factory| {
            assert_eq!(factory(Bound::Entries(100)).bound(), Some(Bound::Entries(100)), "{name}")
        });
    }

    #[test]
    fn a_table_returns_what_was_last_put() {
        each(|name, factory| {
            let table = factory(Bound::Entries(100));
            let (one, two) = (token(1), token(2));
            assert!(table.usage().entries == 0 && table.get(&Ask::Token(&one)).is_none(), "{name}");
            table.put(Key::Token(one), entry(1));
            table.put(Key::Token(two), entry(2));
            table.put(Key::Token(one), entry(3));
            assert_eq!(table.get(&Ask::Token(&one)).unwrap().loaded.as_nanos(), 3, "{name}");
            assert_eq!((table.usage().entries, table.usage().evictions), (2, 0), "{name}");
            table.remove(&Ask::Token(&one));
            table.remove(&Ask::Token(&token(9)));
            assert!(table.get(&Ask::Token(&one)).is_none(), "{name}");
            assert!(table.get(&Ask::Token(&two)).is_some(), "{name}");
            table.clear();
            assert!(table.usage().entries == 0 && table.get(&Ask::Token(&two)).is_none(), "{name}");
        });
    }

    #[test]
    fn a_table_is_bounded_and_counts_what_had_to_go() {
        each(|name, factory| {
            for capacity in [0, 1, 2, 3, 31, 100, 1000, 5000] {
                let table = factory(Bound::Entries(capacity));
                let puts = u32::try_from(3 * capacity + 10).unwrap();
                for n in 0..puts {
                    table.put(Key::Token(token(n)), entry(u64::from(n)));
                    assert!(len(&table) <= capacity, "{name} {capacity}");
                }
                assert!(len(&table) > capacity / 2 || capacity == 0, "{name} {capacity}");
                let gone = if capacity == 0 { 0 } else { u64::from(puts) - table.usage().entries };
                assert_eq!(table.usage().evictions, gone, "{name} {capacity}");
                if capacity > 0 {
                    let last = Ask::Token(&token(puts - 1)).to_key();
                    assert!(table.get(&last.ask()).is_some(), "{name} {capacity}: the newest is kept");
                }
            }
        });
    }

    #[test]
    fn lru_lets_the_least_recently_used_go() {
        let table = LruTable::new(Bound::Entries(2));
        table.put(Key::Token(token(1)), entry(1));
        table.put(Key::Token(token(2)), entry(2));
        assert!(table.get(&Ask::Token(&token(1))).is_some());
        table.put(Key::Token(token(3)), entry(3));
        assert!(table.get(&Ask::Token(&token(2))).is_none());
        assert!(table.get(&Ask::Token(&token(1))).is_some() && table.get(&Ask::Token(&token(3))).is_some());
    }

    #[test]
    fn ttl_keeps_what_is_used_through_a_scan() {
        let table = TtlTable::new(Bound::Entries(1000));
        for n in 0..500 {
            table.put(Key::Token(token(n)), entry(0));
            assert!(table.get(&Ask::Token(&token(n))).is_some());
        }
        for n in 1_000..21_000 {
            table.put(Key::Token(token(n)), entry(0));
        }
        let kept = (0..500).filter(|n| table.get(&Ask::Token(&token(*n))).is_some()).count();
        assert!(kept >= 450, "{kept} of 500");
    }

    #[test]
    fn the_kind_of_a_question_is_part_of_its_key() {
        each(|name, factory| {
            let table = factory(Bound::Entries(100));
            let realm = RealmId::new("r", LoginRule::Exact).unwrap();
            let login = Login::parse(&realm, "x").unwrap();
            let source = auth_core::SourceInfo::new("app", auth_core::Fingerprint::default());
            let who = auth_core::Principal::found(&source, &login, "x", Id::from(1)).unwrap();
            table.put(Ask::Account(&login).to_key(), entry(1));
            assert!(table.get(&Ask::Groups(&who)).is_none(), "{name}");
        });
    }
}
