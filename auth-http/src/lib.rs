#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod basic;
mod config;
mod demand;
mod front;
mod reply;

pub use basic::{Credentials, Unusable, basic_credentials, challenge};
pub use config::{FrontConfig, MAX_HEADER_BYTES};
pub use front::{Realms, router};
