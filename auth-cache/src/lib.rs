#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod cached;
mod dice;
mod entry;
mod fenced;
mod flight;
mod gate;
mod key;
mod loader;
#[cfg(feature = "memcached")]
mod memcached;
mod owners;
mod settings;
mod shared;
mod shelf;
mod stats;
mod table;
mod tokens;

pub use cached::Cached;
pub use entry::{Answer, Entry};
pub use fenced::Fenced;
pub use gate::{Backoff, Gate, Limits};
pub use key::{Ask, Key};
#[cfg(feature = "memcached")]
pub use memcached::{MemcachedConfig, MemcachedTier, MemcachedTransport};
pub use owners::OwnerTable;
pub use settings::{Lifetimes, Settings, Ttls};
#[cfg(feature = "_lab")]
#[doc(hidden)]
pub use shared::Lab;
pub use shared::{
    CacheKeys, Carrier, CarrierStats, Hearing, HearingStats, LaneReport, SealKind, SharedCache, SharedStats,
};
pub use stats::{AgeHistogram, CacheStats, Report, Reports};
pub use table::{
    Bound, Build, Kind, LfuTable, LruTable, NoTable, Order, OrderTable, Table, TableFactory, TtlTable, Usage,
    kinds,
};
pub use tokens::TokenMemory;
