//! What processes share: the entries of a shared cache, sealed, and the news of what is void.

mod cache;
mod carrier;
mod codec;
mod hearing;
mod keys;
#[cfg(feature = "_lab")]
mod lab;
mod seal;
mod share;
#[cfg(test)]
mod tests;

pub use cache::{LaneReport, SharedCache};
pub use carrier::{Carrier, CarrierStats};
pub use hearing::{Hearing, HearingStats};
pub use keys::CacheKeys;
#[cfg(feature = "_lab")]
pub use lab::Lab;
pub use seal::SealKind;
pub use share::SharedStats;
pub(crate) use share::{Found, Keep, Look, Looked, Marks, Seen, Share, Stamp, loaded};
