//! What the wrappers promise, each promise a test. The README lists them side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

mod backoff;
mod behaviour;
mod bulk;
mod faults;
mod fence;
mod flights;
mod flood;
mod helpers;
mod keys;
mod lifetimes;
#[path = "../each/list.rs"]
mod list;
mod refresh;
mod stale;
mod threads;
mod tokens;
mod writes;
