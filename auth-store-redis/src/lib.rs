#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod bus;
mod config;
mod counters;
mod dial;
mod fault;
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
pub use store::{Absent, Network, RedisStore, RedisStoreConfig};
pub use tier::RedisTier;
