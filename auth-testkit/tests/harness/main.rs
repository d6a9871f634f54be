//! The harness catches what it is there for: each fault is planted in a small cache that is right without it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

mod bare_moka;
mod model;
mod races;
mod staleness;
