#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod config;
mod contents;
mod disk;
mod htfiles;
mod store;
mod users_toml;

pub use config::{FileConfig, Format};
pub use htfiles::parse_htpasswd;
pub use store::FileStore;
