#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod cached;
mod entry;
mod fenced;
mod key;
mod loader;
mod owners;
mod settings;
mod shelf;
mod stats;
mod table;
mod tokens;

pub use cached::Cached;
pub use entry::{Answer, Entry};
pub use fenced::Fenced;
pub use key::{Ask, Key};
pub use owners::OwnerTable;
pub use settings::{Lifetimes, Settings, Ttls};
pub use stats::{CacheStats, Report, Reports};
pub use table::{Bound, Build, Kind, LruTable, Table, TableFactory, TtlTable, Usage, kinds};
pub use tokens::TokenMemory;
