//! The routes, asked as a proxy asks them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests, of which clippy knows only the functions marked so"
)]

mod demands;
mod headers;
mod outcomes;
mod realms;
mod support;
