//! The tier of memcached, on real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

mod contract;
mod failures;
mod helpers;
mod lives;
mod sharing;
mod strangers;
