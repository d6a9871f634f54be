#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this crate runs in tests only, where a panic is how a test says what is wrong"
)]

mod directories;
mod front;
mod gatepost;
mod http;
mod logins;
mod process;
mod renewals;
mod shared;
mod tables;
mod vectors;
mod world;

pub use directories::{
    Branch, DS389_STAFF, DS389_WORLD, ds389_world, simply_there, slapd_options, slapd_world,
};
pub use front::{Nginx, skipped};
pub use gatepost::{Done, Gatepost, Server};
pub use http::{Response, basic, exchange, get, post};
pub use logins::{Attempt, People, Person, htpasswd_people, sqlite_people};
pub use process::{stopwatch, until};
pub use renewals::{generation, no_alarm};
pub use shared::SharedServers;
pub use tables::{break_file, database, restore_file};
pub use vectors::{Expected, Vector, all_vectors, in_parallel};
pub use world::{
    WORLD_QUERIES, load_world, world_commands, world_htfiles, world_sql, world_tables, world_text_id,
    world_toml, world_unix_files,
};
