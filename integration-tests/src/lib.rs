#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this crate runs in tests only, where a panic is how a test says what is wrong"
)]

mod front;
mod gatepost;
mod http;
mod logins;
mod process;
mod tables;
mod vectors;

pub use front::{Nginx, skipped};
pub use gatepost::{Done, Gatepost, Server};
pub use http::{Response, basic, exchange, get};
pub use logins::{Attempt, People, Person, htpasswd_people, sqlite_people};
pub use process::stopwatch;
pub use tables::{break_file, database, restore_file};
pub use vectors::{Expected, Vector, all_vectors, in_parallel};
