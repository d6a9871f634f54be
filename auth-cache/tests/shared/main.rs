//! What several processes share: nodes with fences of their own, over one shared cache and one bus.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions marked as tests for tests, not their helpers"
)]

mod carrying;
mod histories;
mod looks;
mod nodes;
