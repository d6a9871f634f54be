#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod config;
mod contents;
mod disk;
mod htfiles;
mod read;
mod store;
mod unix;
mod users_toml;
mod watch;

pub use config::{FileConfig, Format};
pub use htfiles::parse_htpasswd;
pub use read::{FileTexts, FileUser, read_users};
pub use store::FileStore;
