#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod account;
mod config;
mod db;
mod directory;
mod error;
mod families;
mod managed;
mod notify;
mod offer;
mod scan;
mod schema;
mod state;
mod statement;
mod store;
mod value;

pub use config::{ObjectConfig, ObjectId, ObjectIds, PoolConfig, QueryConfig, SqlConfig, TlsConfig, TlsMode};
pub use families::SqlFamilies;
pub use notify::{PostgresBus, Push, PushConfig};
pub use store::SqlStore;
