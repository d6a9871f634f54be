//! The routes of tokens, asked as applications and browsers ask them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests, of which clippy knows only the functions marked so"
)]

mod cookies;
mod extractors;
mod forward;
mod hostile;
mod native;
mod outages;
mod profiles;
mod rig;
mod sessions;
