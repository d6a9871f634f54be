#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this crate runs in tests only, where a panic is how a test says what is wrong"
)]

mod by_table;
mod clock;
mod counting;
mod faulty;
mod helpers;
mod log;
mod memory;
mod memory_tier;
mod miscounting;
mod proxy;
pub mod race;
mod scripted;
pub mod servers;
pub mod staleness;
pub mod suite;
mod trial;
mod world;

pub use by_table::ByTable;
pub use clock::ManualClock;
pub use counting::{CountingSource, Counts};
pub use faulty::{FamilyFault, FaultyFamilies};
pub use helpers::{
    answered, hash, info, login, object, password, principal, principal_at, realm, realm_with, require_all,
};
pub use log::Log;
pub use memory::MemoryStore;
pub use memory_tier::{MemoryBus, MemoryTier};
pub use miscounting::MiscountingStore;
pub use proxy::{Proxy, Way};
pub use scripted::{Answer, Ask, Mode, Question, ScriptedStore};
pub use trial::{Setup, Tested};
pub use world::{Object, Standing, User, World};
