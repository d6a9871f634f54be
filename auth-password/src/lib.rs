#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod codes;
mod confirmed;
mod doubt;
mod encoding;
mod guard;
mod hash;
mod hashed;
mod hasher;
mod memo;
mod policy;
mod pool;
mod quality;
mod scheme;
mod verify;

pub use confirmed::Confirmed;
pub use guard::{Guard, GuardConfig, GuardStats, Guarded, LocalCounters};
pub use hash::{Outcome, Salts};
pub use hashed::{Hashed, HashedStats};
pub use hasher::{Hasher, HasherConfig, HasherStats};
pub use memo::MemoConfig;
pub use policy::{AcceptWeak, Limits, Policy, Preferred};
pub use quality::{Quality, QualityHook};
pub use scheme::{Scheme, Strength, identify};
pub use verify::{check_stored, make, verify};
