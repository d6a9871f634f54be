#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod bus;
mod config;
mod counters;
mod dial;
mod families;
mod fault;
mod fit;
mod key;
mod link;
mod nodes;
mod queue;
mod script;
mod servers;
mod store;
mod tier;

pub use bus::RedisBus;
pub use config::{RedisConfig, TlsConfig};
pub use counters::RedisCounters;
pub use families::RedisFamilies;
pub use store::{Absent, Network, RedisStore, RedisStoreConfig};
pub use tier::RedisTier;
